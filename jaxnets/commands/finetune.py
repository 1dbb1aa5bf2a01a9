"""The command that goes on from weights: those of others, or of one's own run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxnets.commands.export import plain_weights
from jaxnets.commands.opening import each_member, open_run
from jaxnets.commands.train import TrainOptions
from jaxnets.commands.train import train as train_recipe
from jaxnets.data import Data, Spec, Splits
from jaxnets.errors import InputError, nearest
from jaxnets.learner import Initial
from jaxnets.options import DataConfig, ImageAugmentation, PretrainedConfig, TrainingConfig, with_data
from jaxnets.parameters import matches, paths
from jaxnets.recipes.recipe import Recipe, Start, find
from jaxnets.weights.cards import CARDS
from jaxnets.weights.pretrained import HEAD

_HEADS = (*HEAD, "head/out/**", "transformer/out/**")
_DOES = {"speech": "writes down speech"}
_PRESETS = {"sentences": "sentiment-minilm", "images": "cifar10-lite0", "text": "chat"}


def recipe_of(what: str) -> Recipe:
    """Return the recipe that goes on from weights of this name, or from the run in this folder.

    Raises:
        InputError: if there are none, or they are of a kind that no recipe goes on from.
    """
    if what in CARDS:
        kind = CARDS[what].kind
        if kind not in _PRESETS:
            does, others = _DOES[kind], ", ".join(name for name in CARDS if CARDS[name].kind in _PRESETS)
            raise InputError(f"{what} {does}; {others} are fine-tuned")
        recipe = find(_PRESETS[kind])
        options = replace(recipe.config.pretrained, pretrained=what, input_size=None)
        optimizer = replace(recipe.config.optimizer, warmup=0)  # a few photographs make a few steps
        config = replace(recipe.config, pretrained=options, optimizer=optimizer)
        if kind != "text":
            training = TrainingConfig(duration="3ep" if kind == "sentences" else "10ep", batch_size=32)
            config = replace(config, training=training)
        if kind == "images":
            config = replace(config, augmentation=ImageAugmentation())  # which of them suit is the user's to know
        return recipe._replace(config=with_data(config, lambda group: replace(group, data="")))
    if not Path(what).is_dir():
        raise InputError(
            f"{what!r} is neither the folder of a run nor pretrained weights{nearest(what, CARDS)}; there are "
            f"{', '.join(CARDS)}"
        )
    return _from_run(Path(what))


def _from_run(path: Path) -> Recipe:
    """Return a run's recipe, which begins from its weights and sees inputs as it did; all learn, unless told."""
    opened = open_run(path, None)
    if opened.run.result is None:
        raise InputError(f"{path}: has not ended; jaxnets resume {path} first")
    recipe, known, part = opened.recipe, opened.spec["inputs"], None
    if recipe.own_onward is not None:
        preset, config, part = recipe.own_onward(recipe.config)
        recipe = find(preset)._replace(config=config)
    if isinstance(group := getattr(recipe.config, "pretrained", None), PretrainedConfig):
        group = replace(group, lora=None, frozen_features=False)
        recipe = recipe._replace(config=replace(recipe.config, pretrained=group))

    def load(config: Any) -> Splits:
        """Return the new data, standardised as the run's."""
        if _data_of(config) == _data_of(recipe.config):
            raise InputError(f"finetune {path} goes on with other data than the run's; give them: --data PATH")
        if isinstance(group, PretrainedConfig):
            _check_same(path, config.pretrained, group)
        splits = recipe.load(config)
        inputs = splits.train.spec["inputs"]
        if (inputs.classes, inputs.tokenizer) != (known.classes, known.tokenizer):
            raise InputError(
                f"{path}: its tokens stand for other words than those of the new data; train anew, or fine-tune minilm"
            )
        return splits.mapped(seen)

    def seen(data: Data) -> Data:
        return data.knowing("inputs", mean=known.mean, std=known.std) if known.mean else data

    def start(config: Any, spec: Spec) -> Start:
        """Return the run's weights; without the head's, where the classes are others."""
        params, model_state = plain_weights(next(each_member(opened.run.train_state(opened.members))))
        if part is not None:
            params, model_state = params[part], model_state[part]
        same = opened.spec["labels"].classes == spec["labels"].classes if "labels" in spec.columns else True
        same = same and part is None
        kept = {name: leaf for name, leaf in paths(params).items() if same or not _of_head(name)}
        adapted = config.pretrained.adapted if isinstance(group, PretrainedConfig) else Initial
        initial = adapted(kept, model_state)
        learner = recipe._replace(config=config).learner(spec)
        _check_fits(path, initial, jax.eval_shape(learner.init, jax.random.key(0)).params)
        return Start(initial, f"weights of {path}{'' if same else ', with a new head'}")

    return recipe._replace(load=load, own_start=start)


def _check_same(path: Path, new: PretrainedConfig, old: PretrainedConfig) -> None:
    """Check that no other weights are asked for than the run's."""
    if new.frozen_features:
        raise InputError(f"frozen_features are those of pretrained weights, not of a run; leave it out with {path}")
    for name in ("pretrained", "weights"):
        if getattr(new, name) != getattr(old, name):
            raise InputError(f"{name}={str(getattr(new, name))!r} changes nothing: training begins from {path}")


def _check_fits(path: Path, initial: Initial, wanted: Any) -> None:
    """Check that the weights have the names and shapes of those that the learner has."""
    shapes = paths(wanted)
    for name, leaf in paths(initial.params).items():
        if name not in shapes or shapes[name].shape != leaf.shape:
            there = list(shapes[name].shape) if name in shapes else "missing"
            raise InputError(
                f"{path}: {name} is {list(leaf.shape)}, and {there} with these data and flags; give data of the same "
                "shape (of images: --image-size), and leave the model as it was"
            )


def _data_of(config: Any) -> list[Any]:
    return [group for group in vars(config).values() if isinstance(group, DataConfig)]


def _of_head(name: str) -> bool:
    return any(matches(pattern, name) for pattern in _HEADS)


def finetune(recipe: Recipe, options: TrainOptions) -> int:
    """Go on from pretrained weights, or from a finished run, with data of one's own and a new head."""
    if any(not group.data for group in _data_of(recipe.config)):
        raise InputError("finetune needs data: --data PATH, a file or a folder of yours, or the name of a data set")
    return train_recipe(recipe, options)
