"""A run's learner on a mesh of devices, as the command line asks for it."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxnets.errors import InputError, nearest
from jaxnets.learner import Learner
from jaxnets.parameters import matches, paths
from jaxnets.recipes.recipe import Recipe
from jaxnets.runs.folder import RunConfig
from jaxnets.training.chunk import run_keys
from jaxnets.transforms.meshes import DATA, MEMBERS, MODEL, make_mesh, mesh_sizes
from jaxnets.transforms.sharded import sharded

_AXES = (DATA, MODEL, MEMBERS)


def on_mesh(learner: Learner, config: RunConfig, recipe: Recipe, devices: Sequence[Any] | None = None) -> Learner:
    """Return the learner of all of a run's seeds, spread over devices if the config asks for a mesh.

    ``devices`` are all of this machine, unless others are given to compile for.

    Raises:
        InputError: if an axis is none that is known, there are more or fewer devices, or heads do not divide.
    """
    if config.mesh is None:
        return learner
    sizes = mesh_sizes(config.mesh)
    if unknown := [axis for axis in sizes if axis not in _AXES]:
        known = f"{', '.join(_AXES)}{nearest(unknown[0], _AXES)}"
        raise InputError(f"mesh={config.mesh!r}: {unknown[0]!r} is none of the axes {known}")
    if config.fully_sharded and DATA not in sizes:
        raise InputError(f"fully_sharded splits along {DATA!r}, which mesh={config.mesh!r} lacks; add {DATA}=N")
    mesh = make_mesh(sizes, devices)
    _check_heads(learner, config, recipe, sizes.get(MODEL, 1))
    return sharded(learner, mesh, fully=config.fully_sharded)


def _check_heads(learner: Learner, config: RunConfig, recipe: Recipe, number: int) -> None:
    """Check that heads divide, which the shapes of a transformer's parameters do not tell."""
    heads = [group.num_heads for group in vars(recipe.config).values() if hasattr(group, "num_heads")]
    if all(count % number == 0 for count in heads):
        return
    init_key, _ = jax.eval_shape(run_keys, np.asarray(config.seed, np.int32))
    params = jax.eval_shape(learner.init, init_key).params
    if any(matches("**/q/kernel", name) for name in paths(params)):
        raise InputError(
            f"num_heads={heads[0]} is no multiple of the mesh's {MODEL}={number}, and heads are not cut; change one"
        )
