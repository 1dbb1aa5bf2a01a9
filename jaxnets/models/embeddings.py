"""What goes into a transformer's first block: vectors that know their positions and their segments."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.errors import InputError

Positions = Literal["rotary", "learned", "sinusoidal"] | None


def positioned(x: jax.Array, kind: Positions, start: jax.Array | int, table: jax.Array | None) -> jax.Array:
    """Return vectors [B, T, D] with what their positions add to them.

    Args:
        x: the vectors.
        kind: "sinusoidal" adds waves to the vectors times sqrt(D).
        start: the position of the first.
        table: a learned vector for each position, [L, D], to be added.
    """
    if table is not None:
        x += lax.dynamic_slice_in_dim(table.astype(x.dtype), start, x.shape[1])[None]
    if kind == "sinusoidal":
        waves = sinusoidal(start + jnp.arange(x.shape[1]), x.shape[-1])
        x = x * math.sqrt(x.shape[-1]) + waves.astype(x.dtype)[None]
    return x


def sinusoidal(positions: jax.Array, features: int) -> jax.Array:
    """Return sines and cosines of positions [T] at falling frequencies, [T, D] (Vaswani et al., 2017).

    Number 2 i is ``sin(position / 10000 ** (2 i / D))``, number 2 i + 1 the cosine of the same.
    """
    rates = 10000.0 ** (-jnp.arange(0, features, 2, dtype=jnp.float32) / features)
    angles = positions[:, None].astype(jnp.float32) * rates[None]
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1).reshape(len(positions), -1)[:, :features]


def preceded(x: jax.Array, first: jax.Array) -> jax.Array:
    """Return vectors [B, T, D] with one more before them, [B, T + 1, D]."""
    return jnp.concatenate([jnp.broadcast_to(first.astype(x.dtype), (len(x), 1, x.shape[-1])), x], 1)


def segmented(x: jax.Array, segments: jax.Array | None, table: jax.Array) -> jax.Array:
    """Return vectors [B, T, D] with those of their segments [B, T] added; all are of the first if these are absent.

    Args:
        x: the vectors.
        segments: whole numbers from 0.
        table: a vector for each segment, [S, D].
    """
    table = table.astype(x.dtype)
    return x + (table[None, :1] if segments is None else table[segments])


def check_segments(segments: np.ndarray, shape: tuple[int, ...], number: int | None) -> None:
    """Check on the host the segments that tokens are of.

    Raises:
        InputError: if they are not whole numbers from 0 below ``number``, one for each token.
    """
    if segments.shape != shape or segments.dtype.kind not in "iu":
        what = f"{segments.dtype}{list(segments.shape)}"
        raise InputError(f"segments of {what}; give a whole number for each token, {list(shape)}")
    low, high = segments.min(), segments.max()
    if low < 0 or high >= (number or 0):
        raise InputError(f"segments range from {low} to {high}, outside num_segments={number}: 0..{(number or 0) - 1}")
