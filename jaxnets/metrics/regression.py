"""Metrics of numbers: outputs and labels of one shape."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets import losses
from jaxnets.errors import InputError
from jaxnets.metrics.metric import Metric, divide, per_example, spread_over

mse = per_example(losses.mse, "lower")
"""The mean squared error."""

mae = per_example(losses.mae, "lower")
"""The mean absolute error."""

rmse = Metric(mse.measure, lambda sums: np.sqrt(divide(sums)), "lower", check=mse.check)
"""The root of the mean squared error."""


class _Squares(NamedTuple):
    """Sums for each of D outputs; what stands in parts is their sum, taken on the host in float64."""

    errors: jax.Array  # [D], of the squared errors
    weights: jax.Array  # [D]
    labels: jax.Array  # [5, D], of the labels, in parts
    squares: jax.Array  # [9, D], of the squared labels, in parts


def _measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> _Squares:
    """Return the sums, in a form of which float32 loses little.

    The variance is a small difference of large sums where the mean is large. So labels are summed about c, near their
    mean in the batch: ``sum(y) = n c + sum(y - c)`` and ``sum(y^2) = n c^2 + 2 c sum(y - c) + sum((y - c)^2)``. The
    products with c stand in parts that float32 holds exactly.
    """
    if outputs.shape != labels.shape:
        raise InputError(
            f"r2: outputs of shape {outputs.shape} against labels of shape {labels.shape}; give both one shape"
        )
    counts = jnp.ones(labels.shape) if weights is None else spread_over(weights, labels).astype(jnp.float32)
    outputs, labels, counts = (
        x.astype(jnp.float32).reshape(-1, x.shape[-1] if x.ndim > 1 else 1) for x in (outputs, labels, counts)
    )
    outputs, labels = jnp.where(counts != 0, outputs, 0), jnp.where(counts != 0, labels, 0)
    count = counts.sum(0)
    centre = _high((counts * labels).sum(0) / jnp.where(count != 0, count, 1))
    apart = labels - centre[None]  # [N, D]
    rest = (counts * apart).sum(0)
    squares = (counts * apart * apart).sum(0)
    errors = (counts * jnp.square(outputs - labels)).sum(0)
    return _Squares(
        errors,
        count,
        jnp.stack([*_product(count, centre), rest]),
        jnp.stack([*_product(count, centre * centre), *_product(2 * centre, rest), squares]),
    )


def _high(x: jax.Array) -> jax.Array:
    """Return the first 12 of the 24 significant bits of float32 numbers.

    It is done with integers, so that no compiler can fuse what comes before with what follows, and skip the rounding.
    """
    return lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFFF000), jnp.float32)


def _product(a: jax.Array, b: jax.Array) -> list[jax.Array]:
    """Return four float32 whose sum is exactly the product of a and b: those of their halves (Dekker, 1971)."""
    return [x * y for x in (_high(a), a - _high(a)) for y in (_high(b), b - _high(b))]


def _coefficient(sums: _Squares) -> float:
    errors, count = np.asarray(sums.errors, np.float64), np.asarray(sums.weights, np.float64)
    total, squares = np.asarray(sums.labels, np.float64).sum(0), np.asarray(sums.squares, np.float64).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        variation = squares - total**2 / count
        constant = variation <= 1e-14 * squares  # float64's rounding; float32 labels that differ vary by more
        found = np.where(constant, np.where(errors == 0, 1.0, 0.0), 1 - errors / variation)
    found = found[count > 0]
    return float(found.mean()) if len(found) else math.nan


r2 = Metric(_measure, _coefficient, "higher", in_training=False)
"""The coefficient of determination, ``1 - sum((y - output)^2) / sum((y - mean(y))^2)``.

Each index of the last axis is an output of its own, if there are two axes or more, and what is reported is their mean,
as scikit-learn's ``r2_score`` does; outputs without a label that counts are left out. Where the labels are all equal,
it is 1 if there is no error at all, else 0. Large means cost little: measured, the error is below 1e-6 where the
mean is 10,000 times the standard deviation, and 1e-4 where it is 100,000 times.
"""
