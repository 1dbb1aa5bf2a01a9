"""Classes: which one an example is of, and how sure the model is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Data, Spec, Splits
from jaxnets.errors import InputError
from jaxnets.inference.ensembles import ensemble
from jaxnets.learners.supervised import row_weights
from jaxnets.metrics import confusion_matrix
from jaxnets.runs import plots
from jaxnets.tasks.task import Examples, FileOptions, Finished, Row, Task, Trained, one_row_each, reading_files
from jaxnets.training.evaluation import predict as predict_outputs

MOST_CLASSES = 100  # of which a confusion matrix is drawn


def classes(
    spec: Spec, read: Callable[[Sequence[str], Any], Examples] | None = None, options: Any = FileOptions()
) -> Task:
    """Return the task of logits, one for each of the classes of ``spec``'s labels.

    Args:
        spec: of the training data.
        read: as a ``Task`` has it; files of inputs if absent.
        options: of ``read``.
    """
    names, labels = spec["labels"].classes, spec["labels"]
    if labels.low == labels.high:
        raise InputError(
            f"all labels are of the class {names[int(labels.low)]!r}: there is nothing to tell apart; give two or more"
        )

    def predict(trained: Trained, examples: Examples) -> np.ndarray:
        return trained.mean(examples.inputs, jax.nn.softmax)

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        found = [{"class": names[row.argmax()], "probability": float(row.max())} for row in made]
        return one_row_each(examples, found)

    def agreement(trained: Trained, examples: Examples) -> Sequence[Row]:
        of_each = [predict_outputs(trained.learner, state, examples.inputs) for state in trained.states]
        found = ensemble(np.stack(of_each))
        pairs = zip(found.agreement.tolist(), found.disagreement.tolist(), strict=True)
        return [{"agreement": share, "disagreement": nats} for share, nats in pairs]

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        held_out = splits.test or splits.validation
        if held_out is not None and len(names) <= MOST_CLASSES:
            plots.save_confusion(folder / "confusion.png", _confusion(trained, held_out, len(names)), names)
        return Finished()

    return Task(
        read=read or reading_files(spec),
        predict=predict,
        rows=rows,
        options=options,
        agreement=agreement,
        finish=finish,
    )


def _confusion(trained: Trained, data: Data, num_classes: int) -> np.ndarray:
    """Return how many examples of each class [row] were taken for each [column], by weight, over all seeds."""
    metric, weights = confusion_matrix(num_classes), row_weights(dict(data))
    of_each = (predict_outputs(trained.learner, state, data["inputs"]) for state in trained.states)
    return np.sum([metric.measure(outputs, jnp.asarray(data["labels"]), weights) for outputs in of_each], axis=0)
