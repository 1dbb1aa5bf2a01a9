"""Populations whose members differ in their hyperparameters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.errors import InputError, check_callable, numbers
from jaxnets.learner import Batch, Initial, Learner, Sums, TrainState, started
from jaxnets.network import Key
from jaxnets.transforms.population import Way, each_of, fitting_way, population

VARIED = "varied"  # in ``TrainState.extra``: what the members differ in, by name

Make = Callable[[Mapping[str, Any]], Learner]


def varied(make: Make, values: Mapping[str, Sequence[float]], how: Way | None = None) -> Learner:
    """Return the population whose member ``i`` is ``make({name: values[name][i], ...})``, in one compiled program.

    The values are float32 arguments of the program, kept in the state (``extra["varied"]``): so ``make`` may use them
    in arithmetic (rates, decays, dropout, a loss's weights), not to choose shapes or branches. A member has the bits of
    the population of it alone; where a constant stands in place of the value, the last bits may be others.

    Args:
        make: the learner with given hyperparameters.
        values: of each hyperparameter, one a member.
        how: as in ``population``.

    Raises:
        InputError: if there are no values, or not one a member, or ``make`` needs to know one before it compiles.
    """
    check_callable("make", make, 'give a function such as lambda values: supervised(..., optax.sgd(values["rate"]))')
    table = {name: np.asarray(numbers(name, given, "one each member"), np.float32) for name, given in values.items()}
    sizes = {name: len(column) for name, column in table.items()}
    if len(set(sizes.values())) != 1:
        raise InputError(f"values of {sizes or 'nothing'}: give one of each hyperparameter a member")
    size = next(iter(sizes.values()))
    how = fitting_way() if how is None else how
    first = make({name: float(column[0]) for name, column in table.items()})

    def of(state: TrainState) -> Learner:
        return make(state.extra[VARIED])

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Sums]:
        new, sums = of(state).step(state, batch, key)
        return new.replace(extra={**new.extra, VARIED: state.extra[VARIED]}), sums

    one = first._replace(
        init=lambda key: _with(first.init(key), {name: jnp.float32(column[0]) for name, column in table.items()}),
        step=step,
        evaluate=lambda state, batch: of(state).evaluate(state, batch),
        predict=lambda state, inputs: of(state).predict(state, inputs),
        descent=None,
    )
    many = population(one, size, how)

    def init(key: Key, initial: Initial | None = None) -> TrainState:
        def begin(key: Key, given: Mapping[str, jax.Array]) -> TrainState:
            return _with(started(make(given), key, initial), given)

        return each_of(size, how)(begin, key, jax.tree.map(jnp.asarray, table))

    _check_traceable(many._replace(init=init), size, table)
    return many._replace(init=init)


def without_values(state: TrainState) -> TrainState:
    """Return a member's state as one of the learner with constants in place of the values."""
    return state.replace(extra={name: kept for name, kept in state.extra.items() if name != VARIED})


def _with(state: TrainState, given: Mapping[str, jax.Array]) -> TrainState:
    return state.replace(extra={**state.extra, VARIED: dict(given)})


def _check_traceable(learner: Learner, size: int, table: Mapping[str, np.ndarray]) -> None:
    """Check that a learner can be made of values that only the compiled program knows."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size))
    try:
        jax.eval_shape(learner.init, keys)
    except (jax.errors.ConcretizationTypeError, TypeError) as error:
        what = str(error).partition("\n")[0]
        raise InputError(
            f"one of {', '.join(table)} decides what is compiled, so that members of one program cannot differ in it; "
            f"train a population for each of its values ({what})"
        ) from error
