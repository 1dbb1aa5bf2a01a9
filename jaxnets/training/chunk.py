"""Many steps in one compiled loop, and the keys that its randomness is derived from."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxnets.errors import InputError, short
from jaxnets.learner import Learner, Step, Sums, TrainState, check_learner
from jaxnets.metrics import add, zeros
from jaxnets.network import Key
from jaxnets.training.stopping import select
from jaxnets.transforms.population import OneByOne, one_by_one

Chunk = Callable[..., tuple[TrainState, Sums]]


def chunk(learner: Learner) -> Chunk:
    """Return a pure function that takes many steps in one loop, to be compiled alone or inside something larger.

    ``run(state, sums, columns, rows, offset, num_steps, key) -> (state, sums)``: step ``i`` trains on the rows
    ``rows[offset + i]`` of ``columns`` with the key ``fold_in(key, state.step)``, and adds what its metrics
    measure to ``sums`` (``metrics.add``). Without ``rows``, columns are batch after batch, and it trains on
    ``columns[offset + i]``.
    ``num_steps`` is an argument like the others, so one program serves chunks of every length, and the bits are the
    same however a run is cut into chunks. For a population it may be an array [members]: each takes its own number.
    """
    check_learner(learner)
    return _loop(learner.step)


def _loop(step: Step) -> Chunk:
    if isinstance(step, OneByOne):
        return _each_in_turn(_loop(step.member), step.size)

    def run(
        state: TrainState,
        sums: Sums,
        columns: Mapping[str, jax.Array],
        rows: jax.Array | None,
        offset: jax.Array | int,
        num_steps: jax.Array | int,
        key: Key,
    ) -> tuple[TrainState, Sums]:
        def take(i: jax.Array, carry: tuple[TrainState, Sums]) -> tuple[TrainState, Sums]:
            state, sums = carry
            of = offset + i if rows is None else rows[offset + i]
            batch = {name: column[of] for name, column in columns.items()}
            state, measured = step(state, batch, step_key(key, state.step))
            return state, add(sums, measured)

        if not jnp.ndim(num_steps):
            return lax.fori_loop(0, num_steps, take, (state, sums))
        counts = jnp.asarray(num_steps)
        return lax.fori_loop(0, counts.max(), lambda i, carry: select(i < counts, take(i, carry), carry), (state, sums))

    return run


def _each_in_turn(loop: Chunk, size: int) -> Chunk:
    """Return what takes all steps of the first member, whose loop is given, then of the next."""

    def run(
        state: TrainState,
        sums: Sums,
        columns: Mapping[str, jax.Array],
        rows: jax.Array,
        offset: jax.Array | int,
        num_steps: jax.Array | int,
        key: Key,
    ) -> tuple[TrainState, Sums]:
        def steps(
            state: TrainState, sums: Sums, rows: jax.Array, key: Key, own: jax.Array | int = num_steps
        ) -> tuple[TrainState, Sums]:
            return loop(state, sums, columns, rows, offset, own, key)

        each = (jnp.asarray(num_steps),) if jnp.ndim(num_steps) else ()
        return one_by_one(steps, size, state, sums, jnp.swapaxes(rows, 0, 1), key, *each)

    return run


def no_metrics(learner: Learner, state: TrainState, columns: Mapping[str, Any], rows: Any, key: Key) -> Sums:
    """Return the zeros from which a chunk's ``sums`` start; shapes are enough for the arguments."""
    batch = {
        name: jax.ShapeDtypeStruct(rows.shape[1:] + column.shape[1:], column.dtype) for name, column in columns.items()
    }
    return zeros(jax.eval_shape(learner.step, state, batch, key)[1])


def run_keys(seed: ArrayLike) -> tuple[Key, Key]:
    """Return a run's two keys, for initial values and for its steps; of several seeds, keys of the seeds' shape.

    Raises:
        InputError: if a seed is no whole number from 0 to 2**31 - 1; of one that is traced that is not known.
    """
    if not isinstance(seed, Tracer):
        check_seeds(seed)
    seeds = jnp.asarray(seed, jnp.int32)
    both = _for_each(lambda seed: jax.random.split(jax.random.key(seed)), seeds.ndim)(seeds)
    return both[..., 0], both[..., 1]


def check_seeds(seed: Any) -> np.ndarray:
    """Return seeds as an array, int32 of their shape.

    Raises:
        InputError: if one is no whole number from 0 to 2**31 - 1, or there are none.
    """
    try:
        seeds = np.asarray(seed)
    except ValueError:  # rows of unlike length
        seeds = np.empty(0)
    if seeds.size == 0 or seeds.dtype.kind not in "iu" or seeds.min() < 0 or seeds.max() >= 2**31:
        wanted = "a whole number from 0 to 2**31 - 1, or one for each member of a population"
        raise InputError(f"seed={short(seed)} must be {wanted}")
    return seeds.astype(np.int32)


def step_key(key: Key, step: jax.Array) -> Key:
    """Return the key of a step, of the run's own; for a population, of each member's own."""
    return _for_each(jax.random.fold_in, key.ndim)(key, step)


def _for_each(function: Callable[..., Any], ndim: int) -> Callable[..., Any]:
    for _ in range(ndim):
        function = jax.vmap(function)
    return function
