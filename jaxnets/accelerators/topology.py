"""Chips by name, such as ``v5e:4x4``, and JAX's devices for them, on a machine that has none."""

import importlib.util
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from jaxnets.accelerators.chips import CHIPS, Chip, card
from jaxnets.errors import InputError, nearest, short

# What libtpu would ask the machine's surroundings for. Read when it is loaded, with the first topology.
_NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_FLAGS = "XLA_FLAGS"
DATA = "data"  # the mesh's axis over which a batch is split


class Slice(NamedTuple):
    """Some chips of a kind.

    Attributes:
        name: of the chip.
        topology: how they are connected.
    """

    name: str
    topology: str

    @property
    def chip(self) -> Chip:
        """What one of them can do."""
        return CHIPS[self.name]

    @property
    def size(self) -> int:
        """How many there are."""
        return math.prod(int(part) for part in self.topology.split("x"))

    def __str__(self) -> str:
        """Return it as it is written at the command line."""
        return f"{self.name}:{self.topology}"


def parse(text: str) -> Slice:
    """Return what ``v5e:4x4``, ``h100:8`` or, for a single chip, ``v5e`` says.

    Raises:
        InputError: if there is no such chip, or it is not connected so.
    """
    name, colon, topology = text.partition(":")
    if name not in CHIPS:
        known = ", ".join(CHIPS)
        raise InputError(f"for={short(text)}: there is no chip {name!r}{nearest(name, CHIPS)}; there are {known}")
    known = CHIPS[name].topologies
    if colon and topology not in known:
        raise InputError(
            f"for={short(text)}: there is no {topology!r} of {name}{nearest(topology, known)}; "
            f"there are {', '.join(f'{name}:{one}' for one in known)}"
        )
    return Slice(name, topology or known[0])


def check_compiler(slice_: Slice) -> None:
    """Check that the compiler for a chip is installed.

    Raises:
        InputError: if it is not; it says how to get it.
    """
    needed, remedy = {
        "tpu": ("libtpu", 'pip install "jaxnets[tpu-compiler]"'),
        "gpu": ("jax_cuda12_plugin", f'pip install "jax[cuda12]=={jax.__version__}" (5.5 GB)'),
    }[slice_.chip.platform]
    if importlib.util.find_spec(needed) is None:
        raise InputError(f"for={slice_}: its compiler is not installed: {needed}; {remedy}")


@lru_cache
def mesh(slice_: Slice) -> Mesh:
    """Return the mesh of the chips, on one axis ``data``, to compile for; nothing can be computed on it.

    Raises:
        InputError: if the compiler for them is not installed.
    """
    check_compiler(slice_)
    if slice_.chip.platform == "tpu":
        for name, value in _NO_TPU.items():
            os.environ.setdefault(name, value)
        with without_flags():
            found = topologies.get_topology_desc(str(slice_), platform="tpu")
    else:
        shape, config = f"1x{slice_.size}x1", card(slice_.name)
        found = topologies.get_topology_desc(slice_.name, platform="cuda", topology=shape, target_config=config)
    return Mesh(np.array(found.devices), (DATA,), axis_types=(AxisType.Auto,))


@contextmanager
def without_flags() -> Iterator[None]:
    """Hide ``XLA_FLAGS`` from libtpu, which ends the process at one that is not its own, such as those of CPUs.

    It reads them with its first topology, and once more when it first compiles.
    """
    jax.devices()  # this machine's backend reads them now
    flags = os.environ.pop(_FLAGS, None)
    try:
        yield
    finally:
        if flags is not None:
            os.environ[_FLAGS] = flags
