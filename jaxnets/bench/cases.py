"""The cases: training steps of every family, generation with a cache, and the way of data from their files."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import jax

from jaxnets.bench import files, jax_peers, playing, writing
from jaxnets.bench.jax_peers import Way
from jaxnets.bench.limits import Work
from jaxnets.bench.workloads import WORKLOADS, Workload
from jaxnets.network import PyTree

_BYTES_A_WEIGHT = 28  # Adam reads weight, gradient and two moments, and writes all but the gradient, in float32


class Case(NamedTuple):
    """Work that several can do.

    Attributes:
        about: what it is, in a line.
        unit: what is counted: "step" or "file".
        num_units: how many of these one measurement is.
        ways: each who can do it, by name, and what makes ready and returns a ``Way``; "ours" is one of them.
        work: what one unit consists of; None where there is no such reckoning.
        tolerance: between results of two ways, relative, above which they have not done the same work.
    """

    about: str
    unit: str
    num_units: int
    ways: Mapping[str, Callable[[], Way]]
    work: Work | None
    tolerance: float = 2e-3  # of mean losses over some steps: they are of float32, and drift apart


def training(workload: Workload) -> Case:
    """Return the case of a workload, all of whose ways start from the same weights."""
    params = jax_peers.initial_params(workload)

    def torch(*, compiled: bool) -> Way:
        return import_module("jaxnets.bench.torch_peer").train(workload, params, compiled=compiled)

    def keras() -> Way:
        return import_module("jaxnets.bench.keras_peer").train(workload, params)

    work = Work(workload.members * workload.flops, _bytes(params), workload.serial)
    ways: dict[str, Callable[[], Way]] = {
        "ours": partial(jax_peers.ours, workload, params),
        "raw-jax": partial(jax_peers.scan_by_hand, workload, params),
        "flax-loop": partial(jax_peers.single_steps, workload, params),
        "nnx-jit": partial(jax_peers.flax_jit, workload, params),
        "torch": partial(torch, compiled=False),
        "torch-compile": partial(torch, compiled=True),
    }
    if workload.members == 1:  # Keras has no populations
        ways["keras"] = keras
    return Case(workload.about, "step", workload.steps, ways, work)


def gan() -> Case:
    """Return the case of a step of DCGAN's kind; codes are drawn by each as it does, so losses are alike, not equal."""
    params = playing.initial_params()

    def torch(*, compiled: bool) -> Way:
        return import_module("jaxnets.bench.torch_extras").play(params, compiled=compiled)

    ways = {"ours": partial(playing.ours, params), "flax-loop": partial(playing.single_steps, params)}
    ways |= {"torch": partial(torch, compiled=False), "torch-compile": partial(torch, compiled=True)}
    about = f"GAN step, 28x28, batch {playing.BATCH_SIZE}"
    return Case(about, "step", playing.STEPS, ways, Work(playing.FLOPS, _bytes(params)), 0.3)


def generation() -> Case:
    """Return the case of writing the likeliest tokens with a cache of keys and values; the texts must be the same."""
    params = writing.initial_params()

    def torch() -> Way:
        return import_module("jaxnets.bench.torch_extras").write(params)

    ways = {"ours": partial(writing.ours, params), "torch": torch}
    about = f"generation with a cache, GPT D{writing.SIZES[0]}, batch {writing.BATCH_SIZE}, {writing.LENGTH} tokens"
    return Case(about, "step", writing.LENGTH, ways, Work(writing.FLOPS), 0.0)


def reading(kind: files.Kind) -> Case:
    """Return the case of reading a file that is made for it."""
    made = files.made(kind)

    def torch() -> Way:
        return import_module("jaxnets.bench.torch_extras").read(made)

    ways: dict[str, Any] = {"ours": partial(files.ours, made), "by-hand": partial(files.by_hand, made)}
    if kind == "images":
        ways["torch"] = torch
    return Case(made.about, "file", 1, ways, None, 1e-6)


def _bytes(params: PyTree) -> int:
    return _BYTES_A_WEIGHT * sum(leaf.size for leaf in jax.tree.leaves(params))


CASES: Mapping[str, Callable[[], Case]] = {
    **{name: lambda make=make: training(make()) for name, make in WORKLOADS.items()},
    "gan": gan,
    "generation": generation,
    **{f"read-{kind}": partial(reading, kind) for kind in files.KINDS},
}
