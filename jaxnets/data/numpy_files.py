"""NumPy's files, npy and npz: what their headers claim is compared with what is there before any memory is taken."""

import math
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxnets.data.unpacking import check_unpacked, reading
from jaxnets.errors import InputError

_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1  # flag of a member


def read_npy(path: Path) -> np.ndarray:
    """Return the array of an npy file; pickled objects are refused.

    Raises:
        InputError: if the file is missing, broken, longer than its header says, or holds Python objects.
    """

    def parse(path: Path) -> np.ndarray:
        with path.open("rb") as file:
            return _parse(file, path.stat().st_size)

    return reading(path, "an npy file", parse)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file by name; pickled objects are refused.

    Raises:
        InputError: if the file is missing, broken, holds Python objects, or becomes too large when it is unpacked.
    """
    return reading(path, "an npz file", _parse_npz)


def _parse_npz(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            raise InputError(f"{path}: not an npz file")
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            check_unpacked(path, path.stat().st_size, sum(member.file_size for member in members))
            arrays: dict[str, np.ndarray] = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name == member.filename or name in arrays:
                    raise InputError(f"{path}: {name!r} is {'there twice' if name in arrays else 'no array'}")
                if member.compress_type not in _PACKINGS or member.flag_bits & _ENCRYPTED:
                    raise InputError(f"{path}: {name!r} is packed or encrypted as no npz file is")
                with archive.open(member) as inner:
                    arrays[name] = _parse(inner, member.file_size)
    return arrays


def _parse(file: Any, size: int) -> np.ndarray:
    """Return the array in an open file of ``size`` bytes.

    Raises:
        ValueError: if it is broken.
    """
    shape, fortran_order, dtype = _header(file)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"{'Object arrays (pickles)' if dtype.hasobject else f'Arrays of {dtype}'} are not read")
    wanted, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if wanted != held:
        raise ValueError(f"its header promises {wanted:,} bytes (shape {shape}, {dtype}), it holds {held:,}")
    content = np.empty(wanted, np.uint8)
    read, view = 0, content.data
    while read < wanted and (block := file.readinto(view[read : read + (1 << 20)])):
        read += block
    if read < wanted:
        raise ValueError(f"cut short: its header promises {wanted:,} bytes, it holds {read:,}")
    return content.view(dtype).reshape(shape, order="F" if fortran_order else "C")


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"version {version} of the format is not read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote, and of old names of dtypes
        shape, fortran_order, dtype = readers[version](file)
    if min(shape, default=0) < 0:
        raise ValueError(f"a shape of {shape}")
    return shape, fortran_order, dtype
