"""A batch's gradient, part by part, to save memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.errors import InputError, check_whole
from jaxnets.learner import Batch, Descent, Gradient, Learner, TrainState, check_learner, check_single, following
from jaxnets.network import Key, PyTree

_SPREAD: ContextVar[Callable[[PyTree], PyTree] | None] = ContextVar("spread", default=None)


@contextmanager
def spreading(spread: Callable[[PyTree], PyTree]) -> Iterator[None]:
    """Have each part of a batch spread over devices, while steps are traced inside this context.

    Rows of a batch lie on devices one after the other, so a part of them would be of a few devices alone.

    Args:
        spread: of the arrays of a batch in parts, [P, B / P, ...].
    """
    token = _SPREAD.set(spread)
    try:
        yield
    finally:
        _SPREAD.reset(token)


def accumulated(learner: Learner, parts: int) -> Learner:
    """Return a learner that computes each batch's gradient in parts, one after another, and updates once.

    Steps, schedules and durations mean the same as without it, and so does the loss: each part counts by its rows.
    Batch statistics, though, are those of a part. ``averaged``, ``population`` and
    ``sharded`` come after.

    Args:
        learner: one that follows one gradient.
        parts: how many; they divide the batch.

    Raises:
        InputError: if the learner follows more than one gradient, or ``parts`` is less than 1.
    """
    check_learner(learner)
    check_whole("accumulate", parts, remedy="parts of a batch")
    if learner.descent is None:
        raise InputError(
            f"accumulate={parts} is for learners that follow one gradient, before averaged(), population() "
            "and sharded(); use a smaller batch"
        )
    inner = learner.descent

    def gradient(state: TrainState, batch: Batch, key: Key) -> Gradient:
        check_single(state, "accumulated")
        size = jax.tree.leaves(batch)[0].shape[0]
        if size % parts:
            raise InputError(f"accumulate={parts} does not divide the batch of {size} examples; give one that does")
        cut = jax.tree.map(lambda a: jnp.asarray(a).reshape(parts, size // parts, *a.shape[1:]), dict(batch))
        if (spread := _SPREAD.get()) is not None:
            cut = spread(cut)

        def part(i: jax.Array, model_state: PyTree) -> Gradient:
            rows = jax.tree.map(lambda a: a[i], cut)
            found = inner.gradient(state.replace(model_state=model_state), rows, jax.random.fold_in(key, i))
            return found._replace(grads=_by_count(jnp.multiply, found.grads, found.count))

        def add(i: jax.Array, so_far: Gradient) -> Gradient:
            more = part(i, so_far.model_state)
            added = jax.tree.map(jnp.add, so_far._replace(model_state=None), more._replace(model_state=None))
            return added._replace(model_state=more.model_state)

        whole = lax.fori_loop(1, parts, add, part(jnp.int32(0), state.model_state))
        return whole._replace(grads=_by_count(jnp.divide, whole.grads, jnp.maximum(whole.count, 1)))

    descent = Descent(gradient, inner.update)
    return learner._replace(step=following(descent), descent=descent)


def _by_count(operation: Callable[..., jax.Array], grads: PyTree, count: jax.Array) -> PyTree:
    """Return the gradients times the count, or by it; of members side by side, each by its own."""

    def one(leaf: jax.Array) -> jax.Array:
        return operation(leaf, count.reshape(count.shape + (1,) * (leaf.ndim - count.ndim)).astype(leaf.dtype))

    return jax.tree.map(one, grads)
