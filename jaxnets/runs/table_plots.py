"""Pictures of a table's models: curves of a network beside others', calibration, cost, and what columns are worth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.runs.plots import figure

_MOST_BARS = 20  # columns that are drawn


class Told(NamedTuple):
    """What is drawn of a model's probabilities, at each threshold.

    Attributes:
        false_alarms: the share of the negatives that are said to be positive.
        sensitivity: the share of the positives that are found.
        precision: the share of those said to be positive that are.
        thresholds: from 1 down.
        costs: a mean over the rows.
        calibration: predicted and observed shares, and the error.
        auc: the area under the ROC curve.
        average_precision: the mean precision over the positives.
    """

    false_alarms: np.ndarray
    sensitivity: np.ndarray
    precision: np.ndarray
    thresholds: np.ndarray
    costs: np.ndarray
    calibration: Any
    auc: float
    average_precision: float


def save_classes(
    path: Path, told: Mapping[str, Told], ranked: Sequence[Any], positive: str, costs: tuple[float, float]
) -> None:
    """Save five panels: ROC, precision over sensitivity, calibration, cost over threshold, and the columns.

    Args:
        path: of the picture.
        told: by model.
        ranked: columns, with the mean and the spread of their importances.
        positive: name of the class that is to be found.
        costs: what a missed positive costs, and a false alarm.
    """
    drawing = figure(figsize=(16, 9))
    (roc, precision, bars), (reliability, cost, _) = drawing.subplots(2, 3)
    grid = bars.get_gridspec()
    for axes in (bars, _):
        axes.remove()
    for number, (name, one) in enumerate(told.items()):
        shown, colour = name.replace("_", " "), f"C{number}"
        roc.plot(one.false_alarms, one.sensitivity, color=colour, label=f"{shown}: {one.auc:.3f}")
        label = f"{shown}: {one.average_precision:.3f}"
        precision.plot(one.sensitivity[1:], one.precision[1:], color=colour, label=label)
        label = f"{shown}: error {one.calibration.error:.3f}"
        found = one.calibration
        reliability.plot(found.predicted, found.observed, marker="o", markersize=4, color=colour, label=label)
        cost.step(one.thresholds, one.costs, where="pre", color=colour, label=f"{shown}: {one.costs.min():.3f} at best")
    roc.plot([0, 1], [0, 1], color="0.6", linestyle=":")
    reliability.plot([0, 1], [0, 1], color="0.6", linestyle=":")
    roc.set(xlabel="share of false alarms", ylabel=f"share of {positive} that is found", title="ROC, area")
    precision.set(xlabel=f"share of {positive} that is found", ylabel="precision", title="average precision")
    reliability.set(xlabel="probability", ylabel=f"share that is {positive}", title="calibration")
    title = f"cost of the test rows: {costs[0]:g} a miss, {costs[1]:g} a false alarm"
    cost.set(xlabel=f"probability from which on it says {positive}", ylabel="mean cost", title=title)
    nobody, everybody = (next(iter(told.values())).costs[at] for at in (0, -1))
    cost.set_ylim(0, 1.3 * min(nobody, everybody))
    for axes in (roc, precision, reliability, cost):
        axes.set_xlim(0, 1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    _draw_importance(drawing.add_subplot(grid[:, 2]), ranked, "log loss")
    drawing.savefig(path, dpi=100)


def save_values(path: Path, true: np.ndarray, found: Mapping[str, np.ndarray], ranked: Sequence[Any]) -> None:
    """Save two panels: what was foretold over what is true, by model, and the columns.

    Args:
        path: of the picture.
        true: labels, [N].
        found: by model, the mean and, rising, quantiles, [N, 1 + Q].
        ranked: columns, with the mean and the spread of their importances.
    """
    drawing = figure(figsize=(12, 6))
    left, right = drawing.subplots(1, 2)
    for number, (name, values) in reversed([*enumerate(found.items())]):
        shown, colour = name.replace("_", " "), f"C{number}"
        if number == 0 and values.shape[1] > 2:
            order = np.argsort(values[:, 0])
            left.vlines(
                true[order], values[order, 1], values[order, -1], color=colour, alpha=0.15, label="its quantiles"
            )
        left.scatter(true, values[:, 0], s=8, alpha=0.7, color=colour, label=shown)
    ends = [true.min(), true.max()]
    left.plot(ends, ends, color="0.6", linestyle=":")
    left.set(xlabel="true", ylabel="foretold", title=f"{len(true):,} test rows")
    left.grid(alpha=0.3)
    left.legend(fontsize="small")
    _draw_importance(right, ranked, "mean squared error")
    drawing.savefig(path, dpi=100)


def save_importance(path: Path, ranked: Sequence[Any], of: str) -> None:
    """Save what columns are worth: by how much the loss rises where one is permuted."""
    drawing = figure(figsize=(7, 6))
    _draw_importance(drawing.subplots(), ranked, of)
    drawing.savefig(path, dpi=100)


def _draw_importance(axes: Any, ranked: Sequence[Any], of: str) -> None:
    shown = list(ranked[:_MOST_BARS])[::-1]
    axes.barh([one.column[:30] for one in shown], [one.mean for one in shown], xerr=[one.std for one in shown])
    axes.axvline(0, color="0.4", linewidth=0.8)
    more = f", the first {_MOST_BARS} of {len(ranked)}" if len(ranked) > _MOST_BARS else ""
    axes.set(xlabel=f"rise of the {of} where the column is permuted", title=f"importance of columns{more}")
    axes.grid(alpha=0.3, axis="x")
