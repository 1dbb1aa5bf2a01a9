"""A sweep that is begun, or gone on with: each of its programs trained to the end, the trials ranked, the best kept."""

import json
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.table import Table

from jaxnets.commands.opening import built, data_again, planned, run_to_the_end, started
from jaxnets.options.varying import with_fields
from jaxnets.recipes.recipe import Recipe
from jaxnets.runs import checkpoint
from jaxnets.runs.console import console
from jaxnets.runs.folder import Run, RunConfig, written
from jaxnets.runs.json_files import from_dict, plain
from jaxnets.runs.signals import Interrupted
from jaxnets.runs.sweep_plots import save_sweep
from jaxnets.runs.sweeps import Row, SweepConfig, rows, save_table, written_out
from jaxnets.runs.training import diverged, train
from jaxnets.training import readable
from jaxnets.training.plan import Plan, RunState
from jaxnets.training.progress import Display
from jaxnets.transforms.varied import without_values

_MOST_ROWS = 15  # of the table that is printed


def go_on(folder: Path, recipe: Recipe, sweep: SweepConfig) -> int:
    """Train what is left of a sweep, and return the exit status.

    Args:
        folder: the sweep's, which is held.
        recipe: its recipe, with the config that all trials begin from.
        sweep: what it was asked to do.
    """
    for number in range(len(sweep.groups)):
        status = _train(folder, recipe, sweep, number)
        if status:
            return status
    found = rows(folder, sweep)
    save_table(folder / "table.csv", sweep, found)
    with written(folder):
        save_sweep(folder / "sweep.png", folder, sweep, found)
    if not np.isfinite(found[0].scores).all():
        console.print(f"no trial has a finite {sweep.by}: try lower learning rates")
        _print(folder, sweep, found, "")
        return 1
    status = _keep(folder, recipe, sweep, found[0])
    _print(folder, sweep, found, f"{_resuming(folder / 'best', recipe)} --duration LONGER")
    return status


def _resuming(folder: Path, recipe: Recipe) -> str:
    """Return the command that goes on with a folder."""
    file = f" --recipe {shlex.quote(recipe.file)}" if recipe.file.endswith(".py") else ""
    return f"jaxnets resume {shlex.quote(str(folder))}{file}"


def plan_of(recipe: Recipe, sweep: SweepConfig, number: int) -> Plan:
    """Return the run of one program, checked, before it has a folder."""
    recipe = _with(recipe, sweep.groups[number].alike)
    splits = recipe.load(recipe.config)
    config = sweep.run_config(sweep.groups[number], plain(recipe.config))
    return planned(built(Run(Path()), config, recipe, splits.train.spec), splits)


def _train(folder: Path, recipe: Recipe, sweep: SweepConfig, number: int) -> int:
    """Train one program to its end, from the beginning or from its newest checkpoint."""
    run, group = Run(folder / str(number)), sweep.groups[number]
    begun = (run.path / "config.json").is_file()
    if begun and run.result:
        return 0
    recipe = _with(recipe, group.alike)
    splits = data_again(run, recipe, None)[1] if begun else recipe.load(recipe.config)
    config = sweep.run_config(group, plain(recipe.config))
    opened = built(run, config, recipe, splits.train.spec)
    plan = planned(opened, splits, started(recipe, splits.train.spec))
    if len(sweep.groups) > 1:
        alike = ", ".join(f"{name} {written_out(value)}" for name, value in group.alike.items())
        console.print(f"program {number + 1} of {len(sweep.groups)}: {alike}; {len(group.trials)} trials")
    with run.held():
        if not begun:
            run.create(config, splits)
        try:
            with Display(of=partial(_best_of, sweep)) as display:
                train(run, plan, None, display, resume=True)
        except Interrupted as interrupted:
            console.print(
                f"interrupted by {interrupted}; everything is saved. To go on:\n  {_resuming(folder, recipe)}"
            )
            return interrupted.status
    return 0


def _best_of(sweep: SweepConfig, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's metrics of the member that is best now."""
    deciding = np.asarray(row.get(sweep.by, row.get("train/loss", 0.0)), np.float64)
    if not deciding.ndim:
        return dict(row)
    sign = -1 if sweep.better == "higher" and sweep.by in row else 1
    best = int(np.nanargmin(np.where(np.isfinite(deciding), sign * deciding, np.inf)))
    return {
        f"best {name}" if name.startswith(("train/", "validation/")) else name: np.ravel(value)[best]
        for name, value in row.items()
        if np.ndim(value) and not name.startswith("varied/")
    }


def _with(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with options of a sweep's file, where lists are what were tuples."""
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    config = with_fields(recipe.config, given)
    return recipe._replace(config=from_dict(type(config), plain(config)))


def _keep(folder: Path, recipe: Recipe, sweep: SweepConfig, best: Row) -> int:
    """Make of the best trial a run of its own, in ``best``, and measure it on the test data."""
    run, source = Run(folder / "best"), Run(folder / str(best.group))
    if (run.path / "config.json").is_file() and run.result:
        return 0
    recipe = _with(recipe, best.values)
    splits = recipe.load(recipe.config)
    group = sweep.groups[best.group]
    before = built(source, source.config, _with(recipe, group.alike), splits.train.spec)
    state, facts = source.restored(planned(before, splits))
    each, size = len(sweep.seeds), len(sweep.seeds) * len(group.trials)
    own: Any = slice(best.place * each, (best.place + 1) * each) if each > 1 else best.place
    if size > 1 or source.config.varied is not None:
        state = _member(state, own)
    config = RunConfig(recipe.name, plain(recipe.config), sweep.seeds, sweep.population, sweep.saving)
    opened = built(run, config, recipe, splits.train.spec)
    plan = planned(opened, splits)
    with run.held():
        if not (run.path / "config.json").is_file():
            run.create(config, splits)
        history = [
            {
                name: plain(np.ravel(value)[own]) if isinstance(value, list) and len(value) == size else value
                for name, value in row.items()
                if not name.startswith("varied/")
            }
            for row in source.history()
        ]
        with written(run.path):
            (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
        elapsed = [best.seconds, 0.0, 0.0]
        # Others of its program may have diverged, which their reason tells.
        reason = (
            facts["reason"] if not diverged({"stop_reason": facts["reason"]}) else f"ended at step {facts['step']:,}"
        )
        kept = {**run.facts(), "elapsed": elapsed, "reason": reason, "best": {}}
        checkpoint.save(run.checkpoints, facts["step"], state, kept, newest=True)
        console.print(f"the best trial, {_values(sweep, best)}:", highlight=False)
        return run_to_the_end(opened, plan, splits, resume=True)


def _member(state: RunState, own: Any) -> RunState:
    """Return the state of one trial, without the values that are its config's now."""
    state = jax.tree.map(lambda leaf: np.asarray(leaf)[own], state.replace(dropped=None))
    best = state.best and state.best.replace(state=without_values(state.best.state))
    return state.replace(train=without_values(state.train), best=best)


def _print(folder: Path, sweep: SweepConfig, found: Sequence[Row], again: str) -> None:
    """Print the best rows, where the rest is, and the command to go on with the best, if one was kept."""
    table = Table(box=None, pad_edge=False)
    for title in ("rank", *sweep.names, sweep.by, "steps", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    for rank, row in enumerate(found[:_MOST_ROWS], start=1):
        values = [written_out(row.values[name]) for name in sweep.names]
        score = readable.metric(sweep.by, row.scores)
        table.add_row(str(rank), *values, score, f"{row.steps:,}", readable.seconds(row.seconds))
    console.print(table)
    more = f"{len(found) - _MOST_ROWS} more trials in table.csv; " if len(found) > _MOST_ROWS else ""
    of = f"mean ± std of {len(sweep.seeds)} seeds" if len(sweep.seeds) > 1 else "1 seed"
    total = sum(row.seconds for row in found)
    kept = f"table.csv, sweep.png{', best' * bool(again)}"
    console.print(
        f"{sweep.by}: {of}. {more}All trials took {readable.seconds(total)}; kept in {folder} ({kept})", highlight=False
    )
    if again:
        console.print(f"to go on with the best: {again}", markup=False, highlight=False)


def _values(sweep: SweepConfig, row: Row) -> str:
    return ", ".join(f"{name} {written_out(row.values[name])}" for name in sweep.names)
