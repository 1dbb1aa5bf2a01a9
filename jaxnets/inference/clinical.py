"""What a clinician reads of a test that says yes or no: sensitivity, specificity, predictive values, intervals, costs.

A score is higher the surer the test is of "positive"; a decision is positive from a threshold on. All measures are of
``Decisions``: how many positives and negatives lie at or above each threshold, for many bootstrap samples at once.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxnets.errors import InputError, check_number, check_whole

_AT_ONCE = 1 << 22  # numbers of bootstrap samples that are held at once


class Decisions(NamedTuple):
    """What a test decides at each threshold, the highest first; before it, "negative" for all.

    Attributes:
        thresholds: K + 1, infinity and then the scores that there are, falling.
        hits: positives at or above each, [..., K + 1].
        alarms: negatives at or above each, likewise.
    """

    thresholds: np.ndarray
    hits: np.ndarray
    alarms: np.ndarray

    @property
    def sensitivity(self) -> np.ndarray:
        """The share of the positives that are found at each threshold."""
        return _share(self.hits, self.hits[..., -1:])

    @property
    def specificity(self) -> np.ndarray:
        """The share of the negatives that are left alone at each threshold."""
        return 1 - _share(self.alarms, self.alarms[..., -1:])

    @property
    def precision(self) -> np.ndarray:
        """The share of the alarms at each threshold that are right (positive predictive value); 1 of none."""
        return _share(self.hits, self.hits + self.alarms, nothing=1.0)


def decisions(scores: Any, positive: Any, weights: Any = None) -> Decisions:
    """Return the decisions at every threshold that there is.

    Args:
        scores: [N].
        positive: which are, bool [N].
        weights: how much each counts, [..., N]; all alike if absent.

    Raises:
        InputError: if scores are not finite, of other lengths, or all examples are of one kind.
    """
    scores, positive = np.asarray(scores, np.float64), np.asarray(positive)
    if scores.ndim != 1 or scores.shape != positive.shape or positive.dtype != bool:
        raise InputError(
            f"scores {scores.dtype}{list(scores.shape)} and positive {positive.dtype}{list(positive.shape)}; give "
            "numbers [N] and booleans [N]"
        )
    if not np.isfinite(scores).all():
        raise InputError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are NaN or infinite; leave them out")
    if positive.all() or not positive.any():
        raise InputError(
            f"all {len(positive)} examples are {'positive' if positive.any() else 'negative'}; give some of both kinds"
        )
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    first = np.flatnonzero(np.append(True, np.diff(falling) != 0))  # of each score that there is

    def counted(kind: np.ndarray) -> np.ndarray:
        each = np.add.reduceat((weights * kind)[..., order], first, axis=-1)
        return np.concatenate([np.zeros((*each.shape[:-1], 1)), each.cumsum(-1)], -1)

    return Decisions(np.append(np.inf, falling[first]), counted(positive), counted(~positive))


def auroc(found: Decisions) -> np.ndarray:
    """Return the area under the ROC curve, by trapezoids, [...]."""
    return np.trapezoid(found.sensitivity, 1 - found.specificity, axis=-1)


def average_precision(found: Decisions) -> np.ndarray:
    """Return the mean precision over the positives, each at its own score, [...]."""
    return (np.diff(found.sensitivity, axis=-1) * found.precision[..., 1:]).sum(-1)


def sensitivity_at(found: Decisions, specificity: float) -> np.ndarray:
    """Return the highest sensitivity among the thresholds that leave so large a share of the negatives alone, [...]."""
    return np.where(found.specificity >= specificity - _ROUNDING, found.sensitivity, 0.0).max(-1)


def threshold_at(found: Decisions, specificity: float) -> float:
    """Return the lowest threshold of that specificity or more; infinity if only "negative" for all has it."""
    check_number("specificity", specificity, 0, 1 + 1e-9, "from 0 to 1")
    return float(found.thresholds[found.specificity >= specificity - _ROUNDING].min())


def threshold_by_cost(found: Decisions, missed: float, alarm: float) -> float:
    """Return the threshold whose decisions cost least; of several, the highest.

    Args:
        found: the decisions.
        missed: what a positive costs that is not found.
        alarm: what a false alarm costs.
    """
    return float(found.thresholds[costs(found, missed, alarm).argmin()])


def costs(found: Decisions, missed: float, alarm: float) -> np.ndarray:
    """Return what decisions at each threshold cost, a mean over the examples, [..., K + 1].

    Raises:
        InputError: if a cost is not above 0.
    """
    for name, cost in (("missed", missed), ("alarm", alarm)):
        check_number(name, cost, 0, np.inf, "a cost above 0", low_too=False)
    left = found.hits[..., -1:] - found.hits
    return (missed * left + alarm * found.alarms) / (found.hits + found.alarms)[..., -1:]


_ROUNDING = 1e-12  # of a share that is a quotient of two counts


class Rates(NamedTuple):
    """What a test is worth at one threshold; NaN where there is nothing to divide by.

    Attributes:
        sensitivity: the share of the positives that it finds.
        specificity: the share of the negatives that it leaves alone.
        positive_predictive_value: the share of its alarms that are right.
        negative_predictive_value: the share of those that it leaves alone that are negative.
        accuracy: the share of its decisions that are right.
    """

    sensitivity: Any
    specificity: Any
    positive_predictive_value: Any
    negative_predictive_value: Any
    accuracy: Any


def rates(found: Decisions, threshold: float) -> Rates:
    """Return what decisions at a threshold, which may lie between the scores, are worth, [...] each."""
    at = int((found.thresholds >= threshold).sum()) - 1
    hits, alarms = found.hits[..., at], found.alarms[..., at]
    positives, negatives = found.hits[..., -1], found.alarms[..., -1]
    right, left = hits + negatives - alarms, positives - hits + negatives - alarms
    return Rates(
        _share(hits, positives, nothing=np.nan),
        _share(negatives - alarms, negatives, nothing=np.nan),
        _share(hits, hits + alarms, nothing=np.nan),
        _share(negatives - alarms, left, nothing=np.nan),
        _share(right, positives + negatives, nothing=np.nan),
    )


class Interval(NamedTuple):
    """A number, and between which two numbers it may as well lie."""

    value: Any
    low: Any
    high: Any


def bootstrap(
    scores: np.ndarray,
    positive: np.ndarray,
    measure: Callable[[Decisions], Any],
    groups: np.ndarray | None = None,
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Any:
    """Return what is measured with its percentile intervals (Efron, 1979), an ``Interval`` of each array.

    Args:
        scores: [N].
        positive: bool [N].
        measure: ``measure(decisions)``, an array [..., *] or a dict, or named tuple, of such; ``...`` are the samples.
        groups: whose example each is, [N], such as the patient: then groups are drawn, each with all its examples.
        samples: how many are drawn; those without positives or without negatives are drawn anew.
        level: of the interval.
        seed: of the draw.
    """
    import jax  # noqa: PLC0415  (for trees alone)

    check_whole("samples", samples, 10)
    check_number("level", level, 0, 1, "in (0, 1), such as 0.95", low_too=False)
    positive = np.asarray(positive)
    value = measure(decisions(scores, positive))
    random = np.random.default_rng(seed)
    _, member = np.unique(np.arange(len(positive)) if groups is None else np.asarray(groups), return_inverse=True)
    number, parts, drawn = int(member.max()) + 1, [], 0
    while drawn < samples:
        size = min(samples - drawn, max(1, _AT_ONCE // len(positive)))
        weights = random.multinomial(number, np.full(number, 1 / number), size)[:, member]
        weights = weights[(weights * positive).any(-1) & (weights * ~positive).any(-1)]
        if len(weights):
            parts.append(measure(decisions(scores, positive, weights)))
        drawn += len(weights)
    ends = 50 * (1 - level), 50 * (1 + level)

    def interval(value: Any, *parts: Any) -> Interval:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)  # NaN is the answer, then
            return Interval(value, *np.nanpercentile(np.concatenate(parts), ends, axis=0))

    return jax.tree.map(interval, value, *parts)


class Calibration(NamedTuple):
    """How far probabilities are those with which it happens, by bins of them.

    Attributes:
        predicted: mean probability in each bin that has examples, [K].
        observed: share of positives there, [K].
        counts: examples there, [K].
        error: mean of the absolute differences of both, weighted by the counts (expected calibration error).
        brier: mean squared difference of probability and outcome (Brier, 1950).
    """

    predicted: np.ndarray
    observed: np.ndarray
    counts: np.ndarray
    error: float
    brier: float


def calibration(probabilities: np.ndarray, positive: np.ndarray, bins: int = 10) -> Calibration:
    """Return how well probabilities of "positive" [N] are calibrated, in ``bins`` of equal width.

    Raises:
        InputError: if they are no probabilities.
    """
    check_whole("bins", bins, 2)
    p, outcome = np.asarray(probabilities, np.float64), np.asarray(positive, np.float64)
    if p.ndim != 1 or p.shape != outcome.shape or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"probabilities {list(p.shape)} from {p.min():g} to {p.max():g}; give [N], from 0 to 1")
    edges = np.linspace(0, 1, bins + 1)
    index = np.searchsorted(edges[1:-1], p)  # as scikit-learn puts what lies on an edge
    counts = np.bincount(index, minlength=bins)
    kept = counts > 0
    predicted, observed = (np.bincount(index, values, bins)[kept] / counts[kept] for values in (p, outcome))
    error = float((np.abs(predicted - observed) * counts[kept]).sum() / len(p))
    return Calibration(predicted, observed, counts[kept], error, float(np.square(p - outcome).mean()))


def _share(part: Any, whole: Any, nothing: float = 0.0) -> np.ndarray:
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.full(part.shape, nothing), where=whole > 0)
