"""Several processes that train one run together, each on devices of its own; to a process alone all of this is nothing.

Every process runs the same program on the same arguments. What a clock, a signal or a file tells one of them is shared
here before it decides anything, for a collective operation that one process leaves out has the others wait for ever.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxnets.errors import InputError

_MOST = 1 << 24  # whole numbers up to it are exact in float32


def alone() -> bool:
    """Return whether this process trains by itself."""
    return not jax.distributed.is_initialized() or jax.process_count() == 1


def is_writer() -> bool:
    """Return whether this is the process that writes files and talks to people: the first, or one alone."""
    return alone() or jax.process_index() == 0


def first(value: float) -> float:
    """Return the value that process 0 gave: the same in every process, in float32 where there are several."""
    return value if alone() else float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def most(value: int) -> int:
    """Return the largest of the values that the processes gave."""
    return value if alone() else int(multihost_utils.process_allgather(np.int32(value)).max())


def on_host(tree: Any, *, everywhere: bool = True) -> Any:
    """Return a copy of a pytree of arrays as NumPy arrays, each whole: parts that other processes hold are fetched.

    They are fetched array by array, so that a device never holds more than one whole.

    Args:
        tree: of arrays; every process calls this with its own part.
        everywhere: whether all processes need it; if not, arrays that had to be fetched are None but in the writer.
    """

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return np.array(leaf)
        whole = multihost_utils.process_allgather(leaf, tiled=True)
        return np.array(whole) if everywhere or is_writer() else None

    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and leaf.is_fully_addressable:
            leaf.copy_to_host_async()  # all on their way before the first is waited for
    return jax.tree.map(one, tree)


def for_writer(tree: Any) -> Any:
    """Return arrays for the writer to compute with on its own devices; of a process alone they stay where they are."""
    return tree if alone() else on_host(tree, everywhere=False)


def by_writer(act: Callable[[], Any]) -> None:
    """Call a function in the writer alone, while the other processes wait.

    Raises:
        InputError: in every process, if the function raised an error; the writer's own says what went wrong.
    """
    if alone():
        act()
        return
    failed = None
    if is_writer():
        try:
            act()
        except Exception as error:
            failed = error
    if first(failed is not None):
        raise failed or InputError("process 0 could not go on; its own message says why")


def lost(error: Exception) -> bool:
    """Return whether an error says that another process is gone."""
    return not alone() and any(word in str(error) for word in ("Gloo", "NCCL", "coordination service"))


def check_alike(what: str, digest: str) -> None:
    """Check that all processes were given the same.

    Args:
        what: it is, in the plural.
        digest: hexadecimal digits that are equal for equal things.

    Raises:
        InputError: in every process, if one was given something else; it says which.
    """
    if alone():
        return
    digests = multihost_utils.process_allgather(np.float32(int(digest[:6], 16) % _MOST))
    if others := np.flatnonzero(digests != digests[0]).tolist():
        raise InputError(
            f"process {', '.join(map(str, others))} of {len(digests)} has other {what} than process 0; start all with "
            "the same command, on the same versions and files"
        )
