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


def usual_batch_size() -> int:
    """Return how many examples are evaluated at a time: 64 on CPU, 256 elsewhere.

    A program that computes in more than 32 MB takes twice as long on a CPU: the C library gives so much memory back
    after every call, and the next has to ask for it page by page.
    """
    return 64 if jax.default_backend() == "cpu" else 256


def evaluate(
    learner: Learner,
    state: TrainState,
    data: Mapping[str, np.ndarray],
    *,
    batch_size: int | None = None,
    compiled: Callable[[TrainState, Any], Metrics] | None = None,
) -> dict[str, Any]:
    """Return the learner's metrics over every example exactly once; arrays for a population.

    Args:
        learner: whose metrics.
        state: the state to evaluate.
        data: named arrays, [N, ...].
        batch_size: examples at a time; the last batch is padded and masked, so that one program serves all. By default
            64 on CPU, 256 elsewhere.
        compiled: ``learner.evaluate``, compiled for such batches.
    """
    if not len(next(iter(data.values()))):
        raise InputError("no examples to evaluate; give at least one, [1, ...]")
    call = compiled or jit(learner.evaluate)
    batches = padded_batches(data, usual_batch_size() if batch_size is None else batch_size)
    return compute(add_up([call(state, batch) for batch in batches]))


def predict(learner: Learner, state: TrainState, inputs: Any, *, batch_size: int | None = None) -> Any:
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
        for batch in padded_batches(arrays, min(usual_batch_size() if batch_size is None else batch_size, number))
    ]
    axis = np.ndim(state.step)
    return jax.tree.map(lambda *parts: np.take(np.concatenate(parts, axis), np.arange(number), axis), *parts)
