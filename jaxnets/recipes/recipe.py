"""Recipes: one task a file, with a Config, its presets, ``load`` and ``build``. The folder listing is the registry.

A recipe is a Python module with

- ``Config``: a frozen dataclass whose fields are the command line's flags; ``training`` (a ``TrainingConfig``) and
  ``optimizer`` (an ``OptimizerConfig``) among them.
- ``load(config) -> Splits``: the data.
- ``build(config, spec) -> Learner``: the learner for data like those of ``spec``; without the data, so that a trained
  run predicts where they are not.

and, optionally,

- ``PRESETS``: named configs, ``{"digits-cnn": Preset(config, "one line")}``.
- ``example(spec)``: shapes and dtypes of one example, as the learner's ``predict`` takes it; without it, the inputs'.
- ``predict(config, spec, given, outputs) -> rows``: what ``jaxnets predict RUN GIVEN...`` prints, one dict a row, where
  ``outputs(inputs, link)`` is ``link`` of what the trained model makes of inputs [N, ...], the mean over its seeds.
  Without it, what is given are files of inputs.
- ``judge(config, spec, inputs, outputs) -> rows``: what it prints of each example in files of inputs, if that is not a
  class, nor the outputs as they are.
- ``reconstruct(config, spec, inputs, outputs) -> images``: what the model makes of images, [N, H, W, C], pixels 0 to 1,
  which ``jaxnets predict RUN FILE... --out FILE`` keeps.
- ``generate(config, spec, learner, state, options) -> Generated``: what ``jaxnets generate RUN`` prints and writes.
- ``watch(config, splits, learner, state, step, folder)``: draws how far a run has come, at each evaluation.
- ``finish(config, splits, learner, states, folder) -> Finished``: makes pictures and samples of a run that has ended,
  and measures what is no mean over examples, of each seed's state.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxnets import recipes
from jaxnets.data import Spec, Splits
from jaxnets.errors import InputError, nearest
from jaxnets.learner import Learner, TrainState
from jaxnets.options.generation import GenerateOptions
from jaxnets.options.optimizer import OptimizerConfig
from jaxnets.options.training import TrainingConfig
from jaxnets.runs import plots


class Preset(NamedTuple):
    """A config with a name of its own, and one line about it."""

    config: Any
    summary: str


class Outputs(Protocol):
    """``outputs(inputs, link)``: the mean of ``link(outputs)``, such as probabilities, over a run's seeds."""

    @property
    def first(self) -> tuple[Learner, TrainState]:
        """The learner of one seed, and the first one's weights: for what has no mean, such as a translation."""
        ...

    def __call__(self, inputs: np.ndarray, link: Callable[[Any], Any] = lambda outputs: outputs) -> np.ndarray:
        """Return it for inputs [N, ...]."""
        ...


class Generated(NamedTuple):
    """What was drawn, as text, and the files that hold it."""

    text: str
    files: tuple[Path, ...]


def pictured(images: np.ndarray, options: GenerateOptions) -> Generated:
    """Return images that were drawn, [N, H, W, C], pixels 0 to 1, also written to ``options.out`` (.png)."""
    files = options.files(".png")
    for file in files:
        plots.save_image_grid(file, images)
    return Generated(f"{len(images)} images of {' x '.join(map(str, images.shape[1:]))}", files)


class Finished(NamedTuple):
    """What was measured of a run in the end: of each seed, and of baselines, to stand beside it."""

    metrics: Mapping[str, Sequence[float]] = {}
    baselines: Mapping[str, float] = {}


class Recipe(NamedTuple):
    """A recipe's parts, and the name under which it was asked for."""

    name: str
    file: str
    config: Any
    load: Callable[[Any], Splits]
    build: Callable[[Any, Spec], Learner]
    example: Callable[[Spec], Any]
    predict: Callable[[Any, Spec, Sequence[str], Outputs], list[dict[str, Any]]] | None
    judge: Callable[[Any, Spec, np.ndarray, Outputs], list[dict[str, Any]]] | None
    reconstruct: Callable[[Any, Spec, np.ndarray, Outputs], np.ndarray] | None
    generate: Callable[[Any, Spec, Learner, TrainState, GenerateOptions], Generated] | None
    watch: Callable[[Any, Splits, Learner, TrainState, int, Path], None] | None
    finish: Callable[[Any, Splits, Learner, Sequence[TrainState], Path], Finished] | None


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
    hooks = (getattr(module, hook, None) for hook in ("predict", "judge", "reconstruct", "generate", "watch", "finish"))
    example = getattr(module, "example", lambda spec: spec["inputs"].example)
    return Recipe(name, file, config, module.load, module.build, example, *hooks)


def _from_file(path: Path) -> Recipe:
    if not path.is_file():
        raise InputError(f"{path}: there is no such recipe file")
    spec = importlib.util.spec_from_file_location(f"jaxnets_recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
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
