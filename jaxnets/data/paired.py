"""Augmentation of images and masks alike, on the device: ``augment(key, images, masks) -> images, masks``.

Images are [B, H, W, C]; masks are a dict of arrays [B, H, W], such as labels, and which pixels count. Images are
interpolated, bilinear; masks take the nearest pixel's value. Dtypes are kept.
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.data.augment import cut
from jaxnets.errors import InputError, check_number, check_whole

Masks = Mapping[str, jax.Array]
Augment = Callable[[jax.Array, jax.Array, Masks], tuple[jax.Array, dict[str, jax.Array]]]


def crop(size: int) -> Augment:
    """Return the augmentation that takes a square of ``size`` pixels from anywhere in each image."""
    check_whole("size", size)

    def apply(key: jax.Array, images: jax.Array, masks: Masks) -> tuple[jax.Array, dict[str, jax.Array]]:
        _check(images, masks)
        spare = [side - size for side in images.shape[1:3]]
        if min(spare) < 0:
            raise InputError(f"crop={size} of images of {images.shape[1]} x {images.shape[2]} pixels; use less")
        rows, columns = (
            jax.random.randint(jax.random.fold_in(key, axis), images.shape[:1], 0, most + 1)
            for axis, most in enumerate(spare)
        )
        at, sizes = {1: rows, 2: columns}, {1: size, 2: size}
        return cut(images, at, sizes), {name: cut(mask, at, sizes) for name, mask in masks.items()}

    return apply


def flips() -> Augment:
    """Return the augmentation that mirrors each image upside down, left to right, and (squares) about its diagonal.

    Each one time in two: the eight symmetries of a square are alike often.
    """

    def apply(key: jax.Array, images: jax.Array, masks: Masks) -> tuple[jax.Array, dict[str, jax.Array]]:
        _check(images, masks)
        square = images.shape[1] == images.shape[2]
        drawn = jax.random.bernoulli(key, 0.5, (3, len(images)))

        def mirror(array: jax.Array) -> jax.Array:
            tail = (1,) * (array.ndim - 1)
            array = jnp.where(drawn[0].reshape(-1, *tail), array[:, ::-1], array)
            array = jnp.where(drawn[1].reshape(-1, *tail), array[:, :, ::-1], array)
            return jnp.where(drawn[2].reshape(-1, *tail), jnp.swapaxes(array, 1, 2), array) if square else array

        return mirror(images), {name: mirror(mask) for name, mask in masks.items()}

    return apply


def warp(
    size: int,
    rotate: float = 0.0,
    zoom: float = 1.0,
    shear: float = 0.0,
    elastic: float = 0.0,
    spacing: int = 64,
) -> Augment:
    """Return the augmentation that takes a square from anywhere in each image, turned, stretched and bent at random.

    All in one go, so that pixels are interpolated once. What lies outside of an image is its mirror image.

    Args:
        size: height and width of what is taken, in pixels.
        rotate: degrees by which it is turned, at most, either way.
        zoom: factor by which each side is stretched or shrunk, at most, by its logarithm evenly; 1 for not.
        shear: tangent of the angle by which it leans, at most.
        elastic: standard deviation of the displacements that bend it, in pixels (Simard et al., 2003).
        spacing: pixels between the nodes of the displacements, which are interpolated by cubic B-splines.

    Raises:
        InputError: if a number is out of its range; by the augmentation, if images are smaller than what is taken.
    """
    check_whole("size", size)
    for name, value, least in (("rotate", rotate, 0), ("zoom", zoom, 1), ("shear", shear, 0), ("elastic", elastic, 0)):
        check_number(name, value, least, math.inf, f"{least} or more")
    check_whole("spacing", spacing, 2)

    def apply(key: jax.Array, images: jax.Array, masks: Masks) -> tuple[jax.Array, dict[str, jax.Array]]:
        _check(images, masks)
        sides = height, width = images.shape[1], images.shape[2]
        if size > min(sides):
            raise InputError(f"crop={size} of images of {height} x {width} pixels; use less")
        keys = jax.random.split(key, len(images))
        at = jax.vmap(lambda key: _positions(key, size, sides, rotate, zoom, shear, elastic, spacing))(keys)
        return jax.vmap(_bilinear)(images, at), {name: jax.vmap(_nearest)(mask, at) for name, mask in masks.items()}

    return apply


def chain(*augments: Augment) -> Augment:
    """Return the augmentation that applies all of these, one after another, each with a key of its own."""

    def apply(key: jax.Array, images: jax.Array, masks: Masks) -> tuple[jax.Array, dict[str, jax.Array]]:
        masks = dict(masks)
        for i, augment in enumerate(augments):
            images, masks = augment(jax.random.fold_in(key, i), images, masks)
        return images, dict(masks)

    return apply


def _positions(
    key: jax.Array,
    size: int,
    sides: tuple[int, int],
    rotate: float,
    zoom: float,
    shear: float,
    elastic: float,
    spacing: int,
) -> jax.Array:
    """Return where each pixel of a square comes from, [2, size, size], in rows and columns of the image."""
    centre_key, matrix_key, elastic_key = jax.random.split(key, 3)
    spare = jnp.array([side - size for side in sides], jnp.float32)
    centre = (size - 1) / 2 + spare * jax.random.uniform(centre_key, (2,))
    if not (rotate or zoom > 1 or shear):  # whole pixels, so that nothing is interpolated without need
        centre = (size - 1) / 2 + jnp.round(centre - (size - 1) / 2)
    angle, lean, tall, wide = jax.random.uniform(matrix_key, (4,), minval=-1.0)
    angle = angle * math.radians(rotate)
    turned = jnp.array([[jnp.cos(angle), jnp.sin(angle)], [-jnp.sin(angle), jnp.cos(angle)]])
    leaning = jnp.array([[1.0, 0.0], [0.0, 1.0]]) + lean * shear * jnp.array([[0.0, 1.0], [0.0, 0.0]])
    scale = jnp.exp(jnp.array([tall, wide]) * math.log(zoom))
    line = jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2
    grid = jnp.stack(jnp.meshgrid(line, line, indexing="ij"))  # [2, size, size]
    at = jnp.einsum("ij,jhw->ihw", turned @ leaning * scale[None], grid) + centre[:, None, None]
    if elastic:
        at = at + _bends(elastic_key, size, elastic, spacing)
    return at


def _bends(key: jax.Array, size: int, deviation: float, spacing: int) -> jax.Array:
    """Return smooth displacements [2, size, size] of that standard deviation, about: B-splines over random nodes."""
    t = jnp.arange(size, dtype=jnp.float32) / spacing
    nodes = math.ceil(size / spacing) + 3
    far = jnp.abs(t[:, None] - (jnp.arange(nodes, dtype=jnp.float32) - 1)[None])  # [size, nodes], in spacings
    near, edge = 2 / 3 - far**2 + far**3 / 2, jnp.maximum(2 - far, 0.0) ** 3 / 6
    weights = jnp.where(far < 1, near, edge)
    deviation = deviation / _SPLINE_DEVIATION
    drawn = deviation * jax.random.normal(key, (2, nodes, nodes))
    return jnp.einsum("hi,dij,wj->dhw", weights, drawn, weights)


# Of splines in two dimensions over independent nodes of deviation 1: the mean over t of the sum of squared weights,
# 151 / 315, in each dimension; its root in two.
_SPLINE_DEVIATION = 151 / 315


def _mirrored(at: jax.Array, side: int) -> jax.Array:
    """Return whole positions inside of an image, as if it went on as its mirror image."""
    period = max(2 * side - 2, 1)
    at = jnp.abs(at) % period
    return jnp.minimum(at, period - at) if side > 1 else jnp.zeros_like(at)


def _taken(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    height, width = image.shape[:2]
    flat = image.reshape(height * width, *image.shape[2:])
    return flat[_mirrored(rows, height) * width + _mirrored(columns, width)]


def _bilinear(image: jax.Array, at: jax.Array) -> jax.Array:
    """Return the image [H, W, C] at positions [2, h, w], rounded where it is of whole numbers."""
    low = jnp.floor(at)
    share = (at - low)[..., None]
    rows, columns = low.astype(jnp.int32)
    values = jnp.zeros((), jnp.float32)
    for down in (0, 1):
        for right in (0, 1):
            weight = (share[0] if down else 1 - share[0]) * (share[1] if right else 1 - share[1])
            values += weight * _taken(image, rows + down, columns + right).astype(jnp.float32)
    return lax.round(values).astype(image.dtype) if jnp.issubdtype(image.dtype, jnp.integer) else values


def _nearest(mask: jax.Array, at: jax.Array) -> jax.Array:
    rows, columns = jnp.round(at).astype(jnp.int32)
    return _taken(mask, rows, columns)


def _check(images: jax.Array, masks: Masks) -> None:
    """Check that there are images, and that masks have their sides."""
    if images.ndim != 4:
        raise InputError(f"inputs of shape {images.shape} are no images, [B, H, W, C]")
    for name, mask in masks.items():
        if mask.shape != images.shape[:3]:
            raise InputError(
                f"{name} of shape {mask.shape} beside images of {images.shape}; give [B, H, W], a number a pixel"
            )
