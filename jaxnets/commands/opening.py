"""What several commands do: a run is opened, its learner built, and trained to its end."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from jax.errors import JaxRuntimeError

from jaxnets import recipes
from jaxnets.commands.meshes import on_mesh
from jaxnets.data import Spec, Splits, in_folds
from jaxnets.errors import InputError
from jaxnets.hosts import alone, is_writer, lost
from jaxnets.learner import Initial, Learner, TrainState
from jaxnets.options import DataConfig, TrainingConfig, with_data
from jaxnets.options.varying import with_fields, with_traced
from jaxnets.recipes.recipe import Recipe, find
from jaxnets.runs import report
from jaxnets.runs.console import console
from jaxnets.runs.folder import Run, RunConfig
from jaxnets.runs.json_files import from_dict, plain
from jaxnets.runs.signals import Interrupted
from jaxnets.runs.sweeps import SweepConfig
from jaxnets.runs.training import diverged, train
from jaxnets.tasks.task import FileOptions, Finished, Task, Trained
from jaxnets.training.plan import Plan, check
from jaxnets.training.progress import Display
from jaxnets.transforms.folded import folded
from jaxnets.transforms.population import population
from jaxnets.transforms.varied import varied

RunFolder = Annotated[Path, tyro.conf.Positional]
RecipeFile = Annotated[Path | None, tyro.conf.arg(name="recipe")]


@dataclass(frozen=True)
class Opened:
    """A run, and all that is made of its recipe and its config, once.

    Attributes:
        run: its folder.
        config: what it was asked to do.
        recipe: its recipe, with the run's own config.
        spec: what its training data are like.
        learner: of one seed.
        task: what its kind of output does.
    """

    run: Run
    config: RunConfig
    recipe: Recipe
    spec: Spec
    learner: Learner
    task: Task

    @property
    def members(self) -> Learner:
        """The learner of all seeds: a population, where there are several, or where they have values of their own."""
        how: Any = self.config.population
        if self.config.varied is not None:
            return varied(self._learner_with, self.config.varied, how)
        if self.config.folds is not None:
            return folded(self.learner, self.config.folds, how)
        return self.learner if len(self.config.seeds) == 1 else population(self.learner, len(self.config.seeds), how)

    def _learner_with(self, values: Mapping[str, Any]) -> Learner:
        return self.recipe._replace(config=with_traced(self.recipe.config, values)).learner(self.spec)

    def trained(self) -> Trained:
        """Return the newest weights (once the run has ended, those that were kept)."""
        return Trained(self.learner, list(each_member(self.run.train_state(self.members))))


def built(run: Run, config: RunConfig, recipe: Recipe, spec: Spec) -> Opened:
    """Return what a recipe makes of data like those of ``spec``."""
    learner = recipe.learner(spec)
    return Opened(run, config, recipe, spec, learner, recipe.task(spec, learner))


def open_recipe(path: Path, file: Path | None) -> tuple[Run, Recipe]:
    """Return the run in a folder, and its recipe with the run's own config.

    Raises:
        InputError: if there is no run, or it is of a recipe of one's own, and its file is not named.
    """
    run = Run.open(path)
    return run, recipe_again(path, file, run.config)


def recipe_again(path: Path, file: Path | None, config: RunConfig | SweepConfig) -> Recipe:
    """Return the recipe that a folder's run, or sweep, names, with the config that it says.

    Raises:
        InputError: if it is a recipe of one's own, and its file is not named.
    """
    names = [preset for presets in recipes.catalogue().values() for preset in presets]
    if file is None and config.recipe not in names:
        raise InputError(
            f"{path}: was trained by a recipe of one's own, {config.recipe!r}; name its file: --recipe FILE"
        )
    recipe = find(str(file or config.recipe))
    return recipe._replace(config=from_dict(type(recipe.config), config.config))


def open_run(path: Path, file: Path | None) -> Opened:
    """Return the run in a folder, with its learner and its task."""
    run, recipe = open_recipe(path, file)
    return built(run, run.config, recipe, run.spec)


def data_again(run: Run, recipe: Recipe, moved: str | None) -> tuple[Recipe, Splits]:
    """Return the recipe, with the place of its data, and the data that the run began with.

    Args:
        run: the run.
        recipe: its recipe, with its own config.
        moved: where its data are now; where they were, if absent.

    Raises:
        InputError: if they are not there, or are others.
    """
    groups = [group for group in vars(recipe.config).values() if isinstance(group, DataConfig)]
    if moved is not None:
        if not groups:
            raise InputError(f"data={moved!r} changes nothing: {recipe.name} has no --data")
        there = with_data(recipe.config, lambda group: replace(group, data=moved, data_dir=None).absolute())
        recipe = recipe._replace(config=there)
    elif gone := [group.data for group in groups if Path(group.data).is_absolute() and not Path(group.data).exists()]:
        raise InputError(f"{run.path}: its data were {gone[0]}, which is no longer there; say where: --data PATH")
    splits = recipe.load(recipe.config)
    if (folds := run.config.folds) is not None:
        splits = in_folds(splits, folds, run.config.seeds[0])
    run.check_data(splits)
    return recipe, splits


def started(recipe: Recipe, spec: Spec) -> Initial | None:
    """Return the weights that a recipe begins from, if its config names some, and say which they are."""
    start = recipe.start(spec)
    if start is None:
        return None
    console.print(start.about, markup=False)
    return start.initial


def planned(opened: Opened, splits: Splits, initial: Initial | None = None) -> Plan:
    """Return the run that the config asks for, from weights to begin from, if any are given, checked."""
    training: TrainingConfig = opened.recipe.config.training
    competition = opened.config.competition
    given = {"seed": opened.config.seed, "validation": splits.validation, "order": splits.order, "initial": initial}
    given["selection"] = competition and competition.rule(partial(_is_allowed, opened.recipe))
    return check(on_mesh(opened.members, opened.config, opened.recipe), splits.train, **training.options(), **given)


def _is_allowed(recipe: Recipe, name: str, value: float) -> bool:
    """Return whether an option of a recipe may have a value."""
    try:
        with_fields(recipe.config, {name: value})
    except InputError:
        return False
    return True


def each_member(state: TrainState) -> Iterator[TrainState]:
    """Yield the states of a population's members, or the one of a learner that is none."""
    if not np.ndim(state.step):
        yield state
        return
    for i in range(len(state.step)):
        yield jax.block_until_ready(_member(state, i))


@jax.jit
def _member(state: TrainState, i: int) -> TrainState:
    """Return the state of member ``i``: in one program, of which more are not begun before it is done.

    On virtual devices, launches that wait for room and a sum over all devices may wait for each other's threads.
    """
    return jax.tree.map(lambda leaf: leaf[i], state)


def run_to_the_end(opened: Opened, plan: Plan, splits: Splits, *, resume: bool = False, exact: bool = False) -> int:
    """Train to the end and print the report, or, if interrupted, how to go on; return the exit status."""
    run, task = opened.run, opened.task
    again = f"jaxnets resume {shlex.quote(str(run.path))}"
    if opened.recipe.file.endswith(".py"):
        again += f" --recipe {shlex.quote(opened.recipe.file)}"
    if not alone():
        again += " with --distributed, or --coordinator and its like"

    def watch(state: TrainState, step: int) -> None:
        assert task.watch is not None
        task.watch(Trained(opened.learner, [next(each_member(state))]), step, run.path)

    def finish(state: TrainState) -> Finished:
        if task.finish is None:
            return Finished()
        console.print("drawing and measuring what was learned ...")
        return task.finish(Trained(opened.learner, list(each_member(state))), splits, run.path)

    try:
        with Display(quiet=not is_writer()) as display:
            watching = watch if task.watch else None
            result = train(run, plan, splits.test, display, watching, finish, resume=resume, exact=exact)
    except Interrupted as interrupted:
        console.print(f"interrupted by {interrupted}; everything is saved. To go on:\n  {again}")
        return interrupted.status
    except (JaxRuntimeError, ValueError) as error:
        if isinstance(error, InputError) or not lost(error):
            raise
        gone = "another process has ended, or cannot be reached; what was saved is unharmed"
        raise InputError(f"{gone}. To go on, in all:\n  {again}") from error
    if diverged(result):
        console.print("the run diverged: nothing is drawn of its weights")
    if is_writer():
        report.report(run, result, again, plan.better)
    return 1 if diverged(result) else 0


def file_options(task: Task, invert: bool) -> Any:
    """Return the options by which a task reads files.

    Raises:
        InputError: if they are to be inverted, and are no images.
    """
    if isinstance(task.options, FileOptions):
        return replace(task.options, invert=invert)
    if invert:
        raise InputError("invert=True changes nothing here: it is for images, and this run reads others")
    return task.options


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(plain(value), indent=2))
