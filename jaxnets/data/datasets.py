"""Named data sets, from a dependency, a local folder, or their own homes with pinned checksums."""

import hashlib
import os
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.cache import cache_dir
from jaxnets.data.formats import read_idx, read_npz
from jaxnets.errors import InputError, nearest


class Remote(NamedTuple):
    """Where a file comes from, and its pinned checksum."""

    url: str
    sha256: str


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


class Splits(NamedTuple):
    """The parts of a data set; ``validation`` and ``test`` may be missing."""

    train: Data
    validation: Data | None = None
    test: Data | None = None

    @property
    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of each part that is there."""
        return {name: data.fingerprint for name, data in self._asdict().items() if data is not None}


def digits() -> Splits:
    """Return scikit-learn's 8x8 handwritten digits: 1,437 for training, a stratified 20% (360) for testing.

    Pixels are whole numbers from 0 to 16, [N, 8, 8, 1] uint8. The split is scikit-learn's with ``random_state=0``.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415  (slow to import)

    pixels, labels = load_digits(return_X_y=True)
    data = Data(inputs=pixels.reshape(-1, 8, 8, 1).astype(np.uint8), labels=labels)
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


def idx_folder(folder: Path) -> Splits:
    """Return the images and labels of a folder in MNIST's layout: four IDX files, gzipped or not.

    Raises:
        InputError: if a file is missing or broken, or images and labels do not match.
    """
    parts = []
    for prefix in ("train", "t10k"):
        images = read_idx(_idx_file(folder, f"{prefix}-images-idx3-ubyte"))
        labels = read_idx(_idx_file(folder, f"{prefix}-labels-idx1-ubyte"))
        parts.append(Data(inputs=images[..., None], labels=labels))
    return Splits(parts[0], test=parts[1])


def npz_splits(path: Path) -> Splits:
    """Return the parts of an npz file: "inputs" and "labels", and, optionally, "test_inputs" and "test_labels".

    Keras' names (x_train, y_train, x_test, y_test) do as well. Without test arrays a stratified 20% is held out.

    Raises:
        InputError: if the file is broken or the names are others.
    """
    arrays = read_npz(path)
    for names in (("inputs", "labels", "test_inputs", "test_labels"), ("x_train", "y_train", "x_test", "y_test")):
        x, y, test_x, test_y = (arrays.get(name) for name in names)
        if x is None or y is None:
            continue
        train = Data(inputs=x, labels=y)
        if (test_x is None) != (test_y is None):
            raise InputError(f"{path}: holds one of {names[2]} and {names[3]}; give both, or neither")
        if test_x is None or test_y is None:
            rest, held_out = train.split(0.2, seed=0)
            return Splits(rest, test=held_out)
        return Splits(train, test=Data(inputs=test_x, labels=test_y, classes=train.classes or None))
    raise InputError(f"{path}: holds {sorted(arrays)}; name the arrays inputs and labels (or x_train and y_train)")


def find_path(name: str) -> Path | None:
    """Return the file or folder of this path, or of this path inside the folder that ``JAXNETS_DATA`` names, if any."""
    given, inside = Path(name), Path(os.environ.get("JAXNETS_DATA", "."), name)
    return next((path for path in (given, inside) if path.exists()), None)


def find_file(name: str, kind: str, named: Sequence[str]) -> Path:
    """Return the file or folder that ``--data`` names, here or inside the folder that ``JAXNETS_DATA`` names.

    Args:
        name: the path.
        kind: what such a path holds, for the error.
        named: the names of data sets that could have been meant as well.

    Raises:
        InputError: if there is none.
    """
    if path := find_path(name):
        return path
    hint = nearest(name, named)
    raise InputError(f"data={name!r} is neither {' nor '.join(named)}, nor {kind}, here or in JAXNETS_DATA{hint}")


def places(folder: str, data_dir: Path | None = None) -> list[Path]:
    """Return the local folders in which the files of a data set, whose own folder is ``folder``, are looked for."""
    named = data_dir or os.environ.get("JAXNETS_DATA")
    given = [Path(named), Path(named) / folder] if named else []
    return given if data_dir is not None else [*given, cache_dir() / folder]


def located(folder: str, files: Mapping[str, Remote], data_dir: Path | None = None) -> dict[str, Path]:
    """Return where a data set's files are: in a local folder, in the cache, or, at last, fetched into the cache.

    Args:
        folder: the data set's own folder.
        files: its files by name; gzipped where the name says ".gz", or not, both will do.
        data_dir: a folder that holds them, or holds ``folder``. If absent, ``JAXNETS_DATA`` is taken for it, then the
            cache.

    Raises:
        InputError: if they are not there and cannot be fetched; it says which to put where.
    """
    cache = cache_dir() / folder
    for place in places(folder, data_dir):
        found = {name: _zipped_or_not(place / name) for name in files}
        paths = {name: path for name, path in found.items() if path is not None}
        if len(paths) == len(files):
            return paths
    if data_dir is not None:
        raise InputError(f"data_dir={data_dir}: holds no {folder}; put {', '.join(files)} there (unzipped will do)")
    for name, remote in files.items():
        if (cache / name).is_file():
            continue
        try:
            fetch(remote.url, remote.sha256, cache / name)
        except OSError as error:
            raise InputError(
                f"cannot fetch {remote.url} ({error}). Put the files {', '.join(files)} into {cache}, or into a folder "
                f"named by --data-dir, or into a folder {folder!r} inside the one that JAXNETS_DATA names"
            ) from error
    return {name: cache / name for name in files}


def _zipped_or_not(path: Path) -> Path | None:
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
    return next((candidate for candidate in (path, other) if candidate.is_file()), None)


def fetch(url: str, sha256: str, path: Path) -> None:
    """Download ``url`` to ``path``, under a temporary name until its SHA-256 is found right.

    Raises:
        OSError: if it cannot be fetched.
        InputError: if its checksum is another.
    """
    from rich.progress import Progress  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=30) as response, partial.open("wb") as file, Progress() as progress:
            task = progress.add_task(path.name, total=int(response.headers.get("Content-Length") or 0) or None)
            while block := response.read(1 << 16):
                file.write(block)
                digest.update(block)
                progress.advance(task, len(block))
        if digest.hexdigest() != sha256:
            raise InputError(f"{url}: its SHA-256 is {digest.hexdigest()}, not the pinned {sha256}; it was not kept")
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _idx_file(folder: Path, name: str) -> Path:
    if path := _zipped_or_not(folder / f"{name}.gz"):
        return path
    raise InputError(f"{folder}: holds no {name} or {name}.gz")
