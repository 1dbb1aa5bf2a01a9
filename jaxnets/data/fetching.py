"""Where a data set's files are: in a local folder, in the cache, or at their own homes, with pinned checksums."""

import hashlib
import os
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxnets.data.cache import cache_dir
from jaxnets.errors import InputError


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

    Raises:
        OSError: if it cannot be fetched.
        InputError: if its checksum is another.
    """
    from rich.progress import Progress  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=30) as response, partial.open("wb") as file, Progress() as progress:
            task = progress.add_task(path.name, total=int(response.headers.get("Content-Length") or 0) or None)
            while block := response.read(1 << 16):
                file.write(block)
                digest.update(block)
                progress.advance(task, len(block))
        if digest.hexdigest() != sha256:
            raise InputError(f"{url}: its SHA-256 is {digest.hexdigest()}, not the pinned {sha256}; it was not kept")
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
