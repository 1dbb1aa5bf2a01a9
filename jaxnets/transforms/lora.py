"""Low-rank adapters of a network's kernels (LoRA), to fine-tune few parameters."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnets.errors import InputError, check_number, check_whole
from jaxnets.learner import check_network
from jaxnets.modes import freezing, held
from jaxnets.network import Key, Network, PyTree
from jaxnets.parameters import listed, matching, path_name, paths

_AXES = (2, 4)  # of a dense layer's kernel [in, out], and of a convolution's [H, W, in, out]
_UNIFORM = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # as the paper's authors have it


def lora(
    network: Network,
    rank: int,
    patterns: Sequence[str] = ("**/q/kernel", "**/v/kernel"),
    alpha: float | None = None,
) -> Network:
    """Return the network with ``W + alpha / rank * a @ b`` for each kernel W that a pattern matches (Hu et al., 2021).

    Its params are ``{"base": params, "lora": {path: {"a", "b"}}}``, its model state ``{"base": model_state, "scale"}``.
    ``b`` is 0 at first, so the network begins as it was. To train the adapters, and a new head, alone::

        adapted = lora(network, 8)
        learner = frozen(supervised(adapted, loss, tx), ["base/**", "!base/out/**"])
        fit(learner, data, initial=Initial({"base": weights}))

    ``merged`` makes plain weights of the result. A step computes the gradient of each adapted kernel, and of that the
    adapters': it takes the time of fine-tuning the kernels, and saves what the adapters' file is smaller by.

    Args:
        network: any, of a Linen module or two functions of one's own as well.
        rank: r, of ``a`` [in, r] and ``b`` [r, out]; a convolution's kernel [H, W, in, out] is one of [H W in, out].
        patterns: of the kernels' names; biases, which they may match as well, are left alone.
        alpha: by which ``a @ b`` is multiplied, over the rank; the rank if absent.

    Raises:
        InputError: if a pattern matches no kernel, or the rank is more than a kernel's smaller side.
    """
    check_network("network", network)
    check_whole("rank", rank)
    if alpha is not None:
        check_number("alpha", alpha, 0, math.inf, "a number greater than 0, such as 16", low_too=False)
    scale = 1.0 if alpha is None else alpha / rank
    shapes, _ = jax.eval_shape(network.init, jax.random.key(0))
    adapted = _kernels(shapes, listed(patterns), rank)

    def init(key: Key) -> tuple[PyTree, PyTree]:
        params, model_state = network.init(key)
        state = {"base": model_state, "scale": jnp.asarray(scale, jnp.float32)}
        return {"base": params, "lora": fresh(jax.random.fold_in(key, 1))}, state

    def fresh(key: Key) -> dict[str, dict[str, jax.Array]]:
        keys = jax.random.split(key, len(adapted))
        return {
            name: {
                "a": _UNIFORM(key, (leaf.size // leaf.shape[-1], rank), leaf.dtype),
                "b": jnp.zeros((rank, leaf.shape[-1]), leaf.dtype),
            }
            for key, (name, leaf) in zip(keys, adapted.items(), strict=True)
        }

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        params, frozen = held(params)
        weights, state = merged(params, model_state)

        def is_frozen(path: str) -> bool:
            assert frozen is not None
            own = [f"lora/{path}/{half}" for half in ("a", "b")] if path in adapted else []
            return all(map(frozen, (f"base/{path}", *own)))

        if frozen is None:
            outputs, state = network.apply(weights, state, inputs, train=train, key=key)
        else:
            with freezing(is_frozen):
                outputs, state = network.apply(weights, state, inputs, train=train, key=key)
        return outputs, {**model_state, "base": state}

    return network._replace(init=init, apply=apply)


def merged(params: PyTree, model_state: PyTree) -> tuple[PyTree, PyTree]:
    """Return the weights and the model state of the network that was adapted, the adapters added to its kernels.

    Args:
        params: of a network that ``lora`` returned, or of a population of them.
        model_state: likewise.
    """
    adapters: Mapping[str, Any] = params["lora"]
    scale = jnp.asarray(model_state["scale"])[..., None, None]

    def added(path: tuple[Any, ...], kernel: jax.Array) -> jax.Array:
        own = adapters.get(path_name(path))
        if own is None:
            return kernel
        change = scale * jnp.matmul(own["a"], own["b"], precision="highest")
        return kernel + change.reshape(kernel.shape).astype(kernel.dtype)

    return jax.tree_util.tree_map_with_path(added, params["base"]), model_state["base"]


def _kernels(shapes: PyTree, patterns: Sequence[str], rank: int) -> dict[str, Any]:
    """Return the kernels that the patterns match, by path, as shapes; checked."""
    leaves = paths(shapes)
    for pattern in patterns:
        hits = [name for name, hit in paths(matching(shapes, [pattern.removeprefix("!")])).items() if hit]
        if not any(leaves[name].ndim in _AXES for name in hits):
            first = f"{hits[0]} {list(leaves[hits[0]].shape)}"
            raise InputError(f"pattern {pattern!r} matches no kernel [in, out] or [H, W, in, out], but {first}")
    selected = paths(matching(shapes, patterns))
    found = {name: leaf for name, leaf in leaves.items() if selected[name] and leaf.ndim in _AXES}
    if not found:
        raise InputError(f"patterns {' '.join(patterns)} leave no kernel to adapt; name some, such as '**/q/kernel'")
    for name, leaf in found.items():
        if rank > (most := min(leaf.size // leaf.shape[-1], leaf.shape[-1])):
            raise InputError(f"{rank=} exceeds the smaller side of {name} {list(leaf.shape)}; use {most} or less")
    return found
