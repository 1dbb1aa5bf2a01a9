"""PyTorch's files, .pth, .pt and .bin, of both its formats, read without PyTorch and without unpickling."""

import io
import math
import zipfile
import zlib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.unpacking import reading
from jaxnets.errors import short
from jaxnets.weights.mapped import MOST_HEADER, mapped, view
from jaxnets.weights.pickles import Storage, Tensor, strided, tensors, unpickled

_MAGIC = 0x1950A86A20F9469CFC6C  # what files before PyTorch 1.6 begin with, as a pickle
_PROTOCOL = 1001
_MOST_DIRECTORY = 4 << 20  # bytes of a zip file's list of members; 40,000 tensors take as many
_LOCAL = 30  # bytes of a member's own header, before its name
_ENCRYPTED = 1  # flag of a member
_PICKLE = "data.pkl"
_SHARED = 4  # times the file's size that its tensors may take together, for some share their storages
_LEAST = 64 << 20  # bytes that they may always take

Region = Callable[[Storage], np.ndarray]


def is_legacy(start: bytes) -> bool:
    """Return whether a file that begins like this is a pickle, as PyTorch's were before 1.6."""
    return start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5")


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file by name, views of it as far as can be.

    Names of dicts in dicts, and of lists, are joined with dots; a checkpoint whose only tensors are its ``state_dict``
    gives that one's names. The zip format states its byte order, and both are read; the older one is little-endian,
    whatever machine wrote it.

    Raises:
        InputError: if the file is missing, cut or broken, holds no tensors, or holds code, which is not executed.
    """
    return reading(path, "a PyTorch file", _parse)


def members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the members of a zip file by name.

    Raises:
        ValueError, BadZipFile: if it is broken, its list is too large, or a name is there twice.
    """
    with path.open("rb") as raw, zipfile.ZipFile(_Careful(raw)) as archive:
        listed = archive.infolist()
    found = {member.filename: member for member in listed}
    if len(found) != len(listed):
        raise ValueError("a name is there twice")
    return found


class _Careful(io.BufferedIOBase):
    """A zip file that refuses to read a list of members that is larger than that of honest weights."""

    def __init__(self, raw: io.BufferedReader):
        self._raw = raw

    def read(self, size: int | None = -1) -> bytes:
        """Read so many bytes, or the rest."""
        if size is not None and size > _MOST_DIRECTORY:
            raise ValueError(f"its list of members has {size:,} bytes")
        return self._raw.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position."""
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._raw.tell()

    def seekable(self) -> bool:
        """Return that any position can be read."""
        return True


def _parse(path: Path) -> dict[str, np.ndarray]:
    content = mapped(path)
    legacy = is_legacy(content[:2].tobytes())
    root, region, order = _legacy(content) if legacy else _zipped(content, members(path))
    found: dict[str, np.ndarray] = {}
    taken = 0
    for name, tensor in tensors(root).items():
        found[name] = _array(name, tensor, region, order)
        taken += math.prod(found[name].shape) * found[name].itemsize
        if taken > max(_LEAST, _SHARED * len(content)):
            raise ValueError(f"{len(content):,} bytes whose tensors, up to {name!r}, would become {taken:,}")
    return found


def _array(name: str, tensor: Tensor, region: Region, order: str) -> np.ndarray:
    storage, dtype, offset, shape, strides = strided(name, tensor)
    content = region(storage)
    if order == "big":
        words = view(name, content[offset * dtype.itemsize :], np.dtype(f">u{dtype.itemsize}"), shape, strides)
        return words.astype(f"=u{dtype.itemsize}").view(dtype)
    return view(name, content[offset * dtype.itemsize :], dtype, shape, strides)


def _zipped(content: np.ndarray, found: dict[str, zipfile.ZipInfo]) -> tuple[Any, Region, str]:
    """Return what the pickle of a zip file holds, where its storages are, and their byte order."""
    roots = [name for name in found if name.partition("/")[2] == _PICKLE]
    if len(roots) != 1:
        raise ValueError(f"a zip file with {len(roots)} {_PICKLE} in it, not one")
    prefix = roots[0].removesuffix(_PICKLE)
    if f"{prefix}constants.pkl" in found:
        raise ValueError("a TorchScript program; save its tensors: torch.save(model.state_dict())")

    def part(name: str) -> np.ndarray:
        if prefix + name not in found:
            raise ValueError(f"it lacks {short(name)}")
        return _member(content, found[prefix + name])

    order = bytes(part("byteorder")[:9]).decode() if f"{prefix}byteorder" in found else "little"
    if order not in ("little", "big"):
        raise ValueError(f"its byte order is {order!r}")
    regions: dict[str, np.ndarray] = {}

    def region(storage: Storage) -> np.ndarray:
        if storage.key not in regions:
            regions[storage.key] = part(f"data/{storage.key}")
        if len(regions[storage.key]) != storage.size * storage.dtype.itemsize:
            raise ValueError(f"its storage {short(storage.key)} has not the {storage.size:,} numbers that it should")
        return regions[storage.key]

    pickled = part(_PICKLE)
    if len(pickled) > MOST_HEADER:
        raise ValueError(f"its pickle has {len(pickled):,} bytes; at most {MOST_HEADER:,} are read")
    return unpickled(io.BytesIO(pickled.tobytes()), count())[0], region, order


def _member(content: np.ndarray, member: zipfile.ZipInfo) -> np.ndarray:
    """Return the bytes of a member, which lie in the file as they are.

    Raises:
        ValueError: if they are packed, encrypted, cut short or damaged.
    """
    packed = member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size
    if packed or member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{short(member.filename)} is packed or encrypted, as PyTorch packs nothing")
    header = content[member.header_offset : member.header_offset + _LOCAL].tobytes()
    if len(header) != _LOCAL or not header.startswith(b"PK\3\4"):
        raise ValueError(f"{short(member.filename)} is not where it should be")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = member.header_offset + _LOCAL + lengths
    found = content[start : start + member.file_size]
    if len(found) != member.file_size:
        raise ValueError(f"{short(member.filename)} is cut short: {len(found):,} bytes of {member.file_size:,}")
    if member.CRC not in (0, zlib.crc32(found.data)):  # PyTorch can be told to compute none, and then writes 0
        raise ValueError(f"{short(member.filename)} is damaged: its checksum is another")
    return found


def _legacy(content: np.ndarray) -> tuple[Any, Region, str]:
    """Return what a file of the older format holds, where its storages are, and their byte order.

    Pickles of a magic number, of the protocol, of facts about the machine, of the tensors and of the storages' names
    stand first; then each storage's count of numbers, in eight bytes, and the numbers.
    """
    file, steps = io.BytesIO(content[:MOST_HEADER].tobytes()), count()
    if unpickled(file, steps)[0] != _MAGIC:
        raise ValueError("a pickle, but not of torch.save; nothing was executed")
    if unpickled(file, steps)[0] != _PROTOCOL:
        raise ValueError("a version of PyTorch's format that is not known")
    unpickled(file, steps)
    root, storages = unpickled(file, steps)
    keys, _ = unpickled(file, steps)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != storages.keys():
        raise ValueError("its tensors and its storages are not of each other")
    regions: dict[str, np.ndarray] = {}
    at = file.tell()
    for key in keys:
        storage = storages[key]
        size = storage.size * storage.dtype.itemsize
        if int.from_bytes(content[at : at + 8].tobytes(), "little") != storage.size or at + 8 + size > len(content):
            raise ValueError(f"its storage {short(key)} is cut short, or has not the numbers that it should")
        regions[key] = content[at + 8 : at + 8 + size]
        at += 8 + size
    return root, lambda storage: regions[storage.key], "little"
