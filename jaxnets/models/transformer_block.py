"""A transformer's block: attention and a feed-forward network, each with a norm and a residual path."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
from flax import nnx

from jaxnets.errors import InputError, check_number
from jaxnets.models.blocks import Activation
from jaxnets.nn import Attention, KVCache, Linear, dropout_layer

Norm = Literal["layer", "rms"]


class FeedForward(nnx.Module):
    """Two dense layers with an activation between them, of each element by itself, [..., D] -> [..., D].

    Args:
        features: D.
        hidden: width between the layers.
        activation: the non-linearity.
        gated: multiply it with a third dense layer's outputs (Shazeer, 2020): with ``nnx.silu``, SwiGLU.
        use_bias: whether the layers have biases.
        kernel_init: initialiser of the weights.
        out_init: of the last layer's; ``kernel_init`` if absent.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        *,
        activation: Activation = nnx.gelu,
        gated: bool = False,
        use_bias: bool = True,
        kernel_init: nnx.Initializer = nnx.initializers.glorot_uniform(),
        out_init: nnx.Initializer | None = None,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        options = {"use_bias": use_bias, "dtype": dtype, "rngs": rngs}
        self.up = Linear(features, hidden, kernel_init=kernel_init, **options)
        self.gate = nnx.data(Linear(features, hidden, kernel_init=kernel_init, **options) if gated else None)
        self.down = Linear(hidden, features, kernel_init=out_init or kernel_init, **options)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the outputs."""
        return self.down(
            self.activation(self.up(x)) if self.gate is None else self.activation(self.gate(x)) * self.up(x)
        )


class TransformerBlock(nnx.Module):
    """Self-attention, (optionally) attention to a memory, and a feed-forward network, each with a residual path.

    Args:
        features: D.
        num_heads: of the attention.
        hidden: width of the feed-forward network; 4 D if absent.
        cross: attend to a memory as well.
        norm_first: normalise what goes into each part, and leave the residual path alone (pre-norm, which trains
            without care); else what comes out (post-norm, as Vaswani et al., 2017).
        activation: of the feed-forward network.
        gated: give it a gate.
        num_kv_heads: heads of the self-attention's keys and values, fewer than ``num_heads`` if these share them.
        rotary: turn the self-attention's queries and keys by their positions.
        rope_theta: the base of the angles by which they are turned.
        norm: "layer", or "rms": the root mean square alone, without mean and bias (Zhang and Sennrich, 2019).
        norm_epsilon: added to the norms' variances.
        dropout: probability that a number of each part's outputs is dropped in training (Vaswani et al., 2017).
        attention_dropout: probability that an attention's weight is (GPT-2, BERT).
        use_bias: whether dense layers and norms have biases.
        attention_bias: whether the attention's dense layers have; ``use_bias`` if absent.
        kernel_init: initialiser of the weights.
        out_init: of those of each part's last layer; ``kernel_init`` if absent.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        features: int,
        num_heads: int,
        *,
        hidden: int | None = None,
        cross: bool = False,
        norm_first: bool = True,
        activation: Activation = nnx.gelu,
        gated: bool = False,
        num_kv_heads: int | None = None,
        rotary: bool = False,
        rope_theta: float = 10000.0,
        norm: Norm = "layer",
        norm_epsilon: float = 1e-5,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        use_bias: bool = True,
        attention_bias: bool | None = None,
        kernel_init: nnx.Initializer = nnx.initializers.glorot_uniform(),
        out_init: nnx.Initializer | None = None,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        options = {"kernel_init": kernel_init, "out_init": out_init, "dtype": dtype, "rngs": rngs}
        biased = use_bias if attention_bias is None else attention_bias

        def make_norm() -> nnx.Module:
            return norm_layer(norm, features, epsilon=norm_epsilon, use_bias=use_bias, dtype=dtype, rngs=rngs)

        self.norm_first = norm_first

        def attention(**more: Any) -> Attention:
            return Attention(features, num_heads, dropout=attention_dropout, use_bias=biased, **more, **options)

        own = {"num_kv_heads": num_kv_heads, "rotary": rotary, "rope_theta": rope_theta}
        self.attention, self.attention_norm = attention(**own), make_norm()
        self.cross = nnx.data(attention() if cross else None)
        self.cross_norm = nnx.data(make_norm() if cross else None)
        options |= {"activation": activation, "gated": gated, "use_bias": use_bias}
        self.feed_forward = FeedForward(features, hidden or 4 * features, **options)
        self.feed_forward_norm = make_norm()
        self.dropout = dropout_layer(dropout)

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array | KVCache | None = None,
        *,
        mask: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        causal: bool = False,
        cache: KVCache | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """Return the outputs [B, T, D], and the cache with the new elements in it.

        Args:
            x: [B, T, D].
            memory: what is attended to beside, [B, S, D], or its keys and values.
            mask: which elements count, [B, T] or [B, T, T].
            memory_mask: which of the memory's count, [B, S].
            causal: an element sees only those up to itself.
            cache: what was seen before.
            rngs: what dropout draws from.

        Raises:
            InputError: if there is a memory without ``cross``, or none with it.
        """
        if (memory is None) != (self.cross is None):
            raise InputError("a block made with cross=True needs a memory to attend to, and no other takes one")

        def attend(x: jax.Array) -> jax.Array:
            nonlocal cache
            x, cache = self.attention(x, mask=mask, causal=causal, cache=cache, rngs=rngs)
            return x

        x = self._add(x, attend, self.attention_norm, rngs)
        if self.cross is not None:
            recall = partial(self.cross, memory=memory, mask=memory_mask, rngs=rngs)
            x = self._add(x, lambda x: recall(x)[0], self.cross_norm, rngs)
        return self._add(x, self.feed_forward, self.feed_forward_norm, rngs), cache

    def _add(self, x: jax.Array, part: Callable[[jax.Array], jax.Array], norm: Any, rngs: nnx.Rngs | None) -> jax.Array:
        """Return a part's outputs added to what they are made of."""
        if self.norm_first:
            return x + self.dropout(part(norm(x)), rngs=rngs)
        return norm(x + self.dropout(part(x), rngs=rngs))


def norm_layer(
    norm: Norm, features: int, *, epsilon: float = 1e-5, use_bias: bool, dtype: Any, rngs: nnx.Rngs
) -> nnx.LayerNorm | nnx.RMSNorm:
    """Return a norm of a transformer, over the last axis.

    Raises:
        InputError: if it is neither "layer" nor "rms", or epsilon is negative.
    """
    check_number("norm_epsilon", epsilon, 0, 1, "in [0, 1), such as 1e-5")
    if norm == "rms":
        return nnx.RMSNorm(features, epsilon=epsilon, dtype=dtype, rngs=rngs)
    if norm != "layer":
        raise InputError(f"{norm=} is no norm of a transformer; use 'layer' or 'rms'")
    return nnx.LayerNorm(features, epsilon=epsilon, use_bias=use_bias, dtype=dtype, rngs=rngs)
