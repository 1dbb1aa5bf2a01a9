"""How far features spread: a network that maps everything to one point has learned nothing, whatever its loss."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.metrics.metric import Metric, spread_over


class Moments(NamedTuple):
    """Sums over vectors [B, D]: how many, the sum, [D], and the sum of their outer products, [D, D]."""

    count: Any
    total: Any
    outer: Any


def moments(vectors: jax.Array, weights: jax.Array | None = None) -> Moments:
    """Return the sums of vectors [B, D], each with its weight [B]; what has no weight may be anything."""
    vectors = vectors.astype(jnp.float32)
    counts = jnp.ones(len(vectors), jnp.float32) if weights is None else spread_over(weights, vectors[:, 0])
    counts = counts.astype(jnp.float32)
    kept = jnp.where(counts[:, None] != 0, vectors, 0.0)
    weighted = kept * counts[:, None]
    return Moments(counts.sum(), weighted.sum(0), weighted.T @ kept)


def covariance(sums: Moments, ddof: int = 0) -> np.ndarray:
    """Return the covariance matrix [D, D], in float64, over ``count - ddof``; NaN where there are not more."""
    count, total, outer = (np.asarray(leaf, np.float64) for leaf in sums)
    if not count > ddof:
        return np.full(outer.shape, np.nan)
    return (outer - np.outer(total, total) / count) / (count - ddof)


def feature_spread() -> Metric:
    """Return the metric of features [B, D] that shows a collapse: "feature_deviation" and "effective_rank".

    Features are brought to length 1. The deviation is the root of D times the mean over dimensions of the standard
    deviation (Chen and He, 2021): near 1 where they are all around, 0 where they are all alike. The effective rank is
    the exponential of the entropy of the covariance's eigenvalues, as shares of their sum (Roy and Vetterli, 2007): the
    number of directions that are used, 1 to D. Labels are not looked at.
    """

    def measure(features: jax.Array, labels: Any, weights: jax.Array | None) -> Moments:
        features = features.astype(jnp.float32)
        lengths = jnp.sqrt(jnp.square(features).sum(-1, keepdims=True))
        return moments(features / jnp.maximum(lengths, 1e-12), weights)

    def compute(sums: Moments) -> dict[str, Any]:
        return spread_of(covariance(sums))

    return Metric(measure, compute, "higher", in_training=False)


def spread_of(matrix: np.ndarray) -> dict[str, Any]:
    """Return "feature_deviation" and "effective_rank" of the covariance matrix [D, D] of features of length 1."""
    if not np.isfinite(matrix).all():
        return {"feature_deviation": np.nan, "effective_rank": np.nan}
    variances = np.maximum(np.diag(matrix), 0.0)
    values = np.maximum(np.linalg.eigvalsh(matrix), 0.0)
    shares = values[values > 1e-12] / max(values.sum(), 1e-12)
    rank = np.exp(-np.sum(shares * np.log(shares))) if len(shares) else 1.0
    return {"feature_deviation": np.sqrt(len(matrix)) * np.sqrt(variances).mean(), "effective_rank": rank}
