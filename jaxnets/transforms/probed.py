"""A linear classifier of a learner's features, trained beside it: what they tell of classes that it is not told."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets.errors import InputError, check_number, check_whole
from jaxnets.learner import Batch, Initial, Learner, Sums, TrainState, check_learner, check_single, inputs_of, started
from jaxnets.learners.supervised import row_weights
from jaxnets.metrics import accuracy, mean_of
from jaxnets.network import Key, PyTree

_NAME = "probe"  # in ``TrainState.extra``


def probed(
    learner: Learner, features: int, num_classes: int, learning_rate: float = 3e-3, *, rows: int = 64
) -> Learner:
    """Return a learner that also reports "probe_accuracy": that of a linear classifier of what ``predict`` returns.

    The classifier follows the features by Adam as they change, with the labels of each training batch; it and its
    optimizer are kept in ``TrainState.extra``, and nothing of it comes back to the learner, which stays without labels.
    Features are brought to length ``sqrt(features)``. ``population`` comes after; ``accumulated`` does not suit it.

    Args:
        learner: predicts features [B, D].
        features: D.
        num_classes: of the whole "labels", [B].
        learning_rate: of the classifier.
        rows: it learns from the first so many of each batch: their features are one more pass through the network.
    """
    check_learner(learner)
    check_whole("features", features)
    check_whole("num_classes", num_classes, 2)
    check_number("learning_rate", learning_rate, 0, 1, "in (0, 1), such as 3e-3", low_too=False)
    check_whole("rows", rows)
    tx = optax.adam(learning_rate)

    def init(key: Key, initial: Initial | None = None) -> TrainState:
        state = started(learner, key, initial)
        weights = {
            "kernel": jnp.zeros((features, num_classes), jnp.float32),
            "bias": jnp.zeros(num_classes, jnp.float32),
        }
        return state.replace(extra={**state.extra, _NAME: {"weights": weights, "opt_state": tx.init(weights)}})

    def measured(outputs: jax.Array, batch: Batch) -> Sums:
        return {"probe_accuracy": accuracy.measure(outputs, batch["labels"], row_weights(batch))}

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Sums]:
        check_single(state, "probed")
        new, sums = learner.step(state, batch, key)
        probe = state.extra[_NAME]
        first = {name: array[:rows] for name, array in batch.items()}
        codes = learner.predict(state, inputs_of(first))

        def loss(weights: PyTree) -> tuple[jax.Array, jax.Array]:
            outputs = _logits(weights, codes)
            values = optax.softmax_cross_entropy_with_integer_labels(outputs, first["labels"])
            found = mean_of(values, row_weights(first))
            return found.total / jnp.maximum(found.count, 1).astype(jnp.float32), outputs

        grads, outputs = jax.grad(loss, has_aux=True)(probe["weights"])
        with jax.numpy_dtype_promotion("standard"):  # Optax's Adam raises floats to whole powers
            updates, opt_state = tx.update(grads, probe["opt_state"])
        probe = {"weights": optax.apply_updates(probe["weights"], updates), "opt_state": opt_state}
        return new.replace(extra={**new.extra, _NAME: probe}), sums | measured(outputs, first)

    def evaluate(state: TrainState, batch: Batch) -> Sums:
        found = probe_logits(state, learner.predict(state, inputs_of(batch)))
        return learner.evaluate(state, batch) | measured(found, batch)

    def check(arrays: Any) -> None:
        learner.check(arrays)
        labels = np.asarray(arrays["labels"]) if "labels" in arrays else np.zeros(())
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= num_classes:
            raise InputError(
                f"labels are {labels.dtype}{list(labels.shape)} from {labels.min()} to {labels.max()}; a probe of "
                f"{num_classes} classes takes whole numbers from 0 to {num_classes - 1}, [N]"
            )

    metrics = {**learner.metrics, "probe_accuracy": accuracy}
    return learner._replace(init=init, step=step, evaluate=evaluate, check=check, metrics=metrics, descent=None)


def probe_logits(state: TrainState, features: Any) -> jax.Array:
    """Return what the probe of a ``probed`` learner's state says of features [B, D], [B, classes]."""
    return _logits(state.extra[_NAME]["weights"], jnp.asarray(features))


def _logits(weights: PyTree, features: jax.Array) -> jax.Array:
    lengths = jnp.sqrt(jnp.square(features).mean(-1, keepdims=True))
    return features / jnp.maximum(lengths, 1e-12) @ weights["kernel"] + weights["bias"][None]
