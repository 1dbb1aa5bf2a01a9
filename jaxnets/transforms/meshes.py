"""Meshes of devices, and which axis of a mesh splits which parameter."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

from jaxnets.errors import InputError, check_kind, check_whole, nearest, short
from jaxnets.network import PyTree
from jaxnets.parameters import by_pattern, matches, paths

Axes = Sequence[str | Sequence[str] | None]  # of a parameter: the mesh's axis, or axes, that splits each of its own
Rules = Mapping[str, Axes]

DATA, MODEL, MEMBERS = "data", "model", "members"  # what splits batches, widths and populations, unless said otherwise
LARGE = 1 << 10  # numbers from which on ``fully`` splits a parameter: smaller ones cost more messages than memory

_COLUMNS: Rules = {"kernel": (None, MODEL), "bias": (MODEL,)}
_ROWS: Rules = {"kernel": (MODEL, None), "bias": ()}
_HIDDEN = r"(|.*/)hidden/(\d+)/layer"
_TRANSFORMER: Rules = {
    **{f"**/{layer}/{part}": _COLUMNS[part] for layer in ("q", "k", "v", "up", "gate") for part in _COLUMNS},
    **{f"**/{layer}/kernel": _ROWS["kernel"] for layer in ("attention/out", "cross/out", "down")},
}


def make_mesh(shape: str | Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """Return a mesh of devices, such as ``make_mesh("data=4,model=2")`` or ``make_mesh({"data": 4, "model": 2})``.

    Args:
        shape: the number of devices along each axis; neighbours along the last axis talk the most.
        devices: all that there are if absent.

    Raises:
        InputError: if it is no such shape, or there are more or fewer devices.
    """
    sizes = mesh_sizes(shape) if isinstance(shape, str) else shape
    check_kind("mesh", sizes, Mapping, "give sizes by axis, such as {'data': 4, 'model': 2}")
    if not sizes:
        raise InputError(f"mesh={shape!r} has no axis; give sizes by axis, such as data=4,model=2")
    for name, size in sizes.items():
        check_kind(f"the axis {name!r} of a mesh", name, str, "give its name")
        check_whole(f"mesh axis {name}", size, remedy="devices along it")
    given = jax.devices() if devices is None else list(devices)
    number = math.prod(sizes.values())
    if number != len(given):
        said = ",".join(f"{name}={size}" for name, size in sizes.items())
        flag = f"; on a CPU, XLA_FLAGS=--xla_force_host_platform_device_count={number} makes so many"
        remedy = flag if given and given[0].platform == "cpu" else ""
        raise InputError(
            f"mesh {said} is of {number} devices, and there {'is' if len(given) == 1 else 'are'} {len(given)}: give "
            f"sizes whose product is {len(given)}, such as data={len(given)}{remedy}"
        )
    grid = np.asarray(given).reshape(tuple(sizes.values()))
    return Mesh(grid, tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def mesh_sizes(text: str) -> dict[str, int]:
    """Return the sizes by axis that a text such as "data=4,model=2" gives.

    Raises:
        InputError: if it gives none, or those of an axis twice.
    """
    parts = [part.strip() for part in text.split(",")]
    found = [re.fullmatch(r"(\w+)=(\d+)", part) for part in parts]
    names = [match[1] for match in found if match]
    if len(names) < len(parts) or len(set(names)) < len(names):
        raise InputError(f"mesh={short(text)} must give each axis a size, such as data=4,model=2")
    return {match[1]: int(match[2]) for match in found if match}


def check_mesh(mesh: Any) -> None:
    """Raise an ``InputError`` unless it is a mesh over which the compiler spreads computations by itself."""
    check_kind("mesh", mesh, Mesh, "give a mesh, such as jaxnets.make_mesh('data=4,model=2')")
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise InputError("the mesh has Explicit axes, as jax.make_mesh gives them; give one of jaxnets.make_mesh")


def default_rules(shapes: Mapping[str, tuple[int, ...]], size: int) -> dict[str, Axes]:
    """Return how "model" splits parameters, by the names of this library's layers; those that it does not are absent.

    Attention is split by heads (columns of ``q``, ``k`` and ``v``, rows of ``out``) and a feed-forward network by its
    hidden units (columns of ``up`` and ``gate``, rows of ``down``), as in Megatron-LM (Shoeybi et al., 2019); likewise
    an MLP's hidden layers in pairs, columns of the first, rows of the second or of ``out``. So two layers need one sum
    over devices. Tables of embeddings are split by vocabulary where that divides: by features, all that is added to
    them would be split so, too, and gathered in every layer.

    Args:
        shapes: of all parameters, by path.
        size: of "model".
    """
    counts = Counter(match[1] for name in shapes if (match := re.fullmatch(_HIDDEN + "/kernel", name)))

    def axes(name: str) -> Axes | None:
        if match := re.fullmatch(_HIDDEN + "/(kernel|bias)", name):
            return _COLUMNS[match[3]] if int(match[2]) % 2 == 0 else _ROWS[match[3]]
        match = re.fullmatch(r"(|.*/)out/kernel", name)
        if match and counts[match[1]] % 2 and len(shapes[name]) == 2:
            return _ROWS["kernel"]
        return next((axes for pattern, axes in _TRANSFORMER.items() if matches(pattern, name)), None)

    found = {name: axes(name) for name in shapes}
    found |= {
        name: _ROWS["kernel"] for name in shapes if matches("**/embed/embedding", name) and shapes[name][0] % size == 0
    }
    return {name: axes for name, axes in found.items() if axes is not None}


def axes_of(
    params: PyTree, members: int, mesh: Mesh, rules: Rules | None, fully: str | None
) -> dict[str, tuple[Any, ...]]:
    """Return which axes of a mesh split which axes of each parameter, by path, without those of a population's members.

    Args:
        params: arrays, or their shapes.
        members: how many axes of a population come before a parameter's own.
        mesh: of devices.
        rules: axes by pattern; of parameters that no pattern fits, none. ``default_rules`` if absent.
        fully: the axis that splits what large parameters there are once more.

    Raises:
        InputError: if a pattern matches nothing, there is no such axis, or it does not divide what it is to split.
    """
    shapes = {name: leaf.shape[members:] for name, leaf in paths(params).items()}
    if rules is None:
        found = default_rules(shapes, mesh.shape[MODEL]) if MODEL in mesh.shape else {}
    else:
        specs = {pattern: PartitionSpec(*axes) for pattern, axes in rules.items()}
        found = {name: tuple(spec) for name, spec in paths(by_pattern(params, specs, PartitionSpec())).items()}
    whole = {name: _checked(name, shape, found.get(name, ()), mesh) for name, shape in shapes.items()}
    return {name: _further(shapes[name], axes, mesh, fully) for name, axes in whole.items()} if fully else whole


def _checked(name: str, shape: tuple[int, ...], axes: Axes, mesh: Mesh) -> tuple[Any, ...]:
    """Return what splits each axis of a parameter, once that is possible."""
    if len(axes) > len(shape):
        raise InputError(f"rule {tuple(axes)} for {name} of shape {shape} names more axes than it has")
    every = [axis for split in axes for axis in _several(split)]
    for axis in every:
        if axis not in mesh.shape:
            raise InputError(f"rule {tuple(axes)} for {name}: the mesh has no axis {axis!r}{nearest(axis, mesh.shape)}")
        if every.count(axis) > 1:
            raise InputError(f"rule {tuple(axes)} for {name} names {axis!r} twice; an axis splits one of them")
    for i, (split, size) in enumerate(zip(axes, shape, strict=False)):
        if size % (number := math.prod(mesh.shape[axis] for axis in _several(split))):
            said = " and ".join(f"{axis}={mesh.shape[axis]}" for axis in _several(split))
            raise InputError(
                f"{name} of shape {shape} cannot be split by {said}: {size} along axis {i} is no multiple of {number}; "
                "change that width, the mesh, or the rules"
            )
    return (*axes, *[None] * (len(shape) - len(axes)))


def _further(shape: tuple[int, ...], axes: tuple[Any, ...], mesh: Mesh, axis: str) -> tuple[Any, ...]:
    """Return the axes with a large parameter's longest one that is whole, and that can be, split too."""
    number = mesh.shape[axis]
    free = [i for i, split in enumerate(axes) if split is None and shape[i] % number == 0]
    if math.prod(shape) < LARGE or not free or any(axis in _several(split) for split in axes):
        return axes
    longest = max(free, key=lambda i: shape[i])
    return tuple(axis if i == longest else split for i, split in enumerate(axes))


def _several(split: str | Sequence[str] | None) -> Sequence[str]:
    return () if split is None else (split,) if isinstance(split, str) else split
