"""Values of a table's rows: their mean and quantiles, measured beside ridge regression and boosting."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnets.data import Data, Spec, Splits
from jaxnets.runs import table_plots
from jaxnets.tasks.table_baselines import fitted_values
from jaxnets.tasks.table_rows import (
    encoder_of,
    importances,
    outputs_of,
    reading_rows,
    save_importances,
)
from jaxnets.tasks.task import Examples, Finished, Row, Task, Trained, one_row_each

_OF_QUANTILES = ("pinball", "coverage")  # what no metric in the loop measures


def table_values(spec: Spec, quantiles: tuple[float, ...]) -> Task:
    """Return the task of a value of each row of a table, and its quantiles.

    Quantiles are put in order where a network's cross (Chernozhukov et al., 2010).

    Args:
        spec: of the training data.
        quantiles: which are foretold beside the mean.
    """
    encoder = encoder_of(spec)

    def predict(trained: Trained, examples: Examples) -> np.ndarray:
        return np.mean(_values(trained, examples.inputs), 0)

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        names = ["value", *(f"quantile {q:g}" for q in quantiles)]
        return one_row_each(examples, [dict(zip(names, row, strict=True)) for row in made.tolist()])

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Measure the test rows, beside models that were fitted to the same training rows; draw; rank the columns."""
        test = splits.test or splits.validation
        if test is None:
            return Finished()
        others = {name: say(test["inputs"]) for name, say in fitted_values(encoder, splits, quantiles).items()}
        each = _values(trained, test["inputs"])
        ranked = importances(trained, encoder, test, _squared_error)
        save_importances(folder / "importance.csv", ranked)
        table_plots.save_values(folder / "table.png", test["labels"], {"network": np.mean(each, 0), **others}, ranked)
        own = [_measured(made, test, quantiles) for made in each]
        metrics = {f"test/{name}": [one[name] for one in own] for name in _OF_QUANTILES if quantiles}
        beside = {
            f"test/{what}_of_{name}": value
            for name, made in others.items()
            for what, value in _measured(made, test, quantiles).items()
        }
        between = f"share from the quantile {quantiles[0]:g} to {quantiles[-1]:g}" if quantiles else ""
        return Finished(metrics, beside, {"test/coverage": between} if quantiles else {})

    return Task(read=reading_rows(spec), predict=predict, rows=rows, finish=finish)


def _values(trained: Trained, inputs: np.ndarray) -> list[np.ndarray]:
    """Return mean and quantiles of each seed, these in order."""
    made = outputs_of(trained, inputs, lambda outputs: outputs)
    return [np.concatenate([values[:, :1], np.sort(values[:, 1:], 1)], 1) for values in made]


def _squared_error(trained: Trained, inputs: np.ndarray, labels: np.ndarray) -> float:
    return float(np.square(np.mean(_values(trained, inputs), 0)[:, 0] - labels).mean())


def _measured(made: np.ndarray, test: Data, quantiles: tuple[float, ...]) -> dict[str, float]:
    """Return what is measured of means and, if there are some, quantiles, [N, 1 + Q]."""
    from sklearn.metrics import mean_absolute_error, mean_pinball_loss, r2_score  # noqa: PLC0415  (slow to import)

    labels, weights = test["labels"], test.get("weights", np.ones(test.num_examples, np.float32))
    found = {
        "mae": float(mean_absolute_error(labels, made[:, 0], sample_weight=weights)),
        "r2": float(r2_score(labels, made[:, 0], sample_weight=weights)),
    }
    if made.shape[1] == 1:
        return found
    losses = [
        mean_pinball_loss(labels, made[:, 1 + i], alpha=q, sample_weight=weights) for i, q in enumerate(quantiles)
    ]
    inside = (made[:, 1] <= labels) & (labels <= made[:, -1])
    return found | {"pinball": float(np.mean(losses)), "coverage": float(np.average(inside, weights=weights))}
