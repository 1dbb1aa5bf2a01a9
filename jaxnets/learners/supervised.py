"""Learning from labels: one loss, one gradient, one update a step."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnets.errors import InputError
from jaxnets.learner import Batch, Learner, Metrics, TrainState, check_key
from jaxnets.losses import Loss, check_labels
from jaxnets.metrics import mean_of
from jaxnets.network import Key, Network, PyTree


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
