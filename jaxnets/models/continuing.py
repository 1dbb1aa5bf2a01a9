"""What a causal transformer remembers, so that a sequence goes on without being computed anew."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxnets.errors import InputError
from jaxnets.models.transformer_block import TransformerBlock
from jaxnets.nn import KVCache


class Seen(NamedTuple):
    """What a transformer remembers of a sequence that is to go on.

    Attributes:
        caches: each block's keys and values.
        inputs: what it was given, as far as it remembers, [B, L, ...].
        memory: each block's keys and values of the memory, if there is one, and which of them count.
    """

    caches: tuple[KVCache, ...]
    inputs: jax.Array
    memory: tuple[tuple[KVCache, ...], jax.Array | None] | None = None


Extend = Callable[[Seen, jax.Array, nnx.Rngs | None], tuple[jax.Array, Seen]]


def begun(
    blocks: Iterable[TransformerBlock],
    inputs: jax.Array,
    max_length: int,
    memory: jax.Array | None,
    memory_mask: jax.Array | None,
) -> Seen:
    """Return what is remembered before anything was seen.

    Args:
        blocks: of the transformer.
        inputs: the first that it is given.
        max_length: of the sequence.
        memory: what blocks with ``cross`` attend to, [B, S, D].
        memory_mask: which of it counts, [B, S].
    """
    caches = tuple(block.attention.empty_cache(len(inputs), max_length) for block in blocks)
    room = jnp.zeros((len(inputs), max_length, *inputs.shape[2:]), inputs.dtype)
    if memory is None:
        return Seen(caches, room)
    crosses = [block.cross for block in blocks if block.cross is not None]
    if not crosses:
        raise InputError("a transformer made without cross=True takes no memory")
    return Seen(caches, room, (tuple(cross.of_memory(memory) for cross in crosses), memory_mask))


def with_room(seen: Seen, length: int, extend: Extend, rngs: nnx.Rngs | None) -> Seen:
    """Return what is remembered, less its older half if so many elements would have no position beside it.

    Args:
        seen: what is remembered.
        length: of what comes.
        extend: returns a transformer's outputs, and what it remembers with the inputs in it.
        rngs: what dropout draws from.
    """
    max_length = seen.inputs.shape[1]
    keep = min(max_length // 2, max_length - length)
    full = seen.caches[0].length + length > max_length
    key = None if rngs is None else rngs.dropout()  # drawn here, for streams do not advance inside a branch
    return lax.cond(full, lambda seen: _forgotten(seen, keep, extend, key), lambda seen: seen, seen)


def extended(seen: Seen, inputs: jax.Array, caches: tuple[KVCache, ...]) -> Seen:
    """Return what is remembered with the inputs in it, given the caches that the blocks returned."""
    place, new = seen.caches[0].length, inputs.astype(seen.inputs.dtype)
    return Seen(caches, lax.dynamic_update_slice_in_dim(seen.inputs, new, place, 1), seen.memory)


def _forgotten(seen: Seen, keep: int, extend: Extend, key: jax.Array | None) -> Seen:
    """Return what would be remembered had the sequence begun ``keep`` elements ago."""
    empty = tuple(cache._replace(length=jnp.int32(0)) for cache in seen.caches)
    if not keep:
        return seen._replace(caches=empty)
    last = lax.dynamic_slice_in_dim(seen.inputs, seen.caches[0].length - keep, keep, 1)
    rngs = None if key is None else nnx.Rngs(dropout=key)
    return extend(seen._replace(caches=empty), last, rngs)[1]
