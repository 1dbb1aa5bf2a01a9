"""The command that goes on with a run."""

from dataclasses import replace
from pathlib import Path

from jaxnets.commands.joining import Hosts, check_together, join
from jaxnets.commands.opening import (
    RecipeFile,
    RunFolder,
    built,
    data_again,
    open_recipe,
    planned,
    recipe_again,
    run_to_the_end,
    started,
)
from jaxnets.commands.sweeping import go_on
from jaxnets.errors import InputError
from jaxnets.hosts import by_writer
from jaxnets.options import TrainingConfig
from jaxnets.runs import checkpoint, report
from jaxnets.runs.console import console
from jaxnets.runs.folder import Run
from jaxnets.runs.json_files import plain
from jaxnets.runs.sweeps import is_sweep, open_sweep


def resume(
    run: RunFolder,
    /,
    recipe: RecipeFile = None,
    duration: str | None = None,
    patience: int | None = None,
    data: str | None = None,
    mesh: str | None = None,
    exact: bool = False,
    hosts: Hosts = Hosts(),
) -> int:
    """Go on with a run that was interrupted; the result has the same bits as an unbroken run's.

    Args:
        run: the run's folder.
        recipe: the recipe's file, if the run is of one's own recipe: a folder never names code to run.
        duration: train longer than was asked for at first: the whole run's new length (1500, 40ep). Schedules are then
            those of the longer run.
        patience: with --duration: the longer run's patience, for one that stopped early.
        data: where the run's data are now, if they have moved; other data are refused.
        mesh: go on on another mesh of devices, such as data=8; data=1 is one device.
        exact: refuse to go on where the bits may be others than an unbroken run's: with another config, other versions
            or another number of cores.
        hosts: several processes, on one machine or on many, that train one run together.
    """
    if is_sweep(run):
        return _sweep(run, recipe, asked=exact or hosts != Hosts() or {duration, patience, data, mesh} != {None})
    join(hosts)
    folder, found = open_recipe(run, recipe)
    if folder.step is not None:
        raise InputError(f"{run}: is one saved state; a run goes on from its newest: jaxnets resume {folder.path}")
    config = folder.config
    if patience is not None and duration is None:
        raise InputError(f"patience={patience} is for a longer run; give --duration, too")
    if duration is not None:
        training = _longer(folder, found.config.training, duration, patience)
        found = found._replace(config=replace(found.config, training=training))
    elif folder.result:
        console.print(f"{run} has ended: {folder.result['stop_reason']}; --duration trains longer")
        return 0
    mesh = mesh if config.mesh else hosts.mesh(mesh)
    if mesh is not None:
        config = replace(config, mesh=mesh, population="vmap")
    found, splits = data_again(folder, found, data)
    if duration is not None or data is not None:
        config = replace(config, config=plain(found.config))
    opened = built(folder, config, found, folder.spec)
    report.describe(found.name, opened.learner, opened.task.example(opened.spec), splits, config)
    begun = bool(checkpoint.steps(folder.checkpoints))  # then the weights that it began from are no longer needed
    plan = planned(opened, splits, None if begun else started(found, folder.spec))
    if duration is not None:
        taken = folder.num_steps
        if plan.num_steps is None:
            raise InputError(
                f"duration={duration!r} is a time; a longer run's is in steps or epochs, such as {2 * taken}"
            )
        if plan.num_steps <= taken:
            raise InputError(f"duration={duration!r} is no longer than the {taken:,} steps taken; give a longer one")
    check_together(config, splits)
    with folder.held():
        if duration is not None:
            by_writer(lambda: folder.lengthen(config, plan))
        elif data is not None or mesh is not None:
            by_writer(lambda: folder.rewrite(config))
        return run_to_the_end(opened, plan, splits, resume=True, exact=exact)


def _sweep(path: Path, file: Path | None, *, asked: bool) -> int:
    """Go on with a sweep, unless a run's flags are given."""
    if asked:
        raise InputError(f"{path}: is a sweep, which goes on as it was; its best trial is a run: {path / 'best'}")
    config = open_sweep(path)
    found = recipe_again(path, file, config)
    with Run(path).held():
        return go_on(path, found, config)


def _longer(folder: Run, training: TrainingConfig, duration: str, patience: int | None) -> TrainingConfig:
    """Return how a longer run is trained.

    Raises:
        InputError: if it would stop early where it did before.
    """
    stopped = (folder.result or {}).get("stop_reason", "")
    if stopped.startswith("stopped early") and (patience is None or patience <= (training.patience or 0)):
        raise InputError(
            f"{folder.path}: {stopped}. A longer run goes on from these weights, and would stop there again; give it "
            f"more patience than {training.patience}, such as --patience {3 * (training.patience or 1)}"
        )
    return replace(training, duration=duration, patience=training.patience if patience is None else patience)
