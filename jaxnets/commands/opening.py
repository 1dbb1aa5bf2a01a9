"""What several commands do: a run is opened, its learner built, a file read."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from jaxnets import recipes
from jaxnets.data import Spec, Splits, read_inputs
from jaxnets.errors import InputError
from jaxnets.learner import Learner, TrainState
from jaxnets.recipes.recipe import Finished, Recipe, find
from jaxnets.runs import report
from jaxnets.runs.console import console
from jaxnets.runs.folder import Run, RunConfig
from jaxnets.runs.json_files import from_dict, plain
from jaxnets.runs.signals import Interrupted
from jaxnets.runs.training import train
from jaxnets.training.progress import Display
from jaxnets.transforms.population import population, traced_once


def open_run(path: Path, file: Path | None) -> tuple[Run, Recipe]:
    """Return the run in a folder, and its recipe with the run's own config."""
    run = Run.open(path)
    names = [preset for presets in recipes.catalogue().values() for preset in presets]
    if file is None and run.config.recipe not in names:
        raise InputError(
            f"{path}: was trained by a recipe of one's own, {run.config.recipe!r}; name its file: --recipe FILE"
        )
    recipe = find(str(file or run.config.recipe))
    return run, recipe._replace(config=from_dict(type(recipe.config), run.config.config))


def members(learner: Learner, config: RunConfig) -> Learner:
    """Return the learner, or, for several seeds, a population of it; its step is traced once, checked and run."""
    how: Any = config.population
    return traced_once(learner if len(config.seeds) == 1 else population(learner, len(config.seeds), how))


def each_member(state: TrainState) -> Iterator[TrainState]:
    """Yield the states of a population's members, or the one of a learner that is none."""
    if not np.ndim(state.step):
        yield state
        return
    for i in range(len(state.step)):
        yield jax.tree.map(lambda leaf, i=i: leaf[i], state)


def run_to_the_end(run: Run, recipe: Recipe, learner: Learner, splits: Splits, *, resume: bool = False) -> int:
    """Train to the end and print the report, or, if interrupted, how to go on; return the exit status."""
    again = f"jaxnets resume {shlex.quote(str(run.path))}"
    if recipe.file.endswith(".py"):
        again += f" --recipe {shlex.quote(recipe.file)}"

    alone = recipe.build(recipe.config, splits.train.spec)

    def watch(state: TrainState, step: int) -> None:
        if recipe.watch is not None:
            recipe.watch(recipe.config, splits, alone, next(each_member(state)), step, run.path)

    def finish(state: TrainState) -> tuple[Mapping[str, Sequence[float]], Mapping[str, float]]:
        if recipe.finish is None:
            return Finished()
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params)):
            console.print("some weights are not finite: nothing is drawn of them")
            return Finished()
        console.print("drawing and measuring what was learned ...")
        return recipe.finish(recipe.config, splits, alone, list(each_member(state)), run.path)

    try:
        with Display() as display:
            result = train(run, learner, splits, recipe.config.training, display, watch, finish, resume=resume)
    except Interrupted as interrupted:
        console.print(f"interrupted by {interrupted}; everything is saved. To go on:\n  {again}")
        return interrupted.status
    report.report(run, result, again)
    return 1 if result["stop_reason"].startswith("diverged") else 0


RunFolder = Annotated[Path, tyro.conf.Positional]
RecipeFile = Annotated[Path | None, tyro.conf.arg(name="recipe")]


def read(files: Sequence[Path], spec: Spec, invert: bool) -> tuple[list[tuple[str, int]], np.ndarray]:
    """Return the file and row of each example in the files, and all examples."""
    inputs = [read_inputs(path, spec["inputs"], invert=invert) for path in files]
    names = [(str(path), row) for path, rows in zip(files, inputs, strict=True) for row in range(len(rows))]
    return names, np.concatenate(inputs)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(plain(value), indent=2))
