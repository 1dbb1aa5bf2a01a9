"""Augmentation on the device: each is a pure function of a key, ``augment(key, inputs) -> inputs`` of the same dtype.

Images are [B, H, W, C]; pixels from outside an image are 0. Sequences are [B, T, ...].
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.ndimage import map_coordinates

from jaxnets.errors import InputError, check_callable, check_number, check_whole
from jaxnets.platform import platform

Augment = Callable[[jax.Array, jax.Array], jax.Array]


def chain(*augments: Augment) -> Augment:
    """Return the augmentation that applies all of these, one after another, each with a key of its own."""
    for augment in augments:
        check_callable("augment", augment, "give one of augment(key, inputs), such as augment.flip()")

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        for i, augment in enumerate(augments):
            images = augment(jax.random.fold_in(key, i), images)
        return images

    return apply


def shift(pixels: int) -> Augment:
    """Return the augmentation that moves each image by up to ``pixels`` (whole ones) along both axes."""
    _at_least(0, pixels=pixels)

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        if pixels >= min(sides := _sides("shift", images)):
            raise InputError(f"shift={pixels} moves images of {sides[0]} x {sides[1]} pixels out of sight; use less")
        offsets = jax.random.randint(key, (images.shape[0], 2), 0, 2 * pixels + 1)
        padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
        return cut(padded, {1: offsets[:, 0], 2: offsets[:, 1]}, {1: images.shape[1], 2: images.shape[2]})

    return apply


def cut(arrays: jax.Array, starts: dict[int, jax.Array], sizes: dict[int, int]) -> jax.Array:
    """Return of each array [B, ...] so many elements of some axes, each from its own start on.

    Args:
        arrays: [B, ...].
        starts: of each axis, [B], from 0 to what the axis has more than its size.
        sizes: of each axis.
    """
    if platform() == "tpu":
        for axis, start in starts.items():
            arrays = _halved(arrays, start, sizes[axis], axis)
        return arrays
    lengths = [sizes.get(axis, length) for axis, length in enumerate(arrays.shape)][1:]

    def one(array: jax.Array, at: dict[int, jax.Array]) -> jax.Array:
        return lax.dynamic_slice(array, [at.get(axis, 0) for axis in range(1, arrays.ndim)], lengths)

    return jax.vmap(one)(arrays, starts)


def _halved(arrays: jax.Array, starts: jax.Array, size: int, axis: int) -> jax.Array:
    """Return ``size`` elements of an axis, from each array's own start on, by as many choices as a start has bits.

    A TPU takes slices whose starts differ one after the other, in a loop over the batch.
    """
    bits = (arrays.shape[axis] - size).bit_length()
    short = size + 2**bits - 1 - arrays.shape[axis]
    arrays = jnp.pad(arrays, [(0, short if i == axis else 0) for i in range(arrays.ndim)])
    for bit in reversed(range(bits)):
        most = arrays.shape[axis] - 2**bit
        here, there = (lax.slice_in_dim(arrays, start, start + most, axis=axis) for start in (0, 2**bit))
        chosen = (starts >> bit & 1).astype(bool).reshape(-1, *(1,) * (arrays.ndim - 1))
        arrays = jnp.where(chosen, there, here)
    return arrays


def rotate(degrees: float) -> Augment:
    """Return the augmentation that turns each image about its centre by up to ``degrees``, bilinear."""
    _at_least(0, degrees=degrees)

    def turn(image: jax.Array, angle: jax.Array) -> jax.Array:
        height, width, _ = image.shape
        rows, columns = (jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2 for size in (height, width))
        y, x = jnp.meshgrid(rows, columns, indexing="ij")
        at_y = jnp.cos(angle) * y + jnp.sin(angle) * x + (height - 1) / 2
        at_x = jnp.cos(angle) * x - jnp.sin(angle) * y + (width - 1) / 2
        return jax.vmap(lambda plane: map_coordinates(plane, [at_y, at_x], order=1), -1, -1)(image)

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        _sides("rotate", images)
        angles = jnp.deg2rad(jax.random.uniform(key, images.shape[:1], minval=-degrees, maxval=degrees))
        turned = jax.vmap(turn)(images.astype(jnp.float32), angles)
        return (jnp.round(turned) if jnp.issubdtype(images.dtype, jnp.integer) else turned).astype(images.dtype)

    return apply


def flip() -> Augment:
    """Return the augmentation that mirrors each image left to right, one time in two."""

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        _sides("flip", images)
        mirrored = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
        return jnp.where(mirrored, images[:, :, ::-1], images)

    return apply


def cutout(size: int) -> Augment:
    """Return the augmentation that blanks a square of ``size`` pixels in each image (DeVries and Taylor, 2017).

    The square's centre is any pixel, so that part of the square may lie outside.
    """
    _at_least(1, size=size)

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        batch, (height, width) = len(images), _sides("cutout", images)
        if size >= 2 * max(height, width):
            raise InputError(f"cutout={size} blanks all of images of {height} x {width} pixels; use less")
        y_key, x_key = jax.random.split(key)

        def blank(key: jax.Array, length: int) -> jax.Array:
            start = jax.random.randint(key, (batch, 1), 0, length) - size // 2
            positions = jnp.arange(length)[None]
            return (positions >= start) & (positions < start + size)  # [B, length]

        square = blank(y_key, height)[:, :, None, None] & blank(x_key, width)[:, None, :, None]
        return jnp.where(square, jnp.zeros((), images.dtype), images)

    return apply


def noise(deviation: float, low: float = 0.0, high: float = 255.0) -> Augment:
    """Return the augmentation that adds Gaussian noise of this standard deviation, and clips to ``low``..``high``."""
    _at_least(0, deviation=deviation)

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        values = jnp.clip(images.astype(jnp.float32) + deviation * jax.random.normal(key, images.shape), low, high)
        return (jnp.round(values) if jnp.issubdtype(images.dtype, jnp.integer) else values).astype(images.dtype)

    return apply


def binarize(high: float = 255.0) -> Augment:
    """Return the augmentation that draws each pixel anew, ``high`` with probability ``pixel / high``, else 0.

    The stochastic binarisation of Salakhutdinov and Murray (2008).
    """
    _at_least(0, high=high)

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        drawn = jax.random.uniform(key, images.shape) * high < images.astype(jnp.float32)
        return jnp.where(drawn, jnp.asarray(high, images.dtype), jnp.zeros((), images.dtype))

    return apply


def _at_least(least: int, **argument: Any) -> None:
    for name, value in argument.items():
        if name in ("degrees", "deviation", "high"):
            check_number(name, value, least, math.inf, f"{least} or more")
        else:
            check_whole(name, value, least)


def _sides(name: str, images: Any) -> tuple[int, ...]:
    """Return the height and width of images."""
    if images.ndim != 4:
        raise InputError(f"{name}() got inputs of shape {images.shape}; it is of images, [B, H, W, C]")
    return images.shape[1:3]


def crop(length: int) -> Augment:
    """Return the augmentation that takes ``length`` steps of each sequence, [B, T, ...], from any place in it."""
    _at_least(1, length=length)

    def apply(key: jax.Array, sequences: jax.Array) -> jax.Array:
        spare = sequences.shape[1] - length
        if spare < 0:
            raise InputError(f"crop(length={length}) of sequences of {sequences.shape[1]}; use a shorter one")
        starts = jax.random.randint(key, sequences.shape[:1], 0, spare + 1)
        return cut(sequences, {1: starts}, {1: length})

    return apply


def token_dropout(rate: float, token: int, padding: int) -> Augment:
    """Return the augmentation that puts ``token`` in place of a share ``rate`` of the tokens [B, T] but ``padding``.

    Word dropout (Iyyer et al., 2015).
    """
    check_number("rate", rate, 0, 1, "in [0, 1)")
    check_whole("token", token, 0)
    check_whole("padding", padding, 0)

    def apply(key: jax.Array, tokens: jax.Array) -> jax.Array:
        hit = jax.random.bernoulli(key, rate, tokens.shape) & (tokens != padding)
        return jnp.where(hit, jnp.asarray(token, tokens.dtype), tokens)

    return apply


def transpose(semitones: int) -> Augment:
    """Return the augmentation that moves each piece of music, [B, T, keys], up or down by up to ``semitones``.

    Keys that would leave the keyboard fall silent.
    """
    _at_least(0, semitones=semitones)

    def apply(key: jax.Array, frames: jax.Array) -> jax.Array:
        offsets = jax.random.randint(key, frames.shape[:1], 0, 2 * semitones + 1)
        wider = jnp.pad(frames, ((0, 0), (0, 0), (semitones, semitones)))
        keys = frames.shape[-1]
        return cut(wider, {2: offsets}, {2: keys})

    return apply
