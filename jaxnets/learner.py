"""How something learns: pure functions over one state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from jaxnets.errors import InputError
from jaxnets.losses import Loss, check_labels
from jaxnets.metrics import Mean, mean_of
from jaxnets.network import Key, Network, PyTree

Batch = Mapping[str, Any]  # arrays by name, of JAX or NumPy
Metrics = dict[str, Mean]


class TrainState(struct.PyTreeNode):
    """All that training needs in order to go on.

    Attributes:
        step: how many steps were taken, int32.
        params: what the optimizer changes.
        opt_state: the optimizer's own state.
        model_state: what the model changes itself, such as batch statistics.
    """

    step: jax.Array
    params: PyTree
    opt_state: PyTree
    model_state: PyTree


Step = Callable[[TrainState, Batch, Key], tuple[TrainState, Metrics]]


class Learner(NamedTuple):
    """How something learns, as pure functions; a transformation takes a learner and returns a learner.

    Attributes:
        init: ``init(key) -> TrainState``.
        step: ``step(state, batch, key) -> (TrainState, metrics)``; the metrics are sums and counts (``Mean``).
        evaluate: ``evaluate(state, batch) -> metrics``, over the rows that ``batch["mask"]`` leaves in.
        predict: ``predict(state, inputs) -> outputs``, with the weights that are meant for use.
        check: ``check(arrays)``, raises an ``InputError`` if a data set's arrays do not suit, before anything compiles.
        minimizes: whether training minimises "loss"; a game of two players minimises nothing.
    """

    init: Callable[[Key], TrainState]
    step: Step
    evaluate: Callable[[TrainState, Batch], Metrics]
    predict: Callable[[TrainState, Any], Any]
    check: Callable[[Mapping[str, np.ndarray]], None] = lambda arrays: None
    minimizes: bool = True


def supervised(
    network: Network,
    loss: Loss,
    tx: optax.GradientTransformation,
    metrics: Mapping[str, Loss] | None = None,
    *,
    accumulate: int = 1,
) -> Learner:
    """Return the learner that fits ``network`` to labels: one loss, one gradient, one update a step.

    Batches hold "inputs", "labels" and, optionally, "mask" (which rows count).

    Args:
        network: the model.
        loss: ``loss(outputs, labels)``, for each example; its mean is minimised.
        tx: an Optax optimizer.
        metrics: more functions like the loss, by name, to be reported beside "loss".
        accumulate: the parts that a batch is cut into, one after another, to save memory; their gradients are averaged.
    """
    measures = {"loss": loss, **(metrics or {})}

    def measure(outputs: jax.Array, batch: Batch) -> Metrics:
        outputs = _at_least_float32(outputs)
        return {name: mean_of(f(outputs, batch["labels"]), batch.get("mask")) for name, f in measures.items()}

    def init(key: Key) -> TrainState:
        check_key(key)
        params, model_state = network.init(key)
        return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), model_state)

    def objective(
        params: PyTree, model_state: PyTree, batch: Batch, key: Key
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        outputs, model_state = network.apply(params, model_state, batch["inputs"], train=True, key=key)
        sums = measure(outputs, batch)
        return sums["loss"].total / jnp.maximum(sums["loss"].count, 1), (model_state, sums)

    gradient = jax.grad(objective, has_aux=True)

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        if accumulate == 1:
            grads, (model_state, sums) = gradient(state.params, state.model_state, batch, key)
        else:
            grads, (model_state, sums) = _accumulated(gradient, accumulate, state, batch, key)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state, model_state), sums

    def predict(state: TrainState, inputs: Any) -> Any:
        return _at_least_float32(network.apply(state.params, state.model_state, inputs)[0])

    def evaluate(state: TrainState, batch: Batch) -> Metrics:
        return measure(predict(state, batch["inputs"]), batch)

    def check(arrays: Mapping[str, np.ndarray]) -> None:
        missing = sorted({"inputs", "labels"} - set(arrays))
        if missing:
            raise InputError(f"the data have {sorted(arrays)} but no {' or '.join(missing)}; name the arrays so")
        network.check(arrays["inputs"])
        state = jax.eval_shape(lambda: init(jax.random.key(0)))
        batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), dict(arrays))
        jax.eval_shape(evaluate, state, batch)
        check_labels(loss, jax.eval_shape(predict, state, batch["inputs"]), arrays["labels"])

    return Learner(init, step, evaluate, predict, check)


def autoregressive(learner: Learner) -> Learner:
    """Return a learner of sequences, [B, T + 1, ...] under "inputs": each element is predicted from those before it.

    The inner learner's inputs are the first T elements of each sequence, its labels the last T. A "mask" says which
    sequences [B], or which elements [B, T + 1], count as something to predict.

    Args:
        learner: a ``supervised`` learner whose network gives an output for every element, and never looks ahead (as one
            that is bidirectional does).
    """

    def shifted(batch: Mapping[str, Any]) -> dict[str, Any]:
        sequences = batch["inputs"]
        if sequences.ndim < 2 or sequences.shape[1] < 2:
            raise InputError(f"inputs of shape {sequences.shape} hold nothing to predict; give [N, T + 1, ...], T > 0")
        mask = {"mask": batch["mask"] if batch["mask"].ndim == 1 else batch["mask"][:, 1:]} if "mask" in batch else {}
        return {"inputs": sequences[:, :-1], "labels": sequences[:, 1:], **mask}

    return learner._replace(
        step=lambda state, batch, key: learner.step(state, shifted(batch), key),
        evaluate=lambda state, batch: learner.evaluate(state, shifted(batch)),
        check=lambda arrays: learner.check(shifted(arrays)),
    )


def check_key(key: Key) -> None:
    """Check that a learner of one is given one key.

    Raises:
        InputError: if it is given several.
    """
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim:
        raise InputError(f"{key.shape[0]} seeds for a learner of one; train population(learner, {key.shape[0]})")


def check_minimizes(learner: Learner, what: str) -> None:
    """Check that a falling loss means that the learner learns, as ``what`` takes for granted.

    Raises:
        InputError: if it does not.
    """
    if not learner.minimizes:
        raise InputError(f"{what} waits for a falling loss, which a game of two players does not have")


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as one that XLA compiles by itself, whatever program calls it.

    XLA fuses operations across a function's borders, and what is fused decides where the processor rounds. Compiled
    apart, an evaluation has the same bits alone as in a population. On backends other than CPU it is a plain call.
    """
    called = jax.jit(function)

    def call(*args: Any) -> Any:
        results = called(*args)
        return set_xla_metadata(results, inlineable="false") if jax.default_backend() == "cpu" else results

    return call


@dataclass(frozen=True)
class OneByOne:
    """The step of members that share nothing: called, it takes one step of each, one after the other.

    As the step of a learner it tells ``chunk`` that all steps of a member may be taken before the next's, so that its
    state is moved once. A function around it, such as ``jax.jit`` of it, is a step like any other.

    Attributes:
        member: the step of one.
        size: how many there are.
    """

    member: Step
    size: int

    def __call__(self, state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        """Take one step of each."""
        return one_by_one(apart(self.member), self.size, state, batch, key)


def one_by_one(function: Callable[..., Any], size: int, *args: Any) -> Any:
    """Return the function's results for each of ``size`` members, one after the other."""
    check_members(size, args)
    return lax.map(lambda member: function(*member), args)


def check_members(size: int, args: Any) -> None:
    """Check that every array has a leading axis of ``size``.

    Raises:
        InputError: if one has not.
    """
    for leaf in jax.tree.leaves(args):
        if leaf.shape[:1] != (size,):
            raise InputError(
                f"a population of {size} was given an array of shape {leaf.shape}, not [{size}, ...]; every member "
                f"has its own state, batch and key, and in fit its own seed: seed=range({size})"
            )


def traced_once(learner: Learner) -> Learner:
    """Return the learner with a step that Python runs once for arguments of a kind: to be checked, and compiled."""
    return learner if isinstance(learner.step, OneByOne) else learner._replace(step=jax.jit(learner.step))


def _accumulated(gradient: Callable[..., Any], parts: int, state: TrainState, batch: Batch, key: Key) -> Any:
    """Return the gradients of the whole batch's mean, the last model state and summed metrics, part by part."""
    size = jax.tree.leaves(batch)[0].shape[0]
    if size % parts:
        raise InputError(f"accumulate={parts} does not divide the batch of {size} examples")
    cut = jax.tree.map(lambda a: jnp.asarray(a).reshape(parts, size // parts, *a.shape[1:]), dict(batch))

    def part(i: jax.Array, model_state: PyTree) -> Any:
        rows = jax.tree.map(lambda a: a[i], cut)
        grads, (model_state, sums) = gradient(state.params, model_state, rows, jax.random.fold_in(key, i))
        return jax.tree.map(lambda g: g * sums["loss"].count, grads), (model_state, sums)

    def add(i: jax.Array, carry: Any) -> Any:
        grads, (model_state, sums) = carry
        more_grads, (model_state, more_sums) = part(i, model_state)
        return jax.tree.map(jnp.add, grads, more_grads), (model_state, jax.tree.map(jnp.add, sums, more_sums))

    grads, rest = lax.fori_loop(1, parts, add, part(jnp.int32(0), state.model_state))
    count = jnp.maximum(rest[1]["loss"].count, 1)
    return jax.tree.map(lambda g: g / count, grads), rest


def _at_least_float32(outputs: Any) -> Any:
    """Return bfloat16 and float16 leaves as float32: losses and sums need its precision."""
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)) if _is_float(x) else x, outputs)


def _is_float(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)
