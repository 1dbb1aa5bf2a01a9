"""Tables: columns of numbers and of text beside each other, with missing values."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.raw import read_raw
from jaxnets.errors import InputError, nearest

_SHOWN = 10  # names of columns that an error lists


class Table(NamedTuple):
    """Features and what is to be told from them.

    Attributes:
        features: each column by name: float64 [N], NaN where a value is missing, or text [N], "" where it is.
        label: name of the labels.
        labels: text or numbers [N].
        test: which rows are for testing, bool [N], where the data set says so.
    """

    features: dict[str, np.ndarray]
    label: str
    labels: np.ndarray
    test: np.ndarray | None = None


def read_columns(path: Path, label: str, *, without: Sequence[str] = ()) -> Table:
    """Return the table that a CSV file with a header holds, gzipped or not, or a Parquet file.

    Empty fields, NA, nan and ? are missing.

    Args:
        path: the file.
        label: the column of the labels.
        without: columns to leave out, where they are there, such as numbers of rows.

    Raises:
        InputError: if the file cannot be read, two columns have one name, the label's is not there or lacks a value.
    """
    columns = read_raw(path, without=without)
    if label not in columns:
        more = f", ... ({len(columns):,} columns)" if len(columns) > _SHOWN else ""
        listed = ", ".join([*columns][:_SHOWN]) + more
        raise InputError(f"{path}: no column {label!r}{nearest(label, columns)}; it has {listed}")
    labels = columns.pop(label)
    if not labels.known.all():
        row = int((~labels.known).argmax())
        raise InputError(f"{path}: {labels.at(row)} is missing; remove rows without a label")
    values = {name: raw.numbers() if raw.are_numbers else raw.texts() for name, raw in columns.items()}
    return Table(values, label, labels.numbers() if labels.are_numbers else labels.texts())
