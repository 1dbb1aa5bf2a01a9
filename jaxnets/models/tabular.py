"""Networks for tables: numbers and categories embedded, then dense layers, residual ones, attention, or an ensemble."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import he_normal, lecun_normal

from jaxnets.errors import InputError, check_widths
from jaxnets.models.mlp import MLP
from jaxnets.models.transformer_block import TransformerBlock
from jaxnets.nn import Linear, dropout_layer


class Columns(NamedTuple):
    """What a table's numbers are: squashed numbers, as many positions among bins, as many codes, codes of categories.

    Attributes:
        bins: of each number, 0 for none.
        sizes: codes of each number, then of each category; 0 is one that says nothing.
    """

    bins: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return 2 * len(self.bins) + len(self.sizes)


class ColumnEmbedding(nnx.Module):
    """Each column of a table as a vector, [B, columns.width] -> [B, columns, features].

    A number is a piecewise-linear function of itself (Gorishniy et al., 2022), with the embedding of its exact value
    beside where that has one; a category is an embedding.

    Args:
        columns: of the table.
        features: of each vector.
        scale: standard deviation of the initial embeddings, and of the sum that a number's encoding begins as.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(self, columns: Columns, features: int, *, scale: float = 1.0, dtype: Any = None, rngs: nnx.Rngs):
        check_widths("features", (features,))
        if len(columns.bins) > len(columns.sizes) or not columns.sizes:
            raise InputError(f"columns={columns} must have a size for each number, and one column or more")
        self.columns, self.dtype = columns, dtype
        most, count = max(columns.bins, default=0), len(columns.sizes)
        normal = nnx.initializers.normal
        shape = (len(columns.bins), most + 1, features)
        drawn = nnx.Param(normal(scale / math.sqrt(2))(rngs.params(), shape, jnp.float32)) if columns.bins else None
        self.kernel = nnx.data(drawn)
        self.embedding = nnx.Param(normal(scale)(rngs.params(), (sum(columns.sizes), features), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((count, features), jnp.float32))

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Return the vectors."""
        numbers = len(self.columns.bins)
        if inputs.ndim != 2 or inputs.shape[1] != self.columns.width:
            raise InputError(f"inputs of shape {inputs.shape} are no rows of {self.columns.width} numbers of a table")
        z, position, codes = jnp.split(inputs.astype(jnp.float32), (numbers, 2 * numbers), axis=1)
        index = codes.astype(jnp.int32)  # [B, columns]
        offsets = jnp.array([0, *itertools.accumulate(self.columns.sizes[:-1])], jnp.int32)
        dtype = self.dtype or jnp.float32
        vectors = self.embedding[...].astype(dtype)[index + offsets[None]] * (index > 0)[:, :, None].astype(dtype)
        vectors = vectors + self.bias[...].astype(dtype)[None]
        if self.kernel is None:
            return vectors
        kernel = self.kernel[...].astype(dtype)
        steps = jnp.arange(kernel.shape[1] - 1, dtype=jnp.float32)
        pieces = jnp.clip(position[:, :, None] - steps[None, None], 0.0, 1.0)  # [B, numbers, bins]
        pieces = jnp.concatenate([z[:, :, None], pieces], -1).astype(dtype)
        found = jnp.einsum("bnk,nkd->bnd", pieces, kernel)
        return jnp.concatenate([vectors[:, :numbers] + found, vectors[:, numbers:]], 1)


Body = Callable[..., nnx.Module]


class Tabular(nnx.Module):
    """A network of a table's rows, [B, columns.width] -> [B, out_features], or [B, members, out_features].

    Args:
        columns: of the table.
        features: of each column's embedding.
        body: ``body(num_columns, features, out_features, rngs=...)``: what maps [B, columns, features] to the outputs.
        out_features: width of the output.
        linear: add a path on which each column acts by itself: of numbers a sum of piecewise-linear functions.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        columns: Columns,
        features: int,
        body: Body,
        out_features: int,
        *,
        linear: bool = False,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        self.embed = ColumnEmbedding(columns, features, dtype=dtype, rngs=rngs)
        self.body = body(len(columns.sizes), features, out_features, dtype=dtype, rngs=rngs)
        path = ColumnEmbedding(columns, out_features, scale=0.0, dtype=dtype, rngs=rngs) if linear else None
        self.linear = nnx.data(path)

    def __call__(self, inputs: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs; ``rngs`` is what dropout draws from."""
        outputs = self.body(self.embed(inputs), rngs=rngs)
        if self.linear is None:
            return outputs
        added = self.linear(inputs).sum(1)  # [B, out_features]
        return outputs + (added if outputs.ndim == 2 else added[:, None])


class TableMLP(nnx.Module):
    """Dense layers over all columns' vectors, [B, columns, features] -> [B, out_features].

    Args:
        num_columns: of the table.
        features: of each vector.
        out_features: width of the output.
        hidden: widths of the hidden layers.
        dropout: probability that a hidden unit is dropped in training.
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
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        self.mlp = MLP(num_columns * features, hidden, out_features, dropout=dropout, dtype=dtype, rngs=rngs)

    def __call__(self, vectors: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs."""
        return self.mlp(vectors, rngs=rngs)


class TableResNet(nnx.Module):
    """Residual blocks of two dense layers over all columns' vectors (Gorishniy et al., 2021), with layer norms.

    Args:
        num_columns: of the table.
        features: of each vector.
        out_features: width of the output.
        hidden: widths inside the blocks, one each; the path beside them has the first's.
        dropout: probability that a unit is dropped in training, inside a block and behind it.
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
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        check_widths("hidden", hidden)
        if not hidden:
            raise InputError("hidden=() has no blocks; give the width of one or more")
        width = hidden[0]
        dense = {"kernel_init": he_normal(), "dtype": dtype, "rngs": rngs}
        self.stem = nnx.Linear(num_columns * features, width, **dense)
        self.norms = nnx.List([nnx.LayerNorm(width, dtype=dtype, rngs=rngs) for _ in hidden])
        self.up = nnx.List([nnx.Linear(width, inner, **dense) for inner in hidden])
        self.down = nnx.List([nnx.Linear(inner, width, **dense) for inner in hidden])
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, out_features, kernel_init=lecun_normal(), dtype=dtype, rngs=rngs)
        self.dropout = dropout_layer(dropout)

    def __call__(self, vectors: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs."""
        x = self.stem(vectors.reshape(vectors.shape[0], -1))
        for norm, up, down in zip(self.norms, self.up, self.down, strict=True):
            inner = self.dropout(nnx.relu(up(norm(x))), rngs=rngs)
            x = x + self.dropout(down(inner), rngs=rngs)
        return self.out(nnx.relu(self.norm(x)))


class FTTransformer(nnx.Module):
    """A transformer whose tokens are a table's columns (Gorishniy et al., 2021), and one more, which says the outputs.

    Args:
        num_columns: of the table.
        features: of each vector.
        out_features: width of the output.
        num_layers: of the transformer.
        num_heads: of its attention.
        dropout: probability that a number of each part's outputs is dropped in training.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        num_columns: int,
        features: int,
        out_features: int,
        *,
        num_layers: int,
        num_heads: int,
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        self.token = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (features,), jnp.float32))
        options = {"hidden": 2 * features, "activation": nnx.relu, "gated": True, "dropout": dropout}
        self.blocks = nnx.List(
            [TransformerBlock(features, num_heads, **options, dtype=dtype, rngs=rngs) for _ in range(num_layers)]
        )
        self.norm = nnx.LayerNorm(features, dtype=dtype, rngs=rngs)
        self.out = Linear(features, out_features, dtype=dtype, rngs=rngs)

    def __call__(self, vectors: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs."""
        token = jnp.broadcast_to(self.token[...].astype(vectors.dtype), (vectors.shape[0], 1, vectors.shape[2]))
        x = jnp.concatenate([token, vectors], 1)
        for block in self.blocks:
            x, _ = block(x, rngs=rngs)
        return self.out(nnx.relu(self.norm(x[:, 0])))
