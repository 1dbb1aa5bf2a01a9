"""Tables: columns of numbers and of text beside each other, with missing values."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.formats import read_table
from jaxnets.errors import InputError, nearest

_MISSING = ("", "NA", "nan", "?")


class Table(NamedTuple):
    """Features and what is to be told from them.

    Attributes:
        features: each column by name: float64 [N], NaN where a value is missing, or text [N], "" where it is.
        label: name of the labels.
        labels: text or numbers [N].
    """

    features: dict[str, np.ndarray]
    label: str
    labels: np.ndarray


def read_columns(path: Path, label: str, *, without: Sequence[str] = ()) -> Table:
    """Return the table that a CSV file with a header holds, gzipped or not. Empty fields, NA, nan and ? are missing.

    Args:
        path: the file.
        label: the column of the labels.
        without: columns to leave out, where they are there, such as numbers of rows.

    Raises:
        InputError: if the file cannot be read, two columns have one name, the label's is not there or lacks a value.
    """
    header, rows = read_table(path)
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(f"{path}: more than one column is named {repeated[0]!r}; give each a name of its own")
    if label not in header:
        raise InputError(f"{path}: no column {label!r}{nearest(label, header)}; it has {', '.join(header)}")
    columns = {name: _column(texts) for name, texts in zip(header, rows.T, strict=True) if name not in without}
    labels = columns.pop(label)
    missing = labels == "" if labels.dtype.kind == "U" else np.isnan(labels)
    if missing.any():
        raise InputError(
            f"{path}: {label!r} is missing in row {int(missing.argmax()) + 2}; remove rows without a label"
        )
    return Table(columns, label, labels)


def _column(texts: np.ndarray) -> np.ndarray:
    """Return the column as numbers, or, where any of it is none, as text."""
    texts = np.char.strip(texts)
    known = np.where(np.isin(texts, _MISSING), "", texts)
    try:
        return np.where(known == "", "nan", known).astype(np.float64)
    except ValueError:
        return known
