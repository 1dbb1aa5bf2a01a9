"""Augmentation by one smooth warp: turned, stretched, sheared, moved and bent at once, so that pixels are read once."""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from jaxnets.data.augment import Augment
from jaxnets.errors import FINITE, InputError, check_number

_GRID = 4  # points along each side whose displacements are drawn; what is between them follows smoothly


def warp(
    degrees: float = 0.0, stretch: float = 0.0, shear: float = 0.0, pixels: float = 0.0, bend: float = 0.0
) -> Augment:
    """Return the augmentation that warps each image [B, H, W, C] about its centre, bilinear; outside of it is 0.

    Each number is drawn evenly between the limits, but for ``bend``, whose displacements are normal.

    Args:
        degrees: turned by up to so many, in both directions.
        stretch: each side is made larger or smaller by up to so much, 0.2 for a factor of 1 / 1.2 to 1.2.
        shear: columns slide along rows by up to so many pixels a pixel.
        pixels: moved by up to so many along both axes.
        bend: standard deviation, in pixels, of the displacements of a grid of 4 x 4 points (an elastic deformation,
            Simard et al., 2003, on a coarse grid).
    """
    limits = {"degrees": degrees, "stretch": stretch, "shear": shear, "pixels": pixels, "bend": bend}
    for name, value in limits.items():
        check_number(name, value, 0, FINITE, "0 or more")

    degrees, stretch, shear, pixels, bend = (float(value) for value in limits.values())

    def apply(key: jax.Array, images: jax.Array) -> jax.Array:
        if images.ndim != 4:
            raise InputError(f"warp() got inputs of shape {images.shape}; it is of images, [B, H, W, C]")
        batch, height, width, _ = images.shape
        even, normal = jax.random.split(key)
        drawn = jax.random.uniform(even, (6, batch, 1, 1), minval=-1.0, maxval=1.0)
        angle, slide = jnp.deg2rad(drawn[0] * degrees), drawn[1] * shear
        tall, wide = (jnp.exp(share * jnp.log1p(stretch)) for share in (drawn[2], drawn[3]))
        rows, columns = (jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2 for size in (height, width))
        y, x = (grid[None] for grid in jnp.meshgrid(rows, columns, indexing="ij"))  # [1, H, W]
        y, x = y - drawn[4] * pixels, x - drawn[5] * pixels
        y, x = jnp.cos(angle) * y + jnp.sin(angle) * x, jnp.cos(angle) * x - jnp.sin(angle) * y
        y, x = y / tall, x / wide + slide * y
        if bend:
            coarse = bend * jax.random.normal(normal, (batch, _GRID, _GRID, 2))
            moves = jax.image.resize(coarse, (batch, height, width, 2), "cubic")
            y, x = y + moves[..., 0], x + moves[..., 1]
        made = jax.vmap(_read)(images.astype(jnp.float32), y + (height - 1) / 2, x + (width - 1) / 2)
        return (jnp.round(made) if jnp.issubdtype(images.dtype, jnp.integer) else made).astype(images.dtype)

    return apply


def _read(image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Return an image [H, W, C] as it is at points [H, W]."""
    return jax.vmap(lambda plane: map_coordinates(plane, [y, x], order=1), -1, -1)(image)
