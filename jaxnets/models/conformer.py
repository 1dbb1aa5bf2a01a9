"""The Conformer's encoder (Gulati et al., 2020), small: attention and convolutions over time in turn."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.blocks import check_sizes
from jaxnets.models.transformer_block import FeedForward
from jaxnets.nn import Attention, Conv, Linear, dropout_layer


class Conformer(nnx.Module):
    """Blocks of the Conformer, [B, T, D] -> [B, T, model_dim], with rotary positions in place of relative ones.

    Args:
        in_features: D.
        model_dim: width of the blocks.
        num_layers: blocks.
        num_heads: of the attention.
        kernel: frames that a block's convolution sees.
        dropout: probability that a number of each part's outputs is dropped in training.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        in_features: int,
        model_dim: int,
        num_layers: int,
        num_heads: int,
        *,
        kernel: int = 9,
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_features=in_features, model_dim=model_dim, num_layers=num_layers, kernel=kernel)
        options = {"dropout": dropout, "dtype": dtype, "rngs": rngs}
        self.project = Linear(in_features, model_dim, dtype=dtype, rngs=rngs)
        blocks = [ConformerBlock(model_dim, num_heads, kernel=kernel, **options) for _ in range(num_layers)]
        self.blocks = nnx.List(blocks)
        self.out_features = model_dim

    def __call__(self, x: jax.Array, mask: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs; ``mask`` [B, T] says which frames count, ``rngs`` is what dropout draws from."""
        x = self.project(x)
        for block in self.blocks:
            x = block(x, mask, rngs)
        return x


class ConformerBlock(nnx.Module):
    """Half a feed-forward network, attention, a convolution, another half, each with a residual path, then a norm.

    Args:
        features: D.
        num_heads: of the attention.
        kernel: frames that the depthwise convolution sees.
        dropout: probability that a number of each part's outputs is dropped in training.
        dtype: of the computation.
        rngs: where initial values come from.
    """

    def __init__(
        self, features: int, num_heads: int, *, kernel: int, dropout: float = 0.0, dtype: Any = None, rngs: nnx.Rngs
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.first, self.last = (FeedForward(features, 4 * features, activation=nnx.silu, **options) for _ in range(2))
        self.attention = Attention(features, num_heads, rotary=True, **options)
        self.widen = Linear(features, 2 * features, **options)
        depthwise = {"feature_group_count": features, "use_bias": False}
        self.conv = Conv(features, features, (kernel,), **depthwise, **options)
        self.norm = nnx.BatchNorm(features, momentum=0.9, **options)
        self.narrow = Linear(features, features, **options)
        self.norms = nnx.List([nnx.LayerNorm(features, **options) for _ in range(5)])
        self.dropout = dropout_layer(dropout)

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs [B, T, D]."""
        first, attention, conv, last, out = self.norms
        x = x + 0.5 * self.dropout(self.first(first(x)), rngs=rngs)
        x = x + self.dropout(self.attention(attention(x), mask=mask, rngs=rngs)[0], rngs=rngs)
        x = x + self.dropout(self._convolved(conv(x), mask[..., None]), rngs=rngs)
        x = x + 0.5 * self.dropout(self.last(last(x)), rngs=rngs)
        return out(x)

    def _convolved(self, x: jax.Array, counts: jax.Array) -> jax.Array:
        value, gate = jnp.split(self.widen(x), 2, -1)
        x = self.conv(jnp.where(counts, value * nnx.sigmoid(gate), 0))
        return self.narrow(nnx.silu(self.norm(x, mask=counts)))
