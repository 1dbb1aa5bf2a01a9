"""Numbers as JAX keeps them, each looked at, and their moments."""

import math
from typing import NamedTuple

import numpy as np

from jaxnets.errors import InputError

# Rows that the statistics look at in one go.
_BLOCK = 4096
# Numbers that are checked in one go.
_CHECKED = 1 << 22


class Moments(NamedTuple):
    """Mean and standard deviation of each feature."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def moments(array: np.ndarray) -> Moments:
    """Return mean and standard deviation of each feature, in float64, a block of rows at a time."""
    features = array.shape[-1] if array.ndim > 1 else 1
    flat = array.reshape(-1, features)
    total, squares = np.zeros(features), np.zeros(features)
    offset = flat[0].astype(np.float64)  # near the mean, so that the difference of squares loses nothing
    block = max(1, _BLOCK * 256 // features)
    for start in range(0, len(flat), block):
        centred = flat[start : start + block] - offset
        total += centred.sum(0)
        squares += np.einsum("nf,nf->f", centred, centred)
    mean = total / len(flat)
    variance = np.maximum(squares / len(flat) - mean**2, 0.0)
    return Moments(tuple((mean + offset).tolist()), tuple(map(math.sqrt, variance)))


def _check_finite(name: str, array: np.ndarray) -> None:
    count, first = 0, -1
    block = max(1, _CHECKED * len(array) // array.size)
    for start in range(0, len(array), block):  # for arrays may be larger than memory
        wrong = ~np.isfinite(array[start : start + block])
        if count == 0 and wrong.any():
            first = start + int(np.argwhere(wrong)[0][0])
        count += int(wrong.sum())
    if count:
        raise InputError(
            f"{name}: {count} of {array.size} numbers are NaN, infinite or beyond float32, the first in row {first}; "
            "remove or replace them"
        )


def checked(name: str, array: np.ndarray) -> np.ndarray:
    """Return the array in a dtype that JAX keeps, after a look at every number."""
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: dtype {array.dtype} holds no numbers; convert it to numbers first")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "f":
        if array.dtype.itemsize > 4:
            with np.errstate(over="ignore"):
                array = array.astype(np.float32)
        _check_finite(name, array)
        return array
    if array.dtype.itemsize > 4:
        narrow = np.int32 if array.dtype.kind == "i" else np.uint32
        limits = np.iinfo(narrow)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise InputError(f"{name}: values from {array.min()} to {array.max()} do not fit {narrow.__name__}")
        return array.astype(narrow)
    return array
