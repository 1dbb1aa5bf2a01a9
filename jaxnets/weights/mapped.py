"""Files mapped into memory: their arrays are views, and take memory only as they are used."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from jaxnets.data.unpacking import parse_json

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
MOST_HEADER = 6 << 20  # bytes of a header or a pickle; 10,000 tensors take a fourth of it
_MOST_VALUES = 350_000  # values of JSON in one
_MOST_AXES = 32


class Lazy(Mapping[str, np.ndarray]):
    """Arrays by name, each made when it is asked for."""

    def __init__(self, makers: Mapping[str, Callable[[], np.ndarray]]):
        self._makers = makers

    def __getitem__(self, name: str) -> np.ndarray:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def mapped(path: Path) -> np.ndarray:
    """Return the bytes of a file [N], read-only."""
    return np.asarray(np.memmap(path, np.uint8, "r"))


def parse_header(content: bytes) -> dict[str, object]:
    """Return a JSON object that is no larger than that of honest weights.

    Raises:
        ValueError: if it is larger, or no JSON object.
    """
    values = sum(content.count(mark) for mark in (b",", b"[", b"{"))
    if len(content) > MOST_HEADER or values > _MOST_VALUES:
        raise ValueError(f"its header has {len(content):,} bytes and {values:,} values, more than weights need")
    header = parse_json(content.decode())
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header


def check_shape(name: str, shape: object) -> tuple[int, ...]:
    """Return a shape that arrays can have.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(shape, list | tuple) or len(shape) > _MOST_AXES or not all(map(is_count, shape)):
        raise ValueError(f"{name!r} has no shape")
    return tuple(shape)


def is_count(value: object) -> bool:
    """Return whether a value is a whole number of 0 or more that fits into 63 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def view(
    name: str, content: np.ndarray, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return an array over bytes that begin with it.

    Args:
        name: of the tensor, for errors.
        content: the bytes [N].
        dtype: of the array.
        shape: of the array, as ``check_shape`` returned it.
        strides: elements from one index of an axis to the next, 0 or more; those of C order if None.

    Raises:
        ValueError: if the array reaches past the bytes.
    """
    size = math.prod(shape)
    if strides is None:
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    last = sum((count - 1) * stride for count, stride in zip(shape, strides, strict=True)) if size else -1
    if (last + 1) * dtype.itemsize > len(content):
        raise ValueError(f"{name!r} reaches past its data: {list(shape)} {dtype} in {len(content):,} bytes")
    if not size:
        return np.empty(shape, dtype)
    item = dtype.itemsize
    steps = [stride * item if count > 1 else item for count, stride in zip(shape, strides, strict=True)]
    return np.ndarray(shape, dtype, content, 0, steps)
