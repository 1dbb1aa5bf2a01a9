"""Named data sets: one loader each, whatever takes them; from a dependency, a local folder, or their own homes.

A new one is a function here (or in a file of its own) and a row of ``NAMED``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.benchmark_tables import adult, breast_cancer, credit, diabetes
from jaxnets.data.boxes import box_splits
from jaxnets.data.cifar import cifar10
from jaxnets.data.fashion import fashion_mnist
from jaxnets.data.fetching import Remote, find_path, located, places
from jaxnets.data.formats import read_text
from jaxnets.data.membranes import membranes
from jaxnets.data.music import read_pieces
from jaxnets.data.one_word import one_word
from jaxnets.data.ratings import movielens_100k
from jaxnets.data.scenes import scattered
from jaxnets.data.series import Series, read_series
from jaxnets.data.spans import babi_spans
from jaxnets.data.speech import fsdd
from jaxnets.data.splits import Splits, idx_folder
from jaxnets.data.stories import babi
from jaxnets.data.tokens import Sentences, labelled_sentences, parallel_text
from jaxnets.data.unseen import omniglot, orl_faces
from jaxnets.errors import InputError, nearest

_MNIST = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MNIST = {
    name: Remote(f"https://storage.googleapis.com/cvdf-datasets/mnist/{name}", sha) for name, sha in _MNIST.items()
}
_GITHUB = "https://raw.githubusercontent.com"
SHAKESPEARE = {
    "input.txt": Remote(
        f"{_GITHUB}/karpathy/char-rnn/d1d7aa34fdb3626174bce1d753e6cc6845ce7087/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    )
}
CHORALES = {
    "jsb-chorales-quarter.json": Remote(
        f"{_GITHUB}/czhuang/JSB-Chorales-dataset/9a7f733ddb4ed91f48da64ac7f0f621c34aadd4d/jsb-chorales-quarter.json",
        "2db9329f1881a1d3f49703ec556bf1d6f84b4f6c1d702c156536e93cf31e1c91",
    )
}
_SST2 = {
    "train.tsv": "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920",
    "dev.tsv": "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359",
    "test.tsv": "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7",
}
SST2 = {
    name: Remote(f"{_GITHUB}/clairett/pytorch-sentiment-classification/master/data/SST2/{name}", sha)
    for name, sha in _SST2.items()
}
ETTH1 = {
    "ETTh1.csv": Remote(
        f"{_GITHUB}/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv",
        "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
    )
}
BCCD = "https://github.com/Shenggan/BCCD_Dataset"
_MULTI30K_PARTS = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
_MULTI30K = {
    "train.en": "08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119",
    "train.de": "cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505",
    "train.fr": "8fa41bb718412bcb7c5dfa58603842810a01543eae86a51279f9886b901266e1",
    "val.en": "46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec",
    "val.de": "97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00",
    "val.fr": "b303e301aa21fe7822a846b2b3fb2d5a1121ec807cd5b1d006fb7b2b5507168a",
    "test_2016_flickr.en": "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
    "test_2016_flickr.de": "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
    "test_2016_flickr.fr": "1463bd5960f9bfe098ec3cd752d3df0c49c84dc646fb518964a29232658cd836",
}
MULTI30K = {
    name: Remote(f"{_GITHUB}/multi30k/dataset/master/data/task1/tok/{name.replace('.', '.lc.norm.tok.')}", sha)
    for name, sha in _MULTI30K.items()
}


def digits() -> Splits:
    """Return scikit-learn's 8x8 handwritten digits: 1,437 for training, a stratified 20% (360) for testing.

    Pixels are whole numbers from 0 to 16, [N, 8, 8, 1] uint8. The split is scikit-learn's with ``random_state=0``.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415  (slow to import)

    pixels, labels = load_digits(return_X_y=True)
    known = {"inputs": {"white": 16.0}}
    data = Data(inputs=pixels.reshape(-1, 8, 8, 1).astype(np.uint8), labels=labels, known=known)
    train, test = data.split(0.2, seed=0)
    return Splits(train, test=test)


def mnist(data_dir: Path | None = None) -> Splits:
    """Return MNIST: 60,000 images for training and 10,000 for testing, [N, 28, 28, 1] uint8.

    Args:
        data_dir: folder of the four IDX files, gzipped or not, or one with a folder "mnist" that holds them. If absent,
            ``JAXNETS_DATA`` is taken for it, then the cache folder; as a last resort the files are fetched into that.

    Raises:
        InputError: if the files are not there and cannot be fetched; it says which to put where.
    """
    return idx_folder(next(iter(located("mnist", MNIST, data_dir).values())).parent)


def shakespeare(data_dir: Path | None = None) -> str:
    """Return Shakespeare's plays, 1,115,394 characters (Karpathy, 2015)."""
    return read_text(*located("tinyshakespeare", SHAKESPEARE, data_dir).values())


def chorales(data_dir: Path | None = None) -> dict[str, list[np.ndarray]]:
    """Return Bach's chorales by quarter notes, "train", "valid" and "test", each piece uint8 [T, 88]."""
    return read_pieces(*located("jsb", CHORALES, data_dir).values())


def sst2(data_dir: Path | None = None) -> dict[str, Sentences]:
    """Return sentences of film reviews, negative or positive, by split (Socher et al., 2013)."""
    paths = located("sst2", SST2, data_dir)
    files = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
    parts = {part: labelled_sentences(paths[name]) for part, name in files.items()}
    names = {"0": "negative", "1": "positive"}
    return {part: found._replace(labels=[names[label] for label in found.labels]) for part, found in parts.items()}


def etth1(data_dir: Path | None = None, **options: Any) -> Series:
    """Return the hourly temperatures of a transformer, seven columns (Zhou et al., 2021); ``read_series`` takes more.

    Its usual parts are 12, 4 and 4 months of 30 days.
    """
    (path,) = located("ett", ETTH1, data_dir).values()
    series = read_series(path, **options)
    return series._replace(split=(8640.0, 2880.0, 2880.0))


def multi30k(data_dir: Path | None = None, *, languages: tuple[str, ...] = ("en", "de")) -> dict[str, list[list[str]]]:
    """Return captions of pictures by split, for each language its lines (Elliott et al., 2016).

    They are lower-cased, and their words have spaces between them. Languages are en, de and fr.

    Raises:
        InputError: if there is no such language.
    """
    files = {f"{part}.{language}": None for part in _MULTI30K_PARTS.values() for language in languages}
    if unknown := [name for name in files if name not in MULTI30K]:
        raise InputError(f"multi30k has no {', '.join(unknown)}; its languages are en, de and fr")
    paths = located("multi30k", {name: MULTI30K[name] for name in files}, data_dir)
    return {
        part: parallel_text([paths[f"{file}.{language}"] for language in languages])
        for part, file in _MULTI30K_PARTS.items()
    }


def bccd(data_dir: Path | None = None, image_size: tuple[int, int] | None = None) -> Splits:
    """Return 364 photographs of blood smears with boxes of red cells, white cells and platelets, as ``box_splits``.

    They are of 480 x 640 pixels, unless ``image_size`` says otherwise; 205, 87 and 72 are for training, validation and
    testing. Its home has no archive whose bytes stay the same, so it is not fetched.

    Args:
        data_dir: where its folder BCCD, or a zip file of that (bccd.zip), is. If absent, ``JAXNETS_DATA`` is taken for
            it, then the cache folder.
        image_size: (H, W) to resize every image to.

    Raises:
        InputError: if it is not there; it says what to put where.
    """
    looked_in = places("bccd", data_dir)
    for place in looked_in:
        for path in (place / "bccd.zip", place / "BCCD"):
            if path.exists():
                return box_splits(path, image_size)
    raise InputError(
        f"data='bccd': no bccd.zip and no folder BCCD in {', '.join(map(str, looked_in))}; put the folder BCCD of "
        f"{BCCD} there, or a zip file of it"
    )


def scattered_digits(data_dir: Path | None = None) -> Splits:
    """Return MNIST's digits scattered over canvases of 64 x 64 pixels, with their boxes: 2,000 images, 300 and 500.

    Those for testing are of MNIST's test digits; the same numbers are drawn every time. Labels are as ``box_splits``
    has them.
    """
    digits = mnist(data_dir)
    assert digits.test is not None
    train, validation = digits.train.split(0.1)
    return Splits(scattered(train, 2000, 0), scattered(validation, 300, 1), scattered(digits.test, 500, 2))


class Named(NamedTuple):
    """A named data set.

    Attributes:
        kind: what it holds: "images", "boxes", "masks", "people", "characters", "text", "sentences", "translations",
            "conversations", "pieces", "series", "speech", "stories", "spans", "tables" or "ratings".
        load: ``load(data_dir)`` returns it; the loader's docstring says as what.
        about: one line.
        validation: the part of its training data that is usually held out to choose by, where it has none of its own.
        comes_along: it is in a dependency, and no files are looked for.
    """

    kind: str
    load: Callable[..., Any]
    about: str
    validation: float = 0.1
    comes_along: bool = False


NAMED = {
    "digits": Named("images", digits, "scikit-learn's handwritten digits, 8 x 8 pixels", comes_along=True),
    "mnist": Named("images", mnist, "handwritten digits, 28 x 28 pixels", validation=0.05),
    "fashion-mnist": Named("images", fashion_mnist, "pictures of clothes, 28 x 28 pixels", validation=0.05),
    "cifar10": Named("images", cifar10, "photographs of ten classes, 32 x 32 pixels", validation=0.02),
    "orl-faces": Named("people", orl_faces, "ten grey pictures of each of 40 people"),
    "omniglot-small": Named("characters", omniglot, "20 drawings of each of 242 characters of eight alphabets"),
    "bccd": Named("boxes", bccd, "blood smears with boxes of their cells, 480 x 640 pixels"),
    "scattered-digits": Named("boxes", scattered_digits, "MNIST's digits on canvases of 64 x 64 pixels, with boxes"),
    "shakespeare": Named("text", shakespeare, "Shakespeare's plays"),
    "sst2": Named("sentences", sst2, "film reviews, negative and positive"),
    "one-word": Named(
        "conversations", one_word, "questions that are answered in one word of capitals", comes_along=True
    ),
    "babi": Named("stories", babi, "questions about stories, twenty tasks"),
    "babi-spans": Named("spans", babi_spans, "bAbI's questions whose answers are words of their stories"),
    "multi30k": Named("translations", multi30k, "captions of pictures in English, German and French"),
    "chorales": Named("pieces", chorales, "Bach's chorales"),
    "etth1": Named("series", etth1, "hourly temperatures of a transformer"),
    "membranes": Named("masks", membranes, "electron micrographs of nerve cells, and their membranes"),
    "adult": Named("tables", adult, "the census of 1994: who earns more than 50,000 dollars, missing values"),
    "movielens-100k": Named("ratings", movielens_100k, "100,000 ratings of 1,682 films by 943 people"),
    "fsdd": Named("speech", fsdd, "spoken digits: ten words, 50 times each by six speakers"),
    "credit": Named("tables", credit, "applicants for credit, good and bad, with missing values"),
    "breast-cancer": Named("tables", breast_cancer, "scikit-learn's tumours, malignant and benign", comes_along=True),
    "diabetes": Named("tables", diabetes, "scikit-learn's diabetics, and a number to foretell", comes_along=True),
}


def load(name: str, data_dir: Path | None = None, **options: Any) -> Any:
    """Return a named data set, as its loader's docstring says.

    Args:
        name: of the data set.
        data_dir: a folder that holds its files. If absent, ``JAXNETS_DATA`` is taken for it, then the cache folder,
            into which they are fetched as a last resort.
        **options: those of its loader, such as ``languages=("en", "fr")`` of multi30k.

    Raises:
        InputError: if there is no such data set, or it cannot be had.
    """
    if name not in NAMED:
        raise InputError(f"there is no data set {name!r}{nearest(str(name), NAMED)}; there are {', '.join(NAMED)}")
    if NAMED[name].comes_along:
        if data_dir is not None:
            raise InputError(f"data_dir={data_dir}: {name} comes with a dependency, and no files are looked for")
        return NAMED[name].load(**options)
    return NAMED[name].load(data_dir, **options)


def find(kind: str, data: str, data_dir: Path | None, files: str) -> Path | None:
    """Return the path of a user's own file or folder, or None if ``data`` is the name of a data set of this kind.

    Args:
        kind: of the data set that is wanted.
        data: a name or a path, here or inside the folder that ``JAXNETS_DATA`` names.
        data_dir: for a named data set alone.
        files: what a path of this kind holds, for the error.

    Raises:
        InputError: if it is neither, is a data set of another kind, or ``data_dir`` is given for a path.
    """
    of_kind = [name for name, named in NAMED.items() if named.kind == kind]
    if not data:
        raise InputError(f"data={data!r} is empty; give {', '.join(of_kind)}, or the path of {files}")
    if data in of_kind:
        return None
    if data in NAMED:
        raise InputError(
            f"data={data!r} is a named data set of {NAMED[data].kind}; give {', '.join(of_kind)}, or {files} (a folder "
            f"of that name: ./{data})"
        )
    path = find_path(data)
    if path is None:
        near = nearest(data, of_kind)
        raise InputError(f"data={data!r} is not {', '.join(of_kind)}, {files}, here or in JAXNETS_DATA{near}")
    if data_dir is not None:
        raise InputError(
            f"data_dir={data_dir} is for {', '.join(of_kind)}; data={data!r} is a path, and says where it is"
        )
    return path
