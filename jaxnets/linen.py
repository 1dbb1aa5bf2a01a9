"""A Flax Linen module as two pure functions."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from jaxnets.errors import InputError, check_arrays, check_kind
from jaxnets.modes import BATCH_OF_ONE, CallWith, arguments, held, switches
from jaxnets.network import Key, Network, PyTree
from jaxnets.parameters import paths


def linen_network(
    module: linen.Module, example: PyTree, *, mutable: Sequence[str] = (), call_with: CallWith | None = None
) -> Network:
    """Return a Flax Linen module as a pure ``Network``.

    Args:
        module: the module. Its random streams of any name have keys; its mode is told as ``network`` says.
        example: inputs of the right shape and dtype (arrays or ``jax.ShapeDtypeStruct``), from which Linen infers the
            shapes of the parameters; several in a dict or tuple, as ``network`` takes them.
        mutable: collections of the model's state that change in evaluation too, such as a "cache" of keys and values.
        call_with: as in ``network``.
    """
    check_kind("module", module, linen.Module, "give a flax.linen module, such as nn.Dense(3)")
    check_arrays("example", jax.tree.leaves(example), "give inputs, [B, ...], or a jax.ShapeDtypeStruct of them")
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)
    mode = switches(type(module), call_with)

    @jax.jit
    def init(key: Key) -> tuple[PyTree, PyTree]:
        given, named = arguments(type(module), zeros)
        model_state = dict(module.init(key, *given, **named, **mode(False)))
        return model_state.pop("params", {}), model_state

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        params, frozen = held(params)
        train = train and not (frozen and all(map(frozen, paths(params))))
        if train and "batch_stats" in model_state and any(x.shape[:1] == (1,) for x in jax.tree.leaves(inputs)):
            raise InputError(f"{type(module).__name__}: {BATCH_OF_ONE}")
        given, named = arguments(type(module), inputs)
        outputs, changed = module.apply(
            {"params": params, **model_state},
            *given,
            # Streams of other names are drawn, by Linen's rule, from "params".
            rngs={} if key is None else {"dropout": key, "params": jax.random.fold_in(key, 1)},
            mutable=list(model_state) if train else [name for name in model_state if name in mutable],
            **named,
            **mode(train),
        )
        return outputs, {**model_state, **changed}

    return Network(init, apply)
