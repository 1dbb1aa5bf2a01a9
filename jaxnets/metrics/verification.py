"""How well embeddings tell whether two examples are of one class: of pairs, and of the order of those most alike.

Scores are cosines, the higher the more alike. A pair is genuine where both are of one class, else an impostor.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.errors import InputError, check_number, check_whole
from jaxnets.metrics.metric import Better, Metric, spread_over

_BINS = 1 << 15  # cosines that differ by less than 2 / _BINS are tied


class Roc(NamedTuple):
    """Shares of pairs that are accepted at thresholds from above all scores downwards, [K + 1].

    Attributes:
        far: the false accept rate, of impostors.
        tar: the true accept rate, of genuine pairs.
        thresholds: the least score that is accepted; infinite at first.
    """

    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray


def _pairs(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Return histograms of the cosines of a batch's pairs, impostors' and genuine ones', [2, bins]."""
    if labels.ndim != 1 or outputs.shape[:-1] != labels.shape:
        raise InputError(f"embeddings [B, D] and labels [B] make pairs, not {outputs.shape} and {labels.shape}")
    cosines = outputs @ outputs.T
    counts = jnp.ones(labels.shape, jnp.int32) if weights is None else spread_over(weights, labels)
    pairs = jnp.triu(counts[:, None] * counts[None], 1)
    places = jnp.clip(jnp.floor((cosines + 1) * (_BINS / 2)), 0, _BINS - 1)
    places = jnp.where(pairs != 0, places, 0).astype(jnp.int32)
    genuine = (labels[:, None] == labels[None]).astype(jnp.int32)
    return jnp.zeros((2, _BINS), pairs.dtype).at[genuine, places].add(pairs)


def _of_pairs(compute: Callable[[Roc], float], better: Better) -> Metric:
    def computed(histograms: np.ndarray) -> float:
        impostors, genuine = np.asarray(histograms, np.float64)
        if not impostors.any() or not genuine.any():
            return math.nan
        return compute(_curve(np.linspace(-1, 1, _BINS, endpoint=False), genuine, impostors))

    return Metric(_pairs, computed, better, in_training=False)


def pair_auc() -> Metric:
    """Return the area under the ROC curve of all pairs of a batch; a tie is half.

    Outputs are embeddings [B, D] of length 1, labels [B]; a pair weighs the product of its two weights. Pairs are those
    within a batch, of as many rows as a learner's ``block`` has together. Cosines that differ by less than 6e-5 are
    tied. NaN where there is no genuine pair, or no impostor.
    """
    return _of_pairs(area, "higher")


def equal_error_rate() -> Metric:
    """Return the rate at which as many impostors are accepted as genuine pairs are not; pairs are ``pair_auc``'s.

    Between two thresholds the curve is a straight line.
    """
    return _of_pairs(lambda curve: equal_error(curve)[0], "lower")


def true_accept_rate(far: float = 0.01) -> Metric:
    """Return the share of genuine pairs that is accepted where at most a share ``far`` of the impostors is.

    Pairs are ``pair_auc``'s.

    Raises:
        InputError: if ``far`` is not in (0, 1).
    """
    check_number("far", far, 0, 1, "in (0, 1), such as 0.01", low_too=False)
    return _of_pairs(lambda curve: accepted_at(curve, far), "higher")


def pairs_of(embeddings: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines of all pairs of embeddings [N, D] of length 1: of genuine pairs, and of impostors."""
    cosines = embeddings @ embeddings.T
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    return cosines[first, second][same], cosines[first, second][~same]


def open_set_scores(embeddings: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how alike each embedding is to the most alike of its own class, and to the most alike of all others.

    The first are scores of who is known, the second of who is not: what an identification with "unknown" as an answer
    has to tell apart. Examples that are alone in their class have no score of the first kind.
    """
    cosines = embeddings @ embeddings.T
    np.fill_diagonal(cosines, -np.inf)
    same = labels[:, None] == labels[None]
    own, others = (np.where(chosen, cosines, -np.inf).max(1) for chosen in (same, ~same))
    return own[np.isfinite(own)], others[np.isfinite(others)]


def roc(genuine: np.ndarray, impostors: np.ndarray) -> Roc:
    """Return the curve of scores, [G] and [I], at each score that occurs.

    Raises:
        InputError: if there are no genuine pairs, or no impostors.
    """
    for name, scores in (("genuine", genuine), ("impostors", impostors)):
        if not np.size(scores):
            raise InputError(f"{name}: there is no such pair; give two classes or more, one of two examples or more")
    every, places = np.unique(np.concatenate([genuine, impostors]), return_inverse=True)
    of_genuine, of_impostors = places[: len(genuine)], places[len(genuine) :]
    return _curve(every, *(np.bincount(part, minlength=len(every)) for part in (of_genuine, of_impostors)))


def _curve(scores: np.ndarray, genuine: np.ndarray, impostors: np.ndarray) -> Roc:
    """Return the curve of so many pairs of each score; the scores rise."""
    far, tar = (np.concatenate([[0.0], (counts[::-1].cumsum()) / counts.sum()]) for counts in (impostors, genuine))
    return Roc(far, tar, np.concatenate([[np.inf], scores[::-1]]))


def area(curve: Roc) -> float:
    """Return the area under a curve: how often a genuine pair scores above an impostor; a tie is half."""
    return float(np.trapezoid(curve.tar, curve.far))


def equal_error(curve: Roc) -> tuple[float, float]:
    """Return the equal error rate, and the threshold nearest to it, midway between two neighbouring scores."""
    ahead = curve.far + curve.tar - 1  # rises from -1 to 1: where it is 0, false accepts and false rejects are equal
    after = int(np.argmax(ahead >= 0))
    before = after - 1
    share = -ahead[before] / (ahead[after] - ahead[before])
    rate = curve.far[before] + share * (curve.far[after] - curve.far[before])
    nearest = after if after == 1 or abs(ahead[after]) <= abs(ahead[before]) else before
    return float(rate), float(curve.thresholds[nearest : nearest + 2].mean())


def accepted_at(curve: Roc, far: float) -> float:
    """Return the highest share of genuine pairs that is accepted where at most ``far`` of the impostors is."""
    return float(curve.tar[curve.far <= far].max())


def cumulative_matches(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how often the right class is among the k most alike, k from 1 to the number of classes, [classes] (CMC).

    Each example is looked for among all others; a class is as alike as its example that is most alike. Examples that
    are alone in their class are not looked for.

    Args:
        embeddings: [N, D], of length 1.
        labels: [N].

    Raises:
        InputError: if no class has two examples.
    """
    classes, numbers = np.unique(labels, return_inverse=True)
    cosines = embeddings @ embeddings.T
    np.fill_diagonal(cosines, -np.inf)
    of_classes = np.stack([cosines[:, numbers == number].max(1) for number in range(len(classes))], 1)  # [N, classes]
    own = np.take_along_axis(of_classes, numbers[:, None], 1)
    looked_for = np.isfinite(own[:, 0])
    if not looked_for.any():
        raise InputError("labels: no class has two examples, of which one could be looked for; give more of one")
    ranks = (of_classes > own).sum(1)[looked_for]
    return np.cumsum(np.bincount(ranks, minlength=len(classes))) / len(ranks)


def rank(matches: np.ndarray, k: int = 1) -> float:
    """Return the share of examples whose class is among the ``k`` most alike, of what ``cumulative_matches`` returns.

    Raises:
        InputError: if there are not so many classes.
    """
    check_whole("k", k, most=len(matches), remedy="one of the classes")
    return float(matches[k - 1])
