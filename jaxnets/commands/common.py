"""What several commands do."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets import recipes, report
from jaxnets.config import from_dict
from jaxnets.data import Splits
from jaxnets.errors import InputError
from jaxnets.learner import Learner, TrainState, traced_once
from jaxnets.progress import Display
from jaxnets.recipes import Finished, Recipe
from jaxnets.report import console
from jaxnets.run import Interrupted, Run, RunConfig
from jaxnets.transforms import population


def open_run(path: Path, file: Path | None) -> tuple[Run, Recipe]:
    """Return the run in a folder, and its recipe with the run's own config."""
    run = Run.open(path)
    names = [preset for presets in recipes.catalogue().values() for preset in presets]
    if file is None and run.config.recipe not in names:
        raise InputError(
            f"{path}: was trained by a recipe of one's own, {run.config.recipe!r}; name its file: --recipe FILE"
        )
    recipe = recipes.find(str(file or run.config.recipe))
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
            result = run.train(learner, splits, recipe.config.training, display, watch, finish, resume=resume)
    except Interrupted as interrupted:
        console.print(f"interrupted by {interrupted}; everything is saved. To go on:\n  {again}")
        return interrupted.status
    report.report(run, result, again)
    return 1 if result["stop_reason"].startswith("diverged") else 0
