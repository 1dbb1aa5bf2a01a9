"""Evaluation and prediction over whole data sets, in batches of one shape."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxnets.data import padded_batches
from jaxnets.errors import InputError
from jaxnets.learner import Learner, Metrics, TrainState
from jaxnets.metrics import add_up, compute

BATCH_SIZE = 256


def evaluate(
    learner: Learner,
    state: TrainState,
    data: Mapping[str, np.ndarray],
    *,
    batch_size: int = BATCH_SIZE,
    compiled: Callable[[TrainState, Any], Metrics] | None = None,
) -> dict[str, Any]:
    """Return the learner's metrics over every example exactly once; arrays for a population.

    Args:
        learner: whose metrics.
        state: the state to evaluate.
        data: named arrays, [N, ...].
        batch_size: examples at a time; the last batch is padded and masked, so that one program serves all.
        compiled: ``learner.evaluate``, compiled for such batches.
    """
    call = compiled or jax.jit(learner.evaluate)
    return compute(add_up([call(state, batch) for batch in padded_batches(data, batch_size)]))


def predict(learner: Learner, state: TrainState, inputs: np.ndarray, *, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """Return the learner's outputs for inputs [N, ...]: [N, ...], or [members, N, ...] for a population."""
    if len(inputs) == 0:
        raise InputError("no inputs to predict; give at least one example, [1, ...]")
    call = jax.jit(learner.predict)
    size = min(batch_size, len(inputs))
    parts = [np.asarray(call(state, batch["inputs"])) for batch in padded_batches({"inputs": np.asarray(inputs)}, size)]
    axis = np.ndim(state.step)
    return np.take(np.concatenate(parts, axis), np.arange(len(inputs)), axis)
