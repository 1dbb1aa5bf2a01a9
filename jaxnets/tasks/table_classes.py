"""Classes of a table's rows: measured beside a linear model and boosting, with a threshold by cost."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Data, Spec, Splits
from jaxnets.errors import InputError, nearest
from jaxnets.inference import clinical
from jaxnets.inference.clinical import Decisions
from jaxnets.learners.supervised import row_weights
from jaxnets.metrics import Metric, compute, log_loss
from jaxnets.runs import table_plots
from jaxnets.runs.table_plots import Told
from jaxnets.tasks.classes import classes
from jaxnets.tasks.table_baselines import fitted_classes
from jaxnets.tasks.table_rows import (
    encoder_of,
    importances,
    outputs_of,
    reading_rows,
    save_importances,
)
from jaxnets.tasks.task import Finished, NoOptions, Task, Trained

_BINS = 10  # of probabilities, in which calibration is measured
_LEAST = 1e-7  # a probability, in the log loss


def table_classes(spec: Spec, metrics: Mapping[str, Metric], positive: str | None, costs: tuple[float, float]) -> Task:
    """Return the task of classes of a table's rows.

    Args:
        spec: of the training data.
        metrics: what is measured of the network, and so of what stands beside it, by name.
        positive: of two classes, the one that is to be found; the rarer one if absent.
        costs: what a missed positive costs, and a false alarm.

    Raises:
        InputError: if there is no such class, or what is said of two classes is said of more.
    """
    names, encoder = spec["labels"].classes, encoder_of(spec)
    if positive is not None and positive not in names:
        raise InputError(f"positive={positive!r} is no class{nearest(positive, names)}; there are {', '.join(names)}")
    if len(names) != 2 and (positive is not None or costs != (1.0, 1.0)):
        raise InputError(f"positive={positive!r} and costs={costs} are of two classes, and there are {len(names)}")
    usual = classes(spec, reading_rows(spec), NoOptions())

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Measure models that were fitted to the same training rows; draw; rank the columns."""
        assert usual.finish is not None
        usual.finish(trained, splits, folder)
        test = splits.test or splits.validation
        if test is None:
            return Finished()
        ranked = importances(trained, encoder, test, _log_loss_of)
        save_importances(folder / "importance.csv", ranked)
        others = fitted_classes(encoder, splits)
        made = {name: say(test["inputs"]) for name, say in others.items()}
        beside = {
            f"test/{what}_of_{name}": value
            for name, found in made.items()
            for what, value in _measured({"loss": log_loss, **metrics}, found, test).items()
        }
        if len(names) > 2:
            table_plots.save_importance(folder / "table.png", ranked, "log loss")
            return Finished({}, beside)
        number, choose = _positive(splits.train, positive), splits.validation or splits.train
        own, by = _softmax(trained, test["inputs"]), _softmax(trained, choose["inputs"])
        cost = [_cost(found, chosen, test, choose, number, costs) for found, chosen in zip(own, by, strict=True)]
        beside |= {
            f"test/mean_cost_of_{name}": _cost(made[name], say(choose["inputs"]), test, choose, number, costs)
            for name, say in others.items()
        }
        made = {"network": np.mean(own, 0)} | made
        told = {name: _told(found[:, number], test["labels"] == number, costs) for name, found in made.items()}
        table_plots.save_classes(folder / "table.png", told, ranked, names[number], costs)
        about = f"{costs[0]:g} for a {names[number]} that is missed, {costs[1]:g} for a false alarm"
        return Finished({"test/mean_cost": cost}, beside, {"test/mean_cost": about})

    return replace(usual, finish=finish)


def _softmax(trained: Trained, inputs: np.ndarray) -> list[np.ndarray]:
    return outputs_of(trained, inputs, lambda logits: jax.nn.softmax(logits, axis=-1))


def _log_loss_of(trained: Trained, inputs: np.ndarray, labels: np.ndarray) -> float:
    made = np.mean(_softmax(trained, inputs), 0)
    return float(-np.log(np.maximum(made[np.arange(len(labels)), labels], _LEAST)).mean())


def _positive(train: Data, positive: str | None) -> int:
    """Return the number of the class that is to be found."""
    if positive is not None:
        return train.classes.index(positive)
    return int(np.bincount(train["labels"], minlength=len(train.classes)).argmin())


def _measured(metrics: Mapping[str, Metric], made: np.ndarray, data: Data) -> dict[str, float]:
    """Return what metrics say of probabilities [N, C], by name."""
    logits = jnp.log(jnp.asarray(np.maximum(made, _LEAST), jnp.float32))
    labels, weights = jnp.asarray(data["labels"]), row_weights(data)
    sums = {name: metric.measure(logits, labels, weights) for name, metric in metrics.items()}
    return {name: float(value) for name, value in compute(metrics, jax.device_get(sums)).items()}


def _cost(
    made: np.ndarray, chosen: np.ndarray, test: Data, choose: Data, number: int, costs: tuple[float, float]
) -> float:
    """Return the mean cost of the test rows' decisions, by the threshold that costs least in the rows to choose by."""

    def decided(found: np.ndarray, data: Data) -> Decisions:
        return clinical.decisions(found[:, number], data["labels"] == number, data.get("weights"))

    found, threshold = decided(made, test), clinical.threshold_by_cost(decided(chosen, choose), *costs)
    return float(clinical.costs(found, *costs)[int((found.thresholds >= threshold).sum()) - 1])


def _told(scores: np.ndarray, positive: np.ndarray, costs: tuple[float, float]) -> Told:
    """Return what is drawn of a model's probabilities."""
    found = clinical.decisions(scores, positive)
    return Told(
        1 - found.specificity,
        found.sensitivity,
        found.precision,
        np.minimum(found.thresholds, 1.0),
        clinical.costs(found, *costs),
        clinical.calibration(scores, positive, _BINS),
        float(clinical.auroc(found)),
        float(clinical.average_precision(found)),
    )
