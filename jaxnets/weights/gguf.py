"""GGUF, llama.cpp's format: metadata, then tensors, many of them as blocks of small whole numbers with a scale.

The format and its blocks: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and ``ggml-quants.c``.
"""

import math
import struct
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data.unpacking import reading
from jaxnets.errors import short
from jaxnets.weights.mapped import BFLOAT16, Lazy, mapped

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_METADATA = 16 << 20  # bytes before the tensors; 600,000 tokens and merges take as many
_MOST_ENTRIES = 100_000  # of metadata, and tensors
_MOST_TEXTS = 1_000_000
_MOST_AXES = 4
_ALIGNMENT = 32  # bytes, where "general.alignment" does not say
_BLOCK = 32  # numbers of a quantised block
_TEXT, _LIST = 8, 9
_KINDS = {
    0: np.dtype("u1"), 1: np.dtype("i1"), 2: np.dtype("<u2"), 3: np.dtype("<i2"), 4: np.dtype("<u4"),
    5: np.dtype("<i4"), 6: np.dtype("<f4"), 7: np.dtype("?"), 10: np.dtype("<u8"), 11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}  # fmt: skip
_NAMES = {
    6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K",
    16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS",
    24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip


def read_gguf(path: Path) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    """Return a file's metadata, and its tensors by name.

    Metadata are numbers, texts, booleans, lists of texts, and arrays of numbers. Tensors are float32, in NumPy's order
    of axes (a matrix is [out, in]); each is dequantised when it is asked for.

    Raises:
        InputError: if the file is missing, cut or broken, or its tensors are quantised in a way that is not read.
    """
    return reading(path, "a GGUF file", _parse)


class _Quantisation(NamedTuple):
    """A type of tensor: its name, how many numbers a block holds, in how many bytes, and how they are told."""

    name: str
    block: int
    size: int
    dequantised: Callable[[np.ndarray], np.ndarray]


def _plain(dtype: np.dtype, blocks: np.ndarray) -> np.ndarray:
    return blocks.view(dtype).astype(np.float32, copy=False)


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    return _halves(blocks[:, :2]) * blocks[:, 2:].view(np.int8)


def _q4_0(blocks: np.ndarray) -> np.ndarray:
    return _halves(blocks[:, :2]) * (_nibbles(blocks[:, 2:]) - np.float32(8))


def _q4_1(blocks: np.ndarray) -> np.ndarray:
    return _halves(blocks[:, :2]) * _nibbles(blocks[:, 4:]) + _halves(blocks[:, 2:4])


def _halves(content: np.ndarray) -> np.ndarray:
    return content.view("<f2").astype(np.float32)


def _nibbles(content: np.ndarray) -> np.ndarray:
    """Return the low four bits of all bytes [N, 16], then the high ones, as numbers [N, 32]."""
    return np.concatenate([content & 15, content >> 4], axis=1).astype(np.float32)


_QUANTISATIONS = {
    0: _Quantisation("F32", 1, 4, partial(_plain, np.dtype("<f4"))),
    1: _Quantisation("F16", 1, 2, partial(_plain, np.dtype("<f2"))),
    2: _Quantisation("Q4_0", _BLOCK, 18, _q4_0),
    3: _Quantisation("Q4_1", _BLOCK, 20, _q4_1),
    8: _Quantisation("Q8_0", _BLOCK, 34, _q8_0),
    30: _Quantisation("BF16", 1, 2, partial(_plain, BFLOAT16)),
}


class _Cursor:
    """A position in a file's first bytes, from which values are read; it does not pass their end."""

    def __init__(self, content: np.ndarray):
        self.content, self.at, self.texts = content[:_MOST_METADATA].data, 0, 0

    def take(self, size: int) -> memoryview:
        """Return the next bytes."""
        if self.at + size > len(self.content):
            raise ValueError(f"cut short, or its metadata exceed {_MOST_METADATA:,} bytes: {size:,} more are promised")
        self.at += size
        return self.content[self.at - size : self.at]

    def number(self, code: str) -> int:
        """Return the next number of a ``struct`` code."""
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        """Return the next text."""
        self.texts += 1
        if self.texts > _MOST_TEXTS:
            raise ValueError(f"it has more than {_MOST_TEXTS:,} texts")
        return str(self.take(self.number("<Q")), "utf-8")

    def value(self, kind: int) -> Any:
        """Return the next value of a kind of the format's."""
        if kind == _TEXT:
            return self.text()
        if kind == _LIST:
            kind, size = self.number("<I"), self.number("<Q")
            return [self.text() for _ in range(size)] if kind == _TEXT else self.array(kind, size)
        return self.array(kind, 1)[0].item()

    def array(self, kind: int, size: int) -> np.ndarray:
        """Return the next numbers of a kind."""
        if kind not in _KINDS:
            raise ValueError(f"its metadata hold a kind {kind}, or lists in lists, which are not read")
        content = np.frombuffer(self.take(size * _KINDS[kind].itemsize), np.uint8)
        return content != 0 if _KINDS[kind] == np.bool else content.view(_KINDS[kind]).copy()


def _parse(path: Path) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    content = mapped(path)
    cursor = _Cursor(content)
    if bytes(cursor.take(4)) != MAGIC:
        raise ValueError("it does not begin as one")
    version = cursor.number("<I")
    if version not in _VERSIONS:
        raise ValueError(f"version {version}, or big-endian; versions 2 and 3, little-endian, are read")
    num_tensors, num_entries = cursor.number("<Q"), cursor.number("<Q")
    if max(num_tensors, num_entries) > _MOST_ENTRIES:
        raise ValueError(f"it promises {num_tensors:,} tensors and {num_entries:,} entries of metadata")
    entries = [(cursor.text(), cursor.value(cursor.number("<I"))) for _ in range(num_entries)]
    metadata = dict(entries)
    tensors = [_described(cursor) for _ in range(num_tensors)]
    if len(metadata) != num_entries or len({tensor.name for tensor in tensors}) != num_tensors:
        raise ValueError("a name is there twice")
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"general.alignment is {short(alignment)}, no power of two")
    start = -(-cursor.at // alignment) * alignment
    return metadata, Lazy(_located(tensors, content[start:], alignment))


class _Described(NamedTuple):
    """A tensor: its name, type, shape in NumPy's order, and where it begins among the tensors' bytes."""

    name: str
    kind: _Quantisation
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Return how many bytes it takes."""
        return math.prod(self.shape) // self.kind.block * self.kind.size


def _described(cursor: _Cursor) -> _Described:
    name = cursor.text()
    num_axes = cursor.number("<I")
    if num_axes > _MOST_AXES:
        raise ValueError(f"{name!r} has {num_axes} axes; at most {_MOST_AXES} are read")
    dims = [cursor.number("<Q") for _ in range(num_axes)]
    number, offset = cursor.number("<I"), cursor.number("<Q")
    if number not in _QUANTISATIONS:
        known = ", ".join(kind.name for kind in _QUANTISATIONS.values())
        raise ValueError(f"{name!r} is of type {_NAMES.get(number, number)}; {known} are read")
    kind = _QUANTISATIONS[number]
    if min(dims, default=1) < 1 or (dims[0] if dims else 1) % kind.block:
        raise ValueError(f"{name!r} has the axes {dims}, and numbers in blocks of {kind.block}")
    return _Described(name, kind, tuple(dims[::-1]), offset)


def _located(tensors: list[_Described], content: np.ndarray, alignment: int) -> dict[str, Callable[[], np.ndarray]]:
    """Return what makes each tensor of its bytes, once it is known that they are there, and of it alone."""
    at, last = 0, ""
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset % alignment or tensor.offset + tensor.size > len(content):
            raise ValueError(
                f"{tensor.name!r} should have {tensor.size:,} bytes from {tensor.offset:,} on (a multiple of "
                f"{alignment}); {len(content):,} are there"
            )
        if tensor.offset < at:
            raise ValueError(f"{tensor.name!r} overlaps {last!r}")
        at, last = tensor.offset + tensor.size, tensor.name
    return {tensor.name: partial(_dequantised, tensor, content) for tensor in tensors}


def _dequantised(tensor: _Described, content: np.ndarray) -> np.ndarray:
    blocks = content[tensor.offset : tensor.offset + tensor.size].reshape(-1, tensor.kind.size)
    with np.errstate(all="ignore"):  # scales that are not finite
        return tensor.kind.dequantised(blocks).reshape(tensor.shape)
