"""Where a data set's files are: in a local folder, in the cache, or at their own homes, with pinned checksums."""

import fcntl
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jaxnets.data.cache import cache_dir
from jaxnets.errors import InputError

_ATTEMPTS = 4
_PAUSE = 1.0  # seconds before the second attempt, twice as many before the third, and so on
_PATIENCE = 30.0  # seconds without a byte
_LEAST = 200  # bytes a second, on average over that time
_MOST = 8 << 30  # bytes
_NO_SUCH_RANGE = 416


class Remote(NamedTuple):
    """Where a file comes from, and its pinned checksum."""

    url: str
    sha256: str


def find_path(name: str) -> Path | None:
    """Return the file or folder of this path, or of this path inside the folder that ``JAXNETS_DATA`` names, if any."""
    given, inside = Path(name), Path(os.environ.get("JAXNETS_DATA", "."), name)
    return next((path for path in (given, inside) if path.exists()), None)


def places(folder: str, data_dir: Path | None = None) -> list[Path]:
    """Return the local folders in which the files of a data set, whose own folder is ``folder``, are looked for."""
    named = data_dir or os.environ.get("JAXNETS_DATA")
    given = [Path(named), Path(named) / folder] if named else []
    return given if data_dir is not None else [*given, cache_dir() / folder]


def located(folder: str, files: Mapping[str, Remote], data_dir: Path | None = None) -> dict[str, Path]:
    """Return where a data set's files are: in a local folder, in the cache, or, at last, fetched into the cache.

    Args:
        folder: the data set's own folder.
        files: its files by name; gzipped where the name says ".gz", or not, both will do.
        data_dir: a folder that holds them, or holds ``folder``. If absent, ``JAXNETS_DATA`` is taken for it, then the
            cache.

    Raises:
        InputError: if they are not there and cannot be fetched; it says which to put where.
    """
    cache = cache_dir() / folder
    for place in places(folder, data_dir):
        found = {name: zipped_or_not(place / name) for name in files}
        paths = {name: path for name, path in found.items() if path is not None}
        if len(paths) == len(files):
            return paths
    if data_dir is not None:
        raise InputError(f"data_dir={data_dir}: holds no {folder}; put {', '.join(files)} there (unzipped will do)")
    for name, remote in files.items():
        if (cache / name).is_file():
            continue
        try:
            fetch(remote.url, remote.sha256, cache / name)
        except OSError as error:
            raise InputError(
                f"cannot fetch {remote.url} ({error}). Put the files {', '.join(files)} into {cache}, or into a folder "
                f"named by --data-dir, or into a folder {folder!r} inside the one that JAXNETS_DATA names"
            ) from error
    return {name: cache / name for name in files}


def zipped_or_not(path: Path) -> Path | None:
    """Return the file, or the same gzipped or unpacked, if there is one."""
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
    return next((candidate for candidate in (path, other) if candidate.is_file()), None)


def fetch(url: str, sha256: str, path: Path) -> None:
    """Download ``url`` to ``path``, under a temporary name until its SHA-256 is found right.

    What is cut or stalls is resumed where it was, here or, after a kill, by the next call; another process that fetches
    the same waits for this one.

    Raises:
        OSError: if it cannot be fetched.
        InputError: if its checksum is another.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    with partial.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.is_file():  # another process has fetched it meanwhile
            partial.unlink(missing_ok=True)
            return
        resumed = file.tell() > 0
        _download(url, file, path.name)
        digest = sha256_of(partial)
        if digest != sha256 and resumed:  # it may be what was there before that is wrong
            file.truncate(0)
            _download(url, file, path.name)
            digest = sha256_of(partial)
        if digest == sha256:
            partial.rename(path)
            return
        partial.unlink()
    raise InputError(f"{url}: its SHA-256 is {digest}, not the pinned {sha256}; it was not kept")


def _download(url: str, file: BinaryIO, name: str) -> None:
    """Write what ``url`` holds to the end of a file, which has its beginning; cut off, try again from there."""
    from rich.progress import Progress  # noqa: PLC0415

    problem: OSError = ConnectionError(f"{url}: the connection was cut {_ATTEMPTS} times")
    with Progress() as progress:
        task = progress.add_task(name, total=None)
        for attempt in range(_ATTEMPTS):
            time.sleep(_PAUSE * attempt)
            try:
                if _append(url, file, lambda done, total: progress.update(task, completed=done, total=total)):
                    return
            except urllib.error.URLError as error:  # there is no server, or it has no such file
                if not (isinstance(error, urllib.error.HTTPError) and error.code == _NO_SUCH_RANGE):
                    raise
                file.truncate(0)  # what is there is all there is: begin anew
            except http.client.HTTPException as error:
                problem = ConnectionError(f"{url}: no answer of HTTP: {error!r}")
            except OSError as error:
                problem = error
    raise problem


def _append(url: str, file: BinaryIO, tell: Callable[[int, int | None], object]) -> bool:
    """Append what is missing of ``url`` to a file; return whether it is whole, as far as the server says."""
    start = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
        if start and response.status != http.HTTPStatus.PARTIAL_CONTENT:  # the server sends all of it again
            file.truncate(0)
            start = 0
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        came, since = 0, time.monotonic()
        while block := response.read1(1 << 16):
            file.write(block)
            file.flush()
            start, came = start + len(block), came + len(block)
            tell(start, total)
            if (seconds := time.monotonic() - since) > _PATIENCE:
                if came < _LEAST * seconds:
                    raise ConnectionError(f"{url}: {came:,} bytes came in {seconds:.0f} s")
                came, since = 0, time.monotonic()
            if start > _MOST:
                raise InputError(f"{url}: does not end: more than {_MOST:,} bytes")
    return total is None or start >= total


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
