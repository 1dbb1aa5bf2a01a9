"""Losses and metrics, for each example: ``loss(outputs, labels) -> values``, of the labels' shape where none is summed.

The caller takes the mean. They are Optax' own where it has them; what is added is that shapes which would broadcast in
silence, ``[N, 1]`` against ``[N]``, are an error, and that labels are checked on the host before anything compiles.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from jaxnets.errors import InputError, check_number, is_traced, short

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
    check_number("delta", delta, 0, np.inf, "a number greater than 0", low_too=False)
    _same_shape("huber", outputs, targets)
    return optax.huber_loss(outputs, targets.astype(outputs.dtype), delta=delta)


def pinball(outputs: jax.Array, targets: jax.Array, quantiles: Sequence[float]) -> jax.Array:
    """Return the mean pinball loss of quantiles (Koenker and Bassett, 1978), [..., Q] and [...] -> [...].

    ``max(q (y - output), (q - 1) (y - output))``, which is least where a share q of the targets is below the output.
    """
    _check_arrays("pinball", outputs, targets)
    if outputs.shape != (*targets.shape, len(quantiles)):
        raise InputError(
            f"pinball: outputs of shape {outputs.shape} against labels of shape {targets.shape}; give one output for "
            f"each of the {len(quantiles)} quantiles"
        )
    levels = jnp.asarray(quantiles, outputs.dtype).reshape((1,) * targets.ndim + (-1,))
    error = targets.astype(outputs.dtype)[..., None] - outputs
    return jnp.maximum(levels * error, (levels - 1) * error).mean(-1)


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
    """Return the negative log-likelihood of each label in nats, logits [..., C] and integer labels [...] -> [...].

    With ``label_smoothing``, that part of the target is spread evenly over all classes (Szegedy et al., 2016); as a
    loss it is ``partial(softmax_cross_entropy, label_smoothing=0.1)``.
    """
    _class_labels("softmax_cross_entropy", logits, labels)
    check_number("label_smoothing", label_smoothing, 0, 1, "in [0, 1), such as 0.1")
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if not is_traced(label_smoothing) and not label_smoothing:
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


def ctc(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the connectionist temporal classification loss, [B, T, V] and [B, U] -> [B] (Graves et al., 2006).

    It is the negative logarithm of the probability, over all ways to place the labels in the T frames. Class 0 is the
    blank, and fills up short labels at their end; frames that do not count have logits certain of it. Where frames are
    fewer than labels and repeats of one, there is no way, and the loss is 100,000 or more.
    """
    if logits.ndim != 3 or labels.ndim != 2 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"ctc: logits of shape {logits.shape} and labels {labels.dtype}{list(labels.shape)}; give [B, T, V] and "
            "whole numbers [B, U]"
        )
    every_frame = jnp.zeros(logits.shape[:2], logits.dtype)
    return optax.ctc_loss(logits, every_frame, labels, (labels == 0).astype(logits.dtype))


def ctc_frames(labels: Sequence[int]) -> int:
    """Return the fewest frames in which CTC can say these labels: one each, and a blank between two that are alike."""
    return len(labels) + sum(a == b for a, b in itertools.pairwise(labels))


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return 1 where the prediction is right, else 0, float32 of the labels' shape.

    The prediction is the largest of [..., C] logits; for binary logits, of the labels' own shape, it is their sign. A
    prediction of NaN is never right. One-hot labels are refused, where their values are known.
    """
    _check_arrays("accuracy", logits, labels)
    if logits.shape == labels.shape:
        check_not_one_hot(labels)
        return binary_accuracy(logits, labels)
    _class_labels("accuracy", logits, labels)
    known = ~jnp.isnan(logits).any(-1)
    return ((jnp.argmax(logits, axis=-1) == labels) & known).astype(jnp.float32)


def binary_accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return 1 where a logit has the sign of its binary label, else 0, [...] and [...] -> [...]; NaN is never right."""
    _same_shape("binary_accuracy", logits, labels)
    return (((logits > 0) == _positive(labels)) & ~jnp.isnan(logits)).astype(jnp.float32)


def check_not_one_hot(labels: Any) -> None:
    """Check that labels of the logits' own shape, [..., C], are not one class each, written as one 1 among zeros.

    Sign by sign such a prediction would be mostly right whatever the class. Labels that are traced are not looked at.

    Raises:
        InputError: if they are, all of them.
    """
    if isinstance(labels, Tracer) or labels.ndim < 2 or labels.shape[-1] < 2:
        return
    flat = np.asarray(labels).reshape(-1, labels.shape[-1])
    if len(flat) and ((flat == 0) | (flat == 1)).all() and (flat.sum(-1, dtype=np.int32) == 1).all():
        raise InputError(
            f"accuracy: labels of shape {labels.shape} are one-hot; give the number of each class, "
            "labels.argmax(-1), or, where each is a yes or no of its own, measure binary_accuracy"
        )


def _positive(labels: jax.Array) -> jax.Array:
    return labels if labels.dtype == bool else labels > 0  # a boolean and a number have no order without promotion


def check_labels(loss: Loss, outputs: Any, labels: np.ndarray) -> None:
    """Check the values of all labels, on the host, against what the loss and the number of outputs allow.

    Args:
        loss: the loss, also as a ``functools.partial``. Of one that is not from this module only this is known: whole
            numbers [...] beside outputs [..., C] are classes.
        outputs: shape of the network's outputs for a batch.
        labels: every label that counts, [N, ...].

    Raises:
        InputError: if a label is outside the range; JAX would wrap, clamp or return NaN.
    """
    function = loss.func if isinstance(loss, partial) else loss
    if function in (softmax_cross_entropy, multiclass_hinge, ctc):
        limits = (0, outputs.shape[-1] - 1)
        remedy = f"the network has {outputs.shape[-1]} outputs; give it one for each class, numbered from 0"
    elif function in (sigmoid_cross_entropy, bernoulli_nll):
        limits, remedy = (0, 1), "give 0, 1 or a probability"
    elif _are_classes(outputs, labels):
        limits = (0, outputs.shape[-1] - 1)
        remedy = (
            f"the network has {outputs.shape[-1]} outputs, one for each class, numbered from 0; labels to be left out "
            "need a mask=, and numbers that are no classes a dtype of floats"
        )
    else:
        return
    low, high = (labels.min(), labels.max()) if labels.size else limits
    if low < limits[0] or high > limits[1]:
        raise InputError(f"labels range from {low} to {high}, outside {limits[0]}..{limits[1]}: {remedy}")


def _are_classes(outputs: Any, labels: np.ndarray) -> bool:
    """Return whether labels are whole numbers, one for each of the outputs' vectors of two or more."""
    shape: Any = getattr(outputs, "shape", ())
    return (
        labels.dtype.kind in "iu"
        and len(shape) == labels.ndim + 1
        and shape[1:-1] == labels.shape[1:]
        and shape[-1] > 1
    )


def check_values(function: Loss, outputs: Any, labels: np.ndarray) -> None:
    """Check that a loss gives values for each example, for no pair of them, and that accuracy gets no one-hot labels.

    Args:
        function: the loss, or what is measured like one.
        outputs: shapes of the outputs for some batch.
        labels: every label that counts, [N, ...].

    Raises:
        InputError: if it does not: [N, 1] against [N] broadcasts in silence.
    """
    leaves, structure = jax.tree.flatten(
        (outputs, jax.ShapeDtypeStruct(labels.shape, jax.dtypes.canonicalize_dtype(labels.dtype)))
    )
    found = _shape_of_values(function, structure, tuple((leaf.shape[1:], str(leaf.dtype)) for leaf in leaves))
    if found[:1] != (_MANY,) or _MANY in found[1:]:
        sizes = ", ".join("N" if size == _MANY else str(size) for size in found)
        sides = ", ".join(f"[{', '.join(map(str, ('N', *leaf.shape[1:])))}]" for leaf in leaves)
        raise InputError(
            f"{getattr(function, '__name__', 'the loss')} gives values of shape [{sizes}] for outputs and labels of "
            f"shapes {sides}; it must give one or more for each example, [N, ...]: bring both to one shape"
        )
    if function is accuracy and getattr(outputs, "shape", ())[1:] == labels.shape[1:]:
        check_not_one_hot(labels)


_MANY = 7919  # examples: no other axis is as long


@lru_cache(maxsize=64)
def _shape_of_values(
    function: Loss, structure: Any, leaves: tuple[tuple[tuple[int, ...], str], ...]
) -> tuple[int, ...]:
    many = [jax.ShapeDtypeStruct((_MANY, *shape), np.dtype(dtype)) for shape, dtype in leaves]
    return getattr(jax.eval_shape(function, *structure.unflatten(many)), "shape", ())


def _check_arrays(name: str, *arrays: Any) -> None:
    for array in arrays:
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            raise InputError(f"{name}: outputs and labels must be arrays, not {short(array)}; jnp.asarray makes one")


def _same_shape(name: str, outputs: jax.Array, targets: jax.Array) -> None:
    _check_arrays(name, outputs, targets)
    if outputs.shape != targets.shape:
        raise InputError(
            f"{name}: outputs of shape {outputs.shape} against labels of shape {targets.shape}; give both one shape"
        )


def _class_labels(name: str, logits: jax.Array, labels: jax.Array) -> None:
    _check_arrays(name, logits, labels)
    if logits.shape[:-1] != labels.shape:
        raise InputError(
            f"{name}: logits of shape {logits.shape} need labels of shape {logits.shape[:-1]}, not {labels.shape}"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(f"{name}: labels are {labels.dtype}, not integers; give the number of the class, from 0")
