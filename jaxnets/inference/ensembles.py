"""Ensembles of classifiers: what the members of a population say together, and how far they agree."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import log_softmax, logsumexp, softmax
from jax.scipy.special import entr

from jaxnets import metrics
from jaxnets.errors import InputError, check_whole
from jaxnets.metrics import Metric

_METRICS: dict[str, Metric] = {
    "accuracy": metrics.accuracy,
    "log_loss": metrics.log_loss,
    "calibration_error": metrics.calibration_error(),
}


class Ensemble(NamedTuple):
    """What the members of an ensemble say of N examples together.

    Attributes:
        probabilities: their mean, [N, C].
        entropy: of that mean, in nats, [N]: all that is uncertain.
        disagreement: the part of the entropy that is between the members, not within each: the mutual information of
            class and member, in nats, [N] (Houlsby et al., 2011). It is large where none of them has learned.
        agreement: the share of the members whose likeliest class is the ensemble's, [N].
    """

    probabilities: np.ndarray
    entropy: np.ndarray
    disagreement: np.ndarray
    agreement: np.ndarray


def ensemble(logits: np.ndarray) -> Ensemble:
    """Return what members say together whose logits are [M, N, C], such as ``predict`` gives for a population.

    Raises:
        InputError: if they are of another shape.
    """
    logits = _checked(logits)
    each = np.asarray(softmax(logits, -1))
    mean = each.mean(0)
    entropy, within = np.asarray(entr(mean).sum(-1)), np.asarray(entr(each).sum(-1).mean(0))
    agreement = (each.argmax(-1) == mean.argmax(-1)).mean(0)
    return Ensemble(mean, entropy, np.maximum(entropy - within, 0.0), agreement)


def ensemble_metrics(
    logits: np.ndarray, labels: np.ndarray, weights: Any = None
) -> dict[str, tuple[np.ndarray, float]]:
    """Return accuracy, log loss and calibration error by name: of each member [M], and of the ensemble.

    Args:
        logits: of the members, [M, N, C].
        labels: classes, [N].
        weights: how much each row counts, [N]; all alike if absent.

    Raises:
        InputError: if the shapes do not suit.
    """
    logits = _checked(logits)
    _check_labels(np.asarray(labels), *logits.shape[1:])
    if weights is not None and np.shape(weights) != np.shape(labels):
        raise InputError(f"weights of shape {np.shape(weights)} for {len(labels)} rows; give one a row")
    together = logsumexp(log_softmax(logits, -1), 0) - np.log(len(logits))
    return {
        name: (np.array([_measured(metric, own, labels, weights) for own in logits]), found)
        for name, metric in _METRICS.items()
        for found in [_measured(metric, together, labels, weights)]
    }


class Reliability(NamedTuple):
    """How often a classifier is right, by how sure it is; of B bins.

    Attributes:
        confidence: the mean probability of the predicted class in each bin, [B]; NaN where none is.
        accuracy: the share that is right, [B].
        share: of all examples that are in each bin, [B].
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Return the reliability diagram of probabilities [N, C] and classes [N] (DeGroot and Fienberg, 1983).

    Raises:
        InputError: if they are no probabilities of classes, or not of as many rows as there are labels.
    """
    check_whole("bins", bins)
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or not np.allclose(probabilities.sum(-1), 1.0, atol=1e-3) or probabilities.min() < 0:
        raise InputError(
            f"probabilities {list(probabilities.shape)} must be [N, C], 0 or more, and add up to 1 in each row; of "
            "logits take their softmax, or jaxnets.ensemble(logits).probabilities"
        )
    _check_labels(labels, *probabilities.shape)
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins).astype(float)
    with np.errstate(invalid="ignore"):
        mean, share_right = (np.bincount(index, values, bins) / counts for values in (confidence, right))
    return Reliability(mean, share_right, counts / len(labels))


def _check_labels(labels: np.ndarray, number: int, num_classes: int) -> None:
    if labels.shape != (number,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels {labels.dtype}{list(labels.shape)} for {number} rows; give one a row, a class's number"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(
            f"labels from {labels.min()} to {labels.max()}, outside the {num_classes} classes of the logits"
        )


def _checked(logits: Any) -> np.ndarray:
    logits = np.asarray(logits, np.float32)
    if logits.ndim != 3 or len(logits) < 2 or logits.shape[2] < 2:
        raise InputError(
            f"logits of shape {list(logits.shape)} are not [M, N, C], of two or more members and classes; "
            "train several: jaxnets train RECIPE --seeds 5"
        )
    if not np.isfinite(logits).all():
        raise InputError("logits are not all finite; leave out the members, or rows, whose are not")
    return logits


def _measured(metric: Metric, logits: Any, labels: np.ndarray, weights: Any) -> float:
    sums = metric.measure(jnp.asarray(logits), jnp.asarray(labels), None if weights is None else jnp.asarray(weights))
    return float(metric.compute(jax.device_get(sums)))
