"""Examples of classes that are not trained on: people, characters, species that a model meets for the first time."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.fetching import Remote, located, places
from jaxnets.data.images import image_parts
from jaxnets.data.splits import Splits
from jaxnets.data.telling import tell
from jaxnets.errors import InputError, check_whole

FACES = "orl-faces.zip"
_OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
OMNIGLOT = {
    name: Remote(f"{_OMNIGLOT}/{name}", sha)
    for name, sha in {
        "images_background_small1.zip": "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
        "images_background_small2.zip": "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
    }.items()
}
_HOME = "https://cam-orl.co.uk/facedatabase.html"


def orl_faces(data_dir: Path | None = None, image_size: tuple[int, int] | None = None) -> Data:
    """Return the ORL faces (AT&T Laboratories Cambridge): 40 people, ten pictures of each, [400, 112, 92, 1] uint8.

    Their archive is not fetched: it is asked for where it is not found.

    Args:
        data_dir: where orl-faces.zip is; ``JAXNETS_DATA``, or the cache folder's "orl", if absent.
        image_size: (H, W) to resize the pictures to.

    Raises:
        InputError: if the archive is not there, or is broken.
    """
    looked = [place / FACES for place in places("orl", data_dir)]
    for path in looked:
        if path.is_file():
            return images_by_class(path, image_size)
    raise InputError(
        f"the ORL faces are not there; get their archive from {_HOME} (credit: Olivetti Research Laboratory), and put "
        f"it there as {' or '.join(map(str, looked))}"
    )


def images_by_class(path: Path, image_size: tuple[int, int] | None = None) -> Data:
    """Return all images of a folder or zip file, CLASS/IMAGE; classes are in the order of their names, s2 before s10.

    Raises:
        InputError: as ``image_splits`` does, or if they lie in parts (train/CLASS/IMAGE).
    """
    parts = image_parts(path, image_size)
    if set(parts) != {"train"}:
        raise InputError(
            f"{path}: holds the parts {', '.join(parts)}; give CLASS/IMAGE: which classes are held out is "
            "drawn from all of them"
        )
    (found,) = parts.values()
    order = sorted(range(len(found.classes)), key=lambda number: _natural(found.classes[number]))
    numbers = np.argsort(order)[found["labels"]]
    rows = np.argsort(numbers, kind="stable")
    names = [found.classes[number] for number in order]
    return Data(inputs=found["inputs"][rows], labels=numbers[rows], classes=names, known=found.known)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what orders names by the numbers in them: s2 before s10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def without_few(data: Data, least: int, what: str, example: str = "picture") -> Data:
    """Return the examples of classes that have ``least`` or more, and print which were left out, if any.

    Args:
        data: with classes.
        least: examples of a class.
        what: the classes are called, such as "people".
        example: an example is called.

    Raises:
        InputError: if fewer than two classes are left.
    """
    counts = np.bincount(data["labels"], minlength=len(data.classes))
    few = np.flatnonzero(counts < least)
    names = [data.classes[number] for number in few]
    told = f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
    number = f"one {example}" if least == 2 else f"fewer than {least} {example}s"
    if len(counts) - len(few) < 2:
        raise InputError(
            f"{len(few)} of {len(counts)} {what} have {number} ({told}): two or more with {least} or "
            f"more are needed to learn from; add {example}s"
        )
    if len(few):
        tell(f"left out {len(few)} {what} with {number}: {told}")
    kept = data.take(np.flatnonzero(counts[data["labels"]] >= least))
    return _numbered(kept, np.flatnonzero(counts >= least))


def _numbered(data: Data, classes: np.ndarray) -> Data:
    """Return the same with the classes of these numbers, in this order."""
    numbers = np.full(len(data.classes), -1)
    numbers[classes] = np.arange(len(classes))
    names = [data.classes[number] for number in classes]
    return Data(classes=names, known=data.known, **{**data, "labels": numbers[data["labels"]]})


def fold_of(number: int, fold: int, folds: int) -> np.ndarray:
    """Return which of so many classes, in their order, are of a fold; folds are of like size.

    Raises:
        InputError: if there are not so many folds, or classes.
    """
    check_whole("folds", folds, 2)
    check_whole("fold", fold, 0, folds - 1)
    if folds > number:
        raise InputError(f"folds={folds} of {number} classes; use {number} or fewer")
    return np.array_split(np.arange(number), folds)[fold]


def held_out_classes(data: Data, validation: int, test: Sequence[int] | np.ndarray, what: str = "classes") -> Splits:
    """Return splits by class: a model is tested on classes that it was not trained on.

    Classes are numbered anew: those of training first, then validation's, then the test's.

    Args:
        data: with classes.
        validation: how many classes to choose by, of those that are not of the test, evenly over their order.
        test: the numbers of the classes to test on.
        what: the classes are called.

    Raises:
        InputError: if fewer than two are left to train on, or to choose by.
    """
    rest = np.setdiff1d(np.arange(len(data.classes)), test)
    if validation == 1 or validation < 0 or len(rest) - validation < 2:
        raise InputError(
            f"{validation} of {len(rest)} {what} beside the {len(test)} of the test to choose by (validation_{what}): "
            f"0, or 2 or more, and two must be left to train on; use {max(0, len(rest) - 2)} or fewer"
        )
    chosen = rest[np.linspace(0, len(rest) - 1, validation).round().astype(int)] if validation else rest[:0]
    train = np.setdiff1d(rest, chosen)
    data = _numbered(data, np.concatenate([train, chosen, np.asarray(test)]).astype(int))
    bounds = len(train), len(train) + len(chosen)
    numbers = data["labels"]
    parts = [data.take(np.flatnonzero(numbers < bounds[0])), None, data.take(np.flatnonzero(numbers >= bounds[1]))]
    if validation:
        parts[1] = data.take(np.flatnonzero((numbers >= bounds[0]) & (numbers < bounds[1])))
    train_part, validation_part, test_part = parts
    assert train_part is not None
    return Splits(train_part, validation_part, test_part)


def omniglot(data_dir: Path | None = None, image_size: tuple[int, int] = (28, 28), validation: int = 0) -> Splits:
    """Return characters of Omniglot's two small sets (Lake et al., 2015), 20 drawings of each, white on black.

    Those of the first set are for training (136), the test's are of the alphabets that the second has and the first has
    not: Katakana, Sanskrit and Tagalog (106). Images are [N, H, W, 1] uint8; drawings are 105 x 105 pixels.

    Args:
        data_dir: where the two zip files are, or a folder "omniglot" with them; if absent, ``JAXNETS_DATA``, then the
            cache folder, into which they are fetched.
        image_size: (H, W) to resize drawings to.
        validation: characters of the first set that are held out.

    Raises:
        InputError: if the files are not there and cannot be fetched, or are broken.
    """
    paths = located("omniglot", OMNIGLOT, data_dir)
    first, second = (inverted(images_by_class(paths[name], image_size)) for name in OMNIGLOT)
    old = {name.split("/")[0] for name in first.classes}
    new = np.array([number for number, name in enumerate(second.classes) if name.split("/")[0] not in old])
    second = _numbered(second.take(np.flatnonzero(np.isin(second["labels"], new))), new)
    whole = Data(
        inputs=np.concatenate([first["inputs"], second["inputs"]]),
        labels=np.concatenate([first["labels"], second["labels"] + len(first.classes)]),
        classes=[*first.classes, *second.classes],
        known=first.known,
    )
    return held_out_classes(whole, validation, len(first.classes) + np.arange(len(new)), "characters")


def inverted(data: Data) -> Data:
    """Return the same with dark and bright swapped, of pixels 0 to 255."""
    return data.replaced(inputs=255 - data["inputs"])


def turned(data: Data) -> Data:
    """Return images [N, H, H, C] four times, turned by 0, 90, 180 and 270 degrees: as classes of their own.

    Raises:
        InputError: if the images are not square.
    """
    height, width = data["inputs"].shape[1:3]
    if height != width:
        raise InputError(f"images of {height} x {width} pixels cannot be turned; give square ones, or do not turn them")
    names = [f"{name}, turned by {90 * i}" if i else name for i in range(4) for name in data.classes]
    images = np.concatenate([np.rot90(data["inputs"], i, (1, 2)) for i in range(4)])
    labels = np.concatenate([data["labels"] + i * len(data.classes) for i in range(4)])
    return Data(inputs=images, labels=labels, classes=names, known=data.known)
