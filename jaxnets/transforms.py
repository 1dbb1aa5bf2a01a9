"""Transformations that take a learner and return a learner, as Optax chains."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from jaxnets.errors import InputError
from jaxnets.learner import (
    Batch,
    Learner,
    Metrics,
    OneByOne,
    TrainState,
    apart,
    check_key,
    check_members,
    one_by_one,
    traced_once,
)
from jaxnets.network import Key, PyTree

Augment = Callable[[Key, jax.Array], jax.Array]


Way = Literal["map", "vmap"]


def fitting_way() -> Way:
    """Return how a population is computed by default: "map" on CPU, "vmap" elsewhere.

    On a CPU a member keeps the bits of a run on its own, in about the time; one after the other, small members would
    leave most of an accelerator idle.
    """
    return "map" if jax.default_backend() == "cpu" else "vmap"


def population(learner: Learner, size: int, how: Way | None = None) -> Learner:
    """Return a learner that trains ``size`` members at once, each with its own key and its own batches.

    Every leaf of its state, of its batches in ``step``, and of its metrics has a leading axis of ``size``; so have the
    keys. In ``evaluate`` and ``predict`` all members see the same batch.

    Args:
        learner: what each member does.
        size: how many members.
        how: "map" computes one member after the other; each gets the bits of a run on its own, and takes no longer.
            "vmap" computes them together, which is faster on accelerators, and rounds differently. By default "map" on
            CPU, "vmap" elsewhere.
    """
    how = fitting_way() if how is None else how
    if size < 1:
        raise InputError(f"a population of {size=} has no members; use 1 or more")
    if how not in ("map", "vmap"):
        raise InputError(f"{how=} is no way to run a population; use 'map' or 'vmap'")

    def each(function: Callable[..., Any], *args: Any) -> Any:
        if how == "map":
            return one_by_one(apart(function), size, *args)
        check_members(size, args)
        return jax.vmap(function)(*args)

    def evaluate(state: TrainState, batch: Batch) -> Metrics:
        return each(lambda member: learner.evaluate(member, batch), state)

    def predict(state: TrainState, inputs: Any) -> Any:
        return each(lambda member: learner.predict(member, inputs), state)

    step = OneByOne(traced_once(learner).step, size) if how == "map" else partial(each, learner.step)
    return learner._replace(init=partial(each, learner.init), step=step, evaluate=evaluate, predict=predict)


def grouped(learner: Learner, size: int) -> Learner:
    """Return one learner of ``size`` members that share nothing but the run: each learns from data of its own.

    Every array of a batch, the mask too, has an axis of the members behind that of the examples, [B, size, ...]; their
    metrics are added up. In ``predict`` all members see the same inputs, and their axis is the outputs' second,
    [B, size, ...]. Members are computed together (``vmap``). ``population`` comes after.

    Args:
        learner: what each member does.
        size: how many members.
    """
    if size < 1:
        raise InputError(f"a group of {size=} has no members; use 1 or more")

    def inner(state: TrainState) -> TrainState:
        return state.replace(step=jnp.broadcast_to(state.step, size))

    def outer(state: TrainState) -> TrainState:
        return state.replace(step=state.step[0])

    def added(sums: Metrics) -> Metrics:
        return jax.tree.map(lambda leaf: leaf.sum(0), sums)

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

    def init(key: Key) -> TrainState:
        check_key(key)
        return outer(jax.vmap(learner.init)(jax.random.split(key, size)))

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        _check_single(state, "grouped")
        keys = jax.random.split(key, size)
        state, sums = jax.vmap(learner.step, (0, 1, 0))(inner(state), whole(batch), keys)
        return outer(state), added(sums)

    def evaluate(state: TrainState, batch: Batch) -> Metrics:
        return added(jax.vmap(learner.evaluate, (0, 1))(inner(state), whole(batch)))

    def predict(state: TrainState, inputs: Any) -> Any:
        return jax.vmap(learner.predict, (0, None), 1)(inner(state), inputs)

    def check(arrays: Any) -> None:
        for member in range(size):
            learner.check({name: array[:, member] for name, array in whole(arrays).items()})

    return Learner(init, step, evaluate, predict, check, learner.minimizes)


def augmented(learner: Learner, augment: Augment) -> Learner:
    """Return a learner whose training batches have ``augment(key, inputs)`` for inputs; ``population`` comes after."""

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        _check_single(state, "augmented")
        augment_key, step_key = jax.random.split(key)
        return learner.step(state, {**batch, "inputs": augment(augment_key, batch["inputs"])}, step_key)

    return learner._replace(step=step)


def windowed(learner: Learner, length: int) -> Learner:
    """Return a learner that evaluates the last ``length`` elements of each sequence, of every array [B, T, ...].

    For models that take no more, where data hold longer sequences for ``augmented(learner, augment.crop(length))``.
    """

    def last(arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {name: array[:, -length:] if array.ndim > 1 else array for name, array in arrays.items()}

    def check(arrays: Mapping[str, np.ndarray]) -> None:
        stop = max((array.shape[1] for array in arrays.values() if array.ndim > 1), default=length)
        for end in (*range(length, stop, length), stop):  # every element is looked at
            learner.check(last({name: array[:, :end] if array.ndim > 1 else array for name, array in arrays.items()}))

    return learner._replace(evaluate=lambda state, batch: learner.evaluate(state, last(batch)), check=check)


def trimmed(learner: Learner, padding: int, lengths: Sequence[int]) -> Learner:
    """Return a learner that cuts padding off batches of sequences of tokens, as far as all of a batch's go.

    Arrays [B, T] of whole numbers, and a "mask" beside them, are cut to the least of these lengths that holds all of a
    batch, or not at all. For each length a step is compiled, in one program; data with "lengths" have batches for which
    this pays. ``population`` comes after, by ``map``: with ``vmap`` every length is computed.

    Args:
        learner: of sequences, to which padding at their ends makes no difference.
        padding: the token that fills up short sequences.
        lengths: rising.
    """
    if not lengths or min(lengths) < 1 or list(lengths) != sorted(set(lengths)):
        raise InputError(f"{lengths=} must be rising, 1 or more")

    def cut(batch: Batch, length: int | None) -> dict[str, Any]:
        names = [*_sequences(batch), *(["mask"] if batch.get("mask", np.empty(0)).ndim == 2 else [])]
        return {name: array[:, :length] if name in names else array for name, array in batch.items()}

    def chosen(batch: Batch) -> jax.Array:
        """Return the number of the least length that holds all tokens; that of the whole comes after the last."""
        ends = [
            jnp.where(batch[name] != padding, jnp.arange(1, batch[name].shape[1] + 1), 0).max()
            for name in _sequences(batch)
        ]
        return (jnp.asarray(lengths) < jnp.stack(ends).max()).sum()

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        _check_single(state, "trimmed")
        return lax.switch(
            chosen(batch), [lambda n=n: learner.step(state, cut(batch, n), key) for n in (*lengths, None)]
        )

    def evaluate(state: TrainState, batch: Batch) -> Metrics:
        return lax.switch(chosen(batch), [lambda n=n: learner.evaluate(state, cut(batch, n)) for n in (*lengths, None)])

    return learner._replace(step=step, evaluate=evaluate)


def _sequences(batch: Batch) -> list[str]:
    """Return the names of the arrays that hold tokens, [B, T]."""
    names = [name for name, array in batch.items() if array.ndim == 2 and jnp.issubdtype(array.dtype, jnp.integer)]
    if not names:
        raise InputError(f"none of {sorted(batch)} holds sequences of tokens, [B, T], that trimmed could cut")
    return names


def _check_single(state: TrainState, name: str) -> None:
    if state.step.ndim:
        raise InputError(f"{name}(population(...)): population comes last, population({name}(...), size)")


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
        _check_single(state, "averaged")
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
