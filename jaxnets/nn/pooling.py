"""Pooling in a form that is fast on CPU, and whose gradient is: a maximum or a sum of shifted, strided slices.

``lax.reduce_window`` takes about twice the time forward and, with its gradient, eight to fifteen times. The maximum of
windows that do not overlap has a derivative of its own: one pass over the inputs, by which three convolutions and their
poolings take 0.75 of the time that they take where each slice is chosen from by itself (2 cores, jax 0.10.2).
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Padding = str | Sequence[tuple[int, int]]
# Above this, as many slices as the window has cells cost more than one pass over windows.
_MOST_SLICES = 25


def max_pool(
    x: jax.Array, window: Sequence[int], strides: Sequence[int] | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """Return the maximum of each window, [B, *spatial, C] -> [B, *pooled, C].

    Where several cells share the maximum they share its gradient: evenly, if windows do not overlap. Of windows of more
    than 25 cells one gets it all.

    Args:
        x: inputs, channels last, of any floating dtype.
        window: the window's size along each spatial axis.
        strides: the step along each spatial axis; the window's size if absent.
        padding: "VALID", "SAME", or how many cells to add before and after, along each spatial axis.
    """
    return _pool(x, window, strides, padding, -math.inf, _maximum, lax.max)


def avg_pool(
    x: jax.Array, window: Sequence[int], strides: Sequence[int] | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """Return the mean of each window, [B, *spatial, C] -> [B, *pooled, C]; cells outside the inputs are not counted.

    Args:
        x: inputs, channels last, of any floating dtype.
        window: the window's size along each spatial axis.
        strides: the step along each spatial axis; the window's size if absent.
        padding: "VALID", "SAME", or how many cells to add before and after, along each spatial axis.
    """
    total = _pool(x, window, strides, padding, 0.0, _total, lax.add)
    if padding == "VALID":
        return total / math.prod(window)
    return total / _pool(jnp.ones((1, *x.shape[1:-1], 1), x.dtype), window, strides, padding, 0.0, _total, lax.add)


def _pool(
    x: jax.Array,
    window: Sequence[int],
    strides: Sequence[int] | None,
    padding: Padding,
    empty: float,
    combine: Callable[[jax.Array, Sequence[int], Sequence[int]], jax.Array],
    reducer: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    strides = tuple(strides or window)
    if not len(window) == len(strides) == x.ndim - 2:
        raise ValueError(f"{window=} and {strides=} need one number for each of the {x.ndim - 2} spatial axes of x")
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:-1], window, strides, padding)
    pads = tuple(padding)
    if math.prod(window) > _MOST_SLICES:
        full = (1, *window, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0))
        return lax.reduce_window(x, np.asarray(empty, x.dtype), reducer, *full)  # a constant, or it has no gradient
    if any(low or high for low, high in pads):
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=empty)
    return combine(x, tuple(window), strides)


def _total(x: jax.Array, window: Sequence[int], strides: Sequence[int]) -> jax.Array:
    return _in_pairs(jnp.add, _cells(x, window, strides))


def _maximum(x: jax.Array, window: Sequence[int], strides: Sequence[int]) -> jax.Array:
    if window != strides or math.prod(window) == 1:
        return _in_pairs(_larger, _cells(x, window, strides))
    sizes = [size - size % k for size, k in zip(x.shape[1:-1], window, strict=True)]
    return _block_maximum(x[(slice(None), *map(slice, sizes))], window)


# Derivatives never ask whether a cell equals the maximum, as those of ``jnp.maximum`` do, but compare cells: XLA may
# compute a cell anew where it is compared, and round it otherwise, and the gradient would be lost.


@jax.custom_jvp
def _larger(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.maximum(a, b)


@_larger.defjvp
def _larger_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (a, b), (a_dot, b_dot) = primals, tangents
    half = jnp.asarray(0.5, a.dtype)
    share = jnp.where(a > b, jnp.ones_like(half), jnp.where(a < b, jnp.zeros_like(half), half))
    return _larger(a, b), share * a_dot + (1 - share) * b_dot


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _block_maximum(x: jax.Array, window: Sequence[int]) -> jax.Array:
    return _in_pairs(jnp.maximum, _cells(x, window, window))


@_block_maximum.defjvp
def _block_maximum_jvp(window: Sequence[int], primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (x_dot,) = primals, tangents
    cells, tangents = _cells(x, window, window), _cells(x_dot, window, window)
    before, after = cells[:-1], cells[:0:-1]
    for maxima in (before, after):  # of the first cells, and of the last
        for i in range(1, len(maxima)):
            maxima[i] = jnp.maximum(maxima[i - 1], maxima[i])
    others = [*after[-1:], *map(jnp.maximum, before, after[-2::-1]), *before[-1:]]
    highest = [cell >= other for cell, other in zip(cells, others, strict=True)]
    shares = _in_pairs(jnp.add, [high.astype(x.dtype) for high in highest])  # how many cells share the maximum
    moved = [jnp.where(high, tangent, 0) for high, tangent in zip(highest, tangents, strict=True)]
    return _block_maximum(x, window), _in_pairs(jnp.add, moved) / jnp.maximum(shares, 1)


def _cells(x: jax.Array, window: Sequence[int], strides: Sequence[int]) -> list[jax.Array]:
    """Return what stands at each place of the windows, [B, *pooled, C] a place."""
    counts = [(size - k) // s + 1 for size, k, s in zip(x.shape[1:-1], window, strides, strict=True)]
    return [
        lax.slice(
            x,
            (0, *offset, 0),
            (x.shape[0], *(o + (n - 1) * s + 1 for o, n, s in zip(offset, counts, strides, strict=True)), x.shape[-1]),
            (1, *strides, 1),
        )
        for offset in itertools.product(*map(range, window))
    ]


def _in_pairs(combine: Callable[[jax.Array, jax.Array], jax.Array], parts: list[jax.Array]) -> jax.Array:
    """Return all parts combined, in pairs, so that all cells of a window stand alike."""
    while len(parts) > 1:
        parts = [functools.reduce(combine, parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return parts[0]
