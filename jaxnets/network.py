"""A model as two pure functions: the one place where Flax' NNX modules are split and merged."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct
from jax import lax

from jaxnets.errors import InputError, check_callable, check_kind, check_widths, numbers, short
from jaxnets.modes import WATCH, CallWith, arguments, check_batch, freezing_part, held, rest, switches
from jaxnets.parameters import paths

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


def network(build: Callable[..., nnx.Module], *args: Any, call_with: CallWith | None = None, **kwargs: Any) -> Network:
    """Return the module that ``build(*args, **kwargs, rngs=...)`` makes, as a pure ``Network``.

    Args:
        build: an ``nnx.Module`` class, the user's own too, or a function that returns a module.
        *args: handed to ``build``.
        call_with: ``call_with(train)``, the keywords that the module is called with, trained or not. By default those
            of ``train``, ``training``, ``is_training``, ``deterministic``, ``use_running_average``, ``inference``,
            ``enable_dropout`` that it takes say which of the two it is.
        **kwargs: handed to ``build``.

    Returns:
        The network. Its ``params`` are the module's ``nnx.Param`` values, its ``model_state`` every other variable or
        array (such as batch statistics, a table of positions) but random-number streams: those are made anew from
        ``key`` at each call, whether the module takes ``rngs`` when called (a key, if its type says so) or keeps them
        inside. Its ``check`` is the module's, if it has one. Both go by their names, whatever their order. ``inputs``
        of several parts go to a module's arguments: a dict by their names, if it has them all, a tuple by position.

    Raises:
        InputError: if the module takes a keyword that looks as if it said whether it is trained, and is none of those;
            by ``apply``, if parameters are missing or left over; it lists them.
        ValueError: by ``apply``, if ``train`` is set for a module that keeps random streams and ``key`` is missing.
    """
    check_callable("build", build, "give an nnx.Module class, or a function that returns a module")

    def create(key: Key) -> nnx.Module:
        return _with_arrays(build(*args, **kwargs, rngs=nnx.Rngs(key)))

    abstract, graph, (named, streams, named_state) = _shaped(create)
    kind = type(abstract)
    mode = switches(kind, call_with)
    # nnx.Sequential hands keywords on to the layers that take them; in its newer versions it names none itself.
    rngs = inspect.signature(kind.__call__).parameters.get("rngs")
    takes_rngs = isinstance(abstract, nnx.Sequential) or rngs is not None
    kind_of_rngs = str(rngs.annotation) if rngs else ""
    takes_key = "Array" in kind_of_rngs and "Rngs" not in kind_of_rngs  # one random key, under the name of many

    @jax.jit
    def init(key: Key) -> tuple[PyTree, PyTree]:
        _, params, _, model_state = nnx.split(create(key), nnx.Param, nnx.RngState, ...)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(model_state)

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        if train and key is None and jax.tree.leaves(streams):
            raise ValueError(f"key=None, but {kind.__name__} draws random numbers in training; pass a key")
        params, model_state = jax.tree.map(jnp.asarray, (params, model_state))  # NumPy arrays would be written in place
        params, frozen = held(_by_name(params, named, "parameters"))
        model_state = _by_name(model_state, named_state, "model's state")
        module = nnx.merge(graph, params, model_state, _fresh_streams(streams, key))
        if train:
            module.train()
            if frozen is not None:
                rest(module, params, frozen)
            check_batch(module, inputs)
        else:
            module.eval()
        if watch := WATCH.get():
            watch(module)
        given, keywords = arguments(kind, inputs)
        if takes_rngs:
            keywords["rngs"] = key if key is None or takes_key else nnx.Rngs(key)
        outputs = module(*given, **keywords, **mode(train))
        *_, new_state = nnx.split(module, nnx.Param, nnx.RngState, nnx.Intermediate, ...)
        return outputs, nnx.to_pure_dict(new_state)

    return Network(init, apply, getattr(abstract, "check", lambda inputs: None))


def standardized(network: Network, mean: Sequence[float], std: Sequence[float]) -> Network:
    """Return the network with ``(inputs - mean) / std`` before it, in float32.

    So the model carries its own preprocessing: data stay as they were stored, such as images as bytes, and
    predictions take raw inputs.

    Args:
        network: the network to wrap.
        mean: of each feature (the inputs' last axis), or one for all; from the training split alone.
        std: standard deviations, likewise; a feature that never varies (0) is only centred.
    """
    check_kind("network", network, Network, "give a jaxnets.Network")
    means, deviations = numbers("mean", mean), numbers("std", std)
    if (len(means) != len(deviations) and 1 not in (len(means), len(deviations))) or min(deviations) < 0:
        raise InputError(f"mean={short(means)}, std={short(deviations)}: give one of each a feature, std 0 or more")
    size, shift = max(len(means), len(deviations)), np.asarray(means, np.float32)
    scale = np.asarray([1.0 / value if value > 0 else 1.0 for value in deviations], np.float32)

    def apply(
        params: PyTree, model_state: PyTree, inputs: jax.Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        inputs = jnp.asarray(inputs, jnp.float32)
        if inputs.shape[-1:] != (size,) and size > 1:
            raise InputError(f"standardized() by {size} means got inputs of shape {inputs.shape}; give [..., {size}]")
        alike = (1,) * (inputs.ndim - 1) + (-1,)
        inputs = (inputs - shift.reshape(alike)) * scale.reshape(alike)
        return network.apply(params, model_state, inputs, train=train, key=key)

    return Network(network.init, apply)


def fitted(network: Network, shape: Sequence[int]) -> Network:
    """Return the network with images resized to what it takes before it, grey ones as RGB; bilinear, on the device.

    Args:
        network: takes images [B, *shape].
        shape: (H, W, C); C is 3, or that of all images.
    """
    check_kind("network", network, Network, "give a jaxnets.Network")
    check_widths("shape", shape)
    height, width, channels = shape

    def apply(
        params: PyTree, model_state: PyTree, inputs: jax.Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        if jnp.ndim(inputs) != 4 or inputs.shape[3] not in (1, channels):
            raise InputError(f"inputs of shape {jnp.shape(inputs)} are no images [B, H, W, 1 or {channels}]")
        if inputs.shape[1:3] != (height, width):
            sizes = inputs.shape[0], height, width, inputs.shape[3]
            inputs = jax.image.resize(jnp.asarray(inputs, jnp.float32), sizes, "bilinear")
        if inputs.shape[3] != channels:
            inputs = jnp.repeat(inputs, channels, 3)
        return network.apply(params, model_state, inputs, train=train, key=key)

    return network._replace(apply=apply)


def reshaped(network: Network, shape: Sequence[int]) -> Network:
    """Return the network with outputs [B, ...] as [B, *shape]: such as dense layers that make images."""
    check_kind("network", network, Network, "give a jaxnets.Network")
    check_widths("shape", shape)

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
        with freezing_part(name):
            return network.apply(params, model_state, inputs, train=train, key=key)

    return network._replace(apply=apply)


def _shaped(create: Callable[[Key], nnx.Module]) -> tuple[nnx.Module, Any, list[PyTree]]:
    """Return the module with shapes for arrays, and what it is made of: its graph, parameters, streams and state."""
    graphs = []

    def split(key: Key) -> list[Any]:
        graph, *states = nnx.split(create(key), nnx.Param, nnx.RngState, ...)
        graphs.append(graph)
        return states

    states = jax.eval_shape(split, jax.random.key(0))
    return nnx.merge(graphs[0], *states), graphs[0], list(map(nnx.to_pure_dict, states))


def _with_arrays(module: nnx.Module) -> nnx.Module:
    """Return the module, its arrays that are no variables taken for data, as outside of a trace.

    Inside of one, Flax knows them only as variables, and would keep a tracer as if it were a setting.
    """
    for _, node in nnx.iter_graph(module):
        if isinstance(node, nnx.Pytree):
            for name, value in list(vars(node).items()):
                if isinstance(value, jax.Array):
                    setattr(node, name, nnx.data(value))
    return module


def _by_name(tree: PyTree, wanted: PyTree, what: str) -> PyTree:
    """Return arrays in the structure that a module has, each by its name."""
    structure = jax.tree.structure(wanted)
    if jax.tree.structure(tree) == structure:
        return tree
    given, names = paths(tree), list(paths(wanted))
    missing, left_over = [name for name in names if name not in given], [name for name in given if name not in names]
    if missing or left_over:
        lists = [f"{what} {', '.join(found[:8])}" for what, found in (("lack", missing), ("have", left_over)) if found]
        raise InputError(f"the {what} {' and '.join(lists)}{', which the module has not' * bool(left_over)}")
    return structure.unflatten([given[name] for name in names])


def _fresh_streams(streams: Mapping[str, Any], key: Key | None) -> PyTree:
    """Return values for a module's random streams: each its own key, folded from ``key``, and a count of zero.

    A stream of stacked layers has a key for each.
    """
    leaves, structure = jax.tree.flatten(streams)
    key = jax.random.key(0) if key is None else key

    def fresh(i: int, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.zeros(leaf.shape, leaf.dtype)
        own = jax.random.fold_in(key, i)
        return jax.random.split(own, leaf.shape) if leaf.shape else own

    return structure.unflatten([fresh(i, leaf) for i, leaf in enumerate(leaves)])
