"""Learning from labels: one loss, one gradient, one update a step."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets import losses
from jaxnets.errors import InputError, check_callable, check_kind
from jaxnets.learner import (
    Batch,
    Descent,
    Gradient,
    Initial,
    Learner,
    Sums,
    TrainState,
    begin,
    check_key,
    check_network,
    check_tx,
    following,
    gathered,
    inputs_of,
)
from jaxnets.learners.arrays import COUNTING, check_counting, check_names, counted
from jaxnets.learners.descent import at_least_float32, updating
from jaxnets.losses import Loss, check_labels
from jaxnets.metrics import Metric, mean_of, per_example
from jaxnets.network import Key, Network, PyTree


def supervised(
    network: Network,
    loss: Loss,
    tx: optax.GradientTransformation,
    metrics: Mapping[str, Metric | Loss] | None = None,
) -> Learner:
    """Return the learner that fits ``network`` to labels: one loss, one gradient, one update a step.

    Batches hold "inputs" (or, of several parts, "inputs/a", "inputs/b", a dict for the network), "labels" and,
    optionally, "mask" (which rows count, 0 or 1) and "weights" (how much each row counts, from 0 up). The mean over the
    rows of weight times loss is minimised; metrics are weighted means.

    Args:
        network: the model.
        loss: ``loss(outputs, labels)``, for each example.
        tx: an Optax optimizer.
        metrics: what is reported beside "loss", by name: a ``Metric``, or a function like the loss, whose mean is.
    """
    check_network("network", network)
    check_callable("loss", loss, "give one of loss(outputs, labels), such as jaxnets.losses.mse")
    check_tx("tx", tx)
    _check_metrics(metrics or {})
    if "loss" in (metrics or {}):
        raise InputError(
            "metrics: 'loss' is what is minimised, and is reported in any case; give the metric another name"
        )
    measured = {"loss": per_example(loss, "lower")}
    measured |= {name: _as_metric(metric) for name, metric in (metrics or {}).items()}
    in_training = {name: metric for name, metric in measured.items() if metric.in_training and name != "loss"}

    def init(key: Key, initial: Initial | None = None) -> TrainState:
        check_key(key)
        params, model_state = begin(*network.init(key), initial)
        return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), model_state)

    def objective(
        params: PyTree, model_state: PyTree, batch: Batch, key: Key
    ) -> tuple[jax.Array, tuple[PyTree, Sums, jax.Array]]:
        outputs, model_state = network.apply(params, model_state, inputs_of(batch), train=True, key=key)
        outputs, weights = at_least_float32(outputs), row_weights(batch)
        values = loss(outputs, batch["labels"])
        sums = {"loss": mean_of(values, weights)} | _measured(in_training, outputs, batch["labels"], weights)
        count = mean_of(values, batch.get("mask")).count
        return sums["loss"].total / jnp.maximum(count, 1).astype(jnp.float32), (model_state, sums, count)

    def gradient(state: TrainState, batch: Batch, key: Key) -> Gradient:
        return Gradient(*_flat(jax.grad(objective, has_aux=True)(state.params, state.model_state, batch, key)))

    def predict(state: TrainState, inputs: Any) -> Any:
        return at_least_float32(network.apply(state.params, state.model_state, inputs)[0])

    def evaluate(state: TrainState, batch: Batch) -> Sums:
        return _measured(measured, predict(state, inputs_of(batch)), batch["labels"], row_weights(batch))

    @lru_cache(maxsize=8)
    def outputs_of(structure: Any, leaves: tuple[tuple[tuple[int, ...], Any], ...]) -> Any:
        """Return the outputs' shapes for two examples of such arrays, for one would broadcast against any shape."""
        batch = structure.unflatten([jax.ShapeDtypeStruct((2, *shape), dtype) for shape, dtype in leaves])
        state = jax.eval_shape(lambda: init(jax.random.key(0)))
        if not jax.tree.leaves(state.params):
            raise InputError("the network has no parameters to learn; weights of an NNX module are held in nnx.Param")
        jax.eval_shape(evaluate, state, batch)
        return jax.eval_shape(predict, state, inputs_of(batch))

    def check(arrays: Mapping[str, np.ndarray]) -> None:
        arrays = gathered(arrays)
        check_names(arrays, ("inputs", "labels"), COUNTING)
        check_counting(arrays)
        network.check(arrays["inputs"])
        leaves, structure = jax.tree.flatten(dict(arrays))
        kinds = tuple((leaf.shape[1:], jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in leaves)
        outputs = outputs_of(structure, kinds)
        check_labels(loss, outputs, counted(arrays))
        for metric in measured.values():
            metric.check(outputs, arrays["labels"])

    descent = Descent(gradient, updating(tx))
    return Learner(init, following(descent), evaluate, predict, check, measured, descent, network.check)


def _check_metrics(metrics: Any) -> None:
    """Check that metrics have names, and that each is one."""
    check_kind("metrics", metrics, Mapping, 'give them by name, such as {"accuracy": jaxnets.metrics.accuracy}')
    for name, metric in metrics.items():
        check_kind(f"the name {name!r} of a metric", name, str, "give a text")
        if not isinstance(metric, Metric):
            check_callable(f"metrics[{name!r}]", metric, "give a Metric, or one of metric(outputs, labels)")


def _as_metric(metric: Metric | Loss) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if metric is losses.accuracy:
        return per_example(metric, "higher")
    ours = getattr(metric, "__module__", None) == losses.__name__
    return per_example(metric, "lower" if ours else None)  # of a user's own function nobody knows


def _measured(metrics: Mapping[str, Metric], outputs: Any, labels: jax.Array, weights: jax.Array | None) -> Sums:
    return {name: metric.measure(outputs, labels, weights) for name, metric in metrics.items()}


def row_weights(batch: Batch) -> jax.Array | None:
    """Return how much each row counts: the mask, the weights, or both in one."""
    mask, weights = batch.get("mask"), batch.get("weights")
    if mask is None or weights is None:
        return mask if weights is None else jnp.asarray(weights, jnp.float32)
    weights = jnp.asarray(weights, jnp.float32)
    weights = weights.reshape(weights.shape + (1,) * (mask.ndim - weights.ndim))
    return jnp.where(jnp.asarray(mask).astype(bool), weights, 0.0)


def _flat(found: tuple[PyTree, tuple[PyTree, Sums, jax.Array]]) -> tuple[PyTree, PyTree, Sums, jax.Array]:
    grads, (model_state, sums, count) = found
    return grads, model_state, sums, count
