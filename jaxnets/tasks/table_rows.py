"""A table's rows: read from a user's files as the run's own encoder says, and what each column is worth to a model."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data import Data, Encoder, Spec, read_raw
from jaxnets.data.encoder import MISSING
from jaxnets.errors import InputError
from jaxnets.tasks.task import Examples, NoOptions, Trained
from jaxnets.training.evaluation import predict

_REPEATS = 3  # of each column's permutation
_MOST_ROWS = 2000  # in which columns are permuted
AT_ONCE = 1024  # rows that are predicted together


class Importance(NamedTuple):
    """How much worse a model becomes where a column's values are permuted (Breiman, 2001): mean and spread of three."""

    column: str
    mean: float
    std: float


def encoder_of(spec: Spec) -> Encoder:
    """Return the encoder of a run's table.

    Raises:
        InputError: if there is none.
    """
    if spec["inputs"].encoder is None:
        raise InputError("the run's data are no table: its spec.json has no encoder of columns")
    return spec["inputs"].encoder


def reading_rows(spec: Spec) -> Callable[[Sequence[str], Any], Examples]:
    """Return the ``read`` of a model of a table: CSV or Parquet files with the columns that it was trained on."""
    encoder = encoder_of(spec)

    def read(given: Sequence[str], options: NoOptions) -> Examples:
        if not given:
            raise InputError(f"nothing is given; give CSV or Parquet files with the columns {', '.join(encoder.names)}")
        names, inputs = [], []
        for name in given:
            columns = read_raw(Path(name))
            try:
                rows = encoder.encode(columns)
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
            inputs.append(rows)
            names += [{"file": name, "row": row} for row in range(len(rows))]
        return Examples(names, np.concatenate(inputs))

    return read


def outputs_of(trained: Trained, inputs: np.ndarray, link: Callable[[Any], Any]) -> list[np.ndarray]:
    """Return ``link(outputs)`` of each seed."""
    made = (predict(trained.learner, state, inputs, batch_size=AT_ONCE) for state in trained.states)
    return [np.asarray(link(outputs), np.float64) for outputs in made]


def importances(
    trained: Trained, encoder: Encoder, data: Data, loss: Callable[[Trained, np.ndarray, np.ndarray], float]
) -> list[Importance]:
    """Return by how much the mean loss rises where each column is permuted, the most important first.

    Args:
        trained: the model.
        encoder: of the table.
        data: rows that the model was not trained on.
        loss: ``loss(trained, inputs, labels)``, a mean over the rows.
    """
    random = np.random.default_rng(0)
    rows = np.sort(random.permutation(data.num_examples)[:_MOST_ROWS])
    inputs, labels = data["inputs"][rows], data["labels"][rows]
    usual, found = loss(trained, inputs, labels), []
    for name in encoder.names:
        places, rises = encoder.places(name), []
        for _ in range(_REPEATS):
            changed = inputs.copy()
            changed[:, places] = inputs[random.permutation(len(inputs))][:, places]
            rises.append(loss(trained, changed, labels) - usual)
        found.append(Importance(name, float(np.mean(rises)), float(np.std(rises))))
    return sorted(found, key=lambda one: -one.mean)


def save_importances(path: Path, found: Sequence[Importance]) -> None:
    """Keep importances as a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Importance._fields)
        writer.writerows(found)


def features_of(encoder: Encoder, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers, NaN where one is missing, and the codes of the categories, for models that take these."""
    count = len(encoder.numbers)
    missing = inputs[:, 2 * count : 3 * count] == MISSING
    return np.where(missing, np.nan, inputs[:, :count]), inputs[:, 3 * count :].astype(np.int64)
