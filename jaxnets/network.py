"""A model as two pure functions: the one place where Flax modules are split and merged."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx, struct
from jax import lax

from jaxnets.errors import InputError
from jaxnets.parameters import path_name, paths

Key = jax.Array
PyTree = Any


class Apply(Protocol):
    """``apply(params, model_state, inputs, *, train=False, key=None) -> (outputs, model_state)``."""

    def __call__(
        self, params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        """Return the outputs and the new model state."""
        ...


class Network(NamedTuple):
    """A model, as two pure functions over plain nested dicts of arrays.

    Attributes:
        init: ``init(key) -> (params, model_state)``.
        apply: ``apply(params, model_state, inputs, *, train=False, key=None) -> (outputs, model_state)``. ``train``
            switches dropout and batch statistics on; ``key`` is what random layers draw from.
        check: ``check(inputs)``, raises an ``InputError`` if a data set's inputs hold what the model cannot take, such
            as a token outside its vocabulary; on the host, before anything compiles.
    """

    init: Callable[[Key], tuple[PyTree, PyTree]]
    apply: Apply
    check: Callable[[np.ndarray], None] = lambda inputs: None


def network(build: Callable[..., nnx.Module], *args: Any, **kwargs: Any) -> Network:
    """Return the module that ``build(*args, **kwargs, rngs=...)`` makes, as a pure ``Network``.

    Args:
        build: an ``nnx.Module`` class, the user's own too, or a function that returns a module.
        *args: handed to ``build``.
        **kwargs: handed to ``build``.

    Returns:
        The network. Its ``params`` are the module's ``nnx.Param`` values, its ``model_state`` every other variable
        (such as batch statistics) but random-number streams: those are made anew from ``key`` at each call, whether
        the module takes ``rngs`` when called or keeps them inside. Its ``check`` is the module's, if it has one. What
        the module's ``__call__`` takes of ``train``, ``training``, ``is_training``, ``deterministic`` and
        ``use_running_average`` says whether it is trained. Parameters go by their names, whatever their order.

    Raises:
        InputError: by ``apply``, if parameters are missing or left over; it lists them.
        ValueError: by ``apply``, if ``train`` is set for a module that keeps random streams and ``key`` is missing.
    """

    def create(key: Key) -> nnx.Module:
        return build(*args, **kwargs, rngs=nnx.Rngs(key))

    abstract = nnx.eval_shape(lambda: create(jax.random.key(0)))
    graph, named, streams, _ = nnx.split(abstract, nnx.Param, nnx.RngState, ...)
    named, streams = nnx.to_pure_dict(named), nnx.to_pure_dict(streams)
    switches = _switches(type(abstract))
    # nnx.Sequential hands keywords on to the layers that take them; in its newer versions it names none itself.
    takes_rngs = isinstance(abstract, nnx.Sequential) or _accepts(type(abstract).__call__, "rngs")

    @jax.jit
    def init(key: Key) -> tuple[PyTree, PyTree]:
        _, params, _, model_state = nnx.split(create(key), nnx.Param, nnx.RngState, ...)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(model_state)

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        if train and key is None and jax.tree.leaves(streams):
            raise ValueError(f"key=None, but {type(abstract).__name__} draws random numbers in training; pass a key")
        params, model_state = jax.tree.map(jnp.asarray, (params, model_state))  # NumPy arrays would be written in place
        params, frozen = _held(_by_name(params, named))
        module = nnx.merge(graph, params, model_state, _fresh_streams(streams, key))
        if train:
            module.train()
            if frozen is not None:
                _rest(module, params, frozen)
        else:
            module.eval()
        if watch := _WATCH.get():
            watch(module)
        rngs = {"rngs": None if key is None else nnx.Rngs(key)} if takes_rngs else {}
        outputs = module(inputs, **rngs, **{name: train == on for name, on in switches.items()})
        *_, new_state = nnx.split(module, nnx.Param, nnx.RngState, nnx.Intermediate, ...)
        return outputs, nnx.to_pure_dict(new_state)

    return Network(init, apply, getattr(abstract, "check", lambda inputs: None))


def linen_network(module: linen.Module, example: PyTree) -> Network:
    """Return a Flax Linen module as a pure ``Network``.

    Args:
        module: the module. If its ``__call__`` takes ``train``, ``training``, ``is_training``, ``deterministic`` or
            ``use_running_average``, it is told which of the two it is. Its random streams of any name have keys.
        example: inputs of the right shape and dtype (arrays or ``jax.ShapeDtypeStruct``), from which Linen infers the
            shapes of the parameters.
    """
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)

    switches = _switches(type(module))

    def mode(train: bool) -> dict[str, Any]:
        return {name: train == on for name, on in switches.items()}

    @jax.jit
    def init(key: Key) -> tuple[PyTree, PyTree]:
        model_state = dict(module.init(key, zeros, **mode(train=False)))
        return model_state.pop("params", {}), model_state

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        params, frozen = _held(params)
        train = train and not (frozen and all(map(frozen, paths(params))))
        outputs, changed = module.apply(
            {"params": params, **model_state},
            inputs,
            # Streams of other names are drawn, by Linen's rule, from "params".
            rngs={} if key is None else {"dropout": key, "params": jax.random.fold_in(key, 1)},
            mutable=list(model_state) if train else [],
            **mode(train),
        )
        return outputs, {**model_state, **changed}

    return Network(init, apply)


def standardized(network: Network, mean: Sequence[float], std: Sequence[float]) -> Network:
    """Return the network with ``(inputs - mean) / std`` before it, in float32.

    So the model carries its own preprocessing: data stay as they were stored, such as images as bytes, and
    predictions take raw inputs.

    Args:
        network: the network to wrap.
        mean: of each feature (the inputs' last axis), or one for all; from the training split alone.
        std: standard deviations, likewise; a feature that never varies (0) is only centred.
    """
    shift = np.asarray(mean, np.float32)
    scale = np.asarray([1.0 / value if value > 0 else 1.0 for value in std], np.float32)

    def apply(
        params: PyTree, model_state: PyTree, inputs: jax.Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        inputs = jnp.asarray(inputs, jnp.float32)
        alike = (1,) * (inputs.ndim - 1) + (-1,)
        inputs = (inputs - shift.reshape(alike)) * scale.reshape(alike)
        return network.apply(params, model_state, inputs, train=train, key=key)

    return Network(network.init, apply)


def reshaped(network: Network, shape: Sequence[int]) -> Network:
    """Return the network with outputs [B, ...] as [B, *shape]: such as dense layers that make images."""

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        outputs, model_state = network.apply(params, model_state, inputs, train=train, key=key)
        if math.prod(outputs.shape[1:]) != math.prod(shape):
            raise InputError(f"outputs of shape {outputs.shape} cannot be examples of shape {tuple(shape)}")
        return outputs.reshape(outputs.shape[0], *shape), model_state

    return network._replace(apply=apply)


class Coded(struct.PyTreeNode):
    """Inputs that are codes already, [B, D]: of an autoencoder or a GAN, ``predict`` runs what makes images of them."""

    codes: Any


def example_keys(inputs: jax.Array) -> Key:
    """Return a random key for each example, [B, ...] -> [B], that depends on the example's own numbers alone.

    So what is drawn in evaluation is a function of the data, whatever the batches.
    """
    flat = jnp.asarray(inputs).reshape(inputs.shape[0], -1)
    floating = jnp.issubdtype(flat.dtype, jnp.floating)
    bits = lax.bitcast_convert_type(flat.astype(jnp.float32), jnp.uint32) if floating else flat.astype(jnp.uint32)
    odd = jax.random.bits(jax.random.key(0), (1, flat.shape[1])) | 1  # a sum modulo 2 ** 32, each place with its factor
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), (bits * odd).sum(1, dtype=jnp.uint32))


def num_parameters(params: PyTree) -> int:
    """Return how many numbers the leaves of ``params`` hold."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def named(name: str, network: Network) -> Network:
    """Return the network as a part of a learner, whose params stand under ``name`` in the learner's own."""

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        if (frozen := _FROZEN.get()) is None:
            return network.apply(params, model_state, inputs, train=train, key=key)
        with freezing(lambda path: frozen(f"{name}/{path}")):
            return network.apply(params, model_state, inputs, train=train, key=key)

    return network._replace(apply=apply)


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


def _held(params: PyTree) -> tuple[PyTree, Callable[[str], bool] | None]:
    """Return the params, fixed ones without a gradient, and what says which those are."""
    if (frozen := _FROZEN.get()) is None:
        return params, None

    def hold(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return lax.stop_gradient(leaf) if frozen(path_name(path)) else leaf

    return jax.tree_util.tree_map_with_path(hold, params), frozen


def _rest(module: nnx.Module, params: PyTree, frozen: Callable[[str], bool]) -> None:
    """Put the modules all of whose parameters are fixed into evaluation mode."""
    names = list(paths(params))
    for path, child in nnx.iter_modules(module):
        prefix = "".join(f"{part}/" for part in path)
        own = [name for name in names if name.startswith(prefix)]
        if own and all(map(frozen, own)):
            child.eval()


_WATCH: ContextVar[Callable[[nnx.Module], None] | None] = ContextVar("watch", default=None)


@contextmanager
def watching(watch: Callable[[nnx.Module], None]) -> Iterator[None]:
    """Call ``watch(module)`` on each module that ``apply`` merges inside this context, before it is called."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


def _accepts(function: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(function).parameters


def _switches(kind: type) -> dict[str, bool]:
    """Return the keywords by which a module is told that it is trained, each with its value when it is."""
    known = {"train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False}
    return {name: on for name, on in known.items() if _accepts(kind.__call__, name)}


def _by_name(params: PyTree, wanted: PyTree) -> PyTree:
    """Return the parameters in the structure that a module has, each by its name."""
    structure = jax.tree.structure(wanted)
    if jax.tree.structure(params) == structure:
        return params
    given, names = paths(params), list(paths(wanted))
    missing, left_over = [name for name in names if name not in given], [name for name in given if name not in names]
    if missing or left_over:
        lists = [f"{what} {', '.join(found[:8])}" for what, found in (("lack", missing), ("have", left_over)) if found]
        raise InputError(f"the parameters {' and '.join(lists)}{', which the module has not' * bool(left_over)}")
    return structure.unflatten([given[name] for name in names])


def _fresh_streams(streams: Mapping[str, Any], key: Key | None) -> PyTree:
    """Return values for a module's random streams: each its own key, folded from ``key``, and a count of zero."""
    leaves, structure = jax.tree.flatten(streams)
    key = jax.random.key(0) if key is None else key
    return structure.unflatten(
        jax.random.fold_in(key, i)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jnp.zeros(leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    )
