"""What a user gives to ``Data``, as it takes it; each raises an ``InputError`` where that cannot be."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxnets.data.names import spelled
from jaxnets.errors import InputError, short


def as_rows(rows: Any, number: int) -> np.ndarray:
    """Return rows as an array of whole numbers, or of booleans, one for each row."""
    found = as_array("rows", rows)
    whole = found.dtype.kind in "iu" and found.ndim == 1 and found.size
    if found.dtype == bool and found.shape == (number,):
        return found
    if not whole or found.min() < -number or found.max() >= number:
        raise InputError(f"rows={short(rows)} must be a list of rows, each in 0..{number - 1}, or a slice")
    return found


def as_array(name: str, values: Any) -> np.ndarray:
    """Return values as an array; rows of unlike lengths make none."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"{name}: rows of unlike lengths are no array; fill them up to one length: {error}") from error


def as_names(classes: Any) -> tuple[str, ...] | None:
    """Return names of classes, in the order of their numbers."""
    if classes is None:
        return None
    if isinstance(classes, str | Mapping) or not isinstance(classes, Iterable):
        raise InputError(f"classes={short(classes)} must be a list of names, such as ['cat', 'dog']")
    names = tuple(classes)
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise InputError(f"classes: {short(wrong[0])} is no name; give texts, such as {str(wrong[0])!r}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"classes name {twice!r} twice; name each class once")
    return names


def as_known(known: Any, fields: Sequence[str], arrays: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what is known of arrays beyond their numbers, by name: ``fields`` of ``Column``, names of columns too."""
    found = known or {}
    for facts in found.values() if isinstance(found, Mapping) else [found]:
        if not isinstance(facts, Mapping) or not set(facts) <= set(fields):
            wanted = f"fields of Column by name of an array: {', '.join(fields)}"
            raise InputError(f"known={short(known)} must be {wanted}")
    tables = {name: array for name, array in arrays.items() if hasattr(array, "columns") and hasattr(array, "to_numpy")}
    columns = {name: {"features": tuple(map(spelled, table.columns))} for name, table in tables.items()}
    return {name: {**columns.get(name, {}), **found.get(name, {})} for name in {**columns, **found}}


def check_split(fraction: float, number: int, labels: np.ndarray | None, classes: Sequence[str]) -> None:
    """Check that both sides of a split have an example, of each class where it is stratified by labels."""
    held_out = math.ceil(fraction * number)
    sides, least = (number - held_out, held_out), 1
    of = f"cannot hold out {fraction=} of {number} examples"
    if labels is not None:
        names, counts = np.unique(labels, return_counts=True)
        least = len(names)
        if counts.min() < 2:
            rare = int(names[counts.argmin()])
            name = repr(classes[rare]) if classes else rare
            raise InputError(f"{of}: class {name} has one example, and each side needs one; give more of it")
    if min(sides) < least:
        each = "one of each class" if least > 1 else "one"
        raise InputError(
            f"{of}: that makes {sides[0]} and {sides[1]}, and each side needs {least:,} or more, {each}; "
            "give another fraction, or more examples"
        )
