"""The user's cache folder, for downloads and compiled programs."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the folder for downloads and compiled programs: ``JAXNETS_CACHE``, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("JAXNETS_CACHE") or Path(base) / "jaxnets")
