"""The parts of a data set, and two files that hold them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.fetching import zipped_or_not
from jaxnets.data.formats import read_idx
from jaxnets.data.names import class_weights
from jaxnets.data.numpy_files import read_npz
from jaxnets.data.orders import MakeOrder, usual
from jaxnets.errors import InputError


@dataclass(frozen=True)
class Splits:
    """The parts of a data set; ``validation`` and ``test`` may be missing. ``order`` is that of the training rows.

    Classes are numbered, and columns stand, as in the training part (``Data.like``).
    """

    train: Data
    validation: Data | None = None
    test: Data | None = None
    order: MakeOrder = usual

    def __post_init__(self) -> None:
        """Give the parts one encoding."""
        for name, data in (("validation", self.validation), ("test", self.test)):
            if data is not None:
                object.__setattr__(self, name, data.like(self.train))

    def balanced(self) -> "Splits":
        """Return the same with ``class_weights`` of the training rows, times the weights that they have."""
        weights = class_weights(self.train["labels"]) * self.train.get("weights", np.float32(1))
        return replace(self, train=self.train.replaced(weights=weights))

    def mapped(self, change: Callable[[Data], Data]) -> "Splits":
        """Return the same with every part changed."""
        return replace(self, **{name: change(data) for name, data in self.parts.items()})

    def __iter__(self) -> Iterator[Data | None]:
        """Yield the three parts."""
        return iter((self.train, self.validation, self.test))

    @property
    def parts(self) -> dict[str, Data]:
        """The parts that are there, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: data for name, data in parts.items() if data is not None}

    @property
    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of each part that is there."""
        return {name: data.fingerprint for name, data in self.parts.items()}


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

    "weights" (and "test_weights") say how much each row counts. Keras' names (x_train, y_train, x_test, y_test) do as
    well. Without test arrays a stratified 20% is held out.

    Raises:
        InputError: if the file is broken, the names are others, or it holds an array that nothing reads.
    """
    arrays = read_npz(path)
    for names in (("inputs", "labels", "test_inputs", "test_labels"), ("x_train", "y_train", "x_test", "y_test")):
        x, y, test_x, test_y = (arrays.get(name) for name in names)
        if x is None or y is None:
            continue
        if unread := sorted(set(arrays) - {*names, "weights", "test_weights"}):
            raise InputError(f"{path}: holds {', '.join(unread)}, which nothing reads beside {names[0]}; leave it out")
        train = _part(x, y, arrays.get("weights"))
        if (test_x is None) != (test_y is None):
            raise InputError(f"{path}: holds one of {names[2]} and {names[3]}; give both, or neither")
        if test_x is None or test_y is None:
            rest, held_out = train.split(0.2, seed=0)
            return Splits(rest, test=held_out)
        return Splits(train, test=_part(test_x, test_y, arrays.get("test_weights")))
    raise InputError(f"{path}: holds {sorted(arrays)}; name the arrays inputs and labels (or x_train and y_train)")


def _part(inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> Data:
    data = Data(inputs=inputs, labels=labels)
    return data if weights is None else data.replaced(weights=weights)


def _idx_file(folder: Path, name: str) -> Path:
    if path := zipped_or_not(folder / f"{name}.gz"):
        return path
    raise InputError(f"{folder}: holds no {name} or {name}.gz")
