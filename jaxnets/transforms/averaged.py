"""Averaged weights, to evaluate and predict with."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxnets.errors import InputError
from jaxnets.learner import Batch, Learner, Metrics, TrainState, check_single
from jaxnets.network import Key, PyTree


class Averaged(struct.PyTreeNode):
    """The optimizer state of an ``averaged`` learner: the inner one's, and the average."""

    inner: PyTree
    params: PyTree
    model_state: PyTree


def averaged(learner: Learner, decay: float) -> Learner:
    """Return a learner that evaluates and predicts with an exponential moving average of its weights.

    Batch statistics and other floating-point model state are averaged as well. The decay rises as
    ``min(decay, (1 + step) / (10 + step))``, as TensorFlow's and timm's does, so that the random start is forgotten.
    ``population`` comes after.

    Args:
        learner: what is trained, unchanged.
        decay: weight of the old average in each step, in [0, 1); 0.999 remembers about 1,000 steps.
    """
    if not 0 <= decay < 1:
        raise InputError(f"{decay=} must be in [0, 1), such as 0.999")

    def init(key: Key) -> TrainState:
        state = learner.init(key)
        return state.replace(opt_state=Averaged(state.opt_state, state.params, state.model_state))

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        check_single(state, "averaged")
        average = state.opt_state
        new, metrics = learner.step(state.replace(opt_state=average.inner), batch, key)
        keep = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))

        def move(old: jax.Array, value: jax.Array) -> jax.Array:
            floating = jnp.issubdtype(old.dtype, jnp.floating)
            return (old + (1.0 - keep) * (value - old)).astype(old.dtype) if floating else value

        moved = jax.tree.map(move, (average.params, average.model_state), (new.params, new.model_state))
        return new.replace(opt_state=Averaged(new.opt_state, *moved)), metrics

    def in_use(state: TrainState) -> TrainState:
        average = state.opt_state
        return TrainState(state.step, average.params, average.inner, average.model_state)

    return learner._replace(
        init=init,
        step=step,
        evaluate=lambda state, batch: learner.evaluate(in_use(state), batch),
        predict=lambda state, inputs: learner.predict(in_use(state), inputs),
    )
