"""A table's columns as numbers for a network: what was learned of the training rows, and the encoding itself.

Each number becomes three: itself, standardised and squashed; its position among bins that hold equally many training
rows, of which a network makes a piecewise-linear encoding (Gorishniy et al., 2022); and the code of its exact value, if
that is frequent. A category becomes the code of its value. Codes are ``UNSEEN``, ``MISSING``, ``RARE``, and from
``FIRST`` on those of the values that occur often.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxnets.data.raw import DATE_PARTS, Raw, date_parts
from jaxnets.errors import InputError, nearest

UNSEEN, MISSING, RARE, FIRST = range(4)
MOST_VALUES = 1000  # of a column that have a code of their own
_MOST_LISTED = 8  # names that an error lists


@dataclass(frozen=True)
class NumberColumn:
    """A number of each row.

    Attributes:
        name: of the table's column.
        part: of a date, one of ``DATE_PARTS``; "" of a number.
        centre: the median of the training rows.
        scale: half of what lies between their quartiles, or their standard deviation where that is 0.
        edges: of the bins, rising; none if there is one value alone.
        values: those that have a code of their own, rising.
        missing: whether it is missing in a training row.
    """

    name: str
    part: str
    centre: float
    scale: float
    edges: tuple[float, ...]
    values: tuple[float, ...] = ()
    missing: bool = False

    def __post_init__(self) -> None:
        """Check what a file may say that is not so."""
        good = self.part in ("", *DATE_PARTS) and self.scale > 0 and math.isfinite(self.centre)
        rising = all(list(row) == sorted(set(row)) for row in (self.edges, self.values))
        if not good or not rising:
            raise InputError(f"the encoder's column {self.name!r} has a scale, edges or values that cannot be")

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return max(len(self.edges) - 1, 0)

    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the squashed values, the positions among the bins, and the codes, [N] each, of values [N]."""
        missing = np.isnan(values)
        known = np.where(missing, self.centre, values)
        z = (known - self.centre) / self.scale
        position = np.interp(known, self.edges, np.arange(len(self.edges))) if self.bins else np.zeros(len(known))
        codes = _codes(known, np.asarray(self.values, np.float64), None)
        codes = np.where(missing, MISSING if self.missing else UNSEEN, codes)
        return z / np.sqrt(1 + np.square(z / 3)), position, codes


@dataclass(frozen=True)
class CategoryColumn:
    """A category of each row.

    Attributes:
        name: of the table's column.
        values: those that have a code of their own, sorted.
        rare: the training rows' other values, sorted, which share a code.
        missing: whether it is missing in a training row.
    """

    name: str
    values: tuple[str, ...]
    rare: tuple[str, ...] = ()
    missing: bool = False

    def __post_init__(self) -> None:
        """Check what a file may say that is not so."""
        if any(list(row) != sorted(set(row)) for row in (self.values, self.rare)):
            raise InputError(f"the encoder's column {self.name!r} has values out of order")

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the codes [N] of texts [N], "" where one is missing."""
        found, places = np.unique(values, return_inverse=True)
        codes = _codes(found, np.array(self.values, str), np.array(self.rare, str))
        codes = np.where(found == "", MISSING if self.missing else UNSEEN, codes)
        return codes[places]


@dataclass(frozen=True)
class Encoder:
    """How a table's columns become numbers, [N, 3 numbers + categories] float32.

    The squashed numbers come first, then their positions, their codes, and the codes of the categories.

    Attributes:
        numbers: of each row, those of dates included.
        categories: of each row.
    """

    numbers: tuple[NumberColumn, ...]
    categories: tuple[CategoryColumn, ...]

    @property
    def names(self) -> list[str]:
        """The table's columns that are read, each once."""
        return list(dict.fromkeys(column.name for column in (*self.numbers, *self.categories)))

    @property
    def bins(self) -> tuple[int, ...]:
        """The bins of each number."""
        return tuple(column.bins for column in self.numbers)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes there are, for each number and then each category."""
        return tuple(FIRST + len(column.values) for column in (*self.numbers, *self.categories))

    def places(self, name: str) -> np.ndarray:
        """Return where the numbers that are made of a table's column stand, [K]."""
        count = len(self.numbers)
        numbers = [i for i, column in enumerate(self.numbers) if column.name == name]
        categories = [3 * count + i for i, column in enumerate(self.categories) if column.name == name]
        return np.array([row * count + i for row in range(3) for i in numbers] + categories, np.int64)

    def encode(self, columns: Mapping[str, Raw]) -> np.ndarray:
        """Return the numbers of a table's rows, [N, 3 numbers + categories] float32.

        Raises:
            InputError: if a column is missing, or what it holds is not of its kind.
        """
        if missing := [name for name in self.names if name not in columns]:
            listed = ", ".join(missing[:_MOST_LISTED]) + (", ..." if len(missing) > _MOST_LISTED else "")
            raise InputError(
                f"the table lacks {listed}{nearest(missing[0], columns)}; the model was trained on "
                f"{', '.join(self.names[:30])}, and needs all of them"
            )
        parts = {name: date_parts(columns[name]) for name in {one.name for one in self.numbers if one.part}}
        three = [
            one.encode(parts[one.name][one.part] if one.part else columns[one.name].numbers()) for one in self.numbers
        ]
        codes = [one.encode(columns[one.name].texts()) for one in self.categories]
        rows = [row for kind in zip(*three, strict=True) for row in kind]
        return np.stack([*rows, *codes], 1).astype(np.float32)


def _codes(values: np.ndarray, own: np.ndarray, rare: np.ndarray | None) -> np.ndarray:
    """Return the code of each value, among sorted ones of its own and those that share one."""
    codes = np.full(len(values), UNSEEN)
    if rare is not None and len(rare):
        codes = np.where(np.isin(values, rare), RARE, codes)
    if len(own):
        at = np.minimum(np.searchsorted(own, values), len(own) - 1)
        codes = np.where(own[at] == values, FIRST + at, codes)
    return codes


def fit_encoder(
    columns: Mapping[str, Raw],
    kinds: Mapping[str, str],
    rows: np.ndarray,
    *,
    num_bins: int = 32,
    exact_count: int = 0,
    rare_count: int = 5,
) -> Encoder:
    """Return the encoder that is learned of some rows of a table alone: those that are trained on.

    Args:
        columns: by name.
        kinds: "number", "category" or "date" of each; those of another kind are left out.
        rows: numbers of the training rows.
        num_bins: bins of each number, at most; a bin has some 20 rows or more.
        exact_count: rows in which a number's value occurs that has a code of its own; 0 for none.
        rare_count: rows in which a category occurs that has a code of its own; the others share one.

    Raises:
        InputError: if no column is left.
    """
    numbers, categories = [], []
    for name, kind in kinds.items():
        if kind == "category":
            categories.append(_category(name, columns[name].texts()[rows], rare_count))
        elif kind == "number":
            numbers.append(_number(name, "", columns[name].numbers()[rows], num_bins, exact_count))
        elif kind == "date":
            parts = date_parts(columns[name])
            numbers += [_number(name, part, values[rows], num_bins, exact_count) for part, values in parts.items()]
    if not numbers and not categories:
        raise InputError("no column is left to learn from: all are constant, empty or identifiers; --types keeps some")
    return Encoder(tuple(numbers), tuple(categories))


def _number(name: str, part: str, values: np.ndarray, num_bins: int, exact_count: int) -> NumberColumn:
    known = values[~np.isnan(values)]
    missing = len(known) < len(values)
    if not len(known):
        return NumberColumn(name, part, 0.0, 1.0, (), (), missing)
    low, centre, high = np.quantile(known, [0.25, 0.5, 0.75])
    scale = float(high - low) / 2 or float(known.std()) or 1.0
    bins = max(1, min(num_bins, len(known) // 20))
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)))
    own: Iterable[float] = ()
    if exact_count:
        found, counts = np.unique(known, return_counts=True)
        often = np.sort(np.argsort(-counts, kind="stable")[:MOST_VALUES])
        own = found[often][counts[often] >= exact_count].tolist()
    return NumberColumn(
        name, part, float(centre), scale, tuple(edges.tolist()) if len(edges) > 1 else (), tuple(own), missing
    )


def _category(name: str, values: np.ndarray, rare_count: int) -> CategoryColumn:
    found, counts = np.unique(values, return_counts=True)
    missing = bool((found == "").any())
    found, counts = found[found != ""], counts[found != ""]
    often = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    own = sorted(found[often][counts[often] >= rare_count].tolist())
    rare: Sequence[str] = sorted(set(found.tolist()) - set(own))
    return CategoryColumn(name, tuple(own), tuple(rare), missing)
