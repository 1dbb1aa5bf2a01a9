"""The command that writes a run's weights for other libraries."""

from pathlib import Path
from typing import Literal

import numpy as np

from jaxnets.commands.opening import RecipeFile, RunFolder, each_member, open_run
from jaxnets.errors import InputError
from jaxnets.learner import TrainState
from jaxnets.network import PyTree
from jaxnets.runs.console import console
from jaxnets.transforms.averaged import in_use
from jaxnets.transforms.features import whole_weights
from jaxnets.transforms.lora import merged
from jaxnets.weights.layout import exported, named_as_torch
from jaxnets.weights.safetensors_files import write_safetensors


def export(run: RunFolder, /, out: Path, to: Literal["torch"] = "torch", recipe: RecipeFile = None) -> int:
    """Write a run's weights as safetensors, in the names and shapes of PyTorch's model of the same kind.

    Adapters are added to the kernels that they adapt, averaged weights stand for those that were trained. A model that
    PyTorch's libraries lack is written under its own names, with dots, in PyTorch's shapes. Of several seeds, the
    first's.

    Args:
        run: the run's folder.
        out: the .safetensors file to write.
        to: torch, whose names and shapes are used.
        recipe: the recipe's file, if the run is of one's own recipe.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"out={str(out)!r} must be a .safetensors file")
    opened = open_run(run, recipe)
    weights = plain_weights(next(each_member(opened.run.train_state(opened.members))))
    layout = opened.recipe.layout(opened.spec)
    tensors = named_as_torch(weights) if layout is None else exported(layout, weights)
    write_safetensors(out, tensors, {"format": "pt"})
    names = "its own names" if layout is None else f"the names of {layout.name}"
    count = sum(int(np.size(tensor)) for tensor in tensors.values())
    console.print(f"{len(tensors)} tensors of {count:,} numbers, under {names}, kept in {out}")
    if layout is not None and layout.note:
        console.print(layout.note)
    return 0


def plain_weights(state: TrainState) -> tuple[PyTree, PyTree]:
    """Return params and model state as the network itself has them, without what training put around them."""
    state = in_use(state)
    params, model_state = state.params, state.model_state
    if set(params) == {"base", "lora"}:
        return merged(params, model_state)
    if isinstance(model_state, dict) and set(model_state) == {"body", "state"}:
        return whole_weights(params, model_state)
    return params, model_state
