"""A run's arguments and data, checked before anything compiles."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from flax import struct

from jaxnets.data import Data, check_alike
from jaxnets.errors import InputError, nearest
from jaxnets.learner import Learner, Metrics, TrainState, check_minimizes
from jaxnets.training.chunk import no_metrics, run_keys
from jaxnets.training.duration import Duration
from jaxnets.training.stopping import Best, EarlyStopping, first_best


class RunState(struct.PyTreeNode):
    """All that a run needs in order to go on, bit for bit: what a checkpoint holds.

    Attributes:
        train: the learner's state.
        sums: training metrics since the last evaluation.
        best: what early stopping remembers; None without it.
    """

    train: TrainState
    sums: Metrics
    best: Best | None = None


class Plan(NamedTuple):
    """A run that was checked.

    Attributes:
        num_steps: its length in steps; None if that is in time.
        limit: its length in seconds; None if that is in steps.
        every: steps between two evaluations.
        seeds: one, or one for each member of a population.
        early_stopping: when to stop before that.
        state: shapes and dtypes of its state.
    """

    num_steps: int | None
    limit: float | None
    every: int
    seeds: np.ndarray
    early_stopping: EarlyStopping | None
    state: RunState


def check(
    learner: Learner,
    train: Data,
    *,
    duration: str | int,
    batch_size: int,
    seed: int | Sequence[int],
    validation: Data | None,
    evaluate_every: str | int,
    early_stopping: EarlyStopping | None,
) -> Plan:
    """Check a run's arguments, its data and the shapes of its steps, as ``events`` does first; nothing is compiled.

    Raises:
        InputError: if something does not suit.
    """
    length = Duration.parse(duration)
    every = Duration.parse(evaluate_every).steps(train.num_examples, batch_size)
    if every is None:
        raise InputError(f"{evaluate_every=} must be in steps or epochs: metrics must not depend on the clock")
    seeds = np.asarray(seed)
    if seeds.size == 0 or seeds.dtype.kind not in "iu" or seeds.min() < 0 or seeds.max() >= 2**31:
        raise InputError(f"{seed=} must be a whole number from 0 to 2**31 - 1, or one for each member of a population")
    if not 1 <= batch_size <= train.num_examples:
        remedy = f"use --batch-size {train.num_examples} or less" if batch_size > 0 else "use 1 or more"
        raise InputError(f"{batch_size=} exceeds the {train.num_examples} training examples; {remedy}")
    if early_stopping and early_stopping.monitor.endswith("/loss"):
        check_minimizes(learner, "patience")
    if early_stopping and validation is None and early_stopping.monitor.startswith("validation/"):
        raise InputError(f"early stopping on {early_stopping.monitor!r} needs validation data")
    if "lengths" in train and train["lengths"].shape != (train.num_examples,):
        raise InputError(f"lengths of shape {train['lengths'].shape} for {train.num_examples} examples; give one each")
    learner.check(train)
    if validation is not None:
        check_alike(train, validation, "validation")
        learner.check(validation)
    limit = length.amount if length.unit == "seconds" else None
    num_steps = length.steps(train.num_examples, batch_size)
    seeds = seeds.astype(np.int32)
    state = _state_shape(learner, train, batch_size, seeds, early_stopping)
    if early_stopping:
        _check_monitor(early_stopping.monitor, learner, state, validation)
    return Plan(num_steps, limit, every, seeds, early_stopping, state)


def _check_monitor(monitor: str, learner: Learner, state: RunState, validation: Data | None) -> None:
    names = [f"train/{name}" for name in state.sums]
    if validation is not None:
        batch = {name: jax.ShapeDtypeStruct((1, *array.shape[1:]), array.dtype) for name, array in validation.items()}
        names += [f"validation/{name}" for name in jax.eval_shape(learner.evaluate, state.train, batch)]
    if monitor not in names:
        raise InputError(f"monitor={monitor!r} is none of {', '.join(names)}{nearest(monitor, names)}")


def _state_shape(
    learner: Learner, train: Data, batch_size: int, seeds: np.ndarray, early_stopping: EarlyStopping | None
) -> RunState:
    init_key, run_key = jax.eval_shape(run_keys, seeds)
    state = jax.eval_shape(learner.init, init_key)
    rows = jax.ShapeDtypeStruct((1, *seeds.shape, batch_size), np.int32)
    sums = jax.eval_shape(partial(no_metrics, learner), state, dict(train), rows, run_key)
    best = jax.eval_shape(lambda state: first_best(state, early_stopping), state) if early_stopping else None
    return RunState(state, sums, best)
