"""A folder that one process writes to at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxnets.errors import InputError


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Say of an error of the system, such as a full disk, that a run's folder cannot be written."""
    try:
        yield
    except BrokenPipeError:  # of what is printed
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error}; what was saved before is unharmed") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is not there.

    The system lets go of it when the process ends, however it ends.

    Raises:
        InputError: if another process holds it, which is named, or it cannot be made.
    """
    with written(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("ab+", buffering=0)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().decode(errors="replace") or "another process"
            raise InputError(f"{path}: {holder} trains in it; wait until it has ended, or stop it") from None
        except OSError as error:  # a file system without locks
            raise InputError(f"{path}: cannot be locked: {error}; name an --out on a local disk") from error
        with suppress(OSError):  # on a full disk the holder has no name
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
