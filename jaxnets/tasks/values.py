"""Values: whatever numbers a model puts out, as they are."""

from collections.abc import Sequence

import numpy as np

from jaxnets.data import Spec
from jaxnets.tasks.task import Examples, FileOptions, Row, Task, Trained, one_row_each, reading_files


def values(spec: Spec) -> Task:
    """Return the task of outputs that are printed as they are, the mean over seeds."""

    def predict(trained: Trained, examples: Examples) -> np.ndarray:
        return trained.mean(examples.inputs)

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        return one_row_each(examples, [{"output": row.tolist()} for row in made])

    return Task(read=reading_files(spec), predict=predict, rows=rows, options=FileOptions())
