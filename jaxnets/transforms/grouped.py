"""One learner of several members, each with data of its own."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnets.errors import InputError, check_whole
from jaxnets.learner import (
    Batch,
    Descent,
    Gradient,
    Initial,
    Learner,
    Sums,
    TrainState,
    check_key,
    check_learner,
    check_single,
    check_together,
    started,
)
from jaxnets.network import Key, PyTree


def grouped(learner: Learner, size: int) -> Learner:
    """Return one learner of ``size`` members that share nothing but the run: each learns from data of its own.

    Every array of a batch, the mask too, has an axis of the members behind that of the examples, [B, size, ...]; their
    metrics are added up. In ``predict`` all members see the same inputs, and their axis is the outputs' second,
    [B, size, ...]. Members are computed together (``vmap``). ``population`` comes after.

    Args:
        learner: what each member does.
        size: how many members.
    """
    check_learner(learner)
    check_together(learner, "grouped")
    check_whole("size", size, remedy="members of a group")

    def inner(state: TrainState) -> TrainState:
        return state.replace(step=jnp.broadcast_to(state.step, size))

    def outer(state: TrainState) -> TrainState:
        return state.replace(step=state.step[0])

    def added(sums: Sums) -> Sums:
        return jax.tree.map(lambda leaf: leaf.sum(0, dtype=leaf.dtype), sums)

    def whole(batch: Batch) -> Batch:
        arrays = dict(batch)
        if "mask" in arrays:
            mask = batch["mask"] if batch["mask"].ndim > 1 else batch["mask"][:, None]
            if mask.shape[1:] not in ((1,), (size,)):
                raise InputError(f"a group of {size} was given a mask of shape {mask.shape}, not [B] or [B, {size}]")
            arrays["mask"] = jnp.broadcast_to(mask, (len(mask), size))
        for name, array in arrays.items():
            if array.shape[1:2] != (size,):
                raise InputError(f"a group of {size} was given {name} of shape {array.shape}, not [B, {size}, ...]")
        return arrays

    def init(key: Key, initial: Initial | None = None) -> TrainState:
        check_key(key)
        return outer(jax.vmap(partial(started, learner))(jax.random.split(key, size), initial))

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Sums]:
        check_single(state, "grouped")
        keys = jax.random.split(key, size)
        state, sums = jax.vmap(learner.step, (0, 1, 0))(inner(state), whole(batch), keys)
        return outer(state), added(sums)

    def gradient(state: TrainState, batch: Batch, key: Key) -> Gradient:
        assert learner.descent is not None
        keys = jax.random.split(key, size)
        found = jax.vmap(learner.descent.gradient, (0, 1, 0))(inner(state), whole(batch), keys)
        return found._replace(sums=added(found.sums))

    def update(state: TrainState, grads: PyTree, model_state: PyTree) -> TrainState:
        assert learner.descent is not None
        return outer(jax.vmap(learner.descent.update)(inner(state), grads, model_state))

    def evaluate(state: TrainState, batch: Batch) -> Sums:
        return added(jax.vmap(learner.evaluate, (0, 1))(inner(state), whole(batch)))

    def predict(state: TrainState, inputs: Any) -> Any:
        return jax.vmap(learner.predict, (0, None), 1)(inner(state), inputs)

    def check(arrays: Any) -> None:
        for member in range(size):
            learner.check({name: array[:, member] for name, array in whole(arrays).items()})

    descent = learner.descent and Descent(gradient, update)
    return Learner(init, step, evaluate, predict, check, learner.metrics, descent)
