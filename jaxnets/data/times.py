"""Times: read from text, checked to rise in even steps, and the times that follow."""

import re
from typing import Any

import numpy as np

from jaxnets.data.separated import Sheet
from jaxnets.errors import InputError

# A date, a time of day, and how far its clock is from UTC.
_TIME = re.compile(
    r"(?P<time>\d{4}-\d\d(?:-\d\d(?:[ T]\d\d(?P<minutes>:\d\d(?::\d\d(?:\.\d{1,9})?)?)?)?)?)"
    r"(?P<offset>Z|(?(minutes)[+-]\d\d(?::?\d\d)?|(?!)))?"
)
_DIGITS = re.compile(r"(?P<year>(?:1[5-9]|2[0-4])\d\d)(?P<month>\d\d)(?P<day>\d\d)?")  # 20230131 or 202301
_DAY = np.timedelta64(1, "D")
# Numbers as times are often rounded (years with three digits after the point): steps may differ by so much.
_ROUNDING = 0.02
_UNITS = {"D": 86_400 * 10**9, "h": 3600 * 10**9, "min": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def read_times(sheet: Sheet, name: str) -> tuple[np.ndarray, bool]:
    """Return a column's times, datetime64 or float64 [T], and whether they have offsets, and were made UTC by them.

    Raises:
        InputError: if one is no time, or some have an offset and others none.
    """
    texts = sheet.column(name)
    cleaned = [text.strip().replace("/", "-") for text in texts]
    dates = [_date_of_digits(text) for text in cleaned]
    if all(dates):
        return np.array(dates, "datetime64"), False
    numbers = sheet.numbers(texts)
    if numbers is not None and np.isfinite(numbers).all():
        return numbers, False
    found = [parse_time(text) for text in cleaned]
    wrong = next((row for row, time in enumerate(found) if time is None), None)
    if wrong is not None:
        raise InputError(
            f"{sheet.at(name, wrong)}: {texts[wrong]!r} is no time; write numbers, 2016-07, 2016-07-01 or 2016-07-01 "
            "13:00:00 (ISO 8601), or name another column (--time)"
        )
    offsets = [time[1] for time in found if time is not None]
    if len({offset is None for offset in offsets}) > 1:
        row = next(i for i, offset in enumerate(offsets) if (offset is None) != (offsets[0] is None))
        raise InputError(
            f"{sheet.at(name, row)}: {texts[row]!r} beside {texts[0]!r}: one says how far it is from UTC, the other "
            "does not; write all the same way"
        )
    times = np.array([time[0] for time in found if time is not None], "datetime64")
    if offsets[0] is None:
        return times, False
    return (times - np.array(offsets, "m8[m]") if any(offsets) else times), True


def _date_of_digits(text: str) -> str | None:
    """Return the date that 20230131, or the month that 202301 is, as ISO 8601 has it; None if it is none."""
    match = _DIGITS.fullmatch(text)
    date = "-".join(filter(None, match.groups())) if match else ""
    return date if date and parse_time(date) else None


def parse_time(text: str) -> tuple[np.datetime64, int | None] | None:
    """Return an ISO 8601 time, and by how many minutes its clock is before UTC's, if it says; None if it is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    try:
        time = np.datetime64(match["time"])
    except ValueError:
        return None
    if (offset := match["offset"]) is None:
        return time, None
    digits = offset.removeprefix("Z").replace(":", "").ljust(5, "0")
    hours, minutes = int(digits[1:3]), int(digits[3:5])
    return (time, (-1 if digits[0] == "-" else 1) * (60 * hours + minutes)) if minutes < 60 else None


def check_order(sheet: Sheet, name: str, times: np.ndarray, irregular: bool) -> None:
    """Check that a column's times rise, and, if they are not ``irregular``, in even steps; months are even.

    Raises:
        InputError: if they do not; it says in which row.
    """
    steps = np.diff(times)
    back = steps <= np.zeros((), steps.dtype)
    if back.any():
        row = int(np.argmax(back)) + 1
        what = "the same as" if times[row] == times[row - 1] else "before"
        raise InputError(
            f"{sheet.at(name, row)}: {_text(times[row])} is {what} row {sheet.lines[row - 1]}'s "
            f"{_text(times[row - 1])}; sort the rows by time, and keep one for each"
        )
    if irregular or not len(steps) or (times.dtype.kind == "M" and _months(times) is not None):
        return
    usual = np.sort(steps.astype(np.float64))[(len(steps) - 1) // 2]
    odd = np.abs(steps.astype(np.float64) - usual) > (0 if times.dtype.kind == "M" else _ROUNDING * usual)
    if odd.any():
        row = int(np.argmax(odd)) + 1
        raise InputError(
            f"{sheet.path}: column {name!r}: {odd.sum()} of {len(steps)} steps are not the usual one, the first from "
            f"{_text(times[row - 1])} to {_text(times[row])} in row {sheet.lines[row]}; fill in the rows that are "
            "missing, or take rows as equally far apart, whatever their times (--irregular)"
        )


def step_of(times: np.ndarray, *, irregular: bool = False) -> str:
    """Return the step of even times as text: "1 h", "3 months", or of numbers "0.1"; "" where there is none."""
    if irregular or len(times) < 2:
        return ""
    if times.dtype.kind != "M":
        return f"{(times[-1] - times[0]) / (len(times) - 1):.2g}"
    if (months := _months(times)) is not None:
        return f"{int(months[1].astype(np.int64) - months[0].astype(np.int64))} months"
    step = int((times[1] - times[0]).astype("m8[ns]").astype(np.int64))
    unit = next(unit for unit, size in _UNITS.items() if step % size == 0)
    return f"{step // _UNITS[unit]} {unit}"


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
