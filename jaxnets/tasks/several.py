"""Several labels an example: which of them it has."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Spec, Splits
from jaxnets.metrics.labels import label_f1
from jaxnets.tasks.task import Examples, Finished, NoOptions, Row, Task, Trained, one_row_each
from jaxnets.training.evaluation import predict as predict_outputs


def several_labels(spec: Spec, read: Callable[[Sequence[str], Any], Examples]) -> Task:
    """Return the task of logits, one for each label that an example may have or not.

    Args:
        spec: of the training data; its labels' features are named.
        read: as a ``Task`` has it.
    """
    names = spec["labels"].features

    def predict(trained: Trained, examples: Examples) -> np.ndarray:
        return trained.mean(examples.inputs, jax.nn.sigmoid)

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        found = []
        for chances in made:
            order = [int(i) for i in np.argsort(-chances, kind="stable")]
            had = [f"{names[i]} ({chances[i]:.0%})" for i in order if chances[i] > 0.5]
            found.append({"labels": ", ".join(had) or f"none (next {names[order[0]]}, {chances[order[0]]:.0%})"})
        return one_row_each(examples, found)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Measure the F1 score of each label."""
        if splits.test is None or len(names) > _MOST:
            return Finished()
        metrics, about = {}, {}
        for state in trained.states:
            logits = predict_outputs(trained.learner, state, splits.test["inputs"])
            sums = label_f1().measure(jnp.asarray(logits), jnp.asarray(splits.test["labels"]), None)
            hits, false, missed = (np.asarray(part, np.float64) for part in sums)
            for i, name in enumerate(names):
                key = f"test/f1_of_label_{i}"
                metrics.setdefault(key, []).append(2 * hits[i] / max(2 * hits[i] + false[i] + missed[i], 1))
                about[key] = f"{name}, {int(hits[i] + missed[i])} of the test texts have it"
        return Finished(metrics, {}, about)

    return Task(read=read, predict=predict, rows=rows, options=NoOptions(), finish=finish)


_MOST = 30  # labels whose scores are told one by one
