"""The commands: what each does, given its arguments."""

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.table import Table

from jaxnets import lr_finder, plots, recipes, report
from jaxnets.cache import use_compile_cache
from jaxnets.config import from_dict, plain
from jaxnets.data import Splits, check_alike, read_inputs
from jaxnets.errors import InputError
from jaxnets.evaluation import evaluate as evaluate_data
from jaxnets.evaluation import predict as predict_data
from jaxnets.fit import fit
from jaxnets.learner import Learner
from jaxnets.options import LrFindOptions, NoOptions, TrainingConfig, TrainOptions
from jaxnets.plan import check
from jaxnets.progress import Display
from jaxnets.recipes import Recipe
from jaxnets.report import console
from jaxnets.run import Interrupted, Run, RunConfig, spread
from jaxnets.summary import summarize
from jaxnets.transforms import population

MOST_ROWS = 50  # of a table of predictions

RunFolder = Annotated[Path, tyro.conf.Positional]
RecipeFile = Annotated[Path | None, tyro.conf.arg(name="recipe")]


def train(recipe: Recipe, options: TrainOptions) -> int:
    """Train a recipe, by name or from a file of one's own, and keep everything in a new folder."""
    if options.seeds < 1:
        raise InputError(f"seeds={options.seeds} must be 1 or more")
    if not options.compile_cache:
        os.environ["JAXNETS_COMPILE_CACHE"] = "0"
    if options.overfit_one_batch:
        return _overfit(recipe, options.seed)
    run = Run.unused(options.out, recipe.name)
    seeds = tuple(range(options.seed, options.seed + options.seeds))
    run_config = RunConfig(recipe.name, plain(recipe.config), seeds, options.population)
    splits = recipe.load(recipe.config)
    learner = _members(recipe.build(recipe.config, splits.train.spec), run_config)
    report.describe(recipe, splits, run_config)
    training: TrainingConfig = recipe.config.training
    plan = check(learner, splits.train, **training.options(), seed=run_config.seed, validation=splits.validation)
    if splits.test is not None:
        check_alike(splits.train, splits.test, "test")
        learner.check(splits.test)
    if options.dry_run:
        report.dry_run(plan, splits, training.batch_size)
        return 0
    run.create(run_config, splits)
    return _train(run, recipe, learner, splits)


def resume(run: RunFolder, /, recipe: RecipeFile = None) -> int:
    """Go on with a run that was interrupted; the result has the same bits as an unbroken run's.

    Args:
        run: the run's folder.
        recipe: the recipe's file, if the run is of one's own recipe: a folder never names code to run.
    """
    opened, found = _open(run, recipe)
    if opened.result:
        console.print(f"{run} has ended: {opened.result['stop_reason']}")
        return 0
    splits = found.load(found.config)
    opened.check_data(splits)
    learner = _members(found.build(found.config, opened.spec), opened.config)
    report.describe(found, splits, opened.config)
    return _train(opened, found, learner, splits, resume=True)


def evaluate(run: RunFolder, /, recipe: RecipeFile = None, json: bool = False) -> int:
    """Evaluate a run's weights (once it has ended, those that were kept) on its validation and test data.

    Args:
        run: the run's folder.
        recipe: the recipe's file, if the run is of one's own recipe.
        json: print JSON.
    """
    opened, found = _open(run, recipe)
    splits = found.load(found.config)
    opened.check_data(splits)
    learner = _members(found.build(found.config, opened.spec), opened.config)
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
    files: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    recipe: RecipeFile = None,
    json: bool = False,
    invert: bool = False,
) -> int:
    """Predict with a run's weights; of several seeds, the mean of their probabilities.

    Args:
        run: the run's folder.
        files: images, or npy, npz or CSV files of inputs.
        recipe: the recipe's file, if the run is of one's own recipe.
        json: print JSON, one object an example.
        invert: swap dark and bright in images, for ink on paper and a model of white on black.
    """
    if not files:
        raise InputError("no files to predict; give images, npy, npz or CSV files")
    opened, found = _open(run, recipe)
    spec = opened.spec
    inputs = [read_inputs(path, spec["inputs"], invert=invert) for path in files]
    learner = _members(found.build(found.config, spec), opened.config)
    state = opened.train_state(learner)
    use_compile_cache()
    outputs = predict_data(learner, state, np.concatenate(inputs))
    names = [(str(path), row) for path, rows in zip(files, inputs, strict=True) for row in range(len(rows))]
    classes = spec["labels"].classes
    rows: list[dict[str, Any]] = []
    if classes and outputs.shape[-1] == len(classes):
        probabilities = np.asarray(jax.nn.softmax(outputs))
        probabilities = probabilities.mean(0) if np.ndim(state.step) else probabilities
        for (file, row), p in zip(names, probabilities, strict=True):
            rows.append({"file": file, "row": row, "class": classes[p.argmax()], "probability": float(p.max())})
    else:
        values = outputs.mean(0) if np.ndim(state.step) else outputs
        rows = [
            {"file": file, "row": row, "output": value.tolist()}
            for (file, row), value in zip(names, values, strict=True)
        ]
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


def summary(recipe: Recipe, options: NoOptions) -> int:
    """List layers, output shapes, parameters and FLOPs, without compiling."""
    spec = recipe.load(recipe.config).train.spec
    result = summarize(recipe.build(recipe.config, spec), spec["inputs"].example)
    table = Table("layer", "type", "output shape", "parameters", "FLOPs", title=recipe.name)
    for column in table.columns[3:]:
        column.justify = "right"
    for layer in result.layers:
        shape = " x ".join(map(str, layer.output_shape))
        numbers = (f"{n:,}" if n else "" for n in (layer.num_parameters, layer.flops))
        table.add_row(layer.path or "(whole)", layer.type, shape, *numbers)
    console.print(table)
    console.print(f"{result.num_parameters:,} parameters; {result.flops:,} FLOPs forward for one example")
    return 0


def lr_find(recipe: Recipe, options: LrFindOptions) -> int:
    """Raise the learning rate step by step until the loss explodes, and suggest one."""
    plots.check_picture(options.out)
    config = lr_finder.range_test_config(recipe.config, options.steps)
    splits = recipe.load(config)
    learner = recipe.build(config, splits.train.spec)
    test = lr_finder.range_test(learner, splits.train, config, options.seed)
    plots.save_range_test(options.out, test.rates, test.losses, test.suggestion)
    print(plots.sketch({"": [{"step": i, "train/loss": loss} for i, loss in enumerate(test.losses)]}))
    if test.suggestion is None:
        console.print(f"the loss never fell clearly: no suggestion; see {options.out}")
        return 1
    found = f"--learning-rate {test.suggestion:.1e} (a tenth of where the loss is lowest)"
    console.print(f"suggestion: {found}; drawn in {options.out}")
    return 0


def ls() -> int:
    """List recipes and presets."""
    for name, presets in recipes.catalogue().items():
        console.print(f"[bold]{name}[/bold]")
        for preset, (_, about) in presets.items():
            console.print(f"  {preset:<14}{about}")
    return 0


def _open(path: Path, file: Path | None) -> tuple[Run, Recipe]:
    """Return the run in a folder, and its recipe with the run's own config."""
    run = Run.open(path)
    names = [preset for presets in recipes.catalogue().values() for preset in presets]
    if file is None and run.config.recipe not in names:
        raise InputError(
            f"{path}: was trained by a recipe of one's own, {run.config.recipe!r}; name its file: --recipe FILE"
        )
    recipe = recipes.find(str(file or run.config.recipe))
    return run, recipe._replace(config=from_dict(type(recipe.config), run.config.config))


def _members(learner: Learner, config: RunConfig) -> Learner:
    """Return the learner, or, for several seeds, a population of it; its step is traced once, checked and run."""
    how: Any = config.population
    members = learner if len(config.seeds) == 1 else population(learner, len(config.seeds), how)
    return members._replace(step=jax.jit(members.step))


def _train(run: Run, recipe: Recipe, learner: Learner, splits: Splits, *, resume: bool = False) -> int:
    again = f"jaxnets resume {shlex.quote(str(run.path))}"
    if recipe.file.endswith(".py"):
        again += f" --recipe {shlex.quote(recipe.file)}"
    try:
        with Display() as display:
            result = run.train(learner, splits, recipe.config.training, display, resume=resume)
    except Interrupted as interrupted:
        console.print(f"interrupted by {interrupted}; everything is saved. To go on:\n  {again}")
        return interrupted.status
    report.report(run, result, again)
    return 1 if result["stop_reason"].startswith("diverged") else 0


def _overfit(recipe: Recipe, seed: int) -> int:
    """Train on one batch, and say whether the loss fell to a tenth."""
    config = recipe.config
    splits = recipe.load(config)
    size = min(config.training.batch_size, splits.train.num_examples)
    batch = splits.train.take(slice(size))
    training = replace(config.training, duration="300", batch_size=size, evaluate_every="20", patience=None)
    optimizer = replace(config.optimizer, schedule="constant", warmup=0, weight_decay=0.0, average=0.0)
    config = replace(config, training=training, optimizer=optimizer)
    learner = recipe.build(config, splits.train.spec)
    result = fit(learner, batch, **training.options(), seed=seed, validation=batch)
    first, last = (result.history[i]["train/loss" if i == 0 else "validation/loss"] for i in (0, -1))
    learned = last < 0.1 * first
    verdict = (
        "the model can learn" if learned else "it did not fall to a tenth: look at the model, the rate and the labels"
    )
    console.print(f"loss on one batch of {size}: {first:.4f} in the first steps, {last:.4f} after 300: {verdict}")
    return 0 if learned else 1


def _print_json(value: Any) -> None:
    print(json.dumps(plain(value), indent=2))
