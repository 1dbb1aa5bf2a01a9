"""Evaluation and prediction over whole data sets, in batches of one shape."""

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
    call = compiled or jit(learner.evaluate)
    return compute(add_up([call(state, batch) for batch in padded_batches(data, batch_size)]))


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
