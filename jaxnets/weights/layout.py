"""Layouts: which of our parameters each tensor of another project's file is, both ways, exact or refused."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.errors import InputError, nearest
from jaxnets.network import PyTree
from jaxnets.parameters import matches, path_name, paths

_FEW = 8  # names that an error lists
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}


class Rule(NamedTuple):
    """Some of their tensors, as some of our parameters.

    Attributes:
        theirs: names in files.
        ours: paths of our parameters and states, such as "blocks/0/attention/q/kernel".
        load: makes our arrays of theirs.
        save: makes their arrays of ours.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    load: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
    save: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


class Layout(NamedTuple):
    """How a family of models names and shapes its weights.

    Attributes:
        name: of the layout, for errors, such as "Hugging Face's BERT".
        rules: of all parameters and states.
        ignored: patterns of names in files that are no weights, or a copy of one; "." stands for itself.
        prefixes: what names in files may begin with or not, such as "bert."; ``exported`` writes them as the rules do.
        constants: tensors that are no weights and may be missing; they are ignored in a file, and written as they are.
        note: what whoever loads them there must know.
    """

    name: str
    rules: tuple[Rule, ...]
    ignored: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    constants: Mapping[str, np.ndarray] = MappingProxyType({})
    note: str = ""


def same(theirs: str, ours: str) -> Rule:
    """Return the rule of a tensor that both have in one shape."""
    return _one(theirs, ours, np.asarray, np.asarray)


def dense(theirs: str, ours: str) -> Rule:
    """Return the rule of a dense layer's weights: theirs are [out, in], ours [in, out]."""
    return _one(theirs, ours, np.transpose, np.transpose)


def conv(theirs: str, ours: str) -> Rule:
    """Return the rule of a 2D convolution's weights: theirs are [out, in, H, W], ours [H, W, in, out]."""
    return _one(theirs, ours, lambda x: np.transpose(x, (2, 3, 1, 0)), lambda x: np.transpose(x, (3, 2, 0, 1)))


def conv1d(theirs: str, ours: str) -> Rule:
    """Return the rule of a 1D convolution's weights: theirs are [out, in, T], ours [T, in, out]."""
    return _one(theirs, ours, lambda x: np.transpose(x, (2, 1, 0)), lambda x: np.transpose(x, (2, 1, 0)))


def parts(theirs: str, ours: Sequence[str], axis: int) -> Rule:
    """Return the rule of a tensor that holds several of ours, of equal size, along an axis."""

    def load(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return np.split(arrays[0], len(ours), axis)

    return Rule((theirs,), tuple(ours), load, lambda arrays: [np.concatenate(arrays, axis)])


def linear(theirs: str, ours: str) -> list[Rule]:
    """Return the rules of a dense layer's weights and biases."""
    return [dense(f"{theirs}.weight", f"{ours}/kernel"), same(f"{theirs}.bias", f"{ours}/bias")]


def layer_norm(theirs: str, ours: str) -> list[Rule]:
    """Return the rules of a layer norm's scales and biases."""
    return [same(f"{theirs}.weight", f"{ours}/scale"), same(f"{theirs}.bias", f"{ours}/bias")]


def _one(theirs: str, ours: str, load: Callable[[Any], np.ndarray], save: Callable[[Any], np.ndarray]) -> Rule:
    return Rule((theirs,), (ours,), lambda x: [load(x[0])], lambda x: [save(x[0])])


def imported(layout: Layout, weights: Mapping[str, np.ndarray], like: PyTree, fresh: Sequence[str] = ()) -> PyTree:
    """Return a tree as ``like``, such as (params, model_state), with the values of a file.

    Args:
        layout: of the file.
        weights: its tensors, by name.
        like: arrays, or their shapes (``jax.eval_shape``), which give names, shapes and dtypes.
        fresh: patterns of our names that keep the values of ``like``, such as "out/**" for a new head.

    Raises:
        InputError: if a tensor is missing, left over, or of another shape.
    """
    wanted = _by_name(like)
    bare = [rule._replace(theirs=tuple(_bare(layout, name) for name in rule.theirs)) for rule in layout.rules]
    rules = [rule for rule in bare if not any(_hits(fresh, name) for name in rule.ours)]
    skipped = {name for rule in bare if rule not in rules for name in rule.theirs}
    _check_covered(layout, [*(name for rule in rules for name in rule.ours)], wanted, fresh)
    names = _names(layout, weights)
    missing = [name for rule in rules for name in rule.theirs if name not in names]
    known = {name for rule in rules for name in rule.theirs} | skipped | set(layout.constants)
    left = [name for name in names if name not in known and not _hits_dotted(layout.ignored, name)]
    if missing or left:
        said = [f"it lacks {_few(missing)}"] * bool(missing) + [f"{_few(left)} would be left over"] * bool(left)
        near = nearest(missing[0], left) if missing and left else ""
        raise InputError(f"these are not weights in the layout of {layout.name} at this size: {'; '.join(said)}{near}")
    found: dict[str, np.ndarray] = {}
    for rule in rules:
        theirs = [weights[names[name]] for name in rule.theirs]
        try:
            ours = rule.load(theirs)
        except (ValueError, IndexError) as error:
            shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in zip(rule.theirs, theirs, strict=True))
            raise InputError(f"{layout.name}: {shapes} cannot become {', '.join(rule.ours)}: {error}") from error
        for name, array in zip(rule.ours, ours, strict=True):
            if array.shape != wanted[name].shape:
                raise InputError(
                    f"{layout.name}: {', '.join(rule.theirs)} gives {name} the shape {list(array.shape)}, not "
                    f"{list(wanted[name].shape)}; these are weights of another size"
                )
            if jnp.issubdtype(array.dtype, jnp.floating) != jnp.issubdtype(wanted[name].dtype, jnp.floating):
                raise InputError(
                    f"{layout.name}: {', '.join(rule.theirs)} holds {array.dtype}, and {name} {wanted[name].dtype}; "
                    "quantised weights are not read without their scales"
                )
            found[name] = np.asarray(array, wanted[name].dtype)

    def value(path: tuple[Any, ...], leaf: Any) -> Any:
        return found.get(_inner(path), leaf)

    return jax.tree_util.tree_map_with_path(value, like)


def exported(layout: Layout, tree: PyTree) -> dict[str, np.ndarray]:
    """Return weights in another project's names and shapes; ``imported`` undoes it.

    Args:
        layout: of the project.
        tree: of arrays, such as (params, model_state).

    Raises:
        InputError: if the layout and the tree do not name the same parameters.
    """
    ours = _by_name(tree)
    _check_covered(layout, [name for rule in layout.rules for name in rule.ours], ours, ())
    found = dict(layout.constants)
    for rule in layout.rules:
        arrays = rule.save([np.asarray(ours[name]) for name in rule.ours])
        found |= {name: np.ascontiguousarray(array) for name, array in zip(rule.theirs, arrays, strict=True)}
    return found


def named_as_torch(tree: PyTree) -> dict[str, np.ndarray]:
    """Return weights under their own names with dots, in PyTorch's shapes and with its words for them.

    A kernel is a "weight" [out, in] or [out, in, H, W], a norm's scale and an embedding a "weight", a norm's mean and
    variance "running_mean" and "running_var".

    Args:
        tree: of arrays, such as (params, model_state).
    """
    words = {"scale": "weight", "embedding": "weight", "mean": "running_mean", "var": "running_var"}
    found: dict[str, np.ndarray] = {}
    for path, leaf in _by_name(tree).items():
        *inside, last = path.split("/")
        array = np.asarray(leaf)
        if last == "kernel":
            last, array = "weight", np.moveaxis(array, (-1, -2), (0, 1)) if array.ndim > 1 else array
        found[".".join([*inside, words.get(last, last)])] = np.ascontiguousarray(array)
    return found


def _by_name(tree: PyTree) -> dict[str, Any]:
    """Return the leaves by path, without the number of their tree."""
    return {path.partition("/")[2]: leaf for path, leaf in paths(tree).items()}


def _inner(path: tuple[Any, ...]) -> str:
    return path_name(path[1:])


def _check_covered(layout: Layout, ruled: list[str], wanted: Mapping[str, Any], fresh: Sequence[str]) -> None:
    unknown = [name for name in ruled if name not in wanted]
    bare = [name for name in wanted if name not in set(ruled) and not _hits(fresh, name)]
    if unknown or bare:
        raise InputError(
            f"the layout of {layout.name} does not fit this network: it names {_few(unknown)}, which the network "
            f"lacks, and says nothing of {_few(bare)}"
        )


def _names(layout: Layout, weights: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return the names in a file by what they are without prefixes."""
    found: dict[str, str] = {}
    for name in weights:
        if (bare := _bare(layout, name)) in found:
            raise InputError(f"{layout.name}: {name!r} and {found[bare]!r} are one tensor's names; leave one out")
        found[bare] = name
    return found


def _bare(layout: Layout, name: str) -> str:
    """Return a name without its prefix; norms of BERT's first files are called as in TensorFlow, gamma and beta."""
    prefix = next((prefix for prefix in layout.prefixes if name.startswith(prefix)), "")
    name = name.removeprefix(prefix)
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda old: f"LayerNorm.{_OLD_NAMES[old[1]]}", name)


def _hits(patterns: Iterable[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


def _hits_dotted(patterns: Iterable[str], name: str) -> bool:
    return _hits([pattern.replace(".", "/") for pattern in patterns], name.replace(".", "/"))


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more if names else "nothing"
