"""Names of classes and of columns: one spelling, and one encoding for all parts of a data set."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnets.errors import InputError, nearest

_LISTED = 20  # classes at most that an error lists


def spelled(name: Any) -> str:
    """Return a name without white space around it, in the one form (NFC) of letters that Unicode has several for."""
    return unicodedata.normalize("NFC", str(name).strip())


def text_of(labels: np.ndarray) -> np.ndarray | None:
    """Return labels that are text as such, [N, ...], also as pandas holds them; None if they are none."""
    if labels.dtype.kind in "US":
        return labels
    if labels.dtype.kind == "O" and any(isinstance(label, str) for label in labels.flat):
        return np.array([label if isinstance(label, str) else "" for label in labels.flat]).reshape(labels.shape)
    return None


def numbered(labels: np.ndarray, classes: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    """Return the number of each text label's class, int32 [N, ...], and the classes: if none are given, sorted names.

    Raises:
        InputError: if a label is empty, or none of the classes.
    """
    found, inverse = np.unique(labels, return_inverse=True)
    names = [spelled(name) for name in found]
    if "" in names:
        row = int(np.argwhere(np.array([name == "" for name in names])[inverse.reshape(labels.shape)])[0][0])
        raise InputError(f"labels: the one of row {row} is empty; remove the row")
    classes = sorted(set(names)) if classes is None else [spelled(name) for name in classes]
    return class_numbers(names, classes)[inverse.reshape(labels.shape)], classes


def class_numbers(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return the number of each name among the classes, int32 [len(names)].

    Raises:
        InputError: if a name is none of them; it lists those.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := [name for name in names if name not in numbers]:
        listed = [*list(numbers)[:_LISTED], *["..."] * (len(numbers) > _LISTED)]
        raise InputError(f"labels {', '.join(unknown[:5])} are none of the {len(numbers)} classes {', '.join(listed)}")
    return np.array([numbers[name] for name in names], np.int32)


def are_numbers(classes: Sequence[str]) -> bool:
    """Return whether classes have no names but their numbers, 0, 1, ..."""
    return list(classes) == [str(number) for number in range(len(classes))]


def column_order(names: Sequence[str], wanted: Sequence[str], what: str = "the data") -> list[int]:
    """Return where each wanted column stands among the names.

    Raises:
        InputError: if a column is missing, or nobody wants it; it lists those.
    """
    missing = [name for name in wanted if name not in names]
    unknown = [name for name in names if name not in wanted]
    if missing or unknown or len(names) != len(wanted):
        lists = [f"lack {', '.join(missing[:8])}" + nearest(missing[0], unknown)] if missing else []
        lists += [f"have {', '.join(unknown[:8])}, which the model was not trained on"] if unknown else []
        lists += [] if lists else ["have a column twice"]
        raise InputError(f"{what}: the columns {' and '.join(lists)}; it takes {', '.join(wanted)}, in any order")
    return [list(names).index(name) for name in wanted]


def class_weights(labels: Any, by_class: Mapping[Any, float] | None = None) -> np.ndarray:
    """Return a weight for each row, float32 [N], for ``Data(..., weights=...)``.

    Args:
        labels: the class of each row, [N]: whole numbers or text.
        by_class: the weight of each class, by its number or name; if absent, every class counts as much as any other,
            ``N / (number of classes * rows of the class)``, so that the mean weight is 1.

    Raises:
        InputError: if the labels are no classes, or a class has no weight.
    """
    labels = np.asarray(labels)
    text = text_of(labels)
    if labels.ndim != 1 or not len(labels) or (text is None and labels.dtype.kind not in "iu"):
        raise InputError(f"labels are {labels.dtype}{list(labels.shape)}; give the class of each row, [N]")
    classes, numbers, counts = np.unique(labels if text is None else text, return_inverse=True, return_counts=True)
    if by_class is None:
        return (len(labels) / (len(classes) * counts))[numbers].astype(np.float32)
    if missing := [str(name) for name in classes.tolist() if name not in by_class]:
        raise InputError(f"by_class has no weight for {', '.join(missing[:8])}; give one for each class")
    return np.array([by_class[name] for name in classes.tolist()], np.float32)[numbers]
