"""The command that predicts with a run."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.table import Table

from jaxnets.commands.opening import RecipeFile, RunFolder, each_member, members, open_run, print_json, read
from jaxnets.data import Spec, check_table
from jaxnets.errors import InputError
from jaxnets.learner import Learner, TrainState
from jaxnets.recipes.recipe import Outputs
from jaxnets.runs import plots
from jaxnets.runs.console import console
from jaxnets.training.compiling import use_compile_cache
from jaxnets.training.evaluation import predict as predict_data

MOST_ROWS = 50  # of a table of predictions

MOST_ROWS = 50  # of a table of predictions


def predict(
    run: RunFolder,
    given: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    recipe: RecipeFile = None,
    out: Path | None = None,
    json: bool = False,
    invert: bool = False,
) -> int:
    """Predict with a run's weights.

    Of several seeds, it is the mean of their probabilities (of a translation, the first's).

    Args:
        run: the run's folder.
        given: images, npy, npz or CSV files of inputs, or, for a model of text, sentences.
        recipe: the recipe's file, if the run is of one's own recipe.
        out: where to keep the images that an autoencoder makes of those given: a picture of all, or an .npy file.
        json: print JSON, one object an example.
        invert: swap dark and bright in images, for ink on paper and a model of white on black.
    """
    if not given:
        raise InputError("nothing to predict; give images, npy, npz or CSV files, or sentences to a model of text")
    opened, found = open_run(run, recipe)
    spec = opened.spec
    learner = members(found.build(found.config, spec), opened.config)
    state = opened.train_state(learner)
    use_compile_cache()

    outputs = _Trained(learner, state, (found.build(found.config, spec), next(each_member(state))))
    if out is not None:
        if found.reconstruct is None:
            raise InputError(f"out={out}: {opened.config.recipe} makes no images of what it is given; leave it out")
        (check_table if out.suffix == ".npy" else plots.check_picture)(out)
    if found.predict is None:
        names, inputs = read([Path(path) for path in given], spec, invert)
        judged = found.judge(found.config, spec, inputs, outputs) if found.judge else _judge(spec, inputs, outputs)
        rows = [{"file": file, "row": row, **result} for (file, row), result in zip(names, judged, strict=True)]
        if out is not None and found.reconstruct is not None:
            _keep(out, found.reconstruct(found.config, spec, inputs, outputs))
    elif invert:
        raise InputError(f"--invert is for images; {opened.config.recipe} takes none")
    else:
        rows = found.predict(found.config, spec, given, outputs)
    if json:
        print_json(rows)
        return 0
    table = Table(*rows[0])
    for row in rows[:MOST_ROWS]:
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
    if len(rows) > MOST_ROWS:
        console.print(f"... and {len(rows) - MOST_ROWS:,} more; --json prints all")
    return 0


def _judge(spec: Spec, inputs: np.ndarray, outputs: Outputs) -> list[dict[str, Any]]:
    """Return each example's class and probability, or its output."""
    classes, values = spec["labels"].classes, outputs(inputs)
    if classes and values.shape[1:] == (len(classes),):
        probabilities = outputs(inputs, link=jax.nn.softmax)
        return [{"class": classes[row.argmax()], "probability": float(row.max())} for row in probabilities]
    return [{"output": row.tolist()} for row in values]


@dataclass(frozen=True)
class _Trained:
    """What the recipes see of a trained run: see ``recipes.Outputs``."""

    learner: Learner
    state: TrainState
    first: tuple[Learner, TrainState]

    def __call__(self, inputs: np.ndarray, link: Callable[[Any], Any] = lambda outputs: outputs) -> np.ndarray:
        values = np.asarray(link(predict_data(self.learner, self.state, inputs)))
        return values.mean(0) if np.ndim(self.state.step) else values


def _keep(path: Path, images: np.ndarray) -> None:
    """Keep images [N, H, W, C], pixels 0 to 1, as an array or as a picture of all."""
    if path.suffix == ".npy":
        np.save(path, images)
    else:
        plots.save_image_grid(path, images)
    print(f"kept in {path}", file=sys.stderr)
