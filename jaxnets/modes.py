"""How a module is called: with its inputs, and in its mode (trained or not, in part frozen, watched)."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import jax
from flax import nnx
from jax import lax

from jaxnets.errors import InputError
from jaxnets.parameters import PyTree, path_name, paths

CallWith = Callable[[bool], Mapping[str, Any]]
# Keywords by which modules are told that they are trained, each with its value when they are.
_KNOWN = {
    "train": True,
    "training": True,
    "is_train": True,
    "is_training": True,
    "enable_dropout": True,
    "deterministic": False,
    "inference": False,
    "use_running_average": False,
}


def switches(kind: type, call_with: CallWith | None) -> CallWith:
    """Return what a module's call is told, given whether it is trained: ``call_with``, or the keywords that it takes.

    Raises:
        InputError: if it takes a keyword that looks like such a one but is not known, for then its mode is not either.
    """
    if call_with is not None:
        return call_with
    taken = inspect.signature(kind.__call__).parameters
    told = {name: on for name, on in _KNOWN.items() if name in taken}
    doubtful = [
        name
        for name, parameter in taken.items()
        if name not in _KNOWN
        and (isinstance(parameter.default, bool) or parameter.annotation in (bool, "bool"))
        and re.search(r"(^|_)(train|determin|eval|infer|test|dropout)", name)
    ]
    if doubtful and not told:
        raise InputError(
            f"{kind.__name__} takes {doubtful[0]}=, which may say whether it is trained; say what it is called with: "
            f"call_with=lambda train: {{{doubtful[0]!r}: train}}, or {{}} for nothing"
        )
    return lambda train: {name: train == on for name, on in told.items()}


def arguments(kind: type, inputs: PyTree) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return inputs as a module's call takes them, by position and by keyword.

    A dict whose names are all arguments of the call goes to those, a tuple of as many as it needs by position, and all
    else is one argument, the first, be it one by keyword.
    """
    _, *taken = inspect.signature(kind.__call__).parameters.values()
    if isinstance(inputs, dict) and inputs and set(inputs) <= {parameter.name for parameter in taken}:
        return (), inputs
    needed = [p for p in taken if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if type(inputs) is tuple and len(inputs) == len([p for p in needed if p.name not in _KNOWN]) > 1:
        return inputs, {}
    if taken and all(p.kind is p.KEYWORD_ONLY for p in taken):
        return (), {next(p.name for p in taken if p.name not in _KNOWN and p.name != "rngs"): inputs}
    return (inputs,), {}


_FROZEN: ContextVar[Callable[[str], bool] | None] = ContextVar("frozen", default=None)


@contextmanager
def freezing(frozen: Callable[[str], bool]) -> Iterator[None]:
    """Hold parameters fixed where networks are applied inside this context, while it is traced.

    They get no gradient, and modules all of whose parameters are fixed are in evaluation mode: their dropout is off,
    and their batch statistics are used as they are. (Of a Linen module, the latter only if all of it is fixed.)

    Args:
        frozen: says of a parameter's path whether it is fixed.
    """
    token = _FROZEN.set(frozen)
    try:
        yield
    finally:
        _FROZEN.reset(token)


@contextmanager
def freezing_part(name: str) -> Iterator[None]:
    """Have what is frozen be told of a part's parameters by their paths in the whole, under ``name``."""
    if (frozen := _FROZEN.get()) is None:
        yield
        return
    with freezing(lambda path: frozen(f"{name}/{path}")):
        yield


def held(params: PyTree) -> tuple[PyTree, Callable[[str], bool] | None]:
    """Return the params, fixed ones without a gradient, and what says which those are."""
    if (frozen := _FROZEN.get()) is None:
        return params, None

    def hold(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return lax.stop_gradient(leaf) if frozen(path_name(path)) else leaf

    return jax.tree_util.tree_map_with_path(hold, params), frozen


def rest(module: nnx.Module, params: PyTree, frozen: Callable[[str], bool]) -> None:
    """Put the modules all of whose parameters are fixed into evaluation mode."""
    names = list(paths(params))
    for path, child in nnx.iter_modules(module):
        prefix = "".join(f"{part}/" for part in path)
        own = [name for name in names if name.startswith(prefix)]
        if own and all(map(frozen, own)):
            child.eval()


def check_batch(module: nnx.Module, inputs: PyTree) -> None:
    """Check that no batch normalisation of a module that is trained is over a batch of one.

    Raises:
        InputError: if one is; what is one value less its mean is 0, whatever it was.
    """
    if all(leaf.shape[:1] != (1,) for leaf in jax.tree.leaves(inputs)):
        return
    for path, child in nnx.iter_modules(module):
        if isinstance(child, nnx.BatchNorm) and not child.use_running_average and child.axis_name is None:
            raise InputError(f"{'/'.join(map(str, path)) or 'the module'}: {BATCH_OF_ONE}")


BATCH_OF_ONE = (
    "a batch normalisation trained on one example at a time, which makes 0 of it; use batches, and parts of them "
    "(--accumulate), of 2 or more, or layer normalisation"
)

WATCH: ContextVar[Callable[[nnx.Module], None] | None] = ContextVar("watch", default=None)


@contextmanager
def watching(watch: Callable[[nnx.Module], None]) -> Iterator[None]:
    """Call ``watch(module)`` on each module that ``apply`` merges inside this context, before it is called."""
    token = WATCH.set(watch)
    try:
        yield
    finally:
        WATCH.reset(token)


def rerouted(module: nnx.Module, call: Callable[..., Any]) -> None:
    """Have this one module's calls go through ``call(function, *args, **kwargs)``, whose ``function`` is its own.

    Its class is swapped for a subclass, so nothing shared is patched.
    """
    kind: Any = type(module)

    def own(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        return call(partial(kind.__call__, self), *args, **kwargs)

    object.__setattr__(module, "__class__", type(kind.__name__, (kind,), {"__call__": own}))
