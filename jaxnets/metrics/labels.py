"""Metrics of several labels an example: logits [B, C] with labels of 0 and 1, [B, C]."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.errors import InputError
from jaxnets.metrics.metric import Mean, Metric, divide, mean_of, spread_over


class Counts(NamedTuple):
    """True positives, false positives and false negatives of each label, [C]."""

    hits: Any
    false: Any
    missed: Any


def label_f1() -> Metric:
    """Return "f1", over all labels together (micro), and "macro_f1", the mean over labels; 0 of a label never met.

    A label is predicted where its logit is above 0, its probability above one half.
    """

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> Counts:
        _check(outputs, labels)
        counts = jnp.ones(labels.shape, jnp.int32) if weights is None else spread_over(weights, labels)
        said, true = outputs > 0, labels > 0
        return Counts(*(jnp.where(which, counts, 0).sum(0) for which in (said & true, said & ~true, ~said & true)))

    def compute(sums: Counts) -> dict[str, Any]:
        hits, false, missed = (np.asarray(part, np.float64) for part in sums)
        every, together = 2 * hits + false + missed, 2 * hits.sum() + false.sum() + missed.sum()
        each = np.divide(2 * hits, every, out=np.zeros_like(every), where=every > 0)
        return {"f1": 2 * hits.sum() / together if together else np.nan, "macro_f1": each.mean()}

    return Metric(measure, compute, "higher", in_training=False)


def _exact(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> Mean:
    _check(outputs, labels)
    return mean_of(((outputs > 0) == (labels > 0)).all(-1).astype(jnp.float32), weights)


exact_match = Metric(_exact, divide, "higher", in_training=False)
"""The share of examples all of whose labels are right."""


def _check(outputs: jax.Array, labels: jax.Array) -> None:
    if outputs.shape != labels.shape or labels.ndim != 2:
        raise InputError(
            f"several labels an example are [B, C], like their logits, not {labels.shape}, {outputs.shape}"
        )
