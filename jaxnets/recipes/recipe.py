"""What a recipe is: a task with its models and data, in one file.

A recipe is a Python module with

- ``Config``: a frozen dataclass whose fields are the command line's flags; ``training`` (a ``TrainingConfig``) and
  ``optimizer`` (an ``OptimizerConfig``) among them, and whatever other groups of ``jaxnets.options`` it takes.
- ``load(config) -> Splits``: the data.
- ``build(config, spec) -> Learner``: the learner for data like those of ``spec``; without the data, so that a trained
  run predicts where they are not. What the groups of options ask for is put around it.

and, optionally,

- ``layout(config, spec) -> Layout | None``: how PyTorch's model of the same kind names the weights.
- ``task(config, spec) -> Task``: how users' files are read, what is printed, measured, drawn and generated. Without it,
  classes where the labels are classes and the learner predicts a number for each, else values.
- ``start(config, spec) -> Start | None``: weights to begin from, where the config names some; a run that is resumed
  does not need them again.
- ``settled(config) -> config``: what the config leaves to the data is chosen, once, before a run begins and keeps it.
- ``onward(config) -> Onward``: the recipe that fine-tuning a run goes on with, where it is another than the run's.
- ``PRESETS``: named configs, ``{"digits-cnn": Preset(config, "one line")}``, written out as such.
"""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxnets import recipes
from jaxnets.data import Spec, Splits
from jaxnets.errors import InputError, nearest
from jaxnets.learner import Initial, Learner
from jaxnets.options import OptimizerConfig, TrainingConfig
from jaxnets.options.around import around
from jaxnets.tasks.classes import classes
from jaxnets.tasks.task import Task
from jaxnets.tasks.values import values
from jaxnets.weights.layout import Layout


class Preset(NamedTuple):
    """A config with a name of its own, and one line about it."""

    config: Any
    summary: str


class Start(NamedTuple):
    """Weights to begin from, in part or whole, and one line about them."""

    initial: Initial
    about: str


class Onward(NamedTuple):
    """What fine-tuning goes on with, where a run's recipe does not learn what is wanted in the end.

    Attributes:
        preset: a preset of the recipe that does.
        config: of that recipe.
        part: of the run's params and model state, the part that it begins from, by its names; its head is new.
    """

    preset: str
    config: Any
    part: str


class Recipe(NamedTuple):
    """A recipe's parts, and the name under which it was asked for."""

    name: str
    file: str
    config: Any
    load: Callable[[Any], Splits]
    build: Callable[[Any, Spec], Learner]
    own_task: Callable[[Any, Spec], Task] | None
    own_start: Callable[[Any, Spec], Start | None] | None = None
    own_layout: Callable[[Any, Spec], Layout | None] | None = None
    own_onward: Callable[[Any], Onward] | None = None
    own_settled: Callable[[Any], Any] | None = None

    def settled(self) -> "Recipe":
        """Return the recipe whose config leaves nothing to the data; it may train for a short time to find that."""
        return self if self.own_settled is None else self._replace(config=self.own_settled(self.config))

    def learner(self, spec: Spec) -> Learner:
        """Return the learner for data like those of ``spec``, with all that the config asks for."""
        return around(self.build(self.config, spec), self.config, spec)

    def start(self, spec: Spec) -> Start | None:
        """Return the weights to begin from, if the config names some."""
        return None if self.own_start is None else self.own_start(self.config, spec)

    def layout(self, spec: Spec) -> Layout | None:
        """Return how PyTorch's model of the same kind names the weights, where there is one."""
        return None if self.own_layout is None else self.own_layout(self.config, spec)

    def task(self, spec: Spec, learner: Learner) -> Task:
        """Return what is done with a learner's outputs."""
        if self.own_task is not None:
            return self.own_task(self.config, spec)
        example = spec["inputs"].example
        batch = jax.ShapeDtypeStruct((1, *example.shape), example.dtype)
        outputs = jax.eval_shape(lambda inputs: learner.predict(learner.init(jax.random.key(0)), inputs), batch)
        names = spec["labels"].classes if spec["labels"].shape == () else ()
        return classes(spec) if names and getattr(outputs, "shape", None) == (1, len(names)) else values(spec)


def find(name: str) -> Recipe:
    """Return the recipe for a preset's name or the path of a recipe's file, with the preset's (or default) config.

    Raises:
        InputError: if there is no such preset or file, or the file lacks a part.
    """
    if name.endswith(".py"):
        return _from_file(Path(name))
    presets = {preset: recipe for recipe, presets in recipes.catalogue().items() for preset in presets}
    if name not in presets:
        raise InputError(
            f"there is no recipe {name!r}{nearest(name, presets)}; there are {', '.join(presets)}, "
            "or give the path of a .py file"
        )
    module = importlib.import_module(f"{recipes.__name__}.{presets[name]}")
    return _recipe(name, presets[name], module.PRESETS[name].config, module)


def _recipe(name: str, file: str, config: Any, module: Any) -> Recipe:
    own = (getattr(module, part, None) for part in ("task", "start", "layout", "onward", "settled"))
    return Recipe(name, file, config, module.load, module.build, *own)


def _from_file(path: Path) -> Recipe:
    if not path.is_file():
        raise InputError(f"{path}: there is no such recipe file")
    spec = importlib.util.spec_from_file_location(f"jaxnets_recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{path}: cannot be imported: {_where(error, path)}{type(error).__name__}: {error}") from error
    missing = [part for part in ("Config", "load", "build") if not hasattr(module, part)]
    if missing:
        raise InputError(f"{path}: no recipe: it defines no {', '.join(missing)}")
    presets: dict[str, Preset] = getattr(module, "PRESETS", {})
    config = next(iter(presets.values())).config if presets else module.Config()
    if not isinstance(getattr(config, "training", None), TrainingConfig):
        raise InputError(f"{path}: its Config has no field training: TrainingConfig")
    if not isinstance(getattr(config, "optimizer", None), OptimizerConfig):
        raise InputError(f"{path}: its Config has no field optimizer: OptimizerConfig")
    return _recipe(path.stem, str(path), config, module)


def _where(error: Exception, path: Path) -> str:
    """Return the line of a file in which an error came up, if it did."""
    frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = getattr(error, "lineno", None) or next(reversed(frames), None)
    return f"line {line}: " if line else ""
