"""Metrics of masks: logits [B, H, W, C] with a class for each pixel [B, H, W]; pixels labelled below 0 do not count."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.errors import InputError, check_whole
from jaxnets.metrics.metric import Mean, Metric, divide, spread_over


def pixel_accuracy() -> Metric:
    """Return the share of the pixels that are right."""

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> Mean:
        _check("pixel_accuracy", outputs, labels, outputs.shape[-1])
        counts = _counts(labels, weights)
        right = (_predicted(outputs) == labels).astype(counts.dtype)
        return Mean((counts * right).sum(dtype=counts.dtype), counts.sum(dtype=counts.dtype))

    return Metric(measure, divide, "higher")


def dice(num_classes: int, names: Sequence[str] = (), *, per_image: bool = False) -> Metric:
    """Return the Dice coefficient: twice the pixels in both masks over those of one and of the other.

    It is the mean over the classes; where they are named, "dice" is, beside "dice_of_NAME" of each class.

    Args:
        num_classes: C.
        names: of the classes, in the order of their numbers, to have each one's number as well.
        per_image: the mean over the images that have the class, as label or as prediction, each by itself, so that
            small objects and images with few of them count as much; else of all pixels of all images together.

    Raises:
        InputError: if ``num_classes`` is less than 2, names are not as many, or the outputs have another number.
    """
    return _of_overlaps("dice", num_classes, names, per_image)


def iou(num_classes: int, names: Sequence[str] = (), *, per_image: bool = False) -> Metric:
    """Return the intersection over union (Jaccard index): pixels in both masks over those in any.

    Arguments, numbers and errors are those of ``dice``.
    """
    return _of_overlaps("iou", num_classes, names, per_image)


def _of_overlaps(name: str, num_classes: int, names: Sequence[str], per_image: bool) -> Metric:
    check_whole(f"{name}: num_classes", num_classes, 2)
    if names and len(names) != num_classes:
        raise InputError(f"{name}: {len(names)} names for {num_classes} classes; give one for each, or none")

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> Mean:
        """Return the sums of numerators and denominators, or of each image's values and how many have one, [C]."""
        _check(name, outputs, labels, num_classes)
        counts = _counts(labels, weights)
        predicted = _predicted(outputs)[..., None]
        classes = jnp.expand_dims(jnp.arange(num_classes), range(labels.ndim))
        kept = counts[..., None]

        def area(chosen: jax.Array) -> jax.Array:
            return (kept * chosen.astype(kept.dtype)).sum((1, 2), dtype=kept.dtype)  # [B, C]

        of_label, of_prediction = labels[..., None] == classes, predicted == classes
        both, sides = area(of_label & of_prediction), area(of_label) + area(of_prediction)
        part, whole = (2 * both, sides) if name == "dice" else (both, sides - both)
        if per_image:
            there = whole > 0
            values = jnp.where(there, part / jnp.where(there, whole, 1), 0.0).astype(jnp.float32)
            return Mean(values.sum(0), there.astype(jnp.int32).sum(0, dtype=jnp.int32))
        return Mean(part.sum(0, dtype=kept.dtype), whole.sum(0, dtype=kept.dtype))

    def computed(sums: Mean) -> Any:
        values = divide(sums)
        there = ~np.isnan(values)
        mean = float(values[there].mean()) if there.any() else np.nan
        of_each = {f"{name}_of_{one}": float(value) for one, value in zip(names, values, strict=False)}
        return {name: mean} | of_each if names else mean

    return Metric(measure, computed, "higher", in_training=False)


def _predicted(logits: jax.Array) -> jax.Array:
    """Return the class of each pixel; a NaN is of none."""
    return jnp.where(jnp.isnan(logits).any(-1), -2, jnp.argmax(logits, -1))


def _counts(labels: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Return how much each pixel counts, of the labels' shape."""
    counts = jnp.ones(labels.shape, jnp.int32) if weights is None else spread_over(weights, labels)
    return jnp.where(labels >= 0, counts, 0)


def _check(name: str, outputs: jax.Array, labels: jax.Array, num_classes: int) -> None:
    if outputs.ndim != 4 or outputs.shape[:-1] != labels.shape or outputs.shape[-1] != num_classes:
        raise InputError(
            f"{name}: logits of shape {outputs.shape} and labels of shape {labels.shape} for {num_classes} classes; "
            "give [B, H, W, classes] and [B, H, W]"
        )
