"""Transformers: encoders that classify (BERT), and decoders that continue (GPT, Llama)."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.errors import InputError, check_whole
from jaxnets.models.blocks import check_sizes
from jaxnets.models.continuing import Seen, begun, extended, with_room
from jaxnets.models.embeddings import Positions, check_segments, positioned, preceded, segmented
from jaxnets.models.sequences import Continued, Segmented, check_tokens, pooled
from jaxnets.models.transformer_block import Norm, TransformerBlock, norm_layer
from jaxnets.nn import Linear, dropout_layer

Pooling = Literal["first", "max", "mean", "all"] | None


class Transformer(nnx.Module):
    """Blocks of attention over tokens or numbers, [B, T] or [B, T, in_features] -> [B, T, out_features], or pooled.

    A causal one over tokens is a GPT; ``bert``, ``gpt2``, ``llama`` and ``ViT`` make those that go by these names.
    Tokens of several segments are given as ``Segmented(tokens, segments)``. Given ``Continued(inputs, seen)``, a causal
    one returns the outputs and what it remembers, from which the next inputs go on; of a sequence that outgrows
    ``max_length`` it forgets the older half, and takes what is left for the beginning.

    Args:
        in_features: numbers of each element, or of tokens in the vocabulary.
        features: D, the width of the blocks.
        num_layers: how many blocks.
        num_heads: of their attention.
        out_features: width of the output (classes, tokens, or targets); None for the blocks' own.
        max_length: the longest sequence, a class token included.
        tokens: whether the inputs are tokens.
        padding: the token that fills up short sequences: nothing attends to it.
        positions: how an element's position is known: "rotary", "learned" or "sinusoidal" (added to the inputs), or
            None.
        causal: an element sees only those up to itself.
        num_segments: how many segments a token may be of, each with a vector that is added (BERT); None for none.
        class_token: put a learned vector before numbers, as one more element (ViT).
        embedding_norm: normalise what goes into the first block (BERT).
        norm: of the blocks, and before the outputs: "layer" or "rms".
        norm_epsilon: added to its variances.
        pool: one output a sequence, of the first element, of the largest or the mean of the elements', or of all in a
            row ("all").
        pooler: a dense layer and tanh after ``pool`` (BERT).
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
        num_segments: int | None = None,
        class_token: bool = False,
        embedding_norm: bool = False,
        norm: Norm = "layer",
        norm_epsilon: float = 1e-5,
        pool: Pooling = None,
        pooler: bool = False,
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
        _check_parts(tokens, positions, causal, num_segments, class_token, pool, pooler)
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
        self.causal, self.tied = causal, tied
        self.positions: Positions = positions
        self.num_segments = num_segments
        self.pool: Pooling = pool
        self.embed: Any  # an nnx.Embed or a Linear
        if tokens:
            self.embed = embed or nnx.Embed(in_features, features, embedding_init=kernel_init, **options)
        else:
            self.embed = Linear(in_features, features, kernel_init=kernel_init, use_bias=use_bias, **options)

        def table(wanted: bool, *shape: int) -> nnx.Param | None:
            return nnx.data(nnx.Param(kernel_init(rngs.params(), shape, jnp.float32)) if wanted else None)

        def make_norm(wanted: bool) -> Any:
            own = {"epsilon": norm_epsilon, "use_bias": use_bias}
            return nnx.data(norm_layer(norm, features, **own, **options) if wanted else None)

        self.position_embedding = table(positions == "learned", max_length, features)
        self.segment_embedding = table(num_segments is not None, num_segments or 0, features)
        self.class_embedding = table(class_token, 1, features)
        self.embedding_norm = make_norm(embedding_norm)

        def scaled(*args: Any) -> jax.Array:
            # Each block adds twice to the residual path: so the sum keeps its size at any depth (Radford et al., 2019).
            return kernel_init(*args) / math.sqrt(2 * num_layers)

        self.blocks = nnx.List(
            TransformerBlock(
                features,
                num_heads,
                rotary=positions == "rotary",
                dropout=dropout,
                kernel_init=kernel_init,
                out_init=scaled,
                norm=norm,
                norm_epsilon=norm_epsilon,
                use_bias=use_bias,
                **options,
                **block_options,
            )
            for _ in range(num_layers)
        )
        self.norm = make_norm(self.blocks[0].norm_first)
        self.dropout = dropout_layer(dropout)
        options |= {"kernel_init": kernel_init, "use_bias": use_bias}
        self.pooler = nnx.data(Linear(features, features, **options) if pooler else None)
        width = features * (max_length if pool == "all" else 1)
        self.out = nnx.data(None)
        if out_features is not None and not tied:
            self.out = nnx.data(Linear(width, out_features, **options))

    def check(self, inputs: np.ndarray | Segmented) -> None:
        """Check inputs on the host.

        Raises:
            InputError: if sequences are too long, a token or a segment is none of those there are, or a row is nothing
                but padding.
        """
        if isinstance(inputs, Segmented):
            check_segments(inputs.segments, inputs.tokens.shape, self.num_segments)
        given = inputs.tokens if isinstance(inputs, Segmented) else inputs
        if given.ndim > 1:
            self._check_length(given.shape[1])
        if self.tokens:
            check_tokens(given, self.in_features, self.padding)

    def __call__(
        self,
        inputs: jax.Array | Segmented | Continued,
        memory: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> Any:
        """Return the outputs.

        Args:
            inputs: tokens [B, T], of segments or not, or numbers [B, T, in_features].
            memory: what blocks with ``cross`` attend to, [B, S, D]; of ``Continued`` inputs, at their beginning.
            memory_mask: which of it counts, [B, S].
            rngs: what dropout draws from.
        """
        if isinstance(inputs, Continued):
            return self._continue(*inputs, memory, memory_mask, rngs)
        memories = [memory] * len(self.blocks)
        given, segments = (inputs.tokens, inputs.segments) if isinstance(inputs, Segmented) else (inputs, None)
        x, _ = self._through(given, segments, [None] * len(self.blocks), memories, memory_mask, rngs)
        return self._out(x, self._mask(given), rngs)

    def _continue(
        self,
        inputs: jax.Array,
        seen: Seen | None,
        memory: jax.Array | None,
        memory_mask: jax.Array | None,
        rngs: nnx.Rngs | None,
    ) -> tuple[jax.Array, Seen]:
        if not self.causal or self.pool or self.padding is not None or isinstance(inputs, Segmented):
            raise InputError(
                "only a causal transformer goes on from what it has seen, without pool=, padding= and segments"
            )
        inputs, length = jnp.asarray(inputs), inputs.shape[1]
        if length > self.max_length:
            raise InputError(f"{length} elements exceed max_length={self.max_length}; give the last of them")
        if seen is None:
            seen = begun(self.blocks, inputs, self.max_length, memory, memory_mask)
        else:
            seen = with_room(seen, length, self._extend, rngs)
        return self._extend(seen, inputs, rngs)

    def _extend(self, seen: Seen, inputs: jax.Array, rngs: nnx.Rngs | None) -> tuple[jax.Array, Seen]:
        memories, memory_mask = seen.memory or ([None] * len(self.blocks), None)
        x, caches = self._through(inputs, None, seen.caches, memories, memory_mask, rngs)
        return self._out(x, None, rngs), extended(seen, inputs, caches)

    def _through(
        self,
        inputs: jax.Array,
        segments: jax.Array | None,
        caches: Any,
        memories: Any,
        memory_mask: jax.Array | None,
        rngs: nnx.Rngs | None,
    ) -> tuple[jax.Array, Any]:
        """Return what the blocks make of the inputs, [B, T, D], and their caches."""
        x, mask = self._embedded(inputs, segments, 0 if caches[0] is None else caches[0].length), self._mask(inputs)
        x, new = self.dropout(x, rngs=rngs), []
        for block, cache, memory in zip(self.blocks, caches, memories, strict=True):
            options = {"mask": mask, "memory_mask": memory_mask, "causal": self.causal, "cache": cache, "rngs": rngs}
            x, longer = block(x, memory, **options)
            new.append(longer)
        return (x if self.norm is None else self.norm(x)), tuple(new)

    def _embedded(self, inputs: jax.Array, segments: jax.Array | None, start: jax.Array | int) -> jax.Array:
        """Return the inputs as vectors that know their positions, [B, T, D]."""
        if self.tokens:
            suits = inputs.ndim == 2 and jnp.issubdtype(inputs.dtype, jnp.integer)
        else:
            suits = inputs.ndim == 3 and inputs.shape[-1] == self.in_features
        if not suits:
            kind = "tokens [B, T]" if self.tokens else f"numbers [B, T, {self.in_features}]"
            raise InputError(f"Transformer got inputs of {inputs.dtype}{list(inputs.shape)}, not {kind}")
        self._check_length(inputs.shape[1])
        x = self.embed(inputs)
        if self.class_embedding is not None:
            x = preceded(x, self.class_embedding[...])
        table = self.position_embedding
        x = positioned(x, self.positions, start, None if table is None else table[...])
        if self.segment_embedding is not None:
            x = segmented(x, segments, self.segment_embedding[...])
        elif segments is not None:
            raise InputError("Transformer got segments, but was made without num_segments=")
        return x if self.embedding_norm is None else self.embedding_norm(x)

    def _check_length(self, length: int) -> None:
        most = self.max_length - (self.class_embedding is not None)
        if length > most:
            raise InputError(f"sequences of {length} exceed max_length={most}; shorten them")

    def _mask(self, inputs: jax.Array) -> jax.Array | None:
        return None if self.padding is None else inputs != self.padding

    def _out(self, x: jax.Array, mask: jax.Array | None, rngs: nnx.Rngs | None) -> jax.Array:
        if self.pool == "all":
            if x.shape[1] != self.max_length:
                raise InputError(f"pool='all' takes sequences of max_length={self.max_length}, not {x.shape[1]}")
            x = x.reshape(len(x), -1)
        elif self.pool:
            x = x[:, 0] if self.pool == "first" else pooled(x, mask, self.pool)
            x = x if self.pooler is None else jnp.tanh(self.pooler(x))
            x = self.dropout(x, rngs=rngs)
        if self.tied:
            flat = self.embed.attend(x.reshape(-1, x.shape[-1]))  # as Linear has its inputs, for speed
            return flat.reshape(*x.shape[:-1], -1)
        return x if self.out is None else self.out(x)


def _check_parts(
    tokens: bool,
    positions: Any,
    causal: bool,
    num_segments: int | None,
    class_token: bool,
    pool: Any,
    pooler: bool,
) -> None:
    """Raise an ``InputError`` unless parts before and after the blocks are some that there are, and go together."""
    kinds, pools = ("rotary", "learned", "sinusoidal", None), ("first", "max", "mean", "all", None)
    if positions not in kinds or pool not in pools:
        raise InputError(f"{positions=}, {pool=}: use one of {kinds}, and of {pools}")
    if num_segments is not None:
        check_whole("num_segments", num_segments, remedy="segments that a token may be of, or None")
        if not tokens:
            raise InputError(f"{num_segments=} is for tokens; give tokens=True")
    if class_token and (tokens or causal):
        raise InputError(f"{class_token=} goes before numbers of which all see each other, not {tokens=}, {causal=}")
    if pooler and pool in (None, "all"):
        raise InputError(f"{pooler=} is a layer after pool='first', 'max' or 'mean', not {pool=}")
