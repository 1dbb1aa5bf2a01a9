"""Commands that take a recipe."""

import os
from dataclasses import replace

from rich.table import Table

from jaxnets import lr_finder, plots, recipes, report
from jaxnets.commands.common import members, run_to_the_end
from jaxnets.config import plain
from jaxnets.data import check_alike
from jaxnets.errors import InputError
from jaxnets.fit import fit
from jaxnets.learner import check_minimizes
from jaxnets.options import LrFindOptions, NoOptions, TrainingConfig, TrainOptions
from jaxnets.plan import check
from jaxnets.recipes import Recipe
from jaxnets.report import console
from jaxnets.run import Run, RunConfig
from jaxnets.summary import summarize
from jaxnets.transforms import fitting_way


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
    run_config = RunConfig(recipe.name, plain(recipe.config), seeds, options.population or fitting_way())
    splits = recipe.load(recipe.config)
    learner = members(recipe.build(recipe.config, splits.train.spec), run_config)
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
    return run_to_the_end(run, recipe, learner, splits)


def summary(recipe: Recipe, options: NoOptions) -> int:
    """List layers, output shapes, parameters and FLOPs, without compiling."""
    spec = recipe.load(recipe.config).train.spec
    result = summarize(recipe.build(recipe.config, spec), recipe.example(spec))
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
            console.print(f"  {preset:<18}{about}")
    return 0


def _overfit(recipe: Recipe, seed: int) -> int:
    """Train on one batch, and say whether the loss (or the error, if one is reported) fell to a tenth."""
    config = recipe.config
    splits = recipe.load(config)
    size = min(config.training.batch_size, splits.train.num_examples)
    batch = splits.train.take(slice(size))
    training = replace(config.training, duration="300", batch_size=size, evaluate_every="20", patience=None)
    optimizer = replace(config.optimizer, schedule="constant", warmup=0, weight_decay=0.0, average=0.0)
    none = {name: 0.0 for name in vars(config) if name.endswith("dropout") or name == "label_smoothing"}
    config = replace(config, training=training, optimizer=optimizer, **none)
    learner = recipe.build(config, splits.train.spec)
    check_minimizes(learner, "overfitting one batch")
    result = fit(learner, batch, **training.options(), seed=seed, validation=batch)
    # The loss of soft targets, such as grey pixels, has a floor above 0; their squared error has not.
    name = "mse" if "train/mse" in result.history[0] else "loss"
    first, last = (result.history[i][f"{split}/{name}"] for i, split in ((0, "train"), (-1, "validation")))
    learned = last < 0.1 * first
    verdict = (
        "the model can learn" if learned else "it did not fall to a tenth: look at the model, the rate and the labels"
    )
    console.print(f"{name} on one batch of {size}: {first:.4f} in the first steps, {last:.4f} after 300: {verdict}")
    return 0 if learned else 1
