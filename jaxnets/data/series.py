"""Time series: CSV files with a time column, what follows their last row, and windows to forecast from."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.formats import read_table
from jaxnets.data.splits import Splits
from jaxnets.errors import InputError, nearest

Fill = Literal["error", "previous"]

_MISSING = ("", "nan", "na", "n/a", "null", "none", "nat", "?", "-")
_TIME = re.compile(r"\d{4}-\d\d(-\d\d([ T]\d\d(:\d\d(:\d\d(\.\d{1,9})?)?)?)?)?Z?")
# Numbers as times are often rounded (years with three digits after the point): steps may differ by so much.
_ROUNDING = 0.02
_DAY = np.timedelta64(1, "D")


class Series(NamedTuple):
    """Measurements at times that rise.

    Attributes:
        times: datetime64 or float64 [T].
        values: float64 [T, C].
        names: of the C columns.
        time: name of the column of times.
        split: the usual rows of the training, validation and test parts, if there are any.
    """

    times: np.ndarray
    values: np.ndarray
    names: tuple[str, ...]
    time: str
    split: tuple[float, float, float] | None = None


def read_series(
    path: Path,
    time: str | None = None,
    columns: Sequence[str] = (),
    *,
    fill: Fill = "error",
    irregular: bool = False,
) -> Series:
    """Return what a CSV file with a header and a column of times holds, gzipped or not.

    Times are numbers or ISO 8601 (1949-01, 2016-07-01, 2016-07-01 13:00:00, also with T, Z or slashes). They have to
    rise in even steps; months and years count as even, whatever their days.

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
    header, rows = read_table(path)
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(f"{path}: more than one column is named {repeated[0]!r}; give each a name of its own")
    time = header[0] if time is None else time
    names = tuple(columns) or tuple(name for name in header if name != time)
    for name in (time, *names):
        if name not in header:
            raise InputError(f"{path}: no column {name!r}{nearest(name, header)}; it has {', '.join(header)}")
    if not names or time in names:
        raise InputError(f"{path}: {time!r} is the column of times; name others to forecast (--columns, --time)")
    times = _times(path, time, rows[:, header.index(time)])
    _check_order(path, time, times, irregular)
    values = np.stack([_values(path, name, rows[:, header.index(name)], fill) for name in names], 1)
    return Series(times, values, names, time)


def following(times: np.ndarray, num: int, *, irregular: bool = False) -> list[str]:
    """Return the ``num`` times that follow in even steps, as text; of irregular ones +1, +2, ... rows."""
    ahead = np.arange(1, num + 1)
    if irregular or len(times) < 2:
        return [f"+{n}" for n in ahead]
    if times.dtype.kind != "M":
        step = (times[-1] - times[0]) / (len(times) - 1)
        return [np.format_float_positional(value, precision=6, trim="-") for value in times[-1] + step * ahead]
    if (months := _months(times)) is not None:
        day = times[-1] - months[-1].astype(times.dtype)
        next_months = months[-1] + (months[1] - months[0]) * ahead
        if _at_month_ends(times):
            return [_text(end) for end in (next_months + np.timedelta64(1, "M")).astype("M8[D]") - _DAY]
        return [_text(value) for value in next_months.astype(times.dtype) + day]
    return [_text(value) for value in times[-1] + (times[1] - times[0]) * ahead]


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
    mean, std = seen.mean(0), seen.std(0)
    std = np.where(std > 0, std, 1.0)
    known: dict[str, Any] = {
        name: {"features": series.names, "mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
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


def _values(path: Path, name: str, texts: np.ndarray, fill: Fill) -> np.ndarray:
    texts = np.char.strip(texts)
    missing = np.isin(np.char.lower(texts), _MISSING)
    numbers = _numbers(np.where(missing, "nan", texts))
    if numbers is None or np.isinf(numbers).any():
        good = [missing[i] or _is_finite(text) for i, text in enumerate(texts)]
        row = good.index(False)
        raise InputError(
            f"{path}: column {name!r}, row {row + 2}: {str(texts[row])!r} is not a number; "
            "mend it, or leave the column out (--columns)"
        )
    if not missing.any():
        return numbers
    row = int(np.argmax(missing))
    if fill == "error" or missing[0]:
        remedy = "fill them in" if missing[0] else "fill them in, or take the value before each (--fill previous)"
        raise InputError(
            f"{path}: column {name!r} misses {missing.sum()} of {len(texts)} values, the first in row {row + 2} "
            f"({str(texts[row])!r}); {remedy}"
        )
    return numbers[np.maximum.accumulate(np.where(missing, 0, np.arange(len(numbers))))]


def _numbers(texts: np.ndarray) -> np.ndarray | None:
    try:
        return texts.astype(np.float64)
    except ValueError:
        return None


def _is_finite(text: str) -> bool:
    number = _numbers(np.array([text]))
    return number is not None and bool(np.isfinite(number).all())


def _times(path: Path, name: str, texts: np.ndarray) -> np.ndarray:
    numbers = _numbers(texts)
    if numbers is not None and np.isfinite(numbers).all():
        return numbers
    cleaned = [str(text).strip().replace("/", "-") for text in texts]
    try:
        if all(map(_TIME.fullmatch, cleaned)):
            return np.array([text.removesuffix("Z") for text in cleaned], "datetime64")
    except ValueError:
        pass
    row = next(i for i, text in enumerate(cleaned) if not _is_time(text))
    raise InputError(
        f"{path}: column {name!r}, row {row + 2}: {str(texts[row])!r} is no time; write numbers, 2016-07, 2016-07-01 "
        "or 2016-07-01 13:00:00 (ISO 8601), or name another column (--time)"
    )


def _is_time(text: str) -> bool:
    try:
        return bool(_TIME.fullmatch(text)) and bool(np.datetime64(text.removesuffix("Z")))
    except ValueError:
        return False


def _check_order(path: Path, name: str, times: np.ndarray, irregular: bool) -> None:
    steps = np.diff(times)
    back = steps <= np.zeros((), steps.dtype)
    if back.any():
        row = int(np.argmax(back)) + 1
        what = "the same as" if times[row] == times[row - 1] else "before"
        raise InputError(
            f"{path}: column {name!r}, row {row + 2}: {_text(times[row])} is {what} row {row + 1}'s "
            f"{_text(times[row - 1])}; sort the rows by time, and keep one for each"
        )
    if irregular or not len(steps) or (times.dtype.kind == "M" and _months(times) is not None):
        return
    usual = np.sort(steps.astype(np.float64))[(len(steps) - 1) // 2]
    odd = np.abs(steps.astype(np.float64) - usual) > (0 if times.dtype.kind == "M" else _ROUNDING * usual)
    if odd.any():
        row = int(np.argmax(odd)) + 1
        raise InputError(
            f"{path}: column {name!r}: {odd.sum()} of {len(steps)} steps are not the usual one, the first from "
            f"{_text(times[row - 1])} to {_text(times[row])} in row {row + 2}; fill in the rows that are missing, or "
            "take rows as equally far apart, whatever their times (--irregular)"
        )


def _months(times: np.ndarray) -> np.ndarray | None:
    """Return the times' months, if each is at the same moment of its month (or at its end) and their steps are even."""
    months = times.astype("M8[M]")
    steps = np.diff(months.astype(np.int64))
    if len(steps) == 0 or steps[0] == 0 or (steps != steps[0]).any():
        return None
    within = times - months.astype(times.dtype)
    return months if (within == within[0]).all() or _at_month_ends(times) else None


def _at_month_ends(times: np.ndarray) -> bool:
    """Return whether all are dates of a month's last day, which is not the same number in each."""
    if np.datetime_data(times.dtype)[0] != "D":
        return False
    after = times + _DAY
    return bool((after == after.astype("M8[M]")).all())


def _text(time: Any) -> str:
    """Return a time as the usual CSV file has it."""
    if not isinstance(time, np.datetime64):
        return np.format_float_positional(time, precision=6, trim="-")
    unit = np.datetime_data(time.dtype)[0]
    return str(time.astype("M8[s]") if unit in "hm" else time).replace("T", " ")
