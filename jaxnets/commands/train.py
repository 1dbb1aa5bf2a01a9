"""The command that trains a recipe."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jaxnets.commands.joining import Hosts, check_together, join
from jaxnets.commands.opening import built, planned, run_to_the_end, started
from jaxnets.data import check_alike, in_folds
from jaxnets.errors import InputError, check_whole
from jaxnets.hosts import by_writer
from jaxnets.learner import check_minimizes
from jaxnets.options import DataConfig, ImageAugmentation, with_data
from jaxnets.options.conditions import changed
from jaxnets.recipes.recipe import Recipe
from jaxnets.runs import report
from jaxnets.runs.console import console
from jaxnets.runs.folder import Run, RunConfig
from jaxnets.runs.json_files import plain
from jaxnets.runs.saving import Saving
from jaxnets.training.fit import fit
from jaxnets.transforms.population import fitting_way


@dataclass(frozen=True)
class TrainOptions:
    """How a recipe is run."""

    seeds: int = 1
    """how many seeds to train, in one compiled program; results are then mean ± standard deviation"""
    seed: int = 0
    """the first seed"""
    population: Literal["map", "vmap"] | None = None
    """several seeds one after the other in each step, each with the bits of its own run (map: the default on CPU), or
    together (vmap: the default elsewhere)"""
    mesh: str | None = None
    """spread the run over all devices: data=4,model=2 splits batches in 4 and wide layers in 2, members=4 the seeds"""
    fully_sharded: bool = False
    """with --mesh: split parameters and optimizer state along "data", too, which takes less memory a device"""
    out: Path | None = None
    """the run's folder; runs/RECIPE-ID if absent"""
    folds: int | None = None
    """cross-validation: training and validation data in so many folds, a member trained without each and measured on
    it, in one compiled program"""
    dry_run: bool = False
    """check every shape, dtype and range of the whole run, without compiling or training"""
    overfit_one_batch: bool = False
    """train on one batch only, to see whether the model can learn at all; nothing is kept"""
    compile_cache: bool = True
    """keep compiled programs in the cache folder, so that the next start is quick"""
    saving: Saving = Saving()
    """when the state is saved, and which saved states are kept"""
    hosts: Hosts = Hosts()
    """several processes, on one machine or on many, that train one run together"""


def train(recipe: Recipe, options: TrainOptions) -> int:
    """Train a recipe, by name or from a file of one's own, and keep everything in a new folder."""
    if options.seeds < 1:
        raise InputError(f"seeds={options.seeds} must be 1 or more")
    if options.folds is not None:
        check_whole("folds", options.folds, 2, remedy="such as 10")
        if options.seeds > 1:
            raise InputError(f"seeds={options.seeds} changes nothing with folds: each has its own; leave --seeds out")
        options = replace(options, seeds=options.folds)
    if options.population is not None and options.seeds == 1:
        raise InputError(f"population={options.population!r} changes nothing with one seed; give --seeds 2 or more")
    if options.fully_sharded and options.mesh is None and not options.hosts.several:
        raise InputError("fully_sharded changes nothing on one device; give --mesh, such as --mesh data=8")
    if not options.compile_cache:
        os.environ["JAXNETS_COMPILE_CACHE"] = "0"
    if options.overfit_one_batch:
        idle = {"seeds": options.seeds > 1, "dry_run": options.dry_run, "out": options.out is not None}
        idle |= {"mesh": options.mesh is not None, "fully_sharded": options.fully_sharded}
        idle |= {field.name: True for field in changed(options.hosts, Hosts())}
        idle |= {field.name: True for field in changed(options.saving, Saving())}
        if refused := [f"--{name.replace('_', '-')}" for name, given in idle.items() if given]:
            raise InputError(f"{', '.join(refused)} changes nothing with --overfit-one-batch; leave one of them out")
        return _overfit(recipe, options.seed)
    join(options.hosts)
    mesh = options.hosts.mesh(options.mesh)
    run = Run.unused(options.out, recipe.name)
    recipe = recipe._replace(config=with_data(recipe.config, DataConfig.absolute))  # it may be resumed from elsewhere
    if not options.dry_run:
        recipe = recipe.settled()
    seeds = tuple(range(options.seed, options.seed + options.seeds))
    way = options.population or ("vmap" if mesh else fitting_way())
    spread: Any = {"mesh": mesh, "fully_sharded": options.fully_sharded, "folds": options.folds}
    config = RunConfig(recipe.name, plain(recipe.config), seeds, way, options.saving, **spread)
    splits = recipe.load(recipe.config)
    if options.folds is not None:
        splits = in_folds(splits, options.folds, options.seed)
    opened = built(run, config, recipe, splits.train.spec)
    report.describe(recipe.name, opened.learner, opened.task.example(opened.spec), splits, config)
    plan = planned(opened, splits, started(recipe, splits.train.spec))
    options.saving.check(plan)
    if splits.test is not None:
        check_alike(splits.train, splits.test, "test")
        opened.learner.check(splits.test)
    if options.dry_run:
        report.dry_run(plan)
        return 0
    check_together(config, splits)
    with run.held():
        by_writer(lambda: run.create(config, splits))
        return run_to_the_end(opened, plan, splits)


_PLAIN: dict[str, Any] = {"weight_decay": 0.0, "average": 0.0, "unfreeze_every": None}


def _overfit(recipe: Recipe, seed: int) -> int:
    """Train on one batch, and say whether the loss (or the error, if one is reported) fell to a tenth."""
    config = recipe.config
    splits = recipe.load(config)
    size = min(config.training.batch_size, splits.train.num_examples)
    batch = splits.train.take(slice(size))
    training = replace(config.training, duration="300", batch_size=size, evaluate_every="20", patience=None)
    optimizer = replace(config.optimizer, schedule="constant", warmup=0, **_PLAIN)
    none: dict[str, Any] = {name: 0.0 for name in vars(config) if name.endswith("dropout") or name == "label_smoothing"}
    none |= {name: type(group)() for name, group in vars(config).items() if isinstance(group, ImageAugmentation)}
    config = replace(config, training=training, optimizer=optimizer, **none)
    recipe = recipe._replace(config=config)
    learner = recipe.learner(splits.train.spec)
    check_minimizes(learner, "overfitting one batch")
    initial = started(recipe, splits.train.spec)
    result = fit(learner, batch, **training.options(), seed=seed, validation=batch, initial=initial)
    # The loss of soft targets, such as grey pixels, has a floor above 0; their squared error has not.
    name = "mse" if "train/mse" in result.history[0] else "loss"
    # A loss that knows its classes alone, such as ArcFace's, is measured in training only.
    end = "validation" if f"validation/{name}" in result.history[-1] else "train"
    first, last = (result.history[i][f"{split}/{name}"] for i, split in ((0, "train"), (-1, end)))
    learned = last < 0.1 * first
    verdict = (
        "the model can learn" if learned else "it did not fall to a tenth: look at the model, the rate and the labels"
    )
    console.print(f"{name} on one batch of {size}: {first:.4f} in the first steps, {last:.4f} after 300: {verdict}")
    return 0 if learned else 1
