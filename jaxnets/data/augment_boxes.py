"""Augmentation of images with their boxes, on the device: each is ``augment(key, batch) -> batch``, a pure function.

Batches hold "inputs", images [B, H, W, C], and "labels", boxes [B, M, 5] as ``box_splits`` has them; whatever else
they hold is left alone. A box of which less than a quarter is still to be seen is left out.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnets.errors import InputError, check_callable, check_number

Batch = Mapping[str, Any]
Augment = Callable[[jax.Array, Batch], dict[str, Any]]
_SEEN = 0.25  # share of a box that must be seen
_ABSENT = (0.0, 0.0, 0.0, 0.0, -1.0)


def chain(*augments: Augment) -> Augment:
    """Return the augmentation that applies all of these, one after another, each with a key of its own."""
    for augment in augments:
        check_callable("augment", augment, "give one of augment(key, batch), such as augment_boxes.flip()")

    def apply(key: jax.Array, batch: Batch) -> dict[str, Any]:
        for i, augment in enumerate(augments):
            batch = augment(jax.random.fold_in(key, i), batch)
        return dict(batch)

    return apply


def flip(*, vertical: bool = False) -> Augment:
    """Return the augmentation that mirrors each image left to right, or top to bottom, one time in two."""
    axis = 1 if vertical else 2
    low, high = (1, 3) if vertical else (0, 2)

    def apply(key: jax.Array, batch: Batch) -> dict[str, Any]:
        images, labels = _parts("flip", batch)
        size = images.shape[axis]
        chosen = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
        swapped = labels.at[..., low].set(size - labels[..., high]).at[..., high].set(size - labels[..., low])
        swapped = jnp.where(labels[..., 4:] < 0, labels, swapped)
        images = jnp.where(chosen, jnp.flip(images, axis), images)
        return {**batch, "inputs": images, "labels": jnp.where(chosen[..., 0], swapped, labels)}

    return apply


def zoom(most: float) -> Augment:
    """Return the augmentation that scales each image by up to a factor, and moves it by what that leaves free.

    The factor is from ``1 / most`` to ``most``, drawn evenly in its logarithm. A larger image is cropped to the canvas;
    a smaller one lies somewhere on it, on the image's own mean colour. Bilinear.

    Raises:
        InputError: if the factor is not 1 or more.
    """
    check_number("most", most, 1, 10, "a factor of 1 or more, such as 1.25")

    def place(image: jax.Array, scale: jax.Array, start: jax.Array) -> jax.Array:
        """Return an image [H, W, C], scaled, its corner at ``start``; from outside comes its mean colour."""
        mean = image.mean((0, 1), keepdims=True)
        scales = jnp.stack([scale, scale])
        moved = jax.image.scale_and_translate(
            image - mean, image.shape, (0, 1), scales, start, "linear", antialias=False
        )
        return moved + mean

    def apply(key: jax.Array, batch: Batch) -> dict[str, Any]:
        images, labels = _parts("zoom", batch)
        scale_key, place_key = jax.random.split(key)
        height, width = images.shape[1:3]
        factors = most ** jax.random.uniform(scale_key, (len(images),), minval=-1.0)
        free = jnp.asarray([height, width], jnp.float32)[None] * (1 - factors)[:, None]  # negative where it is cropped
        start = jax.random.uniform(place_key, free.shape) * free
        moved = jax.vmap(place)(images.astype(jnp.float32), factors, start)
        offset = jnp.concatenate([start[:, ::-1], start[:, ::-1]], -1)[:, None]
        boxes = labels[..., :4] * factors[:, None, None] + offset
        limits = jnp.broadcast_to(jnp.asarray([0, 0, width, height], boxes.dtype), boxes.shape)
        return {**batch, "inputs": _as(moved, images.dtype), "labels": _seen(boxes, labels[..., 4:], limits)}

    return apply


def mosaic(share: float) -> Augment:
    """Return the augmentation that puts a share of the images together from four, each a quarter (Bochkovskiy, 2020).

    The four meet at a point of the inner half; each keeps its place on the canvas, so nothing is scaled. Labels
    [B, M, 5] become [B, 4M, 5], for all boxes of all four may be seen.

    Raises:
        InputError: if the share is not from 0 to 1.
    """
    check_number("share", share, 0, 1.0001, "a share of images, from 0 to 1")

    def apply(key: jax.Array, batch: Batch) -> dict[str, Any]:
        images, labels = _parts("mosaic", batch)
        number, height, width = images.shape[:3]
        point_key, chosen_key = jax.random.split(key)
        middle = jax.random.uniform(point_key, (number, 2), minval=0.25, maxval=0.75)
        at = jnp.round(middle * jnp.asarray([height, width], jnp.float32)[None]).astype(labels.dtype)
        below = (jnp.arange(height)[None] >= at[:, :1].astype(jnp.int32))[:, :, None, None]
        right = (jnp.arange(width)[None] >= at[:, 1:].astype(jnp.int32))[:, None, :, None]
        made, boxes = images, []
        zero, tall, wide = jnp.zeros_like(at[:, 0]), jnp.full_like(at[:, 0], height), jnp.full_like(at[:, 0], width)
        for i in range(4):
            quarter = (below if i >= 2 else ~below) & (right if i % 2 else ~right)
            made = jnp.where(quarter, jnp.roll(images, i, 0), made)
            left, top = (at[:, 1] if i % 2 else zero), (at[:, 0] if i >= 2 else zero)
            limits = jnp.stack([left, top, wide if i % 2 else at[:, 1], tall if i >= 2 else at[:, 0]], -1)[:, None]
            theirs = jnp.roll(labels, i, 0)
            boxes.append(_seen(theirs[..., :4], theirs[..., 4:], jnp.broadcast_to(limits, theirs[..., :4].shape)))
        chosen = jax.random.bernoulli(chosen_key, share, (number, 1, 1, 1))
        absent = jnp.broadcast_to(jnp.asarray(_ABSENT, labels.dtype), (number, 3 * labels.shape[1], 5))
        return {
            **batch,
            "inputs": jnp.where(chosen, made, images),
            "labels": jnp.where(chosen[..., 0], jnp.concatenate(boxes, 1), jnp.concatenate([labels, absent], 1)),
        }

    return apply


def colour(most: float, high: float = 255.0) -> Augment:
    """Return the augmentation that changes contrast and brightness of each channel of each image, by up to a share.

    Args:
        most: of the contrast, about the image's mean, and of ``high`` for the brightness.
        high: the largest pixel there is; what leaves 0..high is clipped.

    Raises:
        InputError: if the share is not from 0 to 1.
    """
    check_number("most", most, 0, 1, "a share in [0, 1)")

    def apply(key: jax.Array, batch: Batch) -> dict[str, Any]:
        images, _ = _parts("colour", batch)
        shape = (2, len(images), 1, 1, images.shape[-1])
        contrast, brightness = jax.random.uniform(key, shape, minval=-most, maxval=most)
        pixels = images.astype(jnp.float32)
        mean = pixels.mean((1, 2), keepdims=True)
        changed = mean + (pixels - mean) * (1 + contrast) + high * brightness
        return {**batch, "inputs": _as(jnp.clip(changed, 0, high), images.dtype)}

    return apply


def _seen(boxes: jax.Array, classes: jax.Array, limits: jax.Array) -> jax.Array:
    """Return boxes [B, M, 4] cut at limits, with their classes [B, M, 1]; what too little is left of is absent."""
    low, high = jnp.maximum(boxes[..., :2], limits[..., :2]), jnp.minimum(boxes[..., 2:], limits[..., 2:])
    left = jnp.prod(jnp.maximum(high - low, 0), -1, keepdims=True)
    whole = jnp.prod(boxes[..., 2:] - boxes[..., :2], -1, keepdims=True)
    good = (classes >= 0) & (left >= _SEEN * whole)
    cut = jnp.concatenate([low, high, classes], -1)
    return jnp.where(good, cut, jnp.broadcast_to(jnp.asarray(_ABSENT, cut.dtype), cut.shape))


def _as(pixels: jax.Array, dtype: Any) -> jax.Array:
    return (jnp.round(pixels) if jnp.issubdtype(dtype, jnp.integer) else pixels).astype(dtype)


def _parts(name: str, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Return the images and the boxes of a batch."""
    images, labels = jnp.asarray(batch["inputs"]), jnp.asarray(batch["labels"])
    if images.ndim != 4 or labels.ndim != 3 or labels.shape[-1] != 5:
        raise InputError(
            f"{name}() got inputs of shape {images.shape} and labels of shape {labels.shape}; it is of images "
            "[B, H, W, C] with boxes [B, M, 5]"
        )
    return images, labels
