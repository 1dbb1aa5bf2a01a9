"""The memory that there is, and whether what is asked for fits into it: said before a system ends the process."""

import math
import os
from typing import Any

import jax

from jaxnets.errors import InputError
from jaxnets.platform import target


def device_memory() -> int:
    """Return the bytes of memory that JAX may use on the device compiled for; on CPU, its share of the machine's."""
    if (named := target()) is not None and named.memory is not None:
        return named.memory
    if limit := (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit"):
        return limit
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 34
    return whole // jax.local_device_count()


def num_bytes(tree: Any) -> int:
    """Return the bytes of all arrays of a pytree, or of arrays of such shapes; random keys count as their numbers."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_fits(what: str, size: int, remedy: str) -> None:
    """Check that so many bytes are no more than the device has.

    Args:
        what: needs them.
        size: bytes, the least that are needed.
        remedy: what to do.

    Raises:
        InputError: if they are more; it says both sides.
    """
    if size > (most := device_memory()):
        raise InputError(f"{what} takes {size / 1e9:,.1f} GB, and the device has {most / 1e9:,.1f} GB; {remedy}")
