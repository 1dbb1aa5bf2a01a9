"""The command that predicts with a run."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from jaxnets.commands.opening import RecipeFile, open_run, print_json
from jaxnets.errors import InputError
from jaxnets.runs.console import console
from jaxnets.training.compiling import use_compile_cache

MOST_ROWS = 50  # of a table of predictions


@dataclass(frozen=True)
class PredictOptions:
    """What is predicted, and how it is shown; what the run's kind of output takes comes beside."""

    given: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """images or folders of them, npy, npz or CSV files of inputs, or, for a model of text, sentences"""
    recipe: RecipeFile = None
    """the recipe's file, if the run is of one's own recipe"""
    out: Path | None = None
    """where to keep the images that are made of those given: an autoencoder's, as a picture of all or an .npy file, or
    those given with the boxes that are found, as a picture"""
    ensemble: bool = False
    """with several seeds: how far they agree on each example, beside the mean"""
    json: bool = False
    """print JSON, one object an example"""


def options_of(run: Path, recipe: Path | None) -> Any:
    """Return the options that the run's kind of output takes, as they stand by default."""
    return open_run(run, recipe).task.options


def predict(run: Path, options: PredictOptions, reading: Any) -> int:
    """Predict with a run's weights.

    Of several seeds, it is the mean of their probabilities (of a translation, the first's).

    Args:
        run: the run's folder.
        options: what is predicted.
        reading: options of the run's kind of output.
    """
    opened = open_run(run, options.recipe)
    task = opened.task
    if options.out is not None:
        if task.save is None:
            raise InputError(f"out={options.out}: {opened.config.recipe} makes no images of what it is given")
        task.check_save(options.out)
    if options.ensemble and (task.agreement is None or len(opened.config.seeds) == 1):
        what = "has one seed" if task.agreement else f"{opened.config.recipe} has no classes to agree on"
        raise InputError(f"{run}: {what}, and --ensemble says how far several classifiers agree; leave it out")
    examples = task.read(options.given, reading)
    use_compile_cache()
    trained = opened.trained()
    made = task.predict(trained, examples)
    if options.out is not None and task.save is not None:
        task.save(options.out, made)
        print(f"kept in {options.out}", file=sys.stderr)
    rows = task.rows(examples, made)
    if options.ensemble and task.agreement is not None:
        rows = [{**row, **more} for row, more in zip(rows, task.agreement(trained, examples), strict=True)]
    if options.json:
        print_json(rows)
        return 0
    table = Table(*rows[0])
    for row in rows[:MOST_ROWS]:
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
    if len(rows) > MOST_ROWS:
        console.print(f"... and {len(rows) - MOST_ROWS:,} more; --json prints all")
    return 0
