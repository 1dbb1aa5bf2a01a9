"""What a network has found out on the way: an inner module's outputs, and a head of one's own on them."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.errors import InputError, check_kind, nearest
from jaxnets.learner import check_network
from jaxnets.modes import WATCH, rerouted, watching
from jaxnets.network import Key, Network, PyTree, named


def features(network: Network, path: str, of: Literal["outputs", "inputs"] = "outputs") -> Network:
    """Return the network whose outputs are those of one of its modules, such as ``features(network, "blocks/4")``.

    It has all parameters of the whole, by the same names, so weights fit both; what comes after the module is not
    computed where a program is compiled, and does not learn. Of several outputs, such as a block's and its cache, the
    first array is returned; of a module that is called several times, the last call's.

    Args:
        network: of an NNX module.
        path: of the module inside it, as names of parameters have it.
        of: the module, its outputs or its inputs: those of "out" are what a head is given.

    Raises:
        InputError: by ``apply``, if there is no such module, it is never called, or the network is no NNX module's.
    """
    check_network("network", network)
    check_kind("path", path, str, "give a module's path, such as 'blocks/4'")
    if of not in ("outputs", "inputs"):
        raise InputError(f"{of=} must be 'outputs' or 'inputs'")

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        found, known, outer = [], [], WATCH.get()

        def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            outputs = function(*args, **kwargs)
            found.append(jax.tree.leaves(args if of == "inputs" else outputs)[0])
            return outputs

        def watch(module: nnx.Module) -> None:
            if outer is not None:
                outer(module)
            modules = _modules(module)
            known.extend(modules)
            if path in modules:
                rerouted(modules[path], call)

        with watching(watch):
            _, model_state = network.apply(params, model_state, inputs, train=train, key=key)
        if not found:
            raise InputError(_missing(path, [name for name in known if name]))
        return found[-1], model_state

    return network._replace(apply=apply)


def part(network: Network, path: str) -> Network:
    """Return the network that is one of its modules alone, with the parameters of the whole.

    So ``part(network, "out")`` makes outputs of what ``features(network, "out", "inputs")`` returns.

    Args:
        network: of an NNX module.
        path: of the module inside it, as names of parameters have it.

    Raises:
        InputError: by ``apply``, if there is no such module, or the network is no NNX module's.
    """
    check_network("network", network)
    check_kind("path", path, str, "give a module's path, such as 'out'")

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        known, outer = [], WATCH.get()

        def watch(module: nnx.Module) -> None:
            if outer is not None:
                outer(module)
            modules = _modules(module)
            known.extend(modules)
            if path in modules:
                rerouted(module, lambda _, *args, **kwargs: modules[path](inputs))

        with watching(watch):
            outputs, model_state = network.apply(params, model_state, inputs, train=train, key=key)
        if path not in known:
            raise InputError(_missing(path, [name for name in known if name]))
        return outputs, model_state

    return network._replace(apply=apply, check=lambda inputs: None)


def on_features(whole: Network, inner: Network, head: str = "out") -> Network:
    """Return the network of a head alone, which learns from features that the rest of a network made once and for all.

    Its params are the head's, ``{head: ...}``, its model state ``{"body": all others, "state": ...}``. Inputs are
    features [B, D], or, untrained, what the whole network takes: so a head that was trained on features predicts from
    images.

    Args:
        whole: takes inputs as they are.
        inner: the same without what stands before its module, such as ``standardized``.
        head: the name of its output layer.
    """
    check_network("whole", whole)
    check_network("inner", inner)
    alone = part(inner, head)

    def init(key: Key) -> tuple[PyTree, PyTree]:
        params, state = whole.init(key)
        return {head: params[head]}, {"body": {k: v for k, v in params.items() if k != head}, "state": state}

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        computed = _is_features(inputs)
        if train and not computed:
            raise InputError(f"inputs of shape {jnp.shape(inputs)} are no features [B, D]; featurized(...) makes them")
        weights, state = whole_weights(params, model_state)
        outputs, _ = (alone if computed else whole).apply(weights, state, inputs, train=train, key=key)
        return outputs, model_state

    return Network(init, apply, lambda inputs: None if _is_features(inputs) else whole.check(inputs))


def whole_weights(params: PyTree, model_state: PyTree) -> tuple[PyTree, PyTree]:
    """Return the weights and the state of the whole network, of one that ``on_features`` returned."""
    return {**model_state["body"], **params}, model_state["state"]


def _is_features(inputs: Any) -> bool:
    return jnp.ndim(inputs) == 2 and jnp.issubdtype(jnp.result_type(inputs), jnp.floating)


def _modules(module: nnx.Module) -> dict[str, Any]:
    """Return the modules that can be called, by path."""
    return {"/".join(map(str, at)): child for at, child in nnx.iter_modules(module) if callable(child)}


def _missing(path: str, known: list[str]) -> str:
    if path in known:
        return f"{path=} is a module that the network does not call; name the one around it"
    if not known:
        return f"{path=} names a module of flax.nnx, of which this network has none; write an apply that returns them"
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    return f"{path=} is no module of the network{nearest(path, known)}; there are {', '.join(known[:12])}{more}"


def with_head(backbone: Network, head: Network) -> Network:
    """Return the network that hands the outputs of one to another, ``head(backbone(inputs))``.

    Its params are ``{"backbone": ..., "head": ...}``, and so is its model state. A new head on what is known::

        body = features(network, "norm")
        learner = frozen(supervised(with_head(body, network(Pooled, 384, 2)), loss, tx), ["backbone/**"])
        fit(learner, data, initial=Initial({"backbone": weights}))

    Where only the number of outputs is another, the same model with other ``out_features``, begun from
    ``Initial(parameters.without(weights, ["out/**"]))``, is simpler.

    Args:
        backbone: comes first, such as ``features(network, path)``.
        head: takes its outputs.
    """
    check_network("backbone", backbone)
    check_network("head", head)
    parts = {"backbone": named("backbone", backbone), "head": named("head", head)}

    def init(key: Key) -> tuple[PyTree, PyTree]:
        keys = jax.random.split(key)
        made = {name: part.init(key) for key, (name, part) in zip(keys, parts.items(), strict=True)}
        params, model_state = ({name: both[i] for name, both in made.items()} for i in (0, 1))
        return params, model_state

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        keys = (None, None) if key is None else jax.random.split(key)
        outputs, state = inputs, {}
        for own, (name, part) in zip(keys, parts.items(), strict=True):
            outputs, state[name] = part.apply(params[name], model_state[name], outputs, train=train, key=own)
        return outputs, state

    return Network(init, apply, backbone.check)
