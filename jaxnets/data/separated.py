"""CSV files: separators and decimal commas are found out, and errors name the line that an editor shows."""

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.unpacking import check_utf8, reading, unpacked
from jaxnets.errors import InputError, nearest

_SEPARATORS = (",", ";", "\t", "|")
_MOST_PADDED = 256 << 20  # bytes of a column of text
_HEAD = 1 << 16  # characters by which separator and decimal commas are found out
_SAMPLE = 20  # rows that a separator has to suit
_BLOCK = 4096  # rows
_TEXT = np.dtypes.StringDType()  # of variable width: one long field does not lengthen the others
_LONGEST = 50  # characters of a field that an error shows
_SHOWN = 10  # names of columns that an error lists
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+([eE][-+]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[-+]?[1-9]\d{0,2},\d{3}\s*")  # or a number with three decimals
_VALUE = re.compile(r"\s*[-+.\d][-+.,:/\dTZeE ]*")  # a number or a time


@dataclass(frozen=True)
class Sheet:
    """What a CSV file holds below its header, as text.

    Attributes:
        path: the file.
        header: names of the columns, without white space around them.
        blocks: text [rows, columns] of variable width, one below the other.
        lines: in which line of the file each row begins, [N]; the first is 1.
        decimal_commas: numbers are written as 1,5, and with no point.
    """

    path: Path
    header: list[str]
    blocks: list[np.ndarray]
    lines: np.ndarray
    decimal_commas: bool

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.header)}

    def column(self, name: str) -> np.ndarray:
        """Return the fields of a column, text [N]."""
        at = self._positions[name]
        return np.concatenate([block[:, at] for block in self.blocks])

    def numbers(self, texts: np.ndarray) -> np.ndarray | None:
        """Return fields as numbers, float64 [N], or None if one of them is none."""
        if self.decimal_commas:
            if (np.strings.find(texts, ".") >= 0).any():
                return None
            texts = np.strings.replace(texts, ",", ".")
        try:
            return texts.astype(np.float64)
        except ValueError:
            return None

    def no_number(self, name: str, texts: np.ndarray, good: Callable[[np.ndarray], Any] = lambda found: True) -> str:
        """Return where the first of a column's fields is that is no number, or no ``good`` one, and what it says."""
        for row, text in enumerate(texts):
            found = self.numbers(texts[row : row + 1])
            if found is None or not good(found):
                return f"{self.at(name, row)}: {_short(text)} is not a number"
        raise AssertionError(f"all of {name!r} are numbers")

    def padded(self, name: str, texts: np.ndarray) -> np.ndarray:
        """Return a column's fields, all padded to the longest, as NumPy's usual text.

        Raises:
            InputError: if a field is so long that the others would take too much memory.
        """
        lengths = np.strings.str_len(texts)
        if lengths.max() * len(texts) * 4 > _MOST_PADDED:
            row = int(lengths.argmax())
            raise InputError(f"{self.at(name, row)}: {_short(texts[row])} is too long; leave the column out")
        return np.array(texts.tolist())

    def at(self, name: str, row: int) -> str:
        """Return where a field is: the file, its column and its line."""
        return f"{self.path}: column {name!r}, row {self.lines[row]}"

    def check_names(self, *wanted: str) -> None:
        """Check that no two columns have one name, and that those that are wanted are there.

        Raises:
            InputError: otherwise.
        """
        if repeated := sorted(name for name, number in Counter(self.header).items() if number > 1):
            raise InputError(f"{self.path}: more than one column is named {repeated[0]!r}; give each a name of its own")
        for name in wanted:
            if name not in self._positions:
                raise InputError(f"{self.path}: no column {name!r}{nearest(name, self.header)}; it has {self.listed}")

    def check_named(self, used: Sequence[str]) -> None:
        """Check that none of the columns that are used lacks a name: an index that was written along is no feature.

        Raises:
            InputError: otherwise.
        """
        if "" in used:
            raise InputError(
                f"{self.path}: column {self.header.index('') + 1} has no name, as an index that was written along; "
                "remove it (pandas: to_csv(..., index=False)), or name it"
            )

    @property
    def listed(self) -> str:
        """The names of the columns, the first few of many."""
        more = f", ... ({len(self.header):,} columns)" if len(self.header) > _SHOWN else ""
        return ", ".join(self.header[:_SHOWN]) + more


def read_sheet(path: Path) -> Sheet:
    """Return what a CSV file holds: UTF-8, gzipped or not, with a header.

    Fields stand between commas, semicolons, tabs or bars, whichever parts the first rows evenly; numbers may have
    decimal commas where fields stand between others. Lines above the header that begin with # are comments, as are
    those below that begin with it and are no rows; blank lines are passed over.

    Raises:
        InputError: if the file is missing, broken or empty, has no header, or lines differ in length.
    """
    return reading(path, "a CSV file", _parse)


def _parse(path: Path) -> Sheet:
    with unpacked(path) as file:
        check_utf8(file.peek(2)[:2], path)
        with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            return _sheet(path, text)


def _sheet(path: Path, text: io.TextIOWrapper) -> Sheet:
    head = list(io.StringIO(text.read(_HEAD) + text.readline(), newline=""))
    above = len(list(itertools.takewhile(lambda line: line.startswith("#") or not line.strip(), head)))
    separator = _separator(head[above:])
    rows = _rows(csv.reader(itertools.chain(head[above:], text), strict=True, delimiter=separator), above)
    _, header = next(rows, (0, []))
    _check_header(path, header, separator, commented=any(line.strip() for line in head[:above]))
    blocks, lines = [], []
    fitting = _fitting(path, rows, len(header))
    while block := list(itertools.islice(fitting, _BLOCK)):
        lines.append(np.array([line for line, _ in block]))
        blocks.append(np.array([fields for _, fields in block], _TEXT))
    if not blocks:
        raise InputError(f"{path}: no rows below its header")
    decimal_commas = separator != "," and _has_decimal_commas(blocks[0])
    return Sheet(path, [name.strip() for name in header], blocks, np.concatenate(lines), decimal_commas)


def _separator(head: Sequence[str]) -> str:
    """Return what parts the fields of the first rows evenly; of several, and of none, the one that parts the first."""
    widths = {}
    for separator in _SEPARATORS:
        try:
            sample = [row for row in itertools.islice(csv.reader(head, delimiter=separator), _SAMPLE) if row]
        except csv.Error:
            continue
        rows = [row for row in sample if not (row[0].startswith("#") and len(row) != len(sample[0]))]
        if rows:
            widths[separator] = (len(rows[0]) > 1 and len({len(row) for row in rows}) == 1, len(rows[0]) > 1)
    return max(widths, key=lambda separator: widths[separator], default=",")


def _rows(reader: Any, above: int) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank with the line in which it begins; so many lines stand above."""
    before = above
    for row in reader:
        if row:
            yield before + 1, row
        before = above + reader.line_num


def _fitting(path: Path, rows: Iterator[tuple[int, list[str]]], width: int) -> Iterator[tuple[int, list[str]]]:
    for line, row in rows:
        if len(row) == width:
            yield line, row
        elif not row[0].startswith("#"):
            raise InputError(f"{path}: row {line} has {len(row)} fields, the header has {width}")


def _check_header(path: Path, header: Sequence[str], separator: str, *, commented: bool) -> None:
    """Check that a header names columns, and holds no values.

    Below comments one value is too many: a header that itself begins with # was taken for a comment then.
    """
    if any("\0" in name for name in header):
        raise InputError(f"{path}: cannot be read as a CSV file: its header holds zero bytes; save it as UTF-8 text")
    values = [bool(_VALUE.fullmatch(name)) or _is_number(name) for name in header]
    numbered = [name.strip() for name in header] == [str(i) for i in range(len(header))]
    if header and not numbered and (all(values) or (commented and any(values))):
        raise InputError(
            f"{path}: its first line, {separator.join(header[:5])[:_LONGEST]}, holds numbers; let it name the columns"
            f"{', without #' if commented else ''}"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _has_decimal_commas(cells: np.ndarray) -> bool:
    """Return whether a column of the first rows holds numbers as 1,5: 1,500 alone could be a thousand and a half."""
    for column in cells.T:
        fields = [field for field in column.tolist() if "," in field]
        if fields and all(map(_DECIMAL_COMMA.fullmatch, fields)) and not all(map(_THOUSANDS.fullmatch, fields)):
            return True
    return False


def _short(text: str) -> str:
    return repr(text) if len(text) <= _LONGEST else f"{text[:_LONGEST]!r}... ({len(text):,} characters)"
