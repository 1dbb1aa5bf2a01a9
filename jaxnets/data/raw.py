"""A table's columns as a file has them, and what kind each is: a number, a category, a date, or an identifier."""

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data.names import spelled
from jaxnets.data.separated import read_sheet
from jaxnets.data.times import parse_time
from jaxnets.errors import InputError, nearest

KINDS = ("number", "category", "date", "identifier")
DATE_PARTS = ("day", "month", "weekday", "hour")
_MISSING = ("", "NA", "nan", "NaN", "?")
_FEW = 50  # distinct texts up to which they are categories, however few rows there are
_NAMED_SO = re.compile(r"(?i:(^|[^a-z])(id|ids|uuid|guid|index|key|rownames?|row_number)$)|[a-z]I[dD]$")


class Raw:
    """A column's values: as numbers, float64 [N], NaN where one is missing, or as texts [N], "" where one is.

    Args:
        name: of the column, as errors say it.
        numbers: if they are all numbers.
        texts: if they are texts, or were.
        lines: in which line of its file each row begins, [N], if it is of a file of lines.
    """

    def __init__(
        self,
        name: str,
        numbers: np.ndarray | None = None,
        texts: np.ndarray | None = None,
        lines: np.ndarray | None = None,
    ):
        self.name, self._numbers, self._texts, self._lines = name, numbers, texts, lines

    def __len__(self) -> int:
        """Return how many rows there are."""
        values = self._texts if self._numbers is None else self._numbers
        assert values is not None
        return len(values)

    @property
    def are_numbers(self) -> bool:
        """Whether all values that there are, are numbers."""
        return self._numbers is not None

    @property
    def known(self) -> np.ndarray:
        """Which values are there, bool [N]."""
        return ~np.isnan(self._numbers) if self._numbers is not None else self.texts() != ""

    def at(self, row: int) -> str:
        """Return where a row is: the column, and the line of the file, or the row's number."""
        where = f"row {row} (from 0)" if self._lines is None else f"row {self._lines[row]}"
        return f"column {self.name!r}, {where}"

    def numbers(self) -> np.ndarray:
        """Return the values as numbers.

        Raises:
            InputError: if one is none; it names it, and its row.
        """
        if self._numbers is not None:
            return self._numbers
        texts = self.texts()
        for row, text in enumerate(texts):
            try:
                float(text or "nan")
            except ValueError:
                raise InputError(
                    f"{self.at(row)}: {str(text)[:40]!r} is not a number; leave it empty if it is missing, or train "
                    f"with --types {self.name}=category"
                ) from None
        return np.array([float(text or "nan") for text in texts])

    def texts(self) -> np.ndarray:
        """Return the values as texts."""
        if self._texts is None:
            assert self._numbers is not None
            found, places = np.unique(self._numbers, return_inverse=True)
            written = ["" if np.isnan(value) else np.format_float_positional(value, trim="-") for value in found]
            self._texts = np.array(written)[places]
        return self._texts

    def take(self, rows: np.ndarray) -> "Raw":
        """Return these rows."""
        return Raw(self.name, *(None if a is None else a[rows] for a in (self._numbers, self._texts, self._lines)))


class Kind(NamedTuple):
    """What a column was taken for, and why."""

    kind: str
    why: str


def read_raw(path: Path, *, without: Sequence[str] = ()) -> dict[str, Raw]:
    """Return the columns of a CSV file with a header, gzipped or not, or of a Parquet file (which needs pyarrow).

    Empty fields, NA, nan and ? are missing. Columns of the names ``without`` are left out, where they are there.

    Raises:
        InputError: if the file cannot be read, two columns have one name, or one has none.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        return {name: raw for name, raw in _of_parquet(path).items() if name not in without}
    sheet = read_sheet(path)
    sheet.check_names()
    names = [name for name in sheet.header if name not in without]
    sheet.check_named(names)
    columns = {}
    for name in names:
        texts = np.strings.strip(sheet.column(name))
        texts = np.where(np.isin(texts, np.array(_MISSING, texts.dtype)), "", texts)
        numbers = sheet.numbers(np.where(texts == "", "nan", texts))
        found, places = np.unique(sheet.padded(name, texts), return_inverse=True)
        spelt = np.array([spelled(value) for value in found])[places]
        columns[spelled(name)] = Raw(name, numbers, spelt, sheet.lines)
    return columns


def _of_parquet(path: Path) -> dict[str, Raw]:
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")  # an extra
    except ImportError:
        raise InputError(f"{path}: Parquet needs pyarrow: pip install 'jaxnets[tables]'; or give a CSV file") from None
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
    if len(set(table.column_names)) < len(table.column_names) or "" in table.column_names:
        raise InputError(f"{path}: two columns have one name, or one has none; give each a name of its own")

    def raw(name: str) -> Raw:
        column = table.column(name)
        kinds = arrow.types
        if kinds.is_integer(column.type) or kinds.is_floating(column.type) or kinds.is_decimal(column.type):
            return Raw(name, np.array([np.nan if one is None else float(one) for one in column.to_pylist()]))
        return Raw(name, None, np.array([_text(one) for one in column.to_pylist()], str))

    return {spelled(name): raw(name) for name in table.column_names}


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = spelled(value.isoformat() if hasattr(value, "isoformat") else value)
    return "" if text in _MISSING else text


def kinds_of(columns: Mapping[str, Raw], told: Sequence[str] = ()) -> dict[str, Kind]:
    """Return what each column is taken for: "number", "category", "date", "identifier", or "constant", and why.

    Args:
        columns: by name.
        told: what the user says, "NAME=KIND" each.

    Raises:
        InputError: if what is told has another form, or names a column or a kind that is not there.
    """
    said = {}
    for text in told:
        name, _, kind = text.rpartition("=")
        if kind not in KINDS or name not in columns:
            known = nearest(name, columns) if name not in columns else f"; kinds are {', '.join(KINDS)}"
            raise InputError(f"types: {text!r} is not COLUMN=KIND, such as zip=category{known}")
        said[name] = kind
    found = {}
    for name, column in columns.items():
        found[name] = kind_of(column)
        if name in said:
            found[name] = Kind(said[name], "as --types says")
    return found


def kind_of(column: Raw) -> Kind:
    """Return what a column is taken for."""
    known = column.known
    if not known.any():
        return Kind("constant", "all of it is missing")
    values = column.numbers()[known] if column.are_numbers else column.texts()[known]
    distinct = np.unique(values)
    if len(distinct) == 1:
        missing = "" if known.all() else ", else missing"
        # Whether a value is there may tell something, even where it is always the same.
        return Kind("constant", f"always {distinct[0]}") if known.all() else Kind("category", f"one value{missing}")
    if column.are_numbers:
        return _kind_of_numbers(column.name, values, distinct)
    return _kind_of_texts(values, distinct)


def _kind_of_numbers(name: str, values: np.ndarray, distinct: np.ndarray) -> Kind:
    whole, once = bool((values == np.round(values)).all()), len(distinct) == len(values)
    if whole and once and len(values) > _FEW:
        counted = bool((np.abs(np.diff(values)) == 1).all())
        if counted or _NAMED_SO.search(name):
            return Kind("identifier", "rows are numbered" if counted else "each whole number once, and its name")
    return Kind("number", f"{len(distinct):,} values")


def _kind_of_texts(values: np.ndarray, distinct: np.ndarray) -> Kind:
    dates = sum(parse_time(text.replace("/", "-")) is not None for text in distinct.tolist())
    if dates == len(distinct):
        return Kind("date", f"{len(distinct):,} values")
    many = f"{len(distinct):,} texts"
    if dates:
        return Kind("category", f"{many}, of which {dates:,} are dates and the others none")
    if len(distinct) > _FEW and len(distinct) > 0.5 * len(values):
        return Kind("identifier", f"{many} in {len(values):,} rows")
    numbers = sum(_is_number(text) for text in distinct.tolist())
    return Kind("category", many + (f", of which {numbers:,} are numbers and the others none" if numbers else ""))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def date_parts(column: Raw) -> dict[str, np.ndarray]:
    """Return the numbers that are made of a column of dates, float64 [N] each, NaN where one is missing, by part.

    "day" counts from 1970 on, with fractions; "month" is 1 to 12, "weekday" 0 (Monday) to 6, "hour" 0 to 24.

    Raises:
        InputError: if a value is no date; it names it, and its row.
    """
    found, places = np.unique(column.texts(), return_inverse=True)
    times = np.full(len(found), "NaT", "M8[ms]")
    for i, text in enumerate(found.tolist()):
        parsed = parse_time(text.replace("/", "-")) if text else None
        if text and parsed is None:
            row = int((places == i).argmax())
            raise InputError(
                f"{column.at(row)}: {text[:40]!r} is no date as 2016-07-01 or 2016-07-01 13:00 (ISO 8601); leave it "
                f"empty if it is missing, or train with --types {column.name}=category"
            )
        if parsed is not None:
            times[i] = parsed[0] - np.timedelta64(parsed[1] or 0, "m")
    missing = np.isnat(times)
    days = times.astype("M8[D]").astype(np.int64)
    parts = {
        "day": times.astype(np.int64) / 86_400_000,
        "month": times.astype("M8[M]").astype(np.int64) % 12 + 1,
        "weekday": (days + 3) % 7,
        "hour": (times - times.astype("M8[D]")).astype(np.int64) / 3_600_000,
    }
    return {part: np.where(missing, np.nan, values)[places] for part, values in parts.items()}
