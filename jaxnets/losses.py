"""Losses and metrics, for each example: ``loss(outputs, labels) -> values``, of the labels' shape where none is summed.

The caller takes the mean. They are Optax' own where it has them; what is added is that shapes which would broadcast in
silence, ``[N, 1]`` against ``[N]``, are an error, and that labels are checked on the host before anything compiles.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets.errors import InputError

Loss = Callable[[Any, jax.Array], jax.Array]


def mse(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the squared errors, [...] and [...] -> [...]; their mean is the mean squared error."""
    _same_shape("mse", outputs, targets)
    return optax.squared_error(outputs, targets.astype(outputs.dtype))


def mae(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the absolute errors, [...] and [...] -> [...]; their mean is the mean absolute error."""
    _same_shape("mae", outputs, targets)
    return jnp.abs(outputs - targets.astype(outputs.dtype))


def huber(outputs: jax.Array, targets: jax.Array, delta: float = 1.0) -> jax.Array:
    """Return half the squared errors, from ``delta`` on growing linearly (Huber, 1964), [...] and [...] -> [...]."""
    _same_shape("huber", outputs, targets)
    return optax.huber_loss(outputs, targets.astype(outputs.dtype), delta=delta)


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
    """Return the negative log-likelihood of each label in nats, logits [..., C] and integer labels [...] -> [...].

    With ``label_smoothing``, that part of the target is spread evenly over all classes (Szegedy et al., 2016); as a
    loss it is ``partial(softmax_cross_entropy, label_smoothing=0.1)``.
    """
    _class_labels("softmax_cross_entropy", logits, labels)
    if not 0 <= label_smoothing < 1:
        raise InputError(f"{label_smoothing=} must be in [0, 1), such as 0.1")
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if not label_smoothing:
        return loss
    of_all = jax.nn.logsumexp(logits, axis=-1) - jnp.mean(logits, axis=-1)  # the mean loss over all labels
    return (1 - label_smoothing) * loss + label_smoothing * of_all


def sigmoid_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the negative log-likelihood of binary labels (0, 1 or a probability) in nats, [...] and [...] -> [...]."""
    _same_shape("sigmoid_cross_entropy", logits, labels)
    return optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype))


def bernoulli_nll(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the negative log-likelihood of vectors of binary values in nats, [..., D] and [..., D] -> [...].

    The values are independent given the logits, so it is the sum of ``sigmoid_cross_entropy`` over the last axis.
    """
    _same_shape("bernoulli_nll", logits, labels)
    return optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype)).sum(-1)


def hinge(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Return ``max(0, 1 - sign * score)``, [...] and [...] -> [...]; the sign is 1 for positive labels, else -1."""
    _same_shape("hinge", scores, labels)
    return optax.hinge_loss(scores, jnp.where(_positive(labels), 1.0, -1.0).astype(scores.dtype))


def multiclass_hinge(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the margin that the best wrong class violates, scores [..., C] and integer labels [...] -> [...].

    ``max_j (score_j + [j != label]) - score_label`` (Crammer and Singer, 2001).
    """
    _class_labels("multiclass_hinge", scores, labels)
    return optax.losses.multiclass_hinge_loss(scores, labels)


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return 1 where the prediction is right, else 0, float32 of the labels' shape.

    The prediction is the largest of [..., C] logits; for binary logits, of the labels' own shape, it is their sign. A
    prediction of NaN is never right.
    """
    if logits.shape == labels.shape:
        return (((logits > 0) == _positive(labels)) & ~jnp.isnan(logits)).astype(jnp.float32)
    _class_labels("accuracy", logits, labels)
    known = ~jnp.isnan(logits).any(-1)
    return ((jnp.argmax(logits, axis=-1) == labels) & known).astype(jnp.float32)


def _positive(labels: jax.Array) -> jax.Array:
    return labels if labels.dtype == bool else labels > 0  # a boolean and a number have no order without promotion


def check_labels(loss: Loss, outputs: jax.ShapeDtypeStruct, labels: np.ndarray) -> None:
    """Check the values of all labels, on the host, against what this module's ``loss`` can take.

    Args:
        loss: the loss, also as a ``functools.partial``; of one that is not from this module nothing is known.
        outputs: shape of the network's outputs for a batch.
        labels: every label, [N, ...].

    Raises:
        InputError: if a label is outside the loss's range; JAX would wrap, clamp or return NaN.
    """
    function = loss.func if isinstance(loss, partial) else loss
    if function in (softmax_cross_entropy, multiclass_hinge):
        limits = (0, outputs.shape[-1] - 1)
        remedy = f"the network has {outputs.shape[-1]} outputs; give it one for each class, numbered from 0"
    elif function in (sigmoid_cross_entropy, bernoulli_nll):
        limits, remedy = (0, 1), "give 0, 1 or a probability"
    else:
        return
    low, high = labels.min(), labels.max()
    if low < limits[0] or high > limits[1]:
        raise InputError(f"labels range from {low} to {high}, outside {limits[0]}..{limits[1]}: {remedy}")


def _same_shape(name: str, outputs: jax.Array, targets: jax.Array) -> None:
    if outputs.shape != targets.shape:
        raise InputError(
            f"{name}: outputs of shape {outputs.shape} against labels of shape {targets.shape}; give both one shape"
        )


def _class_labels(name: str, logits: jax.Array, labels: jax.Array) -> None:
    if logits.shape[:-1] != labels.shape:
        raise InputError(
            f"{name}: logits of shape {logits.shape} need labels of shape {logits.shape[:-1]}, not {labels.shape}"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(f"{name}: labels are {labels.dtype}, not integers; give the number of the class, from 0")
