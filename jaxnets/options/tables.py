"""Where a table comes from, which of its columns are what, how it is parted, and how its columns are encoded."""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxnets import data as named
from jaxnets.data import GROUP, Data, Table, fit_encoder, kinds_of, read_raw
from jaxnets.data.raw import DATE_PARTS, Kind, Raw, date_parts
from jaxnets.errors import InputError, check_field, nearest
from jaxnets.options.data import DataConfig

_MOST_CLASSES = 20  # whole numbers up to so many of which are taken for classes
_SHOWN = 12  # names of columns of a kind that are printed


class Rows(NamedTuple):
    """A table, and which of its rows are for what.

    Attributes:
        columns: those to learn from, by name.
        kinds: what each is taken for.
        label: name of the labels.
        labels: class names or numbers, [N].
        weights: how much each row counts, [N], if a column says so.
        groups: whose each row is, [N], if a column says so.
        parts: numbers of the rows of "train", "test" and, if there are some, "validation".
    """

    columns: dict[str, Raw]
    kinds: dict[str, Kind]
    label: str
    labels: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None
    parts: dict[str, np.ndarray]


@dataclass(frozen=True)
class TableData(DataConfig):
    """A table: a row an example, one column of labels."""

    data: str = "breast-cancer"
    """adult, credit, breast-cancer, diabetes, or the path of a CSV file with a header (gzipped or not) or of a Parquet
    file"""
    label: str | None = None
    """the column that is foretold; needed for a file of one's own"""
    outcome: Literal["auto", "classes", "values"] = "auto"
    """whether labels are classes or values; auto: classes if they are texts, or whole numbers of 20 kinds or less"""
    types: tuple[str, ...] = ()
    """what columns are to be taken for, where that is guessed wrongly: COLUMN=number, category, date, or identifier,
    which is left out"""
    weight_column: str | None = None
    """the column that says how much each row counts, in training and in what is measured"""
    group_column: str | None = None
    """the column that says whose each row is, such as a patient's number: all rows of one fall into the same part"""
    time_column: str | None = None
    """the column of dates or numbers by which rows are ordered: the last are for testing, those before to choose by"""
    test_share: float | None = None
    """the share of the rows that is held out for testing, where the data set does not say which; 0.2 if absent"""
    validation: float | None = None
    """the share of the other rows that is held out to choose by, 0 for none; 0.15 if absent"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "test_share", self.test_share is None or 0 < self.test_share < 1, "in (0, 1)")
        check_field(self, "validation", self.validation is None or 0 <= self.validation < 1, "in [0, 1)")
        if self.group_column is not None and self.time_column is not None:
            raise InputError(
                f"group_column={self.group_column!r} and time_column={self.time_column!r}: rows are parted by one of "
                "the two; leave the other out"
            )

    def load(self) -> Rows:
        """Return the table, and which of its rows are for what."""
        columns, label, labels, test = self._read()
        own = {name: self._column(columns, name) for name in ("weight_column", "group_column", "time_column")}
        for name in {column.name for column in own.values() if column is not None}:
            columns.pop(name, None)
        values = self._labels(label, labels)
        weights = None if own["weight_column"] is None else _weights(own["weight_column"])
        whose = own["group_column"]
        groups = None if whose is None else np.unique(_known(whose).texts(), return_inverse=True)[1]
        parts = self._parts(values, groups, own["time_column"], test)
        return Rows(columns, kinds_of(columns, self.types), label, values, weights, groups, parts)

    def _read(self) -> tuple[dict[str, Raw], str, Raw, np.ndarray | None]:
        """Return the columns, the label's name, the labels, and which rows are for testing, if that is said."""
        path = named.find("tables", self.data, self.data_dir, "a CSV or Parquet file")
        test = None
        if path is None:
            table: Table = named.load(self.data, self.data_dir)
            columns = {name: _raw(name, values) for name, values in table.features.items()}
            columns[table.label], label, test = _raw(table.label, table.labels), self.label or table.label, table.test
        else:
            columns = read_raw(path)
            if self.label is None:
                raise InputError(f"label=None: name the column of {path} to foretell; there are {_listed(columns)}")
            label = self.label
        if label not in columns:
            raise InputError(f"label={label!r} is no column{nearest(label, columns)}; there are {_listed(columns)}")
        return columns, label, columns.pop(label), test

    def _column(self, columns: dict[str, Raw], field: str) -> Raw | None:
        name = getattr(self, field)
        if name is None:
            return None
        if name not in columns:
            raise InputError(f"{field}={name!r} is no column{nearest(name, columns)}; there are {_listed(columns)}")
        return columns[name]

    def _labels(self, name: str, labels: Raw) -> np.ndarray:
        """Return the labels as texts, if they are classes, or as numbers."""
        if not labels.known.all():
            row = int((~labels.known).argmax())
            raise InputError(f"label={name!r}: {labels.at(row)} is missing; remove rows without a label")
        kind = self.outcome
        if kind == "auto":
            values = labels.numbers() if labels.are_numbers else np.zeros(0)
            few = bool((values == np.round(values)).all()) and len(np.unique(values)) <= _MOST_CLASSES
            kind = "classes" if few else "values"
        values = labels.texts() if kind == "classes" else labels.numbers()
        if len(found := np.unique(values)) == 1:
            raise InputError(f"label={name!r} is always {str(found[0])!r}: there is nothing to learn; name another")
        return values

    def _parts(
        self, labels: np.ndarray, groups: np.ndarray | None, time: Raw | None, test: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Return the numbers of the rows of each part."""
        share, held = self.test_share or 0.2, 0.15 if self.validation is None else self.validation
        if test is not None and self.test_share is not None:
            raise InputError(f"test_share={self.test_share}, but {self.data} says which rows are for testing")
        if time is not None:
            return _by_time(_times(time), share, held, test)
        rows = np.arange(len(labels)) if test is None else np.flatnonzero(~test)
        arrays: dict[str, Any] = {} if groups is None else {GROUP: groups[rows]}
        data = Data(inputs=rows, labels=labels[rows], **arrays)
        parts = {}
        if test is None:
            data, last = data.split(share)
            parts["test"] = last["inputs"]
        else:
            parts["test"] = np.flatnonzero(test)
        if held:
            data, choose = data.split(held)
            parts["validation"] = choose["inputs"]
        return parts | {"train": data["inputs"]}


@dataclass(frozen=True)
class TableEncoding:
    """How a table's columns become numbers for a network, learned of the training rows alone."""

    num_bins: int = 32
    """bins of a number, which hold equally many rows, in each of which it acts in its own way (piecewise linear)"""
    exact_count: int = 20
    """rows in which a number has the same value, for that value to have an embedding of its own; 0 for none"""
    rare_count: int = 5
    """rows in which a category occurs, to have an embedding of its own; the rarer ones share one"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "num_bins", 1 <= self.num_bins <= 1000, "from 1 to 1000")
        check_field(self, "exact_count", 0 <= self.exact_count < 2**31, "0 or more")
        check_field(self, "rare_count", 1 <= self.rare_count < 2**31, "1 or more")

    def encoded(self, table: Rows) -> dict[str, Data]:
        """Return the parts of a table, encoded as its training rows say."""
        kinds = {name: found.kind for name, found in table.kinds.items()}
        options = {name: getattr(self, name) for name in ("num_bins", "exact_count", "rare_count")}
        encoder = fit_encoder(table.columns, kinds, table.parts["train"], **options)
        arrays: dict[str, Any] = {"inputs": encoder.encode(table.columns), "labels": table.labels}
        arrays |= {} if table.weights is None else {"weights": table.weights}
        arrays |= {} if table.groups is None else {GROUP: table.groups}
        classes = sorted(set(table.labels.tolist())) if table.labels.dtype.kind == "U" else None
        known = {"inputs": {"encoder": encoder}}
        return {
            part: Data(classes=classes, known=known, **{name: array[rows] for name, array in arrays.items()})
            for part, rows in table.parts.items()
        }


def described(table: Rows) -> list[str]:
    """Return lines that say what each column was taken for."""
    lines = []
    for kind, what in (("number", "numbers"), ("category", "categories"), ("date", "dates")):
        names = [f"{name} ({found.why})" for name, found in table.kinds.items() if found.kind == kind]
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            lines.append(f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}")
    left = [f"{name} ({found.kind}: {found.why})" for name, found in table.kinds.items()]
    left = [text for text, found in zip(left, table.kinds.values(), strict=True) if found.kind not in _LEARNED]
    return [*lines, f"left out: {', '.join(left)}"] if left else lines


_LEARNED = ("number", "category", "date")


def _raw(name: str, values: np.ndarray) -> Raw:
    return Raw(name, values) if values.dtype.kind in "biuf" else Raw(name, None, values)


def _listed(columns: dict[str, Raw]) -> str:
    return ", ".join([*columns][:30]) + (", ..." if len(columns) > 30 else "")


def _known(column: Raw) -> Raw:
    if not column.known.all():
        row = int((~column.known).argmax())
        raise InputError(f"{column.at(row)} is missing; fill it, or remove the row")
    return column


def _weights(column: Raw) -> np.ndarray:
    values = _known(column).numbers()
    if not np.isfinite(values).all() or values.min() < 0 or not values.any():
        raise InputError(
            f"weight_column={column.name!r} holds {values.min():g} to {values.max():g}; give weights of 0 or more, not "
            "all of them 0"
        )
    return values.astype(np.float32)


def _times(column: Raw) -> np.ndarray:
    return _known(column).numbers() if column.are_numbers else date_parts(_known(column))[DATE_PARTS[0]]


def _by_time(times: np.ndarray, share: float, held: float, test: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the parts: the last rows for testing, those before to choose by, the first to learn from.

    Rows of one time are in one part.
    """
    if test is not None:
        raise InputError("time_column is for data that do not say which rows are for testing; leave it out")
    order = np.argsort(times, kind="stable")
    cuts, end = [], len(order)
    for part in (share, held):
        at = end - math.ceil(part * end)
        end = int(np.searchsorted(times[order], times[order[at]])) if at < end else end
        cuts.append(end)
    parts = {"train": order[: cuts[1]], "validation": order[cuts[1] : cuts[0]], "test": order[cuts[0] :]}
    if not len(parts["train"]) or not len(parts["test"]) or (held and not len(parts["validation"])):
        sizes = ", ".join(f"{len(rows)} {part}" for part, rows in parts.items())
        raise InputError(f"by time, that makes {sizes} rows; give other shares, or a column with more times")
    return {part: np.sort(rows) for part, rows in parts.items() if len(rows)}
