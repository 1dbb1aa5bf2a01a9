"""Metrics as sums and counts, so that means are exact however the examples fall into batches."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Mean(NamedTuple):
    """A mean that can be added to another: ``jax.tree.map(jnp.add, a, b)`` is the mean of both together."""

    total: Any
    count: Any


def mean_of(values: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Return the mean of ``values`` over every axis, in float32.

    Args:
        values: [B, ...].
        mask: which examples count (not 0), of the leading axes of ``values``; all if absent.
    """
    values = values.astype(jnp.float32)
    if mask is None:
        return Mean(values.sum(), jnp.asarray(values.size, jnp.int32))
    keep = jnp.broadcast_to((mask != 0).reshape(mask.shape + (1,) * (values.ndim - mask.ndim)), values.shape)
    return Mean(jnp.where(keep, values, 0.0).sum(), keep.sum(dtype=jnp.int32))


def compute(sums: Mapping[str, Mean], prefix: str = "") -> dict[str, Any]:
    """Return the means as NumPy numbers, or arrays for a population, under ``prefix + name``; NaN over no examples."""
    return {f"{prefix}{name}": _divide(*jax.device_get(mean)) for name, mean in sums.items()}


def add_up(parts: list[Mapping[str, Mean]]) -> dict[str, Mean]:
    """Return the sum of the sums and counts of several batches, in float64 on the host."""
    return jax.tree.map(lambda *leaves: np.sum([np.asarray(leaf, np.float64) for leaf in leaves], axis=0), *parts)


def _divide(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total, np.float64) / np.asarray(count, np.float64)
