"""An ensemble inside a network: members share the weights of dense layers, and scale what goes in and comes out."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import he_normal, lecun_normal

from jaxnets.errors import check_widths
from jaxnets.nn import dropout_layer


class Scale(nnx.Module):
    """A factor of each member and feature, [B, K, D] or [B, 1, D] -> [B, K, D]; initial values of -1 and 1, or 1."""

    def __init__(self, members: int, features: int, *, signs: bool = False, rngs: nnx.Rngs):
        drawn = jax.random.rademacher(rngs.params(), (members, features), jnp.float32) if signs else None
        self.scale = nnx.Param(jnp.ones((members, features), jnp.float32) if drawn is None else drawn)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the scaled features."""
        return x * self.scale[...].astype(x.dtype)[None]


class MemberLinear(nnx.Module):
    """A dense layer that members share but for factors and biases (Wen et al., 2020: BatchEnsemble).

    ``((x * r_k) W) * s_k + b_k`` for each member k; [B, K, D] or [B, 1, D] -> [B, K, F].
    """

    def __init__(
        self, members: int, in_features: int, out_features: int, *, signs: bool = False, dtype: Any, rngs: nnx.Rngs
    ):
        self.before = Scale(members, in_features, signs=signs, rngs=rngs)
        self.dense = nnx.Linear(
            in_features, out_features, use_bias=False, kernel_init=he_normal(), dtype=dtype, rngs=rngs
        )
        self.after = Scale(members, out_features, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros((members, out_features), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the outputs."""
        x = self.before(x)
        flat = self.dense(x.reshape(-1, x.shape[-1]))  # one matrix product for all members
        y = self.after(flat.reshape(*x.shape[:-1], -1))
        return y + self.bias[...].astype(y.dtype)[None]


class TableEnsemble(nnx.Module):
    """Members over all columns' vectors, [B, columns, features] -> [B, members, out_features].

    They share all weights but factors, biases and the last layer (Gorishniy et al., 2024: TabM). The first factors are
    drawn as -1 and 1, which makes the members differ.

    Args:
        num_columns: of the table.
        features: of each vector.
        out_features: width of the output.
        hidden: widths of the hidden layers.
        members: of the ensemble.
        dropout: probability that a hidden unit is dropped in training, of each member by itself.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        num_columns: int,
        features: int,
        out_features: int,
        *,
        hidden: Sequence[int],
        members: int,
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        check_widths("hidden", hidden)
        check_widths("members", (members,))
        widths = [num_columns * features, *hidden]
        self.hidden = nnx.List(
            [
                MemberLinear(members, fan_in, fan_out, signs=not number, dtype=dtype, rngs=rngs)
                for number, (fan_in, fan_out) in enumerate(itertools.pairwise(widths))
            ]
        )
        draw = lecun_normal(batch_axis=0)
        self.kernel = nnx.Param(draw(rngs.params(), (members, widths[-1], out_features), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((members, out_features), jnp.float32))
        self.dropout = dropout_layer(dropout)

    def __call__(self, vectors: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs of each member."""
        x = vectors.reshape(vectors.shape[0], 1, -1)
        for layer in self.hidden:
            x = self.dropout(nnx.relu(layer(x)), rngs=rngs)
        x = jnp.broadcast_to(x, (x.shape[0], self.kernel.shape[0], x.shape[2]))
        outputs = jnp.einsum("bkd,kdo->bko", x, self.kernel[...].astype(x.dtype))
        return outputs + self.bias[...].astype(x.dtype)[None]
