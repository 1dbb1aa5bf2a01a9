"""CTranslate2's ``model.bin``: tensors one after another, each behind its name and shape; then names that share one.

The format: ``_serialize`` in https://github.com/OpenNMT/CTranslate2/blob/master/python/ctranslate2/specs/model_spec.py.
"""

import math
import struct
from pathlib import Path

import numpy as np

from jaxnets.data.unpacking import reading
from jaxnets.weights.mapped import BFLOAT16, mapped, view

_VERSIONS = (4, 5, 6)  # those before say how wide numbers are, and not of what type
_MOST_VERSION = 31  # that is taken for one at all
_MOST_TENSORS = 20_000
_MOST_NAME = 512  # bytes
_MOST_AXES = 8
_MARK = 26  # bytes by which a file is told, as many as ``read_weights`` looks at
_NAME = 6  # where the name of the model's kind begins
_DTYPES = {
    0: np.dtype("<f4"), 1: np.dtype("i1"), 2: np.dtype("<i2"), 3: np.dtype("<i4"), 4: np.dtype("<f2"), 5: BFLOAT16,
}  # fmt: skip


def is_ctranslate2(start: bytes) -> bool:
    """Return whether a file that begins like this is of this format: a small version, then a kind, "WhisperSpec"."""
    if len(start) <= _NAME or start[1:4] != bytes(3) or not 0 < start[0] <= _MOST_VERSION:
        return False
    size = int.from_bytes(start[4:_NAME], "little")
    name = start[_NAME : min(_MARK, _NAME + size - 1)]
    return 1 < size <= _MOST_NAME and name.isalnum() and name.isascii()


def read_ctranslate2(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file by name, read-only views of it; those that share one are the same array.

    Raises:
        InputError: if the file is missing, cut or broken, or of a version that is not read.
    """
    return reading(path, "a CTranslate2 model", _parse)


class _Cursor:
    """A position in a file, from which values are read; it does not pass the end."""

    def __init__(self, content: np.ndarray):
        self.content, self.at = content, 0

    def take(self, size: int) -> np.ndarray:
        """Return the next bytes."""
        if size > len(self.content) - self.at:
            raise ValueError(f"cut short: {size:,} bytes more are promised, {len(self.content) - self.at:,} are there")
        self.at += size
        return self.content[self.at - size : self.at]

    def numbers(self, code: str) -> tuple[int, ...]:
        """Return the next numbers of a ``struct`` code."""
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")).tobytes())

    def name(self) -> str:
        """Return the next name, which ends with a byte of zero."""
        (size,) = self.numbers("H")
        if not 1 < size <= _MOST_NAME:
            raise ValueError(f"a name of {size:,} bytes; 2 to {_MOST_NAME} are read, the zero at its end included")
        content = self.take(size).tobytes()
        if content.find(0) != size - 1:
            raise ValueError("a name does not end where it should")
        return content[:-1].decode("ascii")

    def count(self) -> int:
        """Return how many tensors, or names, are promised."""
        (number,) = self.numbers("I")
        if number > _MOST_TENSORS:
            raise ValueError(f"it promises {number:,} tensors; at most {_MOST_TENSORS:,} are read")
        return number


def _parse(path: Path) -> dict[str, np.ndarray]:
    cursor = _Cursor(mapped(path))
    (version,) = cursor.numbers("I")
    if version not in _VERSIONS:
        raise ValueError(f"version {version}; {', '.join(map(str, _VERSIONS))} are read")
    cursor.name()
    cursor.numbers("I")  # the revision of the kind
    found: dict[str, np.ndarray] = {}
    for _ in range(cursor.count()):
        name, array = _tensor(cursor)
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = array
    for _ in range(cursor.count()):
        name, shared = cursor.name(), cursor.name()
        if name in found or shared not in found:
            raise ValueError(f"{name!r} is to be another name of {shared!r}: there already, or without what it names")
        found[name] = found[shared]
    if cursor.at != len(cursor.content):
        raise ValueError(f"{len(cursor.content) - cursor.at:,} bytes are left over at its end")
    return found


def _tensor(cursor: _Cursor) -> tuple[str, np.ndarray]:
    name, (num_axes,) = cursor.name(), cursor.numbers("B")
    if num_axes > _MOST_AXES:
        raise ValueError(f"{name!r} has {num_axes} axes; at most {_MOST_AXES} are read")
    shape = cursor.numbers(f"{num_axes}I")
    kind, size = cursor.numbers("BI")
    if kind not in _DTYPES:
        raise ValueError(f"{name!r} is of type {kind}; {', '.join(map(str, _DTYPES))} are read")
    if size != math.prod(shape) * _DTYPES[kind].itemsize:
        raise ValueError(f"{name!r} has {size:,} bytes, and the shape {list(shape)} of {_DTYPES[kind]}")
    return name, view(name, cursor.take(size), _DTYPES[kind], shape)
