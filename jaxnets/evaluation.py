"""Evaluation and prediction over whole data sets, in batches of one shape."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxnets.compiling import jit
from jaxnets.data import padded_batches
from jaxnets.errors import InputError
from jaxnets.learner import Learner, Metrics, TrainState
from jaxnets.metrics import add_up, compute

BATCH_SIZE = 256

# Bytes that a program computes in. Of more, the C library gives the memory back after every call, and the next has to
# ask for it page by page: evaluating a GPT took twice as long in batches of 256 as of 32.
_MOST_BYTES = 1 << 25


def evaluate(
    learner: Learner,
    state: TrainState,
    data: Mapping[str, np.ndarray],
    *,
    batch_size: int | None = None,
    compiled: tuple[Callable[[TrainState, Any], Metrics], int] | None = None,
) -> dict[str, Any]:
    """Return the learner's metrics over every example exactly once; arrays for a population.

    Args:
        learner: whose metrics.
        state: the state to evaluate.
        data: named arrays, [N, ...].
        batch_size: examples at a time, by default 256, or fewer where that is faster; the last batch is padded and
            masked, so that one program serves all.
        compiled: ``learner.evaluate`` as compiled for such batches, and their size: what ``fitting`` returned.
    """
    call: Any = jit(learner.evaluate)
    size = batch_size
    if size is None:
        call, size = compiled or fitting(lambda batch: call.lower(state, batch).compile(), data)
    return compute(add_up([call(state, batch) for batch in padded_batches(data, size)]))


def fitting(compiled: Callable[[dict[str, np.ndarray]], Any], data: Mapping[str, np.ndarray]) -> tuple[Any, int]:
    """Return a program for batches of the data, and their size: 256, or what there is, or what needs 32 MB on a CPU.

    Args:
        compiled: makes the program for batches like the one that it is given.
        data: named arrays, [N, ...].
    """
    size = max(1, min(BATCH_SIZE, len(next(iter(data.values())))))
    program = compiled(next(padded_batches(data, size)))
    needed = program.memory_analysis().temp_size_in_bytes if jax.default_backend() == "cpu" else 0
    if needed > _MOST_BYTES and size > 1:
        size = 1 << int(math.log2(max(1, size * _MOST_BYTES // needed)))
        program = compiled(next(padded_batches(data, size)))
    return program, size


def predict(learner: Learner, state: TrainState, inputs: Any, *, batch_size: int = BATCH_SIZE) -> Any:
    """Return the learner's outputs for inputs [N, ...]: [N, ...], or [members, N, ...] for a population.

    Inputs and outputs may each be several arrays, in a pytree such as ``Coded`` or ``Autoencoded``.
    """
    leaves, structure = jax.tree.flatten(inputs)
    arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}
    number = len(arrays["0"])
    if number == 0:
        raise InputError("no inputs to predict; give at least one example, [1, ...]")
    call = jit(learner.predict)
    parts = [
        jax.device_get(call(state, structure.unflatten([batch[name] for name in arrays])))
        for batch in padded_batches(arrays, min(batch_size, number))
    ]
    axis = np.ndim(state.step)
    return jax.tree.map(lambda *parts: np.take(np.concatenate(parts, axis), np.arange(number), axis), *parts)
