"""What a process of the trials does: a command, as ``python -m jaxnets`` runs it, with all modules loaded already."""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import sklearn.datasets  # noqa: F401
import tyro  # noqa: F401

from jaxnets import cli, recipes
from jaxnets.commands import resume, train  # noqa: F401
from jaxnets.recipes.recipe import Recipe, find
from jaxnets.runs import plots

for presets in recipes.catalogue().values():
    find(next(iter(presets)))  # imports the recipe

_task = Recipe.task


def _drawing_nothing(recipe: Recipe, *args: Any) -> Any:
    return replace(_task(recipe, *args), finish=None, watch=None)


def call(argv: Sequence[str], log: str) -> None:
    """Run a command, with what it prints at the end of ``log``; it draws no pictures, which take most of the time."""
    Recipe.task, plots.save_curves = _drawing_nothing, lambda *args: None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as in the foreground
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    with Path(log).open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    sys.exit(cli.main(argv))
