"""Averaged weights, to evaluate and predict with."""

import jax
import jax.numpy as jnp

from jaxnets.errors import InputError, check_number
from jaxnets.learner import Batch, Initial, Learner, Sums, TrainState, check_learner, check_single, started
from jaxnets.network import Key

_NAME = "average"  # in ``TrainState.extra``


def averaged(learner: Learner, decay: float) -> Learner:
    """Return a learner that evaluates and predicts with an exponential moving average of its weights.

    Batch statistics and other floating-point model state are averaged as well. The decay rises as
    ``min(decay, (1 + step) / (10 + step))``, as TensorFlow's and timm's does, so that the random start is forgotten.
    ``population`` comes after.

    Args:
        learner: what is trained, unchanged.
        decay: weight of the old average in each step, in [0, 1); 0.999 remembers about 1,000 steps.
    """
    check_learner(learner)
    check_number("decay", decay, 0, 1, "in [0, 1), such as 0.999")

    def init(key: Key, initial: Initial | None = None) -> TrainState:
        state = started(learner, key, initial)
        if _NAME in state.extra:
            raise InputError("averaged(averaged(...)): the weights are averaged once; leave one out")
        return state.replace(extra={**state.extra, _NAME: {"params": state.params, "model_state": state.model_state}})

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Sums]:
        check_single(state, "averaged")
        new, sums = learner.step(state, batch, key)
        taken = state.step.astype(jnp.float32)
        keep = jnp.minimum(decay, (1.0 + taken) / (10.0 + taken))

        def move(old: jax.Array, value: jax.Array) -> jax.Array:
            floating = jnp.issubdtype(old.dtype, jnp.floating)
            return (old + (1.0 - keep) * (value - old)).astype(old.dtype) if floating else value

        trained = {"params": new.params, "model_state": new.model_state}
        return new.replace(extra={**new.extra, _NAME: jax.tree.map(move, state.extra[_NAME], trained)}), sums

    return learner._replace(
        init=init,
        step=step,
        evaluate=lambda state, batch: learner.evaluate(in_use(state), batch),
        predict=lambda state, inputs: learner.predict(in_use(state), inputs),
        descent=None,
    )


def in_use(state: TrainState) -> TrainState:
    """Return the state with averaged weights in place of those that are trained, if it has any."""
    return state.replace(**state.extra[_NAME]) if _NAME in state.extra else state
