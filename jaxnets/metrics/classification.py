"""Metrics of classes: logits [..., C] with integer labels [...], or binary logits [...] with labels 0 and 1 [...].

What has no weight may be anything: NaN logits, labels out of range. Other labels must be in range; ``check_labels`` of
``jaxnets.losses`` checks that on the host.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import losses
from jaxnets.errors import InputError, check_whole
from jaxnets.metrics.metric import Mean, Metric, divide, mean_of, per_example, spread_over
from jaxnets.metrics.ranking import ranks

Average = Literal["macro", "micro", "weighted"]
# From (true positives, predicted positives, positives), each [C] or a number, to a score.
_Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# Histograms of scores have bins of width ``_FINEST * h`` near 0, and of width ``|score| * h`` far from 0, up to
# ``_LARGEST``, with h = 34 / bins; larger scores are tied. All classes share ``_BINS``, but each has ``_LEAST``.
_FINEST, _LARGEST = 1e-2, 1e5
_BINS, _LEAST = 65536, 8192


def _negative_log_likelihood(logits: jax.Array, labels: jax.Array) -> jax.Array:
    binary = logits.shape == labels.shape
    return (losses.sigmoid_cross_entropy if binary else losses.softmax_cross_entropy)(logits, labels)


accuracy = per_example(losses.accuracy, "higher")
"""The share of predictions that are right."""

binary_accuracy = per_example(losses.binary_accuracy, "higher")
"""The share of yes and no, of labels of the logits' own shape, that are right."""

log_loss = per_example(_negative_log_likelihood, "lower")
"""The mean negative log-likelihood of the labels in nats, without label smoothing."""


def top_k_accuracy(k: int) -> Metric:
    """Return the share of labels that are among the ``k`` largest logits, [..., C]; of equal logits, the first lead.

    Raises:
        InputError: if ``k`` is not in 1..C.
    """
    _at_least("top_k_accuracy", "k", k, 1)

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> Mean:
        logits, labels = _as_classes("top_k_accuracy", outputs, labels)
        num_classes = logits.shape[-1]
        if k > num_classes:
            raise InputError(f"top_k_accuracy: {k=} exceeds the {num_classes} classes; use {num_classes} or less")
        return mean_of((ranks(logits, labels) < k).astype(jnp.float32), weights)

    return Metric(measure, divide, "higher", in_training=False)


def confusion_matrix(num_classes: int) -> Metric:
    """Return the counts of each true class (row) and predicted class (column), a NumPy array [C, C].

    Float weights give sums of weights. It is for evaluation: a curve cannot show it.

    Raises:
        InputError: if ``num_classes`` is less than 2, or the outputs have another number of classes.
    """
    _at_least("confusion_matrix", "num_classes", num_classes, 2)
    return Metric(partial(_confusion, "confusion_matrix", num_classes), np.asarray, None, in_training=False)


def precision(num_classes: int, average: Average = "macro") -> Metric:
    """Return the precision: the share of the predictions of a class that are right, 0 where there are none.

    Args:
        num_classes: C, 2 for binary logits.
        average: "macro", the mean over the classes that occur, as labels or as predictions; "weighted", the mean
            weighted by how often each is the label; "micro", over all predictions, which is the accuracy.

    Raises:
        InputError: if ``num_classes`` is less than 2, the outputs have another number, or the average is unknown.
    """
    return _averaged("precision", num_classes, average, lambda hits, predicted, actual: _ratio(hits, predicted))


def recall(num_classes: int, average: Average = "macro") -> Metric:
    """Return the recall: the share of the examples of a class that are predicted as it, 0 where there are none.

    Arguments and errors are those of ``precision``.
    """
    return _averaged("recall", num_classes, average, lambda hits, predicted, actual: _ratio(hits, actual))


def f1(num_classes: int, average: Average = "macro") -> Metric:
    """Return the F1 score: the harmonic mean of precision and recall, of each class, then averaged.

    Arguments and errors are those of ``precision``.
    """
    return _averaged("f1", num_classes, average, lambda hits, predicted, actual: _ratio(2 * hits, predicted + actual))


def auroc(num_classes: int | None = None, bins: int | None = None) -> Metric:
    """Return the area under the ROC curve: how often a positive example scores above a negative one; a tie is half.

    For two classes, class 1 is positive. For more, it is one class against the rest, and the mean over the classes
    that some examples have and some have not; NaN if there is none. The score is the log-odds of the class, kept as a
    histogram: scores that differ by less than 0.05% of their size (two classes; 0.4% for eight or more) are tied.
    Measured against scikit-learn, it is within 1e-3 for 10 positive examples of 2000 whose scores differ by a tenth of
    their size or more.

    Args:
        num_classes: C, to be checked; by default what the logits have.
        bins: of each histogram, of width 34 / bins times the score, and of 0.3 / bins near 0; if absent, 65536 for two
            classes, 65536 / C for more, and at least 8192. Scores in one bin are tied; so are those beyond 1e5, and NaN
            with the lowest. Each class takes 8 bytes a bin, in each batch.

    Raises:
        InputError: if ``num_classes`` is less than 2 or not the outputs', or ``bins`` less than 1.
    """
    return _of_histograms("auroc", num_classes, bins, _roc_areas)


def average_precision(num_classes: int | None = None, bins: int | None = None) -> Metric:
    """Return the average precision: the mean, over the positive examples, of the precision down to each one's score.

    Classes, histograms, arguments and errors are those of ``auroc``; the mean is over the classes that occur. Ties are
    treated as scikit-learn does. Measured against it, the mean over classes is within 1e-3, and so is that of two
    balanced classes; with 100 positive examples of 2000 it is within 2e-3, with 10 about 1e-2, and so it is
    where scores lie within a hundredth of their size. More bins help.
    """
    return _of_histograms("average_precision", num_classes, bins, _precision_areas)


def calibration_error(bins: int = 15) -> Metric:
    """Return the expected calibration error (Guo et al., 2017): the mean gap between confidence and accuracy.

    Confidence is the probability of the predicted class; the gap is that of all examples in one of ``bins`` bins
    ``(i / bins, (i + 1) / bins]``, weighted by how many these are.

    Raises:
        InputError: if ``bins`` is less than 1.
    """
    _at_least("calibration_error", "bins", bins, 1)

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> Mean:
        logits, labels, counts = _counted("calibration_error", outputs, labels, weights)
        confidence = jax.nn.softmax(logits).max(-1)
        right = (jnp.argmax(logits, -1) == labels).astype(jnp.float32)
        index = jnp.clip(jnp.ceil(confidence * bins) - 1, 0, bins - 1).astype(jnp.int32)
        gaps = jnp.zeros(bins).at[index].add(counts.astype(jnp.float32) * (right - confidence))
        return Mean(gaps, counts.sum(dtype=counts.dtype))

    def expected(sums: Mean) -> float:
        return divide(Mean(np.abs(sums.total).sum(), sums.count))

    return Metric(measure, expected, "lower", in_training=False)


class _Counted(NamedTuple):
    """Examples in one row, logits [N, C], labels [N] and weights [N]; zeros where the weight is 0."""

    logits: jax.Array
    labels: jax.Array
    weights: jax.Array


def _as_classes(name: str, logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return logits [..., C] and labels [...]; binary logits become those of two classes, 0 and the logit."""
    if logits.shape == labels.shape:
        return jnp.stack([jnp.zeros_like(logits), logits], -1), (labels.astype(jnp.float32) > 0).astype(jnp.int32)
    if logits.shape[:-1] != labels.shape:
        raise InputError(
            f"{name}: logits of shape {logits.shape} need labels of shape {logits.shape[:-1]}, or of their own for "
            f"two classes, not {labels.shape}"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(f"{name}: labels are {labels.dtype}, not integers; give the number of the class, from 0")
    return logits, labels.astype(jnp.int32)


def _counted(name: str, logits: jax.Array, labels: jax.Array, weights: jax.Array | None) -> _Counted:
    logits, labels = _as_classes(name, logits, labels)
    num_classes = logits.shape[-1]
    counts = jnp.ones(labels.shape, jnp.int32) if weights is None else spread_over(weights, labels)
    counts = jnp.where((labels >= 0) & (labels < num_classes), counts, 0)
    logits = jnp.where(counts[..., None] != 0, logits.astype(jnp.float32), 0)
    labels = jnp.where(counts != 0, labels, 0)
    return _Counted(logits.reshape(-1, num_classes), labels.reshape(-1), counts.reshape(-1))


def _confusion(
    name: str, num_classes: int, outputs: jax.Array, labels: jax.Array, weights: jax.Array | None
) -> jax.Array:
    logits, labels, counts = _counted(name, outputs, labels, weights)
    _same_classes(name, num_classes, logits)
    cells = jnp.zeros((num_classes, num_classes), counts.dtype)
    wrong = (labels + 1) % num_classes  # a prediction of NaN is never right
    predicted = jnp.where(jnp.isnan(logits).any(-1), wrong, jnp.argmax(logits, -1))
    return cells.at[labels, predicted].add(counts)


def _averaged(name: str, num_classes: int, average: Average, score: _Score) -> Metric:
    _at_least(name, "num_classes", num_classes, 2)
    if average not in get_args(Average):
        raise InputError(f"{name}: {average=} must be one of {', '.join(get_args(Average))}")

    def computed(matrix: np.ndarray) -> float:
        matrix = np.asarray(matrix, np.float64)
        hits, predicted, actual = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
        if not matrix.any():
            return math.nan
        if average == "micro":
            return float(score(hits.sum(), predicted.sum(), actual.sum()))
        weights = actual if average == "weighted" else (predicted + actual > 0)
        return float(np.average(score(hits, predicted, actual), weights=weights))

    return Metric(partial(_confusion, name, num_classes), computed, "higher", in_training=False)


def _of_histograms(name: str, num_classes: int | None, bins: int | None, areas: Callable[..., np.ndarray]) -> Metric:
    """Return the metric that is the mean over classes of ``areas(negatives, positives)``, two times [C, bins]."""
    if num_classes is not None:
        _at_least(name, "num_classes", num_classes, 2)
    if bins is not None:
        _at_least(name, "bins", bins, 1)

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> jax.Array:
        logits, labels, counts = _counted(name, outputs, labels, weights)
        _same_classes(name, num_classes, logits)
        scores = _log_odds(logits)  # [N, C], or [N, 1]
        ranked = scores.shape[1]
        classes = jnp.arange(ranked) if ranked > 1 else jnp.ones(1, jnp.int32)
        positive = (labels[:, None] == classes[None]).astype(jnp.int32)
        number = bins or max(_BINS // ranked, _LEAST)
        place = jnp.arange(ranked)[None], positive, _bin_of(scores, number)
        return jnp.zeros((ranked, 2, number), counts.dtype).at[place].add(counts[:, None])

    def computed(histograms: np.ndarray) -> float:
        found = areas(*np.moveaxis(np.asarray(histograms, np.float64), 1, 0))
        found = found[~np.isnan(found)]
        return float(found.mean()) if len(found) else math.nan

    return Metric(measure, computed, "higher", in_training=False)


def _log_odds(logits: jax.Array) -> jax.Array:
    """Return the log-odds of each class, [N, C], 0 where all are equally likely; for two, [N, 1] of the second.

    ``log(p / (1 - p))`` orders examples as p does, and tells those apart whose p rounds to 1.
    """
    num_classes = logits.shape[-1]
    if num_classes == 2:
        return logits[:, 1:] - logits[:, :1]
    largest = jnp.argmax(logits, -1)[:, None] == jnp.arange(num_classes)[None]
    others_of_largest = jax.nn.logsumexp(jnp.where(largest, -jnp.inf, logits), -1, keepdims=True)
    others_of_rest = jax.nn.logsumexp(logits, -1, keepdims=True) + jnp.log1p(-jax.nn.softmax(logits))
    return logits - jnp.where(largest, others_of_largest, others_of_rest) + math.log(num_classes - 1)


def _bin_of(scores: jax.Array, bins: int) -> jax.Array:
    """Return each score's bin, 0..bins - 1, which grows with the score as its inverse hyperbolic sine does."""
    place = jnp.arcsinh(scores / _FINEST) / math.asinh(_LARGEST / _FINEST)  # -1..1
    place = jnp.clip(jnp.where(jnp.isnan(place), -1.0, place), -1.0, 1.0)
    return jnp.minimum(jnp.floor((place + 1) * (bins / 2)).astype(jnp.int32), bins - 1)


def _roc_areas(negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    below = negatives.cumsum(-1) - negatives / 2
    return _ratio((positives * below).sum(-1), positives.sum(-1) * negatives.sum(-1), otherwise=math.nan)


def _precision_areas(negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    positives, negatives = positives[:, ::-1], negatives[:, ::-1]
    hits, predicted = positives.cumsum(-1), (positives + negatives).cumsum(-1)
    return _ratio((positives * _ratio(hits, predicted)).sum(-1), hits[:, -1], otherwise=math.nan)


def _ratio(part: np.ndarray, whole: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    """Return ``part / whole``, or ``otherwise`` where that is 0 / 0."""
    part, whole = np.asarray(part), np.asarray(whole)
    return np.divide(part, whole, out=np.full(part.shape, otherwise), where=whole > 0)


def _at_least(name: str, argument: str, value: int, least: int) -> None:
    check_whole(f"{name}: {argument}", value, least)


def _same_classes(name: str, num_classes: int | None, logits: jax.Array) -> None:
    if num_classes is not None and logits.shape[-1] != num_classes:
        raise InputError(f"{name}: {num_classes=} but the logits are of {logits.shape[-1]} classes; give that number")
