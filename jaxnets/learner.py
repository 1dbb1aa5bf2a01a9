"""How something learns: pure functions over one state."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxnets.errors import InputError
from jaxnets.metrics import Mean
from jaxnets.network import Key, PyTree

Batch = Mapping[str, Any]  # arrays by name, of JAX or NumPy
Metrics = dict[str, Mean]


class TrainState(struct.PyTreeNode):
    """All that training needs in order to go on.

    Attributes:
        step: how many steps were taken, int32.
        params: what the optimizer changes.
        opt_state: the optimizer's own state.
        model_state: what the model changes itself, such as batch statistics.
    """

    step: jax.Array
    params: PyTree
    opt_state: PyTree
    model_state: PyTree


Step = Callable[[TrainState, Batch, Key], tuple[TrainState, Metrics]]


class Learner(NamedTuple):
    """How something learns, as pure functions; a transformation takes a learner and returns a learner.

    Attributes:
        init: ``init(key) -> TrainState``.
        step: ``step(state, batch, key) -> (TrainState, metrics)``; the metrics are sums and counts (``Mean``).
        evaluate: ``evaluate(state, batch) -> metrics``, over the rows that ``batch["mask"]`` leaves in.
        predict: ``predict(state, inputs) -> outputs``, with the weights that are meant for use.
        check: ``check(arrays)``, raises an ``InputError`` if a data set's arrays do not suit, before anything compiles.
        minimizes: whether training minimises "loss"; a game of two players minimises nothing.
    """

    init: Callable[[Key], TrainState]
    step: Step
    evaluate: Callable[[TrainState, Batch], Metrics]
    predict: Callable[[TrainState, Any], Any]
    check: Callable[[Mapping[str, np.ndarray]], None] = lambda arrays: None
    minimizes: bool = True


def mapped(learner: Learner, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Learner:
    """Return the learner that trains, evaluates and checks what ``change`` makes of batches, and of a data set."""
    return learner._replace(
        step=lambda state, batch, key: learner.step(state, change(batch), key),
        evaluate=lambda state, batch: learner.evaluate(state, change(batch)),
        check=lambda arrays: learner.check(change(arrays)),
    )


def check_key(key: Key) -> None:
    """Check that a learner of one is given one key.

    Raises:
        InputError: if it is given several.
    """
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim:
        raise InputError(f"{key.shape[0]} seeds for a learner of one; train population(learner, {key.shape[0]})")


def check_minimizes(learner: Learner, what: str) -> None:
    """Check that a falling loss means that the learner learns, as ``what`` takes for granted.

    Raises:
        InputError: if it does not.
    """
    if not learner.minimizes:
        raise InputError(f"{what} waits for a falling loss, which a game of two players does not have")


def check_single(state: TrainState, name: str) -> None:
    """Check that a transformation of a learner of one is not given a population.

    Raises:
        InputError: if it is.
    """
    if state.step.ndim:
        raise InputError(f"{name}(population(...)): population comes last, population({name}(...), size)")
