"""The user's cache folder: downloads, and compiled programs that make the next start quick."""

import os
from pathlib import Path

import jax


def cache_dir() -> Path:
    """Return the folder for downloads and compiled programs: ``JAXNETS_CACHE``, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("JAXNETS_CACHE") or Path(base) / "jaxnets")


def use_compile_cache() -> None:
    """Keep compiled programs in the cache folder, unless ``JAXNETS_COMPILE_CACHE=0`` or JAX was given a folder.

    Where the folder cannot be written, nothing is kept. Nothing else of JAX's configuration is touched.
    """
    if os.environ.get("JAXNETS_COMPILE_CACHE") == "0" or getattr(jax.config, "jax_compilation_cache_dir", None):
        return
    folder = cache_dir() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
