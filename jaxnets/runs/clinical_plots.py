"""The picture of what a clinician reads: ROC, precision over sensitivity, calibration, and cost over threshold."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.runs.plots import figure

_GRID = np.linspace(0, 1, 101)


def save_clinical(path: Path, found: Any, positive: str, specificity: float, prices: tuple[float, float]) -> None:
    """Save four panels.

    Args:
        path: of the picture.
        found: what ``evaluate --clinical`` found, with its intervals.
        positive: name of the class that is to be found.
        specificity: which is marked on the ROC curve.
        prices: what a missed positive costs, and a false alarm.
    """
    drawing = figure(figsize=(11, 9))
    (roc, precision), (reliability, cost) = drawing.subplots(2, 2)
    decisions, curves, measures = found.decisions, found.curves, found.measures
    at = f"{float(measures['sensitivity_at_specificity'].value):.3f} at a specificity of {specificity:g}"
    roc.fill_between(_GRID, curves["roc"].low, curves["roc"].high, step="post", alpha=0.2, linewidth=0)
    roc.plot(1 - decisions.specificity, decisions.sensitivity, label=f"area {_told(measures['auroc'])}")
    roc.axvline(1 - specificity, color="C1", linestyle="--", label=at)
    roc.plot([0, 1], [0, 1], color="0.6", linestyle=":")
    roc.set(xlabel="1 - specificity", ylabel=f"sensitivity for {positive}", title="ROC")
    band = curves["precision_recall"]
    precision.fill_between(_GRID, band.low, band.high, step="pre", alpha=0.2, linewidth=0)
    label = f"average precision {_told(measures['average_precision'])}"
    precision.plot(decisions.sensitivity[1:], decisions.precision[1:], label=label)
    precision.axhline(found.prevalence, color="0.6", linestyle=":", label=f"prevalence {found.prevalence:.3f}")
    precision.set(xlabel=f"sensitivity for {positive}", ylabel="precision", title="precision and sensitivity")
    _draw_calibration(reliability, found.calibration, positive)
    thresholds = np.clip(decisions.thresholds, 0, 1)
    each = found.costs
    cost.step(thresholds, each, where="pre")
    for value, name in ((each[0], f"nobody is said to be {positive}"), (each[-1], "everybody is")):
        cost.axhline(value, color="0.6", linestyle=":" if value == each[0] else "-.", label=name)
    cost.set_ylim(0, 1.05 * each.max())
    for number, (name, threshold) in enumerate(found.thresholds.items()):
        cost.axvline(min(threshold, 1.0), color=f"C{number + 1}", linestyle="--", label=name)
    title = f"cost: {prices[0]:g} a miss, {prices[1]:g} a false alarm"
    cost.set(xlabel=f"probability from which on it says {positive}", ylabel="mean cost", title=title)
    for axes in (roc, precision, reliability, cost):
        axes.set_xlim(0, 1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    for axes in (roc, precision, reliability):
        axes.set_ylim(0, 1.02)
    drawing.savefig(path, dpi=110)


def _draw_calibration(axes: Any, found: Any, positive: str) -> None:
    """Draw shares over probabilities, with 95% intervals (Wilson, 1927), and how many examples are where."""
    n, p, z = found.counts, found.observed, 1.96
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    errors = np.maximum([p - (middle - half), middle + half - p], 0)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":")
    label = f"calibration error {found.error:.3f}, Brier score {found.brier:.3f}"
    axes.errorbar(found.predicted, p, errors, marker="o", capsize=3, label=label)
    axes.bar(found.predicted, n / n.sum(), width=0.03, color="0.8", label="share of the examples")
    axes.set(xlabel="probability that is predicted", ylabel=f"share that is {positive}", title="calibration")


def _told(found: Any) -> str:
    return f"{float(found.value):.3f} ({float(found.low):.3f} to {float(found.high):.3f})"
