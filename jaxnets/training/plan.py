"""A run's arguments and data, checked before anything compiles."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Sharding

from jaxnets.data import FOLD, Data, MakeOrder, check_alike, usual
from jaxnets.errors import InputError, check_whole, nearest
from jaxnets.learner import (
    Initial,
    Learner,
    Placement,
    Sums,
    TrainState,
    check_learner,
    check_minimizes,
    put,
    started,
)
from jaxnets.memory import check_fits, num_bytes
from jaxnets.metrics import Better, Total, directions
from jaxnets.network import PyTree
from jaxnets.training.chunk import check_seeds, no_metrics, run_keys
from jaxnets.training.duration import Duration
from jaxnets.training.stopping import Best, EarlyStopping, first_best
from jaxnets.transforms.population import traced_once


class Skipped(struct.PyTreeNode):
    """Bad steps that were left out; both are int32 of the population's axes.

    Attributes:
        num: how many.
        in_a_row: how many of them were the last steps.
    """

    num: Any
    in_a_row: Any

    @classmethod
    def none(cls, shape: tuple[int, ...] = ()) -> Self:
        """Return the count of no steps."""
        return cls(np.zeros(shape, np.int32), np.zeros(shape, np.int32))


class RunState(struct.PyTreeNode):
    """All that a run needs in order to go on, bit for bit: what a checkpoint holds.

    Attributes:
        train: the learner's state.
        sums: training metrics since the last evaluation.
        best: what early stopping remembers; None without it.
        skipped: bad steps that were left out.
        dropped: which members are trained no more, bool [members]; None where nothing is selected.
    """

    train: TrainState
    sums: Sums
    best: Best | None = None
    skipped: Skipped = struct.field(default_factory=Skipped.none)
    dropped: Any = None


class Selection(Protocol):
    """How the members of a population compete, told what each evaluation found."""

    monitor: str
    maximize: bool | None

    def begin(self, plan: "Plan") -> None:
        """Raise an ``InputError`` if the run does not suit."""
        ...

    def select(self, run: RunState, row: Mapping[str, Any], plan: "Plan") -> RunState:
        """Return the state to go on with: members may be dropped, or changed."""
        ...


def copied(run: RunState, placement: Placement | None) -> RunState:
    """Return a copy of a run's state on the devices, where its learner has it."""
    if placement is None:
        return jax.tree.map(jnp.array, run)
    where: Any = jax.tree.map(lambda _: placement.of_rest, run).replace(train=placement.of_state(run.train))
    where = where.replace(sums=jax.tree.map(lambda _: where.train.step, run.sums))
    if run.best is not None:
        where = where.replace(best=where.best.replace(state=placement.of_state(run.best.state)))
    return jax.tree.map(put, jax.tree.map(np.asarray, run), where)


def everywhere(tree: PyTree, placement: Placement | None) -> PyTree:
    """Return arrays as they are or, of a learner on a mesh, whole on each of its devices."""
    return tree if placement is None else put(tree, placement.of_rest)


def no_sums(state: RunState, placement: Placement | None) -> Sums:
    """Return the zeros from which metrics are summed, of a run's shapes; of members, where these are."""
    where = None if placement is None else placement.of_state(state.train).step
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype, device=where), state.sums)


class Plan(NamedTuple):
    """A run that was checked: all that ``follow`` needs.

    Attributes:
        learner: what is trained; its step is traced once.
        train: the training data.
        validation: what is evaluated now and then, if anything.
        batch_size: examples of a step.
        num_steps: its length in steps; None if that is in time.
        limit: its length in seconds; None if that is in steps.
        every: steps between two evaluations.
        seeds: one, or one for each member of a population.
        early_stopping: when to stop before that.
        order: makes the order of the training rows.
        initial: weights to begin from, if any are given.
        state: shapes and dtypes of its state.
        better: which values of each metric are better, by its name.
        selection: how members compete, if they do.
    """

    learner: Learner
    train: Data
    validation: Data | None
    batch_size: int
    num_steps: int | None
    limit: float | None
    every: int
    seeds: np.ndarray
    early_stopping: EarlyStopping | None
    order: MakeOrder
    initial: Initial | None
    state: RunState
    better: Mapping[str, Better]
    selection: Selection | None = None


def check(
    learner: Learner,
    train: Data,
    *,
    duration: str | int = "10ep",
    batch_size: int = 32,
    seed: int | Sequence[int] = 0,
    validation: Data | None = None,
    evaluate_every: str | int = "1ep",
    early_stopping: EarlyStopping | None = None,
    order: MakeOrder = usual,
    initial: Initial | None = None,
    selection: Selection | None = None,
) -> Plan:
    """Check a run's arguments, its data and the shapes of its steps; nothing is compiled.

    The arguments are those of ``events``.

    Raises:
        InputError: if something does not suit.
    """
    check_learner(learner)
    check_whole("batch_size", batch_size, most=2**63)
    for name, data in (("train", train), ("validation", validation)):
        if not isinstance(data, Data) and not (name == "validation" and data is None):
            raise InputError(f"{name} is of {type(data).__name__}; give jaxnets.Data(inputs=..., labels=...)")
    if not isinstance(early_stopping, EarlyStopping | None):
        raise InputError(f"{early_stopping=} must be a rule, such as EarlyStopping(patience=5)")
    if not isinstance(initial, Initial | None):
        raise InputError(f"initial is of {type(initial).__name__}; give jaxnets.Initial(params)")
    learner = traced_once(learner)
    length = Duration.parse(duration)
    every = Duration.parse(evaluate_every, "evaluate_every").steps(train.num_examples, batch_size)
    if every is None:
        raise InputError(f"{evaluate_every=} must be in steps or epochs: metrics must not depend on the clock")
    seeds = check_seeds(seed)
    if batch_size > train.num_examples:
        raise InputError(
            f"{batch_size=} exceeds the {train.num_examples} training examples; use --batch-size {train.num_examples} "
            "or less"
        )
    if early_stopping and early_stopping.monitor.endswith("/loss"):
        check_minimizes(learner, "patience")
    if early_stopping and validation is None and early_stopping.monitor.startswith("validation/"):
        raise InputError(f"early stopping on {early_stopping.monitor!r} needs validation data")
    _check_order(order, train, batch_size, seeds)
    learner.check(train)
    if validation is not None:
        validation = validation.like(train)
        check_alike(train, validation, "validation")
        learner.check(validation)
    state = _state_shape(learner, train, batch_size, seeds, initial)
    _check_memory(state, seeds, learner.placement)
    better = _directions(learner, train, validation, state)
    if early_stopping:
        early_stopping = rule = _directed(early_stopping, better)
        state = state.replace(best=jax.eval_shape(lambda state: first_best(state, rule), state.train))
    if selection is not None:
        selection = _competing(selection, seeds, better)
        state = state.replace(dropped=np.zeros(seeds.shape, bool))
    plan = Plan(
        learner,
        train,
        validation,
        batch_size,
        length.steps(train.num_examples, batch_size),
        length.amount if length.unit == "seconds" else None,
        every,
        seeds,
        early_stopping,
        order,
        initial,
        state,
        better,
        selection,
    )
    if selection is not None:
        selection.begin(plan)
    return plan


def _check_memory(state: RunState, seeds: np.ndarray, placement: Placement | None) -> None:
    """Check that the state of a run and its gradients fit into each device's memory: the least that a step needs."""
    of = f" of {seeds.size:,} seeds" if seeds.size > 1 else ""
    remedy = "make the network smaller" + (", or train fewer seeds" if of else "")
    state = held_by_each(state, placement)
    check_fits(f"the state{of} with its gradients", num_bytes(state) + num_bytes(state.train.params), remedy)


def held_by_each(state: RunState, placement: Placement | None) -> RunState:
    """Return the shapes of what each device of a mesh holds of a run's state."""

    def part(leaf: Any, sharding: Sharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sharding.shard_shape(leaf.shape), leaf.dtype)

    if placement is None:
        return state
    best: Any = state.best
    if best is not None:
        best = best.replace(state=jax.tree.map(part, best.state, placement.of_state(best.state)))
    return state.replace(train=jax.tree.map(part, state.train, placement.of_state(state.train)), best=best)


def _check_order(order: MakeOrder, train: Data, batch_size: int, seeds: np.ndarray) -> None:
    """Check that an order gives rows of the training data, by those of the first step."""
    if not callable(order):
        raise InputError(f"order={order!r} must be a function that makes one, such as jaxnets.data.balanced")
    if FOLD in train and (np.diff(np.ravel(seeds)) != 1).any():
        raise InputError(f"seed={seeds.tolist()}: fold i is left out by member i; give seeds in their order, range(K)")
    made = order(train, batch_size, int(np.ravel(seeds)[0]))
    if not callable(getattr(made, "rows", None)):
        raise InputError(f"order={order!r} made {type(made).__name__}, which has no rows(start, num); call it first?")
    rows = np.asarray(made.rows(0, 1))
    if rows.shape != (1, batch_size) or rows.dtype.kind not in "iu":
        raise InputError(f"order: rows(0, 1) are {rows.dtype}{list(rows.shape)}, not whole numbers [1, {batch_size}]")
    if rows.min() < 0 or rows.max() >= train.num_examples:
        raise InputError(f"order: rows {rows.min()} to {rows.max()} are not all in 0..{train.num_examples - 1}")


def _competing(rule: Selection, seeds: np.ndarray, better: Mapping[str, Better]) -> Selection:
    """Return the rule with what is better of the metric that it looks at; one seed has nobody to compete with."""
    if not seeds.ndim:
        raise InputError("selection is among the members of a population; give several seeds, seed=range(9)")
    return _directed(rule, better)


def _directed(rule: Any, better: Mapping[str, Better]) -> Any:
    """Return the rule with what is better of the metric that it looks at."""
    if rule.monitor not in better:
        raise InputError(f"monitor={rule.monitor!r} is none of {', '.join(better)}{nearest(rule.monitor, better)}")
    if rule.maximize is not None:
        return rule
    if better[rule.monitor] is None:
        raise InputError(
            f"monitor={rule.monitor!r}: whether higher or lower values of it are better is not known; choose another, "
            'say so (EarlyStopping(maximize=True), or metrics.per_example(function, "higher"))'
        )
    return replace(rule, maximize=better[rule.monitor] == "higher")


def _directions(learner: Learner, train: Data, validation: Data | None, state: RunState) -> dict[str, Better]:
    """Return the names of all metrics of a run, and which values of each are better."""
    axes = state.train.step.ndim
    sums = jax.tree.map(lambda total: total.high, state.sums, is_leaf=lambda node: isinstance(node, Total))
    found: dict[str, Better] = {
        f"train/{name}": better for name, better in directions(learner.metrics, sums, axes).items()
    }
    rows = 2 * learner.block
    batch = {name: jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype) for name, array in train.items()}
    if validation is not None:
        held_out = directions(learner.metrics, jax.eval_shape(learner.evaluate, state.train, batch), axes)
        found |= {f"validation/{name}": better for name, better in held_out.items()}
    return found


def _state_shape(
    learner: Learner, train: Data, batch_size: int, seeds: np.ndarray, initial: Initial | None
) -> RunState:
    init_key, run_key = jax.eval_shape(run_keys, seeds)
    state = jax.eval_shape(partial(started, learner), init_key, initial)
    rows = jax.ShapeDtypeStruct((1, *seeds.shape, batch_size), np.int32)
    sums = jax.eval_shape(partial(no_metrics, learner), state, dict(train), rows, run_key)
    return RunState(state, sums, skipped=Skipped.none(seeds.shape))
