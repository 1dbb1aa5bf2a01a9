"""Tables: columns of numbers and of text beside each other, with missing values."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.names import spelled
from jaxnets.data.separated import Sheet, read_sheet
from jaxnets.errors import InputError

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
    sheet = read_sheet(path)
    sheet.check_names(label)
    names = [name for name in sheet.header if name == label or name not in without]
    sheet.check_named(names)
    columns = {name: _column(sheet, name) for name in names}
    labels = columns.pop(label)
    missing = labels == "" if labels.dtype.kind == "U" else np.isnan(labels)
    if missing.any():
        row = int(missing.argmax())
        raise InputError(f"{path}: {label!r} is missing in row {sheet.lines[row]}; remove rows without a label")
    return Table(columns, label, labels)


def _column(sheet: Sheet, name: str) -> np.ndarray:
    """Return the column as numbers, or, where any of it is none, as text."""
    texts = np.strings.strip(sheet.column(name))
    known = np.where(np.isin(texts, np.array(_MISSING, texts.dtype)), "", texts)
    numbers = sheet.numbers(np.where(known == "", "nan", known))
    if numbers is not None:
        return numbers
    found, places = np.unique(sheet.padded(name, known), return_inverse=True)
    return np.array([spelled(value) for value in found])[places]
