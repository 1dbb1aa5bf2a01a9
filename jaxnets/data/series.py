"""Time series: CSV files with a time column, what follows their last row, and windows to forecast from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.separated import Sheet, read_sheet
from jaxnets.data.splits import Splits
from jaxnets.data.times import check_order, read_times, step_of
from jaxnets.errors import InputError

Fill = Literal["error", "previous"]

_MISSING = ("", "nan", "na", "n/a", "null", "none", "nat", "?", "-")


class Series(NamedTuple):
    """Measurements at times that rise.

    Attributes:
        times: datetime64 or float64 [T].
        values: float64 [T, C].
        names: of the C columns.
        time: name of the column of times.
        split: the usual rows of the training, validation and test parts, if there are any.
        step: what is between two times, as text; "" if they are irregular, or one.
        utc: the times said how far they are from UTC, and were made UTC.
    """

    times: np.ndarray
    values: np.ndarray
    names: tuple[str, ...]
    time: str
    split: tuple[float, float, float] | None = None
    step: str = ""
    utc: bool = False


def read_series(
    path: Path,
    time: str | None = None,
    columns: Sequence[str] = (),
    *,
    fill: Fill = "error",
    irregular: bool = False,
) -> Series:
    """Return what a CSV file with a header and a column of times holds, gzipped or not.

    Times are numbers or ISO 8601 (1949-01, 2016-07-01, 2016-07-01 13:00:00, also with T or slashes), or dates of digits
    alone (20160701, 201607), if all are such; those that say how far they are from UTC (Z, +02:00) become UTC. They
    have to rise in even steps; months and years count as even, whatever their days.

    Args:
        path: the file.
        time: the column of times; the first if absent.
        columns: the columns to read, in this order; all others if there are none.
        fill: what becomes of missing values: an error, or the value before them in their column.
        irregular: take the rows as equally far apart, whatever their times, such as trading days.

    Raises:
        InputError: if the file cannot be read, a column is not there, a value is missing or no number, a time cannot
            be read, or the times do not rise in even steps; it says in which row (the header is row 1).
    """
    sheet = read_sheet(path)
    sheet.check_names(*columns, *(() if time is None else (time,)))
    time = sheet.header[0] if time is None else time
    names = tuple(columns) or tuple(name for name in sheet.header if name != time)
    if not names or time in names:
        raise InputError(f"{path}: {time!r} is the column of times; name others to forecast (--columns, --time)")
    times, utc = read_times(sheet, time)
    sheet.check_named(names if times.dtype.kind == "M" else (time, *names))  # a nameless index may hold the times
    check_order(sheet, time, times, irregular)
    values = np.stack([_values(sheet, name, fill) for name in names], 1)
    return Series(times, values, names, time, step=step_of(times, irregular=irregular), utc=utc)


def windows(values: np.ndarray, history: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Return every stretch of ``history`` rows, and the ``horizon`` rows after it: [N, L, C] and [N, H, C] views."""
    stretches = np.lib.stride_tricks.sliding_window_view(values, history + horizon, axis=0).swapaxes(1, 2)
    return stretches[:, :history], stretches[:, history:]


def split_series(series: Series, history: int, horizon: int, split: tuple[float, float, float]) -> Splits:
    """Return windows to train, validate and test on, parted in the order of time.

    Each column is standardised by mean and deviation of the training rows, which ``spec["inputs"]`` keeps, with the
    columns' names. Validation and test windows look back into the rows before their part, as is the custom, so the
    first thing they forecast is the first row of their part. The windows are arrays: each row is held L + H times.

    Args:
        series: the rows.
        history: L, rows that are seen.
        horizon: H, rows that are forecast.
        split: the parts' rows: fractions of all rows (up to 1), or counts (above 1).

    Raises:
        InputError: if a part is too short for one window, or there are fewer rows than the parts need.
    """
    ends = _ends(len(series.values), split)
    starts = (0, ends[0] - history, ends[1] - history)
    for name, start, end in zip(("training", "validation", "test"), starts, ends, strict=True):
        if end - start < history + horizon:
            needed = history + horizon if name == "training" else horizon
            have = end if name == "training" else end - start - history
            raise InputError(
                f"{have} {name} rows (of {len(series.values)}, split={split}) are too few: history={history}, "
                f"horizon={horizon} need {needed}; give more rows, or a smaller --history and --horizon"
            )
    seen = series.values[: ends[0]]
    constant = seen.max(0) == seen.min(0)  # rounding gives such a column a deviation above 0
    mean, std = np.where(constant, seen[0], seen.mean(0)), np.where(constant, 1.0, seen.std(0))
    known: dict[str, Any] = {
        name: {"features": series.names, "mean": tuple(mean.tolist()), "std": tuple(std.tolist()), "step": series.step}
        for name in ("inputs", "labels")
    }
    values = ((series.values - mean) / std).astype(np.float32)
    parts = [windows(values[start:end], history, horizon) for start, end in zip(starts, ends, strict=True)]
    train, validation, test = (Data(inputs=inputs, labels=labels, known=known) for inputs, labels in parts)
    return Splits(train, validation, test)


def _ends(num_rows: int, split: tuple[float, float, float]) -> tuple[int, int, int]:
    """Return the row at which each part ends."""
    counts = all(part > 1 for part in split)
    if not (counts or all(0 < part <= 1 for part in split)):
        raise InputError(f"split={split}: give three fractions above 0 and up to 1, or three counts of rows above 1")
    ends = np.round(np.cumsum(split) * (1 if counts else num_rows)).astype(int)
    if ends[-1] > num_rows:
        raise InputError(f"split={split} needs {ends[-1]} rows, but there are {num_rows}; give a smaller --split")
    return int(ends[0]), int(ends[1]), int(ends[2])


def _values(sheet: Sheet, name: str, fill: Fill) -> np.ndarray:
    texts = np.strings.strip(sheet.column(name))
    missing = np.array([text.lower() in _MISSING for text in texts])
    numbers = sheet.numbers(np.where(missing, "nan", texts))
    if numbers is None or np.isinf(numbers).any():
        wrong = sheet.no_number(name, np.where(missing, "0", texts), np.isfinite)
        raise InputError(f"{wrong}; mend it, or leave the column out (--columns)")
    if not missing.any():
        return numbers
    row = int(np.argmax(missing))
    if fill == "error" or missing[0]:
        remedy = "fill them in" if missing[0] else "fill them in, or take the value before each (--fill previous)"
        raise InputError(
            f"{sheet.path}: column {name!r} misses {missing.sum()} of {len(texts)} values, the first in row "
            f"{sheet.lines[row]} ({str(texts[row])!r}); {remedy}"
        )
    return numbers[np.maximum.accumulate(np.where(missing, 0, np.arange(len(numbers))))]
