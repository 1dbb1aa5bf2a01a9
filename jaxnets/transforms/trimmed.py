"""Sequences cut to the length that matters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.errors import InputError
from jaxnets.learner import Batch, Learner, Sums, TrainState, check_single, with_training
from jaxnets.network import Key


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


def trimmed(learner: Learner, padding: int, lengths: Sequence[int], beside: Sequence[str] = ()) -> Learner:
    """Return a learner that cuts padding off batches of sequences of tokens, as far as all of a batch's go.

    Arrays [B, T] of whole numbers, and a "mask" beside them, are cut to the least of these lengths that holds all of a
    batch, or not at all. For each length a step is compiled, in one program; data with "lengths" have batches for which
    this pays. ``population`` comes after, by ``map``: with ``vmap`` every length is computed.

    Args:
        learner: of sequences, to which padding at their ends makes no difference.
        padding: the token that fills up short sequences.
        lengths: rising.
        beside: names of other arrays [B, T, ...] that are cut with them, such as numbers that go with the tokens.
    """
    if not lengths or min(lengths) < 1 or list(lengths) != sorted(set(lengths)):
        raise InputError(f"{lengths=} must be rising, 1 or more")

    def cut(batch: Batch, length: int | None) -> dict[str, Any]:
        names = [*_sequences(batch), *beside, *(["mask"] if batch.get("mask", np.empty(0)).ndim == 2 else [])]
        return {name: array[:, :length] if name in names else array for name, array in batch.items()}

    def chosen(batch: Batch) -> jax.Array:
        """Return the number of the least length that holds all tokens; that of the whole comes after the last."""
        ends = [
            jnp.where(batch[name] != padding, jnp.arange(1, batch[name].shape[1] + 1), 0).max()
            for name in _sequences(batch)
        ]
        return (jnp.asarray(lengths) < jnp.stack(ends).max()).sum()

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def train(state: TrainState, batch: Batch, key: Key) -> Any:
            check_single(state, "trimmed")
            return lax.switch(
                chosen(batch), [lambda n=n: function(state, cut(batch, n), key) for n in (*lengths, None)]
            )

        return train

    def evaluate(state: TrainState, batch: Batch) -> Sums:
        return lax.switch(chosen(batch), [lambda n=n: learner.evaluate(state, cut(batch, n)) for n in (*lengths, None)])

    return with_training(learner, wrap)._replace(evaluate=evaluate)


def _sequences(batch: Batch) -> list[str]:
    """Return the names of the arrays that hold tokens, [B, T]."""
    names = [name for name, array in batch.items() if array.ndim == 2 and jnp.issubdtype(array.dtype, jnp.integer)]
    if not names:
        raise InputError(f"none of {sorted(batch)} holds sequences of tokens, [B, T], that trimmed could cut")
    return names
