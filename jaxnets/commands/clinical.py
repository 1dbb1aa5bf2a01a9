"""What ``evaluate --clinical`` says: what a clinician reads of a classifier of two classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.table import Table

from jaxnets.commands.opening import Opened, print_json
from jaxnets.data import FOLD, GROUP, Data, Splits
from jaxnets.errors import InputError, check_field, nearest
from jaxnets.inference import clinical
from jaxnets.inference.clinical import Calibration, Decisions, Interval, Rates
from jaxnets.learner import TrainState
from jaxnets.runs import clinical_plots, plots
from jaxnets.runs.console import console
from jaxnets.training.evaluation import predict


@dataclass(frozen=True)
class ClinicalOptions:
    """What a clinician reads of a classifier of two classes."""

    clinical: bool = False
    """of a classifier of two classes: sensitivity at a specificity, ROC and precision-recall, calibration and decisions
    by cost, each with 95% bootstrap intervals; --out draws them"""
    positive: str | None = None
    """with --clinical: the class that is to be found, such as an illness; the second if absent"""
    specificity: float = 0.9
    """with --clinical: the share of the negatives that is to be left alone"""
    costs: tuple[float, float] = (1.0, 1.0)
    """with --clinical: what a missed positive costs, and a false alarm"""

    def __post_init__(self) -> None:
        """Check the ranges, and that no flag is without use."""
        check_field(self, "specificity", 0 < self.specificity <= 1, "in (0, 1]")
        check_field(self, "costs", min(self.costs) > 0 and max(self.costs) < float("inf"), "two costs above 0")
        fields = ("positive", "specificity", "costs")
        if not self.clinical and (idle := [n for n in fields if getattr(self, n) != getattr(ClinicalOptions, n)]):
            raise InputError(f"{idle[0]}={getattr(self, idle[0])!r} changes nothing without --clinical; give it, too")


class _Scored(NamedTuple):
    """The probability of the positive class of each example, which are positive, and whose each is, if known."""

    probabilities: np.ndarray
    positive: np.ndarray
    groups: np.ndarray | None


class Clinical(NamedTuple):
    """All that is said of a classifier on one part of the data.

    Attributes:
        measures: by name, as intervals.
        thresholds: decisions are positive from there on, by how it was chosen.
        rates: at each threshold, by name, as intervals.
        curves: sensitivity at 101 false-alarm rates, and precision at 101 sensitivities, as intervals.
        decisions: at every threshold.
        costs: of these, a mean over the examples.
        calibration: of the probabilities.
        prevalence: share of positives.
    """

    measures: Mapping[str, Interval]
    thresholds: Mapping[str, float]
    rates: Mapping[str, Mapping[str, Interval]]
    curves: Mapping[str, Interval]
    decisions: Decisions
    costs: np.ndarray
    calibration: Calibration
    prevalence: float


def report(
    opened: Opened, state: TrainState, splits: Splits, options: ClinicalOptions, out: Path | None, *, json: bool
) -> int:
    """Print, and draw, what a clinician reads of a run's classifier; of several seeds, of their mean probability.

    Thresholds are chosen on the validation data and measured on the test data, where there are both.

    Raises:
        InputError: if it is no classifier of two classes, or no data were held out.
    """
    names = _check(opened, options)
    number = len(names) - 1 if options.positive is None else names.index(options.positive)
    parts = {part: data for part, data in splits.parts.items() if part != "train"}
    if not parts:
        raise InputError(f"{opened.run.path}: no data were held out to measure it on; train with --validation 0.2")
    scored = {part: _scored(opened, state, data, number) for part, data in parts.items()}
    measured, chosen = scored[list(parts)[-1]], scored[next(iter(parts))]
    found = clinical_of(measured, chosen, options)
    if out is not None:
        plots.check_picture(out)
        clinical_plots.save_clinical(out, found, names[number], options.specificity, options.costs)
    where = list(parts)
    if json:
        print_json(_plain(found) | {"part": where[-1], "thresholds_of": where[0], "positive": names[number]})
        return 0
    console.print(
        f"{where[-1]} data: {len(measured.positive):,} examples, {measured.positive.sum():,} of them {names[number]}; "
        f"95% intervals by bootstrap{'' if measured.groups is None else ' of groups'}",
        markup=False,
    )
    console.print(_table_of_measures(found, options))
    console.print(f"decisions, by thresholds that were chosen on the {where[0]} data:")
    console.print(_table_of_rates(found))
    return 0


def _check(opened: Opened, options: ClinicalOptions) -> tuple[str, ...]:
    """Return the names of the two classes."""
    labels = opened.spec.columns.get("labels")
    names = () if labels is None or labels.shape not in ((), (1,)) else labels.classes
    if len(names) != 2:
        what = f"{len(names)} classes" if names else "no classes"
        raise InputError(f"{opened.run.path}: {opened.config.recipe} has {what}; --clinical is for two")
    if options.positive is not None and options.positive not in names:
        near = nearest(options.positive, names)
        raise InputError(f"positive={options.positive!r} is no class{near}; there are {' and '.join(names)}")
    return names


def _scored(opened: Opened, state: TrainState, data: Data, number: int) -> _Scored:
    """Return what is predicted: of seeds the mean, of folds that of the member that has not seen the example."""
    from scipy.special import expit  # noqa: PLC0415  (slow to import)

    outputs = np.asarray(predict(opened.members, state, data["inputs"]), np.float64)
    odds = outputs[..., -1] - (outputs[..., 0] if outputs.shape[-1] == 2 else 0)  # or one logit: of the second
    probabilities = expit(odds if number else -odds)  # in float64: of many that are all but sure, which are surer
    if np.ndim(state.step):
        folds = data.get(FOLD)
        rows = np.arange(data.num_examples)
        probabilities = probabilities.mean(0) if folds is None else probabilities[folds, rows]
    return _Scored(probabilities, data["labels"].reshape(-1) == number, data.get(GROUP))


_GRID = np.linspace(0, 1, 101)


def clinical_of(measured: _Scored, chosen: _Scored, options: ClinicalOptions) -> Clinical:
    """Return what is said of the ``measured`` part, at thresholds that were chosen on another."""
    missed, alarm = options.costs
    elsewhere = clinical.decisions(chosen.probabilities, chosen.positive)
    thresholds = {
        f"specificity {options.specificity:g}": clinical.threshold_at(elsewhere, options.specificity),
        "least cost": clinical.threshold_by_cost(elsewhere, missed, alarm),
        "a half": 0.5,
    }

    def measure(found: Decisions) -> Any:
        measures = {
            "auroc": clinical.auroc(found),
            "average_precision": clinical.average_precision(found),
            "sensitivity_at_specificity": clinical.sensitivity_at(found, options.specificity),
        }
        rates = {name: clinical.rates(found, threshold)._asdict() for name, threshold in thresholds.items()}
        for name, threshold in thresholds.items():
            at = int((found.thresholds >= threshold).sum()) - 1
            rates[name]["cost"] = clinical.costs(found, missed, alarm)[..., at]
        return measures, rates, {"roc": _sensitivities(found), "precision_recall": _precisions(found)}

    measures, rates, curves = clinical.bootstrap(measured.probabilities, measured.positive, measure, measured.groups)
    own = clinical.decisions(measured.probabilities, measured.positive)
    return Clinical(
        measures,
        thresholds,
        rates,
        curves,
        own,
        clinical.costs(own, missed, alarm),
        clinical.calibration(measured.probabilities, measured.positive),
        float(measured.positive.mean()),
    )


def _sensitivities(found: Decisions) -> np.ndarray:
    """Return the highest sensitivity at false-alarm rates of up to 0, 0.01, ..., 1, [..., 101]."""
    return np.stack([clinical.sensitivity_at(found, 1 - rate) for rate in _GRID], -1)


def _precisions(found: Decisions) -> np.ndarray:
    """Return the highest precision at sensitivities of 0, 0.01, ..., 1 or more, [..., 101]."""
    return np.stack([np.where(found.sensitivity >= share - 1e-12, found.precision, 0.0).max(-1) for share in _GRID], -1)


def _plain(found: Clinical) -> dict[str, Any]:
    """Return what JSON says, without the curves."""
    numbers = {"calibration_error": found.calibration.error, "brier": found.calibration.brier}
    kept = {"measures": found.measures, "thresholds": found.thresholds, "rates": found.rates}
    parts = jax.tree.map(
        lambda one: dict(zip(("value", "low", "high"), map(float, one), strict=True)) if _is_interval(one) else one,
        kept,
        is_leaf=_is_interval,
    )
    return parts | numbers | {"prevalence": found.prevalence}


def _is_interval(value: Any) -> bool:
    return isinstance(value, Interval)


def _told(found: Interval, digits: int = 3) -> str:
    value, low, high = (f"{float(number):.{digits}f}" for number in found)
    return f"{value} ({low}-{high})"


def _table_of_measures(found: Clinical, options: ClinicalOptions) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    titles = {
        "auroc": "area under the ROC curve",
        "average_precision": f"average precision (prevalence {found.prevalence:.3f})",
        "sensitivity_at_specificity": f"sensitivity at a specificity of {options.specificity:g}",
    }
    for name, title in titles.items():
        table.add_row(title, _told(found.measures[name]))
    table.add_row("calibration error", f"{found.calibration.error:.3f}")
    table.add_row("Brier score", f"{found.calibration.brier:.3f}")
    return table


def _table_of_rates(found: Clinical) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name, threshold in found.thresholds.items():
        table.add_column(f"{name}:\nfrom {threshold:.3f} on", justify="right", no_wrap=True)
    for row in (*Rates._fields, "cost"):
        cells = (_told(found.rates[name][row], 2) for name in found.thresholds)
        table.add_row(row.replace("_", " "), *cells)
    return table
