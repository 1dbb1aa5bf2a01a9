"""Parameters by name: paths such as "encoder/0/kernel", patterns of them, and weights to begin from."""

import re
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from jaxnets.errors import InputError, check_kind, nearest

PyTree = Any
T = TypeVar("T")


def paths(tree: PyTree) -> dict[str, Any]:
    """Return the leaves by path, the names from the outside in with "/" between, in the tree's order."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {path_name(path): leaf for path, leaf in leaves}


def path_name(path: tuple[Any, ...]) -> str:
    """Return JAX's path of a leaf as names with "/" between."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def matches(pattern: str, path: str) -> bool:
    """Return whether a path is as a pattern says.

    ``*`` stands for any part of a name, ``?`` for one character, and ``**`` for any names, at least one at the end:
    "encoder/**" is all of the encoder, "**/bias" every bias, "head/*/kernel" the kernels of the head's layers. One
    of a list that begins with ``!`` takes out what it matches (``selecting``).
    """
    check_kind("pattern", pattern, str, "give a text, such as 'encoder/**'")
    check_kind("path", path, str, "give a parameter's path, such as 'encoder/0/kernel'")
    return re.fullmatch(_expression(pattern), path) is not None


def listed(patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns, which are texts in a list.

    Raises:
        InputError: if they are not.
    """
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        example = patterns if isinstance(patterns, str) else "encoder/**"
        raise InputError(f"{patterns=} must be a list of patterns, such as [{example!r}]")
    found = tuple(patterns)
    for pattern in found:
        check_kind(f"pattern {pattern!r}", pattern, str, "give a text, such as 'encoder/**'")
    return found


def selecting(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return what says of a path whether a pattern matches it, and none that begins with ``!``.

    So ``["**", "!out/**"]`` are all parameters but the output layer's, in whatever order.

    Raises:
        InputError: if all patterns begin with ``!``.
    """
    found = listed(patterns)
    expressions = [(pattern.startswith("!"), re.compile(_expression(pattern.removeprefix("!")))) for pattern in found]
    if found and all(excluded for excluded, _ in expressions):
        raise InputError(f"patterns {' '.join(found)} only leave out; name what of, such as '**' for everything")

    def selected(path: str) -> bool:
        hits = {excluded for excluded, expression in expressions if expression.fullmatch(path)}
        return hits == {False}

    return selected


def matching(tree: PyTree, patterns: Iterable[str]) -> PyTree:
    """Return which leaves the patterns select (``selecting``), a tree of booleans.

    Raises:
        InputError: if a pattern matches nothing; it names paths that are near.
    """
    patterns = listed(patterns)
    names = list(paths(tree))
    for pattern in patterns:
        expression = re.compile(_expression(pattern.removeprefix("!")))
        if not any(expression.fullmatch(name) for name in names):
            known = {*names, *(f"{'/'.join(name.split('/')[:i])}/**" for name in names for i in range(1, 4))}
            raise InputError(
                f"pattern {pattern!r} matches no parameter{nearest(pattern, known)}; there are {', '.join(names[:8])}"
                + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            )
    selected = selecting(patterns)
    return jax.tree_util.tree_map_with_path(lambda path, _: selected(path_name(path)), tree)


def parameter_of(path: str, names: Container[str]) -> str | None:
    """Return the parameter to which a leaf of an optimizer's state, or of an average, belongs; None if to none.

    Optimizers keep what is of a parameter under its own path: the longest end of the leaf's path that is one. Where
    parts of the parameters have an optimizer each, these come first, and what is between is left out:
    "generator/0/mu/out/kernel" is of "generator/out/kernel".

    Args:
        path: of the leaf.
        names: paths of the parameters.
    """
    parts = path.split("/")
    found = ("/".join(parts[:begin] + parts[i:]) for begin in range(len(parts)) for i in range(begin, len(parts)))
    return next((name for name in found if name in names), None)


def without(tree: PyTree, patterns: Iterable[str]) -> dict[str, Any]:
    """Return the leaves that the patterns do not select, by path: ``Initial(without(params, ["out/**"]))``.

    So a model with another number of outputs begins from all weights of another but its head's.

    Raises:
        InputError: if a pattern matches nothing.
    """
    hits = paths(matching(tree, patterns))
    return {name: leaf for name, leaf in paths(tree).items() if not hits[name]}


def begun(fresh: PyTree, given: PyTree, what: str = "params") -> PyTree:
    """Return ``fresh`` with the leaves of ``given`` in place of its own; ``given`` may be a part of it.

    Args:
        fresh: initial values, nested dicts.
        given: weights of the same names, shapes and kinds; None is none.
        what: these are, for errors.

    Raises:
        InputError: if a leaf has a name, a shape or a kind that ``fresh`` lacks.
    """
    if given is None:
        return fresh
    own, start = paths(fresh), paths(given)
    for name, leaf in start.items():
        if name not in own:
            raise InputError(f"initial {what}: there is no {name!r}{nearest(name, own)}; there are {', '.join(own)}")
        wanted = own[name]
        if leaf.shape != wanted.shape or np.dtype(leaf.dtype).kind != np.dtype(wanted.dtype).kind:
            raise InputError(
                f"initial {what}: {name} is {leaf.dtype}{list(leaf.shape)}, not {wanted.dtype}{list(wanted.shape)}"
            )

    def taken(path: tuple[Any, ...], leaf: Any) -> Any:
        return start.get(path_name(path), leaf).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(taken, fresh)


def by_pattern(tree: PyTree, values: Mapping[str, T], otherwise: T) -> PyTree:
    """Return the value of each leaf: that of the first pattern that it matches, or another.

    Raises:
        InputError: if a pattern matches nothing, or nothing that no pattern before it matches.
    """
    hits = {pattern: matching(tree, [pattern]) for pattern in values}
    taken = [False] * len(jax.tree.leaves(tree))
    for pattern, hit in hits.items():
        leaves = jax.tree.leaves(hit)
        if not any(yes and not before for yes, before in zip(leaves, taken, strict=True)):
            raise InputError(f"pattern {pattern!r} matches nothing that one before it does not; put it first")
        taken = [yes or before for yes, before in zip(leaves, taken, strict=True)]

    def first(*hit: bool) -> T:
        return next((value for value, yes in zip(values.values(), hit, strict=True) if yes), otherwise)

    return jax.tree.map(first, *hits.values()) if hits else jax.tree.map(lambda _: otherwise, tree)


def layer_numbers(tree: PyTree) -> tuple[PyTree, int]:
    """Return how deep each leaf lies, counted from 0 at the inputs, and the depth of what comes after all layers.

    A leaf lies in the layer whose number is the first in its path: "blocks/3/attention/q/kernel" at 4. Embeddings,
    positions, patches and a stem, by their names, lie at 0, all else at the end.

    Raises:
        InputError: if there are no numbered layers.
    """

    def number(path: str) -> int | None:
        digits = [int(part) for part in path.split("/") if part.isdigit()]
        return digits[0] + 1 if digits else 0 if re.search("embed|position|stem|patch", path) else None

    end = 1 + max((number(path) or 0 for path in paths(tree)), default=0)
    if end == 1:
        raise InputError(f"there are no numbered layers among {', '.join(list(paths(tree))[:8])}")

    def depth(path: tuple[Any, ...], _: Any) -> int:
        found = number(path_name(path))
        return end if found is None else found

    return jax.tree_util.tree_map_with_path(depth, tree), end


def _expression(pattern: str) -> str:
    parts = pattern.strip("/").split("/")
    expression = ""
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if part == "**":
            expression += ".+" if last else "(?:[^/]+/)*"
        else:
            name = re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
            expression += name if last else f"{name}/"
    return expression
