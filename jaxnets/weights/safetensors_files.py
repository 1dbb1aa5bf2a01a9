"""Safetensors: a JSON header that says where each tensor is, then their bytes, which are mapped and not copied."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jaxnets.data.unpacking import reading
from jaxnets.errors import InputError
from jaxnets.weights.mapped import BFLOAT16, MOST_HEADER, check_shape, mapped, parse_header, view

_PREFIX = 8  # bytes that hold the header's length
_METADATA = "__metadata__"
_DTYPES = {
    "BOOL": np.dtype(bool), "U8": np.dtype("u1"), "I8": np.dtype("i1"), "U16": np.dtype("<u2"), "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"), "I32": np.dtype("<i4"), "U64": np.dtype("<u8"), "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"), "BF16": BFLOAT16, "F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "C64": np.dtype("<c8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn), "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}  # fmt: skip


def is_safetensors(start: bytes) -> bool:
    """Return whether a file that begins like this is of this format."""
    return start[_PREFIX : _PREFIX + 1] == b"{" and int.from_bytes(start[:_PREFIX], "little") <= 100_000_000


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file by name, read-only views of it.

    Raises:
        InputError: if the file is missing, cut or broken, or holds a dtype that NumPy lacks.
    """
    return reading(path, "a safetensors file", _parse)


def _parse(path: Path) -> dict[str, np.ndarray]:
    content = mapped(path)
    size = int.from_bytes(content[:_PREFIX].tobytes(), "little")
    if size > min(MOST_HEADER, len(content) - _PREFIX):
        raise ValueError(f"its header has {size:,} bytes; at most {MOST_HEADER:,} are read, {len(content):,} are there")
    header = parse_header(content[_PREFIX : _PREFIX + size].tobytes())
    header.pop(_METADATA, None)
    found = {name: _array(name, entry, content[_PREFIX + size :]) for name, entry in header.items()}
    try:
        with safe_open(path, "np"):  # the format's own library looks for overlaps, gaps, and what else it forbids
            return found
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _array(name: str, entry: Any, data: np.ndarray) -> np.ndarray:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"{name!r} is of dtype {entry['dtype']!r}; {', '.join(_DTYPES)} are read")
    begin, end = entry["data_offsets"]
    return view(name, data[begin:end], _DTYPES[entry["dtype"]], check_shape(name, entry["shape"]))


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a file, which appears whole or not at all.

    Args:
        path: of the file; what was there is replaced.
        tensors: by name.
        metadata: texts that the header holds beside them, such as ``{"format": "pt"}``.

    Raises:
        InputError: if it cannot be written, such as for a dtype that the format lacks.
    """
    partial = path.with_name(f".{path.name}.part")
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    try:
        save_file(arrays, partial, None if metadata is None else dict(metadata))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {error}") from error
