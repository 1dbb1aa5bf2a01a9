"""The one exception for what a user can mend: an argument, a file, a data set."""

import difflib
from collections.abc import Iterable


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
