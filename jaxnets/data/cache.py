"""The user's cache folder, for downloads and compiled programs."""

import os
from pathlib import Path

from jaxnets.errors import InputError


def cache_dir() -> Path:
    """Return the folder for downloads and compiled programs: ``JAXNETS_CACHE``, else the user's cache folder."""
    if given := os.environ.get("JAXNETS_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "jaxnets"


def _home() -> Path:
    """Return the user's folder.

    Raises:
        InputError: if the system knows of none, as it may in a container.
    """
    try:
        return Path.home()
    except RuntimeError as error:
        raise InputError("there is no home folder for the cache; set JAXNETS_CACHE to a folder of yours") from error
