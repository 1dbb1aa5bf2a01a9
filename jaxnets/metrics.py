"""Metrics as sums and counts, so that means are exact however the examples fall into batches."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.errors import InputError


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
    """Return the sum of sums and counts, each [K, ...] of K batches, in float64 on the host."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves).astype(np.float64).sum(0), *parts)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Fréchet distance of the normal distributions of two sets of features, [N, D] and [M, D].

    ``|mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2))`` with covariances A and B (Heusel et al., 2017), in float64;
    NaN if a feature is. It is biased: of fewer samples it is larger.

    Raises:
        InputError: if the features are not two such arrays, of two samples or more and equally many numbers.
    """
    a, b = (np.asarray(features, np.float64) for features in (a, b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise InputError(f"features of shapes {a.shape} and {b.shape}; give [N, D] and [M, D], two rows or more each")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.nan
    root = _square_root(np.atleast_2d(np.cov(a, rowvar=False)))
    product = _square_root(root @ np.atleast_2d(np.cov(b, rowvar=False)) @ root)  # its trace is that of (A B)^(1/2)
    traces = a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum() - 2 * np.trace(product)
    return float(np.square(a.mean(0) - b.mean(0)).sum() + traces)


def _square_root(matrix: np.ndarray) -> np.ndarray:
    """Return the square root of a symmetric positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _divide(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total, np.float64) / np.asarray(count, np.float64)
