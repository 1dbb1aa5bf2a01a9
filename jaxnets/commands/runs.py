"""Commands that take the folder of a run."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.table import Table

from jaxnets import plots, report
from jaxnets.autoencoding import Autoencoded
from jaxnets.cache import use_compile_cache
from jaxnets.commands.common import each_member, members, open_run, run_to_the_end
from jaxnets.config import plain
from jaxnets.data import Spec, check_table, read_inputs, write_table
from jaxnets.errors import InputError
from jaxnets.evaluation import evaluate as evaluate_data
from jaxnets.evaluation import predict as predict_data
from jaxnets.learner import Learner, TrainState
from jaxnets.options import GenerateOptions
from jaxnets.recipes import Outputs
from jaxnets.report import console
from jaxnets.run import Run, spread

MOST_ROWS = 50  # of a table of predictions

RunFolder = Annotated[Path, tyro.conf.Positional]
RecipeFile = Annotated[Path | None, tyro.conf.arg(name="recipe")]


def resume(run: RunFolder, /, recipe: RecipeFile = None) -> int:
    """Go on with a run that was interrupted; the result has the same bits as an unbroken run's.

    Args:
        run: the run's folder.
        recipe: the recipe's file, if the run is of one's own recipe: a folder never names code to run.
    """
    opened, found = open_run(run, recipe)
    if opened.result:
        console.print(f"{run} has ended: {opened.result['stop_reason']}")
        return 0
    splits = found.load(found.config)
    opened.check_data(splits)
    learner = members(found.build(found.config, opened.spec), opened.config)
    report.describe(found, splits, opened.config)
    return run_to_the_end(opened, found, learner, splits, resume=True)


def evaluate(run: RunFolder, /, recipe: RecipeFile = None, json: bool = False) -> int:
    """Evaluate a run's weights (once it has ended, those that were kept) on its validation and test data.

    Args:
        run: the run's folder.
        recipe: the recipe's file, if the run is of one's own recipe.
        json: print JSON.
    """
    opened, found = open_run(run, recipe)
    splits = found.load(found.config)
    opened.check_data(splits)
    learner = members(found.build(found.config, opened.spec), opened.config)
    state = opened.train_state(learner)
    use_compile_cache()
    held_out = {"validation": splits.validation, "test": splits.test}
    metrics = {
        f"{split}/{name}": value
        for split, data in held_out.items()
        if data is not None
        for name, value in evaluate_data(learner, state, data).items()
    }
    if json:
        _print_json({name: spread(value) for name, value in metrics.items()})
    else:
        console.print(report.metrics(metrics, len(opened.config.seeds)))
    return 0


def predict(
    run: RunFolder,
    given: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    recipe: RecipeFile = None,
    out: Path | None = None,
    json: bool = False,
    invert: bool = False,
) -> int:
    """Predict with a run's weights; of several seeds, the mean of their probabilities (a translation is the first's).

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
        names, inputs = _read([Path(path) for path in given], spec, invert)
        judged = found.judge(found.config, spec, inputs, outputs) if found.judge else _judge(spec, inputs, outputs)
        rows = [{"file": file, "row": row, **result} for (file, row), result in zip(names, judged, strict=True)]
        if out is not None and found.reconstruct is not None:
            _keep(out, found.reconstruct(found.config, spec, inputs, outputs))
    elif invert:
        raise InputError(f"--invert is for images; {opened.config.recipe} takes none")
    else:
        rows = found.predict(found.config, spec, given, outputs)
    if json:
        _print_json(rows)
        return 0
    table = Table(*rows[0])
    for row in rows[:MOST_ROWS]:
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
    if len(rows) > MOST_ROWS:
        console.print(f"... and {len(rows) - MOST_ROWS:,} more; --json prints all")
    return 0


def encode(
    run: RunFolder,
    given: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    out: Path | None = None,
    recipe: RecipeFile = None,
    invert: bool = False,
) -> int:
    """Write the codes that an autoencoder (of several seeds, the first) gives to images, a row each.

    Args:
        run: the run's folder.
        given: images, npy, npz or CSV files of inputs.
        out: the file to write, .npy, .npz or .csv; codes.npy in the run's folder if absent.
        recipe: the recipe's file, if the run is of one's own recipe.
        invert: swap dark and bright in images, for ink on paper and a model of white on black.
    """
    if not given:
        raise InputError("nothing to encode; give images, npy, npz or CSV files")
    path = out or run / "codes.npy"
    check_table(path)
    opened, found = open_run(run, recipe)
    spec = opened.spec
    learner = found.build(found.config, spec)
    state = next(each_member(opened.train_state(members(learner, opened.config))))
    example = jax.ShapeDtypeStruct((1, *spec["inputs"].shape), spec["inputs"].dtype)
    predicted = jax.eval_shape(learner.predict, state, example)
    if not isinstance(predicted, Autoencoded) or predicted.codes.ndim != 2:
        raise InputError(f"{run}: {opened.config.recipe} is no single autoencoder, and has no code for each example")
    names, inputs = _read(given, spec, invert)
    use_compile_cache()
    codes = predict_data(learner, state, inputs).codes
    write_table(path, codes, [f"code_{i}" for i in range(codes.shape[-1])])
    console.print(f"codes of {len(names):,} examples, {codes.shape[-1]} numbers each, kept in {path}")
    return 0


def generate(run: RunFolder, /, recipe: RecipeFile = None, options: GenerateOptions = GenerateOptions()) -> int:
    """Draw from a run's weights (of several seeds, the first's) what may follow a prompt.

    Args:
        run: the run's folder.
        recipe: the recipe's file, if the run is of one's own recipe.
        options: what is drawn.
    """
    opened, found = open_run(run, recipe)
    if found.generate is None:
        raise InputError(f"{run}: {opened.config.recipe} is no model that generates")
    learner = found.build(found.config, opened.spec)
    state = next(each_member(opened.train_state(members(learner, opened.config))))
    options = replace(options, out=options.out or run / "generated")
    use_compile_cache()
    drawn = found.generate(found.config, opened.spec, learner, state, options)
    print(drawn.text)
    if drawn.files:
        print(f"kept in {', '.join(map(str, drawn.files))}", file=sys.stderr)
    return 0


def plot(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    out: Path | None = None,
) -> int:
    """Draw training and validation curves, as a PNG and in the terminal.

    Args:
        runs: the folders of one or several runs.
        out: the picture; curves.png in the run's folder, or here for several runs.
    """
    if not runs:
        raise InputError("no runs to plot; name their folders")
    path = out or (runs[0] / "curves.png" if len(runs) == 1 else Path("curves.png"))
    plots.check_picture(path)
    histories = {str(path): Run.open(path).history() for path in runs}
    empty = [name for name, rows in histories.items() if not rows]
    if empty:
        raise InputError(f"{', '.join(empty)}: no metrics to draw yet")
    plots.save_curves(path, histories)
    print(plots.sketch(histories))
    console.print(f"drawn in {path}")
    return 0


def _read(files: Sequence[Path], spec: Spec, invert: bool) -> tuple[list[tuple[str, int]], np.ndarray]:
    """Return the file and row of each example in the files, and all examples."""
    inputs = [read_inputs(path, spec["inputs"], invert=invert) for path in files]
    names = [(str(path), row) for path, rows in zip(files, inputs, strict=True) for row in range(len(rows))]
    return names, np.concatenate(inputs)


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


def _print_json(value: Any) -> None:
    print(json.dumps(plain(value), indent=2))
