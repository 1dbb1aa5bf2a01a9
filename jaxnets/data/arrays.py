"""Named arrays, and what is known of them before anything compiles."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxnets.data.encoder import Encoder
from jaxnets.data.given import as_array, as_known, as_names, as_rows, check_split
from jaxnets.data.groups import GROUP, dealt
from jaxnets.data.names import are_numbers, class_numbers, column_order, numbered, spelled, text_of
from jaxnets.data.numbers import checked, moments
from jaxnets.errors import InputError, check_number, check_whole

FOLD = "fold"  # the array that says in which fold of a cross-validation a row is, int32 [N]
_MOST_CLASSES = 10_000  # integer labels above this are numbers, unless their classes are named


@dataclass(frozen=True)
class Column:
    """What is known of one named array, for each example.

    Attributes:
        shape: of one example.
        dtype: NumPy's name of it.
        low: smallest value.
        high: largest value.
        classes: names of the classes, where the numbers stand for classes; for tokens, the vocabulary.
        mean: of each feature (last axis), for numbers that are not classes.
        std: standard deviation of each feature, likewise.
        features: names of the features, where they have names.
        white: the number of a white pixel, where the data set's description says so; bytes are 0 to 255 otherwise.
        tokenizer: how text becomes these numbers, where parts of words were learned: JSON of ``tokenizers``.
        template: how conversations become text, in Jinja, where pretrained weights say so.
        architecture: what network takes these tokens, where pretrained weights say so: JSON, a ``config.json``.
        step: what is between two rows of a series, as text, such as "1 h"; "" where that is not known.
        encoder: how a table's columns become these numbers, where they are of one.
    """

    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    features: tuple[str, ...] = ()
    white: float | None = None
    tokenizer: str = ""
    template: str = ""
    architecture: str = ""
    step: str = ""
    encoder: Encoder | None = None

    def __post_init__(self):
        """Check what a file may say that is not so."""
        try:
            good = np.dtype(self.dtype).kind in "biuf" and min(self.shape, default=1) >= 1
        except (TypeError, ValueError, SyntaxError):
            good = False
        if not good:
            raise InputError(f"a column of dtype {self.dtype!r} and shape {self.shape}: there are no such arrays")

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of one example, as JAX takes them."""
        return jax.ShapeDtypeStruct(self.shape, np.dtype(self.dtype))


@dataclass(frozen=True)
class Spec:
    """What is known of a data set: what a model's shape may depend on, and what a run's folder keeps."""

    num_examples: int
    columns: Mapping[str, Column] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Column:
        """Return the named column."""
        if name not in self.columns:
            raise InputError(f"the data have {sorted(self.columns)}, but no {name!r}")
        return self.columns[name]


class Data(Mapping[str, np.ndarray]):
    """Arrays of equally many examples, by name: ``Data(inputs=x, labels=y)``.

    float64 becomes float32 and int64 int32, as JAX would have it; text labels become class numbers, those of one data
    set: ``like`` gives another its. Columns of a table of pandas keep their names. Inputs of several parts are a dict,
    ``Data(inputs={"a": a, "b": b})``, kept as "inputs/a" and "inputs/b". By an array named "lengths", [N], rows of like
    length make up the batches of training; "weights", [N], say how much each counts, a "mask", [N], which do, and
    "group", [N], whose each is: ``split`` and ``in_folds`` keep a group whole.
    Memory-mapped arrays of up to 32 bits a number, in the machine's byte order, stay in their files, though not in
    ``take`` and ``split``.

    Args:
        classes: names of the classes of "labels", in the order of their numbers; of text labels the sorted names.
        known: what is known of other arrays beyond their numbers, by name: fields of ``Column``, such as
            ``{"inputs": {"classes": vocabulary}}``.
        **arrays: [N, ...] each.

    Raises:
        InputError: if there are no examples, the lengths differ, a number is NaN or infinite or too large, a dtype
            holds no numbers, or a label is empty or outside the classes.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str] | None = None,
        known: Mapping[str, Mapping[str, Any]] | None = None,
        **arrays: Any,
    ):
        arrays = _flat(arrays)
        for name, array in arrays.items():
            if isinstance(array, np.ma.MaskedArray) and np.ma.getmaskarray(array).any():
                raise InputError(f"{name}: {np.ma.count_masked(array)} numbers are masked; fill or remove them first")
        known = as_known(known, [field.name for field in dataclasses.fields(Column)], arrays)
        columns = {name: as_array(name, array) for name, array in arrays.items()}
        if not columns:
            raise InputError("the data have no arrays; give at least inputs=")
        lengths = {name: len(array) if array.ndim else 0 for name, array in columns.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"arrays of unequal length: {lengths}; each needs one row an example")
        if not all(array.ndim and array.size for array in columns.values()):
            shapes = {name: array.shape for name, array in columns.items()}
            raise InputError(f"the data are empty: arrays of shapes {shapes}; give at least one example")
        classes = as_names(classes)
        if "labels" in columns and (text := text_of(columns["labels"])) is not None:
            columns["labels"], classes = numbered(text, classes)
        self._columns = {name: checked(name, array) for name, array in columns.items()}
        self.classes = self._class_names(classes)
        self.known = known

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the named array, [N, ...]; of one that has several parts, a dict of them."""
        if name not in self._columns:
            parts: Any = {key.removeprefix(f"{name}/"): a for key, a in self.items() if key.startswith(f"{name}/")}
            if parts:
                return parts
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return how many arrays there are, as for any mapping; ``num_examples`` counts the rows."""
        return len(self._columns)

    def __repr__(self) -> str:
        """Return the shapes and dtypes."""
        return f"Data({', '.join(f'{name}={a.dtype}{list(a.shape)}' for name, a in self.items())})"

    @property
    def num_examples(self) -> int:
        """Rows of each array."""
        return len(next(iter(self._columns.values())))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._columns.values())

    @cached_property
    def spec(self) -> Spec:
        """Shapes, dtypes, ranges, classes and moments of these rows."""
        return Spec(self.num_examples, {name: self._column(name) for name in self})

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names, shapes, dtypes and values."""
        digest = hashlib.sha256()
        for name in sorted(self):
            array = self[name]
            digest.update(f"{name} {array.dtype} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()

    def take(self, rows: np.ndarray | slice) -> "Data":
        """Return these rows, with the same classes.

        Raises:
            InputError: if they are no list of rows that there are, or none.
        """
        if not isinstance(rows, slice):
            rows = as_rows(rows, self.num_examples)
        rows_of = {name: array[rows] for name, array in self.items()}
        return Data(classes=self.classes or None, known=self.known, **rows_of)

    def replaced(self, **arrays: Any) -> "Data":
        """Return the same data with these arrays in place of theirs, or beside them."""
        return Data(classes=self.classes or None, known=self.known, **{**self, **arrays})

    def knowing(self, name: str, **facts: Any) -> "Data":
        """Return the same data with these fields of a ``Column`` known of an array, whatever its numbers."""
        known = {**self.known, name: {**self.known.get(name, {}), **facts}}
        return Data(classes=self.classes or None, known=known, **self)

    def like(self, other: "Data | Spec") -> "Data":
        """Return the same rows with classes numbered, and columns in the order, as others': the training data's.

        Both go by their names, where they have names.

        Raises:
            InputError: if a class is none of the others', or a column is missing or unknown.
        """
        changed: dict[str, Any] = {}
        known = dict(self.known)
        for name, array in self.items():
            wanted, names = features_of(other, name), features_of(self, name)
            if wanted and names and wanted != names:
                changed[name] = array[..., column_order(names, wanted, name)]
                known[name] = {**known[name], "features": wanted}
        classes, wanted = self.classes, classes_of(other)
        if wanted and self.classes and wanted != classes and not (are_numbers(wanted) and are_numbers(classes)):
            if not are_numbers(self.classes):
                used, inverse = np.unique(self["labels"], return_inverse=True)
                numbers = class_numbers([self.classes[number] for number in used], wanted)
                changed["labels"] = numbers[inverse.reshape(self["labels"].shape)]
            classes = wanted
        if not changed and classes == self.classes:
            return self
        return Data(classes=classes or None, known=known, **{**self, **changed})

    def split(self, fraction: float, seed: int = 0) -> tuple["Data", "Data"]:
        """Return the rest and a random ``fraction`` held out, stratified by integer labels (scikit-learn's split).

        Rows of one "group", if there is such an array, stay together.

        Raises:
            InputError: if one side would be empty, or hold fewer examples than there are classes.
        """
        from sklearn.model_selection import train_test_split  # noqa: PLC0415  (slow to import)

        labels = self.get("labels")
        stratify = labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu" else None
        check_number("fraction", fraction, 0, 1, "in (0, 1), such as 0.2", low_too=False)
        check_whole("seed", seed, 0)
        if GROUP in self:
            held = dealt(self[GROUP], stratify, (1 - fraction, fraction), [seed]) == 1
            return self.take(~held), self.take(held)
        check_split(fraction, self.num_examples, stratify, self.classes)
        rest, held_out = train_test_split(
            np.arange(self.num_examples), test_size=fraction, random_state=seed, stratify=stratify
        )
        return self.take(np.asarray(rest)), self.take(np.asarray(held_out))

    def _class_names(self, classes: Sequence[str] | None) -> tuple[str, ...]:
        labels = self._columns.get("labels")
        if labels is None or labels.dtype.kind not in "iu":
            return ()
        low, high = int(labels.min()), int(labels.max())
        if classes is None:
            return tuple(map(str, range(high + 1))) if low >= 0 and high < _MOST_CLASSES else ()
        if low < 0 or high >= len(classes):
            row = int(np.argmax((labels < 0) | (labels >= len(classes))))
            raise InputError(
                f"labels range from {low} to {high}, but there are {len(classes)} classes, 0..{len(classes) - 1} "
                f"(first in row {row})"
            )
        return tuple(map(spelled, classes))

    def _column(self, name: str) -> Column:
        array = self[name]
        shape, dtype = array.shape[1:], str(array.dtype)
        low, high = array.min().item() if array.size else 0, array.max().item() if array.size else 0
        if name == "labels" and self.classes:
            return Column(shape, dtype, low, high, classes=self.classes)
        known = self.known.get(name, {})
        column = Column(**{"shape": shape, "dtype": dtype, "low": low, "high": high, **known})
        return column if column.classes or column.mean else replace(column, **moments(array)._asdict())


def classes_of(data: Data | Spec) -> tuple[str, ...]:
    """Return the names of the classes of the labels, if there are any."""
    if isinstance(data, Data):
        return data.classes
    return data.columns["labels"].classes if "labels" in data.columns else ()


def _flat(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays, those of several parts as one for each part."""
    flat: dict[str, Any] = {}
    for name, array in arrays.items():
        flat |= {f"{name}/{part}": a for part, a in array.items()} if isinstance(array, Mapping) else {name: array}
    return flat


def features_of(data: Data | Spec, name: str) -> tuple[str, ...]:
    """Return the names of an array's features, if it has any."""
    if isinstance(data, Data):
        return tuple(data.known.get(name, {}).get("features", ()))
    return data.columns[name].features if name in data.columns else ()


def check_alike(train: Data, other: Data, name: str) -> None:
    """Check that other data hold what the training data hold: each array in the same shape, and of the same kind.

    A mask, weights, folds and groups are each data set's own affair.

    Raises:
        InputError: if an array is missing, of another shape, or of whole numbers where the other is not.
    """
    for column, array in train.items():
        found = other.get(column)
        if found is None and column in ("mask", "weights", FOLD, GROUP):
            continue  # all rows count, and alike
        if (
            found is None
            or found.shape[1:] != array.shape[1:]
            or (found.dtype.kind == "f") != (array.dtype.kind == "f")
        ):
            raise InputError(
                f"{name} data are {other}, but the training data {train}; make {column!r} the same in both"
            )
