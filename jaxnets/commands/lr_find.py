"""The command that looks for a learning rate."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxnets.commands.opening import started
from jaxnets.errors import InputError
from jaxnets.options.optimizer import make_schedule
from jaxnets.recipes.recipe import Recipe
from jaxnets.runs import plots
from jaxnets.runs.console import console
from jaxnets.training.lr_finder import WINDOW, range_test

_HIGHEST = 10.0  # the learning rate in the end


@dataclass(frozen=True)
class LrFindOptions:
    """How the range test is run."""

    steps: int = 200
    """steps of the test"""
    seed: int = 0
    """of initial values and the order of rows"""
    out: Path = Path("lr-find.png")
    """the picture"""


def lr_find(recipe: Recipe, options: LrFindOptions) -> int:
    """Raise the learning rate step by step until the loss explodes, and suggest one."""
    plots.check_picture(options.out)
    config = range_test_config(recipe.config, options.steps)
    splits = recipe.load(config)
    recipe = recipe._replace(config=config)
    learner, initial = recipe.learner(splits.train.spec), started(recipe, splits.train.spec)
    schedule = make_schedule(config.optimizer, options.steps)
    running = config.training.options() | {"early_stopping": None, "seed": options.seed}
    test = range_test(learner, splits.train, schedule, **running, order=splits.order, initial=initial)
    plots.save_range_test(options.out, test.rates, test.losses, test.suggestion)
    print(plots.sketch({"": [{"step": i, "train/loss": loss} for i, loss in enumerate(test.losses)]}))
    if test.suggestion is None:
        console.print(f"the loss never fell clearly: no suggestion; see {options.out}")
        return 1
    found = f"--learning-rate {test.suggestion:.1e} (a tenth of where the loss is lowest)"
    console.print(f"suggestion: {found}; drawn in {options.out}")
    return 0


def range_test_config(config: Any, steps: int) -> Any:
    """Return a recipe's config with the learning rate rising over ``steps`` steps.

    Raises:
        InputError: if the steps are too few.
    """
    if steps < 5 * WINDOW:
        raise InputError(f"{steps=} are too few for a range test; use {5 * WINDOW} or more")
    changes = {"schedule": "range-test", "learning_rate": _HIGHEST, "warmup": 0, "unfreeze_every": None}
    optimizer = replace(config.optimizer, **changes)
    return replace(
        config, optimizer=optimizer, training=replace(config.training, duration=str(steps), evaluate_every="1")
    )
