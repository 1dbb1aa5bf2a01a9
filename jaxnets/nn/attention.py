"""Attention: scaled dot products over heads, with rotary positions, masks and a cache, written once."""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxnets.errors import InputError, check_number, check_whole
from jaxnets.nn.dropout import dropout_layer
from jaxnets.nn.linear import Linear

_LONG, _NUM_PARTS = 128, 4  # queries from which on a causal attention is computed in parts, and how many


class KVCache(NamedTuple):
    """Keys and values of the elements that were seen, so that the next ones need not compute them again.

    Attributes:
        k: keys, [B, L, K, H]; rotary positions are in them.
        v: values, [B, L, K, H].
        length: how many of the L positions are taken, int32.
    """

    k: jax.Array
    v: jax.Array
    length: jax.Array | int


def dot_product_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: jax.Array | None = None,
    causal: bool = False,
    offset: jax.Array | int = 0,
    dropout: nnx.Dropout | None = None,
    rngs: nnx.Rngs | None = None,
) -> jax.Array:
    """Return ``softmax(q k' / sqrt(H)) v`` of each head, [B, T, N, H] (Vaswani et al., 2017).

    Logits and softmax are in float32 or more. A long causal one is computed in parts of the queries, each with the keys
    that it may see: on one core, with its gradients, 0.75 of the time at T = 256, 0.6 at 512.

    Args:
        q: queries, [B, T, N, H].
        k: keys, [B, S, K, H], K heads that N / K heads of queries in a row share (grouped-query attention, Ainslie et
            al., 2023); K = N if they do not.
        v: values, [B, S, K, H].
        mask: which keys count, [B, S], or for which queries, [B, T, S]. A query for which none counts gets the mean of
            all values.
        causal: a query sees only the keys up to its own position.
        offset: the position of the first query among the keys.
        dropout: of the weights.
        rngs: what dropout draws from.
    """
    length = q.shape[1]
    if causal and mask is None and isinstance(offset, int) and offset == 0 and length == k.shape[1] >= _LONG:
        ends = [length * part // _NUM_PARTS for part in range(_NUM_PARTS + 1)]
        options = {"causal": True, "dropout": dropout, "rngs": rngs}
        parts = [_attend(q[:, a:b], k[:, :b], v[:, :b], mask=None, offset=a, **options) for a, b in pairwise(ends)]
        return jnp.concatenate(parts, 1)
    return _attend(q, k, v, mask=mask, causal=causal, offset=offset, dropout=dropout, rngs=rngs)


def _attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: jax.Array | None,
    causal: bool,
    offset: jax.Array | int,
    dropout: nnx.Dropout | None,
    rngs: nnx.Rngs | None,
) -> jax.Array:
    exact = jnp.promote_types(q.dtype, jnp.float32)
    logits = _logits(q * (1 / math.sqrt(q.shape[-1])), k, exact)
    seen = None
    if causal:
        positions = offset + jnp.arange(q.shape[1])
        seen = (jnp.arange(k.shape[1])[None] <= positions[:, None])[None, None]  # [1, 1, T, S]
    if mask is not None:
        counted = mask[:, None, None] if mask.ndim == 2 else mask[:, None]  # [B, 1, T or 1, S]
        seen = counted.astype(bool) if seen is None else seen & counted.astype(bool)
    if seen is not None:
        logits = jnp.where(seen, logits, jnp.finfo(logits.dtype).min)
    weights = jax.nn.softmax(logits, -1).astype(v.dtype)
    if dropout is not None:
        weights = dropout(weights, rngs=rngs)
    return _weighted(weights, v)


def _logits(q: jax.Array, k: jax.Array, dtype: Any) -> jax.Array:
    """Return the products of queries [B, T, N, H] and keys [B, S, K, H], [B, N, T, S]."""
    (batch, length, num_heads, width), num_kv_heads = q.shape, k.shape[2]
    if num_heads == num_kv_heads:
        return jnp.einsum("btnh,bsnh->bnts", q, k, preferred_element_type=dtype)
    q = q.reshape(batch, length, num_kv_heads, -1, width)  # [B, T, K, N / K, H]
    logits = jnp.einsum("btkgh,bskh->bkgts", q, k, preferred_element_type=dtype)
    return logits.reshape(batch, num_heads, length, -1)


def _weighted(weights: jax.Array, v: jax.Array) -> jax.Array:
    """Return the sums of values [B, S, K, H] by weights [B, N, T, S], [B, T, N, H]."""
    (batch, num_heads, length, size), num_kv_heads = weights.shape, v.shape[2]
    if num_heads == num_kv_heads:
        return jnp.einsum("bnts,bsnh->btnh", weights, v)
    weights = weights.reshape(batch, num_kv_heads, -1, length, size)  # [B, K, N / K, T, S]
    return jnp.einsum("bkgts,bskh->btkgh", weights, v).reshape(batch, length, num_heads, -1)


def rotary(x: jax.Array, start: jax.Array | int = 0, theta: float = 10000.0) -> jax.Array:
    """Return [B, T, N, H] with each pair of numbers turned by an angle in proportion to its position (Su et al., 2021).

    The pairs are number i and number i + H / 2; their angles at position t are ``t / theta ** (2 i / H)``.

    Args:
        x: queries or keys, H even.
        start: the position of the first.
        theta: the base; a larger one tells positions apart over a longer range.
    """
    half, exact = x.shape[-1] // 2, jnp.promote_types(x.dtype, jnp.float32)
    rates = theta ** (-jnp.arange(half, dtype=exact) / half)
    angles = (start + jnp.arange(x.shape[1])).astype(exact)[:, None] * rates[None]  # [T, H / 2]
    cos, sin = jnp.cos(angles)[None, :, None], jnp.sin(angles)[None, :, None]  # [1, T, 1, H / 2]
    first, second = jnp.split(x.astype(exact), 2, -1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1).astype(x.dtype)


class Attention(nnx.Module):
    """Multi-head attention, [B, T, D] -> [B, T, D], to itself or to a memory [B, S, D].

    Args:
        features: D; each head has D / num_heads of them.
        num_heads: N.
        num_kv_heads: K, heads of keys and values, each shared by N / K heads of queries; N if absent. The cache is
            smaller by that.
        rotary: turn queries and keys by their positions; of a memory, which has positions of its own, neither.
        rope_theta: the base of the angles by which they are turned.
        dropout: probability that a weight is dropped in training.
        use_bias: whether the projections have biases.
        kernel_init: initialiser of the projections' weights.
        out_init: of the last projection's; ``kernel_init`` if absent.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.

    Raises:
        InputError: if the heads do not divide the features, or those of keys those of queries, or rotary positions
            have no pairs to turn.
    """

    def __init__(
        self,
        features: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        rotary: bool = False,
        rope_theta: float = 10000.0,
        dropout: float = 0.0,
        use_bias: bool = True,
        kernel_init: nnx.Initializer = nnx.initializers.glorot_uniform(),
        out_init: nnx.Initializer | None = None,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        if num_heads < 1 or features % num_heads:
            raise InputError(f"{num_heads=} does not divide {features=}; the heads share the features evenly")
        if rotary and (features // num_heads) % 2:
            raise InputError(
                f"rotary positions turn pairs, but a head has {features // num_heads} features ({features=}, "
                f"{num_heads=}); give an even number"
            )
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        check_whole("num_kv_heads", num_kv_heads, remedy="heads of keys and values")
        if num_heads % num_kv_heads:
            raise InputError(
                f"{num_kv_heads=} does not divide {num_heads=}; heads of queries share those of keys evenly"
            )
        check_number("rope_theta", rope_theta, 0, float("inf"), "a number above 0, such as 10000", low_too=False)
        options = {"use_bias": use_bias, "dtype": dtype, "rngs": rngs}
        self.num_heads, self.num_kv_heads, self.rotary, self.rope_theta = num_heads, num_kv_heads, rotary, rope_theta
        shared = features // num_heads * num_kv_heads
        self.q = Linear(features, features, kernel_init=kernel_init, **options)
        self.k = Linear(features, shared, kernel_init=kernel_init, **options)
        self.v = Linear(features, shared, kernel_init=kernel_init, **options)
        self.out = Linear(features, features, kernel_init=out_init or kernel_init, **options)
        self.dropout = dropout_layer(dropout)

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array | KVCache | None = None,
        *,
        mask: jax.Array | None = None,
        causal: bool = False,
        cache: KVCache | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """Return what each element of ``x`` gathers, and the cache with the new elements in it.

        Args:
            x: [B, T, D].
            memory: what is attended to, [B, S, D], or its keys and values (``of_memory``); ``x`` itself if absent.
            mask: which elements to attend to, [B, S] or [B, T, S].
            causal: an element sees only those up to itself.
            cache: what was seen before; its positions must suffice, and go with ``causal``.
            rngs: what dropout draws from.
        """
        q, start = self._heads(self.q(x), self.num_heads), 0
        if memory is not None:
            k, v, _ = memory if isinstance(memory, KVCache) else self.of_memory(memory)
        else:
            k, v = (self._heads(project(x), self.num_kv_heads) for project in (self.k, self.v))
            start = 0 if cache is None else cache.length
            if self.rotary:
                q, k = (rotary(x, start, self.rope_theta) for x in (q, k))
            if cache is not None:
                pairs = (cache.k, k), (cache.v, v)
                k, v = (lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), start, 1) for old, new in pairs)
                cache = KVCache(k, v, start + x.shape[1])
        k, v = k.astype(q.dtype), v.astype(q.dtype)
        x = dot_product_attention(q, k, v, mask=mask, causal=causal, offset=start, dropout=self.dropout, rngs=rngs)
        return self.out(x.reshape(*x.shape[:2], -1)), cache

    def of_memory(self, memory: jax.Array) -> KVCache:
        """Return keys and values of a memory [B, S, D], for all elements that will attend to it."""
        k, v = (self._heads(project(memory), self.num_kv_heads) for project in (self.k, self.v))
        return KVCache(k, v, jnp.int32(memory.shape[1]))

    def empty_cache(self, batch_size: int, length: int) -> KVCache:
        """Return a cache with room for so many elements."""
        features, dtype = self.q.out_features, self.q.dtype or self.q.kernel.dtype
        zeros = jnp.zeros((batch_size, length, self.num_kv_heads, features // self.num_heads), dtype)
        return KVCache(zeros, zeros, jnp.int32(0))

    def _heads(self, x: jax.Array, number: int) -> jax.Array:
        return x.reshape(*x.shape[:2], number, -1)  # [B, T, N or K, H]
