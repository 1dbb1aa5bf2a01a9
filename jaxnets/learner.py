"""How something learns: pure functions over one state."""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Sharding

from jaxnets.errors import InputError, check_kind, short
from jaxnets.metrics import Metric
from jaxnets.network import Key, Network, PyTree
from jaxnets.parameters import begun, paths

Batch = Mapping[str, Any]  # arrays by name, of JAX or NumPy
Sums = dict[str, PyTree]  # what metrics have measured, by name


class TrainState(struct.PyTreeNode):
    """All that training needs in order to go on.

    Attributes:
        step: how many steps were taken, int32.
        params: what the optimizer changes.
        opt_state: the optimizer's own state.
        model_state: what the model changes itself, such as batch statistics.
        extra: what transformations of the learner keep, by the transformation's name: an average of the weights, say.
    """

    step: jax.Array
    params: PyTree
    opt_state: PyTree
    model_state: PyTree
    extra: Mapping[str, PyTree] = struct.field(default_factory=dict)


Step = Callable[[TrainState, Batch, Key], tuple[TrainState, Sums]]


class Initial(struct.PyTreeNode):
    """Weights to begin from; what is missing in the nested dicts is drawn.

    Attributes:
        params: of the learner's ``params``.
        model_state: of its ``model_state``.
    """

    params: PyTree = None
    model_state: PyTree = None


class Init(Protocol):
    """``init(key, initial=None) -> TrainState``."""

    def __call__(self, key: Key, initial: Initial | None = None) -> TrainState:
        """Return the state before the first step."""
        ...


class Gradient(NamedTuple):
    """The gradient of a batch's loss, and what else a forward pass gives.

    Attributes:
        grads: of the mean loss, like ``params``.
        model_state: the model's state after the pass.
        sums: what metrics have measured.
        count: how many examples the mean is over; of members side by side, one count each.
    """

    grads: PyTree
    model_state: PyTree
    sums: Sums
    count: Any


class Descent(NamedTuple):
    """The two halves of a step that follows one gradient, for transformations that come between them.

    Attributes:
        gradient: ``gradient(state, batch, key) -> Gradient``.
        update: ``update(state, grads, model_state) -> TrainState``, one step further.
    """

    gradient: Callable[[TrainState, Batch, Key], Gradient]
    update: Callable[[TrainState, PyTree, PyTree], TrainState]


class Placement(NamedTuple):
    """Where a learner's arrays lie on a mesh of devices.

    Attributes:
        of_state: ``of_state(state)``: the sharding of each leaf of a state, or of its shapes.
        of_rest: of data, row numbers and sums: whole, on every device.
        of_rows: ``of_rows(num, members)``: of batch after batch, [K, *members, num, ...], whose rows are spread if they
            divide evenly; ``members`` is the number of a population's axes.
    """

    of_state: Callable[[TrainState], TrainState]
    of_rest: Sharding
    of_rows: Callable[[int, int], Sharding]


class Learner(NamedTuple):
    """How something learns, as pure functions; a transformation takes a learner and returns a learner.

    Attributes:
        init: ``init(key, initial=None) -> TrainState``; ``initial`` are weights to begin from, in part or whole.
        step: ``step(state, batch, key) -> (TrainState, sums)``: the sums are what its metrics have measured.
        evaluate: ``evaluate(state, batch) -> sums``, over the rows that ``batch["mask"]`` leaves in.
        predict: ``predict(state, inputs) -> outputs``, with the weights that are meant for use.
        check: ``check(arrays)``, raises an ``InputError`` if a data set's arrays do not suit, before anything compiles.
        check_inputs: ``check_inputs(inputs)``, likewise of inputs to predict from.
        metrics: what is computed of the sums, by name, and which values are better. Sums of other names are of a
            ``Mean``. A falling "loss" means learning, unless its ``better`` says otherwise.
        descent: the two halves of ``step``, if it follows one gradient and no transformation has changed the whole.
        placement: where its arrays lie, if they are spread over devices (``sharded``).
        block: rows that ``evaluate`` is to see together, such as those of an episode: data sets are evaluated in
            batches that hold whole blocks.
    """

    init: Init
    step: Step
    evaluate: Callable[[TrainState, Batch], Sums]
    predict: Callable[[TrainState, Any], Any]
    check: Callable[[Mapping[str, np.ndarray]], None] = lambda arrays: None
    metrics: Mapping[str, Metric] = {}
    descent: Descent | None = None
    check_inputs: Callable[[Any], None] = lambda inputs: None
    placement: Placement | None = None
    block: int = 1


def put(tree: PyTree, sharding: Sharding | None) -> PyTree:
    """Return host arrays, or random keys, as arrays on devices: on the default one, or where a sharding says.

    Every process puts what its own devices hold.
    """
    if sharding is None:
        return jax.device_put(tree)

    def one(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(one, tree)


def inputs_of(batch: Batch) -> Any:
    """Return the inputs of a batch or a data set: an array or, of several parts ("inputs/a", "inputs/b"), a dict."""
    return gathered(batch)["inputs"]


def gathered(batch: Batch) -> dict[str, Any]:
    """Return the arrays of a batch or a data set, its inputs of several parts ("inputs/a", "inputs/b") as one dict."""
    whole = {name: array for name, array in batch.items() if not name.startswith("inputs/")}
    parts = {name.removeprefix("inputs/"): array for name, array in batch.items() if name.startswith("inputs/")}
    return {"inputs": parts} | whole if parts else whole


def following(descent: Descent) -> Step:
    """Return the step that computes a gradient and updates by it."""

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Sums]:
        found = descent.gradient(state, batch, key)
        return descent.update(state, found.grads, found.model_state), found.sums

    return step


def with_training(learner: Learner, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Learner:
    """Return the learner with ``wrap`` around its step, and around its gradient if it has one."""
    descent = learner.descent and learner.descent._replace(gradient=wrap(learner.descent.gradient))
    return learner._replace(step=wrap(learner.step), descent=descent)


def mapped(learner: Learner, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Learner:
    """Return the learner that trains, evaluates and checks what ``change`` makes of batches, and of a data set."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda state, batch, key: function(state, change(batch), key)

    return with_training(learner, wrap)._replace(
        evaluate=lambda state, batch: learner.evaluate(state, change(batch)),
        check=lambda arrays: learner.check(change(arrays)),
    )


def started(learner: Learner, key: Key, initial: Initial | None) -> TrainState:
    """Return the learner's state before the first step; without weights to begin from, ``init`` is given the key alone.

    So a learner of one's own may have an ``init(key)``.

    Raises:
        InputError: if there are weights to begin from, and such a learner can take none.
    """
    if initial is None:
        return learner.init(key)
    if len(inspect.signature(learner.init).parameters) < 2:
        raise InputError("this learner's init(key) takes no initial weights; give it init(key, initial=None)")
    return learner.init(key, initial)


def begin(params: PyTree, model_state: PyTree, initial: Initial | None) -> tuple[PyTree, PyTree]:
    """Return initial values, with those that are given in place of those that were drawn.

    Raises:
        InputError: if what is given does not fit.
    """
    if initial is None:
        return params, model_state
    return begun(params, initial.params), begun(model_state, initial.model_state, "model_state")


def check_network(name: str, value: Any) -> None:
    """Raise an ``InputError`` unless it is a network; a module alone is a part of one."""
    check_kind(name, value, Network, "give a jaxnets.Network, such as jaxnets.network(Module, ...)")


def check_learner(learner: Any) -> None:
    """Raise an ``InputError`` unless it is a learner; a network alone does not say how it learns."""
    check_kind("learner", learner, Learner, "give a jaxnets.Learner, such as supervised(network, loss, tx)")


def check_tx(name: str, tx: Any) -> None:
    """Raise an ``InputError`` unless it is an Optax optimizer."""
    if not callable(getattr(tx, "init", None)) or not callable(getattr(tx, "update", None)):
        raise InputError(f"{name}={short(tx)} is no optimizer; give an Optax transformation, such as optax.adam(1e-3)")


def check_key(key: Key) -> None:
    """Check that a learner of one is given one key.

    Raises:
        InputError: if it is given several, or none.
    """
    if not hasattr(key, "dtype"):
        raise InputError(f"key={short(key)} is no random key; give jax.random.key(0)")
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim:
        raise InputError(f"{key.shape[0]} seeds for a learner of one; train population(learner, {key.shape[0]})")


def check_minimizes(learner: Learner, what: str) -> None:
    """Check that a falling loss means that the learner learns, as ``what`` takes for granted.

    Raises:
        InputError: if it does not.
    """
    if "loss" in learner.metrics and learner.metrics["loss"].better is None:
        raise InputError(f"{what} waits for a falling loss, which a game of two players does not have")


@lru_cache(maxsize=32)
def _shapes(init: Init, members: tuple[int, ...]) -> TrainState:
    """Return the shapes of a learner's state, or of a population's."""

    def make() -> TrainState:
        key = jax.random.key(0)
        return init(jax.random.split(key, *members) if members else key)

    return jax.eval_shape(make)


def check_state(learner: Learner, state: Any) -> None:
    """Check that a state is one of this learner's, by names and shapes of parameters and model state.

    Raises:
        InputError: if it is not; it lists what is missing, left over or of another shape.
    """
    check_kind("state", state, TrainState, "give a TrainState, such as fit(...).state or learner.init(key)")
    wanted = _shapes(learner.init, np.shape(state.step))
    if missing := sorted(set(wanted.extra) - set(state.extra)):
        raise InputError(
            f"the state lacks {', '.join(missing)}, which this learner keeps; give a state of this learner"
        )
    for given, right in ((state.params, wanted.params), (state.model_state, wanted.model_state)):
        found, names = ({name: np.shape(leaf) for name, leaf in paths(tree).items()} for tree in (given, right))
        if found != names:
            odd = sorted(name for name in {*found, *names} if found.get(name) != names.get(name))
            lists = ", ".join(f"{name} {found.get(name, 'missing')} for {names.get(name, 'none')}" for name in odd[:4])
            raise InputError(f"the state is not of this learner: {lists}; give a state of this learner")


def check_together(learner: Learner, name: str) -> None:
    """Check that a transformation which adds members is not given a learner that is spread over devices.

    Raises:
        InputError: if it is.
    """
    if learner.placement is not None:
        raise InputError(f"{name}(sharded(...)): sharded comes last, sharded({name}(...), mesh)")


def check_single(state: TrainState, name: str) -> None:
    """Check that a transformation of a learner of one is not given a population.

    Raises:
        InputError: if it is.
    """
    if state.step.ndim:
        raise InputError(f"{name}(population(...)): population comes last, population({name}(...), size)")
