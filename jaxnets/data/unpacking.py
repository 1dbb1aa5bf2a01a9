"""Files as they are opened: gzipped or not, never larger than they may be, and one kind of error."""

import csv
import gzip
import io
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxnets.errors import InputError

# What no honest file exceeds when it is unpacked; a few bytes can claim anything.
_LEAST = 64 << 20  # bytes that any file may hold
_EXPANSION = 100  # times its size that a larger one may
_MOST = 8 << 30
_DEFLATE = 1032  # times its size that a deflated file can become
_GZIP = b"\x1f\x8b"
_DEEPEST = 100  # values within values of JSON
# What parsers raise at broken files.
BROKEN = (
    OSError, EOFError, ValueError, SyntaxError, TypeError, LookupError, RuntimeError, ArithmeticError, MemoryError,
    csv.Error, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def reading(path: Path, kind: str, parse: Callable[[Path], Any]) -> Any:
    """Return ``parse(path)``, with whatever the file makes the parsers raise as an ``InputError``."""
    try:
        return parse(path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except BROKEN as error:
        raise InputError(f"{path}: cannot be read as {kind}: {error}") from error


def most_unpacked(packed: int, expansion: int = _EXPANSION) -> int:
    """Return how many bytes may come of ``packed`` ones: 64 MB, or so many times as many, but 8 GB at most."""
    return min(_MOST, max(_LEAST, expansion * packed))


def check_unpacked(path: Path, packed: int, unpacked: int) -> None:
    """Check how large a packed file says that it becomes, before it is unpacked.

    Raises:
        InputError: if that is more than an honest file's.
    """
    if unpacked > (most := most_unpacked(packed)):
        raise InputError(
            f"{path}: {packed:,} bytes that become {unpacked:,} or more unpacked; at most {most:,} are read: unpack it "
            "yourself, if you trust it"
        )


@contextmanager
def unpacked(path: Path) -> "Iterator[io.BufferedReader[Any]]":
    """Open a file, gzipped or not, to read its bytes.

    Raises:
        InputError: there, or as it is read, if more comes of it than of an honest file.
    """
    with path.open("rb") as raw:
        if raw.read(2) != _GZIP:
            raw.seek(0)
            yield raw
            return
        packed = raw.seek(-4, io.SEEK_END) + 4
        says = int.from_bytes(raw.read(4), "little")  # its length; of a file that is cut, anything
        check_unpacked(path, packed, says if says < _DEFLATE * packed else 0)
        raw.seek(0)
        with gzip.open(raw) as file, io.BufferedReader(_Capped(file, path, packed)) as capped:
            yield capped


class _Capped(io.RawIOBase):
    """What is unpacked of a file, up to what may come of it: a gzip file can lie about its length."""

    def __init__(self, file: Any, path: Path, packed: int):
        self.file, self.path, self.packed, self.read_so_far = file, path, packed, 0

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes, and count them."""
        size = self.file.readinto(buffer)
        self.read_so_far += size
        check_unpacked(self.path, self.packed, self.read_so_far)
        return size


def parse_json(content: str | bytes) -> Any:
    """Return what JSON text says.

    Raises:
        ValueError: if it is none, or values stand in values too deeply for any use.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        value = None
        deep = True
    else:
        deep = _is_deep(value)
    if deep:
        raise ValueError(f"values stand more than {_DEEPEST} deep in each other")
    return value


def _is_deep(value: Any, levels: int = _DEEPEST) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deep(item, levels - 1) for item in inner)


def decoded(content: bytes, name: object) -> str:
    """Return UTF-8 text, without the mark that it may begin with.

    Raises:
        InputError: if it is UTF-16.
        UnicodeDecodeError: if it is in another encoding.
    """
    check_utf8(content, name)
    return content.decode("utf-8-sig")


def check_utf8(beginning: bytes, name: object) -> None:
    """Check that what begins like this is not UTF-16, as some spreadsheets and editors save text.

    Raises:
        InputError: if it is.
    """
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name}: cannot be read as UTF-8 text: it is UTF-16; save it as UTF-8")
