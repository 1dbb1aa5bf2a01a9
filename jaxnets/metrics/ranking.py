"""Metrics of rankings: scores of all items, never of a sample, [..., V], and the item that was wanted, [...]."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.errors import InputError, check_whole
from jaxnets.metrics.metric import Mean, Metric, divide, mean_of, spread_over


def ranks(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Return how many items are ahead of each label, int32 [...]; of equal scores the first lead, and NaN never does.

    Args:
        scores: [..., V].
        labels: [...], whole numbers in 0..V-1.
    """
    items = jnp.arange(scores.shape[-1], dtype=labels.dtype).reshape((1,) * labels.ndim + (-1,))
    chosen = labels[..., None]
    of_label = jnp.where(items == chosen, scores, -jnp.inf).max(-1, keepdims=True)
    # "Not less" instead of "greater": a label whose score is NaN is behind all others.
    ahead = ~(scores < of_label) & ~((scores == of_label) & (items >= chosen))
    return ahead.sum(-1, dtype=jnp.int32)


def hit_rate(k: int) -> Metric:
    """Return the share of labels that are among the ``k`` items with the highest scores; one of -inf never is.

    Raises:
        InputError: if ``k`` is less than 1.
    """
    check_whole("hit_rate: k", k)

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> Mean:
        _check("hit_rate", outputs, labels)
        return mean_of((_rank(outputs, labels) < k).astype(jnp.float32), weights)

    return Metric(measure, divide, "higher", in_training=False)


def ndcg(k: int) -> Metric:
    """Return the normalised discounted cumulative gain of one wanted item, ``1 / log2(rank + 1)`` of ranks 1 to ``k``.

    Of lower ranks, and of a score of -inf, it is 0 (Järvelin and Kekäläinen, 2002; where one item is wanted the best
    possible gain is 1).

    Raises:
        InputError: if ``k`` is less than 1.
    """
    check_whole("ndcg: k", k)

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> Mean:
        _check("ndcg", outputs, labels)
        rank = _rank(outputs, labels)
        return mean_of(jnp.where(rank < k, 1 / jnp.log2(rank.astype(jnp.float32) + 2), 0.0), weights)

    return Metric(measure, divide, "higher", in_training=False)


def coverage(k: int, without: int = 0) -> Metric:
    """Return the share of all items that are among the first ``k`` of at least one ranking; -inf is never among them.

    Args:
        k: items of a list.
        without: so many first numbers stand for no item, such as padding.

    Raises:
        InputError: if ``k`` is less than 1.
    """
    check_whole("coverage: k", k)
    check_whole("coverage: without", without, 0)

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> jax.Array:
        _check("coverage", outputs, labels)
        num_items = outputs.shape[-1]
        scores = outputs.reshape(-1, num_items)
        found, items = jax.lax.top_k(scores, min(k, num_items))
        counts = (found > -jnp.inf).astype(jnp.int32)
        if weights is not None:
            counts = counts * (spread_over(weights, labels).reshape(-1, 1) != 0).astype(jnp.int32)
        return jnp.zeros(num_items, jnp.int32).at[items].add(counts)

    def compute(counts: np.ndarray) -> float:
        listed = np.asarray(counts)[without:] > 0
        return float(listed.mean()) if len(listed) and np.asarray(counts).any() else float("nan")

    return Metric(measure, compute, "higher", in_training=False)


def _rank(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Return how many items are ahead of each label, of a label of -inf 2**30."""
    of_label = jnp.take_along_axis(scores, labels[..., None].astype(jnp.int32), -1)[..., 0]
    return jnp.where(of_label == -jnp.inf, 2**30, ranks(scores, labels))


def _check(name: str, outputs: jax.Array, labels: jax.Array) -> None:
    if outputs.shape[:-1] != labels.shape or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"{name}: scores of shape {outputs.shape} against {labels.dtype} labels of shape {labels.shape}; give "
            "scores [..., V] and whole numbers [...]"
        )
