"""The one exception for what a user can mend: an argument, a file, a data set."""

import difflib
import math
import operator
import sys
from collections.abc import Iterable, Sequence
from typing import Any

FINITE = 3.4e38  # what a float32 can hold


class InputError(ValueError):
    """Something given to jaxnets is wrong; the message names it, its value, what was expected and the remedy."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'digits-cnn'?)"`` for the known name closest to ``name``, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def check_field(config: object, name: str, good: bool, wanted: str) -> None:
    """Raise an ``InputError`` that says what a field of ``config`` is and what is wanted, unless it is ``good``."""
    if not good:
        raise InputError(f"{name}={getattr(config, name)!r} must be {wanted}")


def is_traced(value: Any) -> bool:
    """Return whether a value is known to a compiled program alone, so that its range cannot be checked."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)


def check_whole(name: str, value: Any, least: int = 1, most: int = 2**31 - 1, remedy: str = "") -> None:
    """Raise an ``InputError`` unless ``value`` is a whole number from ``least`` to ``most``; a boolean is none."""
    number = _whole(value)
    if number is None or not least <= number <= most:
        above = (
            f"of {least} or more"
            if most >= 2**31 - 1 and (number is None or number < least)
            else f"from {least} to {most}"
        )
        raise InputError(f"{name}={short(value)} must be a whole number {above}{remedy and f', {remedy}'}")


def check_number(name: str, value: Any, low: float, high: float, wanted: str, *, low_too: bool = True) -> None:
    """Raise an ``InputError`` unless ``value`` is a number from ``low`` on, or above it, and below ``high``.

    Args:
        name: of the argument.
        value: which it has; no boolean, no text, no array. A traced one may be anything.
        low: the least.
        high: what it must be less than.
        wanted: the range in words, such as "in [0, 1), such as 0.2".
        low_too: whether ``low`` itself will do.
    """
    if is_traced(value):
        return
    number = _number(value)
    if not (low <= number if low_too else low < number) or not number < high:
        raise InputError(f"{name}={short(value)} must be {wanted}")


def check_widths(name: str, widths: Any) -> None:
    """Raise an ``InputError`` unless they are a list of whole numbers of 1 or more."""
    if isinstance(widths, str) or not isinstance(widths, Iterable):
        raise InputError(f"{name}={short(widths)} must be a list of whole numbers, such as (128, 128)")
    found = tuple(widths)
    if any((number := _whole(width)) is None or number < 1 for width in found):
        raise InputError(f"{name}={short(found)} must be whole numbers of 1 or more")


def numbers(name: str, values: Any, each: str = "one for each feature, or one for all") -> list[float]:
    """Return a list of numbers as floats; raise an ``InputError`` unless they are some, and finite."""
    listed = isinstance(values, Iterable) and not isinstance(values, str) and getattr(values, "ndim", 1) == 1
    found = [_number(value) for value in values] if listed else []
    if not found or not all(map(math.isfinite, found)):
        raise InputError(f"{name}={short(values)} must be a list of numbers, {each}")
    return found


def check_kind(name: str, value: Any, kind: type | tuple[type, ...], remedy: str) -> None:
    """Raise an ``InputError`` unless ``value`` is of a kind; it names the kind that it is of, and the remedy."""
    if not isinstance(value, kind):
        what = f"the class {value.__name__}" if isinstance(value, type) else f"of {type(value).__name__}"
        raise InputError(f"{name} is {what}; {remedy}")


def check_arrays(name: str, leaves: Sequence[Any], remedy: str) -> None:
    """Raise an ``InputError`` unless there are leaves, and all have a shape and a dtype."""
    if not leaves or not all(hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves):
        raise InputError(f"{name}={short(leaves)} must have a shape and a dtype; {remedy}")


def check_callable(name: str, value: Any, remedy: str) -> None:
    """Raise an ``InputError`` unless ``value`` can be called."""
    if not callable(value):
        raise InputError(f"{name}={short(value)} is no function; {remedy}")


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool":
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _number(value: Any) -> float:
    """Return the value as a float, NaN if it is no single number."""
    if isinstance(value, bool | str | bytes | complex) or getattr(value, "ndim", 0):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def short(value: Any) -> str:
    """Return the value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
