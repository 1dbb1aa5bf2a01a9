"""Transformers: encoders that classify, and decoders that continue (GPT)."""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxnets.errors import InputError, check_whole
from jaxnets.models.blocks import check_sizes
from jaxnets.models.sequences import Continued, check_tokens, pooled
from jaxnets.models.transformer_block import TransformerBlock, layer_norm
from jaxnets.nn import KVCache, Linear, dropout_layer

Positions = Literal["rotary", "learned", "sinusoidal"] | None


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


class Transformer(nnx.Module):
    """Blocks of attention over tokens or numbers, [B, T] or [B, T, in_features] -> [B, T, out_features], or pooled.

    A causal one over tokens is a GPT. Given ``Continued(inputs, seen)``, a causal one returns the outputs and what it
    remembers, from which the next inputs go on; of a sequence that outgrows ``max_length`` it forgets the older half,
    and takes what is left for the beginning.

    Args:
        in_features: numbers of each element, or of tokens in the vocabulary.
        features: D, the width of the blocks.
        num_layers: how many blocks.
        num_heads: of their attention.
        out_features: width of the output (classes, tokens, or targets); None for the blocks' own.
        max_length: the longest sequence.
        tokens: whether the inputs are tokens.
        padding: the token that fills up short sequences: nothing attends to it.
        positions: how an element's position is known: "rotary", "learned" or "sinusoidal" (added to the inputs), or
            None.
        causal: an element sees only those up to itself.
        pool: one output a sequence, of the largest or the mean of the elements', or of all in a row ("all").
        tied: the output layer's weights are the tokens' embedding.
        embed: the tokens' embedding, to share another model's.
        dropout: probability that a number is dropped in training: in the blocks, of what goes into the first, and of
            what was pooled.
        use_bias: whether dense layers and norms have biases.
        kernel_init: initialiser of the weights, and of embeddings and learned positions.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
        **block_options: handed to each ``TransformerBlock``.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        num_layers: int,
        num_heads: int,
        out_features: int | None,
        *,
        max_length: int,
        tokens: bool = False,
        padding: int | None = None,
        positions: Positions = "rotary",
        causal: bool = False,
        pool: Literal["max", "mean", "all"] | None = None,
        tied: bool = False,
        embed: nnx.Embed | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        kernel_init: nnx.Initializer = nnx.initializers.glorot_uniform(),
        dtype: Any = None,
        rngs: nnx.Rngs,
        **block_options: Any,
    ):
        check_sizes(in_features=in_features, features=features, num_layers=num_layers, num_heads=num_heads)
        check_whole("num_layers", num_layers, most=10_000)  # each is made, and traced, by itself
        check_sizes(max_length=max_length, **({} if out_features is None else {"out_features": out_features}))
        if padding is not None:
            check_whole("padding", padding, -1, remedy="the token that fills up short sequences; -1 if none does")
        if positions not in (None, "rotary", "learned", "sinusoidal") or pool not in (None, "max", "mean", "all"):
            raise InputError(
                f"{positions=}, {pool=}: use 'rotary', 'learned', 'sinusoidal' or None; 'max', 'mean', 'all' or None"
            )
        if (tied or padding is not None or embed is not None) and not tokens:
            raise InputError(f"{tied=}, {padding=} and embed= are for tokens; give tokens=True")
        if tied and pool == "all":
            raise InputError(f"{tied=} makes outputs of single elements, {pool=} one of all; use one of the two")
        if tied and out_features != in_features:
            raise InputError(
                f"{tied=} makes an output of each token, {in_features}, but {out_features=}; give the same"
            )
        options = {"dtype": dtype, "rngs": rngs}
        self.in_features, self.max_length, self.tokens, self.padding = in_features, max_length, tokens, padding
        self.causal, self.positions, self.tied = causal, positions, tied
        self.pool: Literal["max", "mean", "all"] | None = pool
        self.embed: Any  # an nnx.Embed or a Linear
        if tokens:
            self.embed = embed or nnx.Embed(in_features, features, embedding_init=kernel_init, **options)
        else:
            self.embed = Linear(in_features, features, kernel_init=kernel_init, use_bias=use_bias, **options)
        table = kernel_init(rngs.params(), (max_length, features), jnp.float32) if positions == "learned" else None
        self.position_embedding = nnx.data(None if table is None else nnx.Param(table))

        def scaled(*args: Any) -> jax.Array:
            # Each block adds twice to the residual path: so the sum keeps its size at any depth (Radford et al., 2019).
            return kernel_init(*args) / math.sqrt(2 * num_layers)

        options |= {"use_bias": use_bias}
        self.blocks = nnx.List(
            TransformerBlock(
                features,
                num_heads,
                rotary=positions == "rotary",
                dropout=dropout,
                kernel_init=kernel_init,
                out_init=scaled,
                **options,
                **block_options,
            )
            for _ in range(num_layers)
        )
        norm_first = self.blocks[0].norm_first
        self.norm = nnx.data(layer_norm(features, **options) if norm_first else None)
        self.dropout = dropout_layer(dropout)
        width = features * (max_length if pool == "all" else 1)
        self.out = nnx.data(None)
        if out_features is not None and not tied:
            self.out = nnx.data(Linear(width, out_features, kernel_init=kernel_init, **options))

    def check(self, inputs: np.ndarray) -> None:
        """Check inputs on the host.

        Raises:
            InputError: if sequences are too long, a token is outside the vocabulary, or a row is nothing but padding.
        """
        if inputs.ndim > 1 and inputs.shape[1] > self.max_length:
            raise InputError(f"sequences of {inputs.shape[1]} exceed max_length={self.max_length}; shorten them")
        if self.tokens:
            check_tokens(inputs, self.in_features, self.padding)

    def __call__(
        self,
        inputs: jax.Array | Continued,
        memory: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Any:
        """Return the outputs.

        Args:
            inputs: tokens [B, T], or numbers [B, T, in_features].
            memory: what blocks with ``cross`` attend to, [B, S, D]; of ``Continued`` inputs, at their beginning.
            memory_mask: which of it counts, [B, S].
            rngs: what dropout draws from.
        """
        if isinstance(inputs, Continued):
            return self._continue(*inputs, memory, memory_mask, rngs)
        memories = [memory] * len(self.blocks)
        x, _ = self._through(inputs, [None] * len(self.blocks), memories, memory_mask, rngs)
        return self._out(x, self._mask(inputs), rngs)

    def _continue(
        self,
        inputs: jax.Array,
        seen: Seen | None,
        memory: jax.Array | None,
        memory_mask: jax.Array | None,
        rngs: nnx.Rngs | None,
    ) -> tuple[jax.Array, Seen]:
        inputs, length = jnp.asarray(inputs), inputs.shape[1]
        if not self.causal or self.pool or self.padding is not None:
            raise InputError("only a causal transformer goes on from what it has seen, without pool= and padding=")
        if length > self.max_length:
            raise InputError(f"{length} elements exceed max_length={self.max_length}; give the last of them")
        seen = self._begin(inputs, memory, memory_mask) if seen is None else self._make_room(seen, length, rngs)
        return self._extend(seen, inputs, rngs)

    def _begin(self, inputs: jax.Array, memory: jax.Array | None, memory_mask: jax.Array | None) -> Seen:
        """Return what is remembered before anything was seen."""
        caches = tuple(block.attention.empty_cache(len(inputs), self.max_length) for block in self.blocks)
        room = jnp.zeros((len(inputs), self.max_length, *inputs.shape[2:]), inputs.dtype)
        if memory is None:
            return Seen(caches, room)
        crosses = [block.cross for block in self.blocks if block.cross is not None]
        if not crosses:
            raise InputError("a transformer made without cross=True takes no memory")
        return Seen(caches, room, (tuple(cross.of_memory(memory) for cross in crosses), memory_mask))

    def _make_room(self, seen: Seen, length: int, rngs: nnx.Rngs | None) -> Seen:
        """Return what is remembered, less its older half if so many elements would have no position beside it."""
        keep = min(self.max_length // 2, self.max_length - length)
        full = seen.caches[0].length + length > self.max_length
        key = None if rngs is None else rngs.dropout()  # drawn here, for streams do not advance inside a branch
        return lax.cond(full, lambda seen: self._forget(seen, keep, key), lambda seen: seen, seen)

    def _extend(self, seen: Seen, inputs: jax.Array, rngs: nnx.Rngs | None) -> tuple[jax.Array, Seen]:
        memories, memory_mask = seen.memory or ([None] * len(self.blocks), None)
        x, caches = self._through(inputs, seen.caches, memories, memory_mask, rngs)
        place, new = seen.caches[0].length, inputs.astype(seen.inputs.dtype)
        room = lax.dynamic_update_slice_in_dim(seen.inputs, new, place, 1)
        return self._out(x, None, rngs), Seen(caches, room, seen.memory)

    def _forget(self, seen: Seen, keep: int, key: jax.Array | None) -> Seen:
        """Return what would be remembered had the sequence begun ``keep`` elements ago."""
        empty = tuple(cache._replace(length=jnp.int32(0)) for cache in seen.caches)
        if not keep:
            return seen._replace(caches=empty)
        last = lax.dynamic_slice_in_dim(seen.inputs, seen.caches[0].length - keep, keep, 1)
        rngs = None if key is None else nnx.Rngs(dropout=key)
        return self._extend(seen._replace(caches=empty), last, rngs)[1]

    def _through(
        self, inputs: jax.Array, caches: Any, memories: Any, memory_mask: jax.Array | None, rngs: nnx.Rngs | None
    ) -> tuple[jax.Array, Any]:
        """Return what the blocks make of the inputs, [B, T, D], and their caches."""
        x, mask = self._embedded(inputs, 0 if caches[0] is None else caches[0].length), self._mask(inputs)
        x, new = self.dropout(x, rngs=rngs), []
        for block, cache, memory in zip(self.blocks, caches, memories, strict=True):
            options = {"mask": mask, "memory_mask": memory_mask, "causal": self.causal, "cache": cache, "rngs": rngs}
            x, longer = block(x, memory, **options)
            new.append(longer)
        return (x if self.norm is None else self.norm(x)), tuple(new)

    def _embedded(self, inputs: jax.Array, start: jax.Array | int) -> jax.Array:
        """Return the inputs as vectors that know their positions, [B, T, D]."""
        if self.tokens:
            suits = inputs.ndim == 2 and jnp.issubdtype(inputs.dtype, jnp.integer)
        else:
            suits = inputs.ndim == 3 and inputs.shape[-1] == self.in_features
        if not suits:
            kind = "tokens [B, T]" if self.tokens else f"numbers [B, T, {self.in_features}]"
            raise InputError(f"Transformer got inputs of {inputs.dtype}{list(inputs.shape)}, not {kind}")
        if inputs.shape[1] > self.max_length:
            raise InputError(f"sequences of {inputs.shape[1]} exceed max_length={self.max_length}; shorten them")
        x = self.embed(inputs)
        if self.position_embedding is not None:
            x += lax.dynamic_slice_in_dim(self.position_embedding[...].astype(x.dtype), start, inputs.shape[1])[None]
        if self.positions == "sinusoidal":
            waves = sinusoidal(start + jnp.arange(inputs.shape[1]), x.shape[-1])
            x = x * math.sqrt(x.shape[-1]) + waves.astype(x.dtype)[None]
        return x

    def _mask(self, inputs: jax.Array) -> jax.Array | None:
        return None if self.padding is None else inputs != self.padding

    def _out(self, x: jax.Array, mask: jax.Array | None, rngs: nnx.Rngs | None) -> jax.Array:
        if self.pool == "all":
            if x.shape[1] != self.max_length:
                raise InputError(f"pool='all' takes sequences of max_length={self.max_length}, not {x.shape[1]}")
            x = x.reshape(len(x), -1)
        elif self.pool:
            x = self.dropout(pooled(x, mask, self.pool), rngs=rngs)
        if self.tied:
            flat = self.embed.attend(x.reshape(-1, x.shape[-1]))  # as Linear has its inputs, for speed
            return flat.reshape(*x.shape[:-1], -1)
        return x if self.out is None else self.out(x)


def sinusoidal(positions: jax.Array, features: int) -> jax.Array:
    """Return sines and cosines of positions [T] at falling frequencies, [T, D] (Vaswani et al., 2017).

    Number 2 i is ``sin(position / 10000 ** (2 i / D))``, number 2 i + 1 the cosine of the same.
    """
    rates = 10000.0 ** (-jnp.arange(0, features, 2, dtype=jnp.float32) / features)
    angles = positions[:, None].astype(jnp.float32) * rates[None]
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1).reshape(len(positions), -1)[:, :features]
