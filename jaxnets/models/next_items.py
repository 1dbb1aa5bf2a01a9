"""What comes next in a history of items: a vector for each history, to be held against one of every item.

Users and items are numbers from 1 on; 0 is one that was never seen, and padding at the end.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxnets.errors import InputError
from jaxnets.models.blocks import check_sizes
from jaxnets.models.sequences import SeenTable, check_tokens
from jaxnets.models.transformer import Transformer
from jaxnets.nn import dropout_layer

_SPREAD = 0.05  # of initial vectors


class Matched(NamedTuple):
    """Histories and items, whose products are scores.

    Attributes:
        states: of each history up to each of its items, [B, T, D].
        items: of each item, [V, D].
        bias: of each item, [V].
    """

    states: jax.Array
    items: jax.Array
    bias: jax.Array


class _NextItems(nnx.Module):
    """What both have: users and items are counted, and an item has a bias."""

    def __init__(self, num_users: int, num_items: int, max_length: int, dtype: Any):
        check_sizes(num_users=num_users, num_items=num_items, max_length=max_length)
        self.num_users, self.num_items, self.max_length, self.dtype = num_users, num_items, max_length, dtype
        self.bias = nnx.Param(jnp.zeros(num_items, jnp.float32))

    def _matched(self, states: jax.Array, table: jax.Array) -> Matched:
        bias = self.bias[...]
        return Matched(states, table.astype(states.dtype), bias.astype(states.dtype))

    def check(self, inputs: Any) -> None:
        """Check users and histories on the host.

        Raises:
            InputError: if a number is none of those that there are, a history is empty, or padding stands in it.
        """
        users, items = np.asarray(inputs["user"]), np.asarray(inputs["items"])
        if users.size and not (users.min() >= 0 and users.max() < self.num_users):
            raise InputError(f"users range from {users.min()} to {users.max()}, outside 0..{self.num_users - 1}")
        check_tokens(items, self.num_items, 0)
        if items.shape[-1] > self.max_length:
            raise InputError(f"histories of {items.shape[-1]} items exceed {self.max_length}; give the latest of them")


class HistoryTransformer(_NextItems):
    """A causal transformer over a history (SASRec; Kang and McAuley, 2018); users are not told apart but by it.

    Args:
        num_users: users, 0 included.
        num_items: items, 0 included.
        features: D, the width of the blocks.
        num_layers: how many blocks.
        num_heads: of their attention.
        max_length: the longest history.
        dropout: probability that a number is dropped in training.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
        **options: handed to ``Transformer``.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        features: int,
        num_layers: int,
        num_heads: int,
        *,
        max_length: int,
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        super().__init__(num_users, num_items, max_length, dtype)
        init = nnx.initializers.normal(_SPREAD)
        embed = nnx.Embed(num_items, features, embedding_init=init, dtype=dtype, rngs=rngs)
        sizes = (num_items, features, num_layers, num_heads, None)
        options |= {"tokens": True, "causal": True, "embed": embed, "dropout": dropout, "dtype": dtype, "rngs": rngs}
        self.transformer = Transformer(*sizes, max_length=max_length, **options)

    def __call__(self, user: jax.Array, items: jax.Array, *, rngs: nnx.Rngs | None = None) -> Matched:
        """Return what histories [B, T] and items are held against each other by."""
        states = self.transformer(items, rngs=rngs)
        return self._matched(states, self.transformer.embed.embedding[...])


class HistoryFactors(_NextItems):
    """A vector for each user, and to it a mean of those of the items so far, in which older ones fade.

    ``h_t = a * h_{t-1} + (1 - a) * y_t``, where ``a`` is learned for each number of the vector: a factorisation that
    knows what was recent (of constant ``a`` near 1, FISM's; Kabbur, Ning and Karypis, 2013).

    Args:
        num_users: users, 0 included.
        num_items: items, 0 included.
        features: numbers of a vector.
        max_length: the longest history.
        dropout: probability that a number of the mean is dropped in training.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        features: int,
        *,
        max_length: int,
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(num_users, num_items, max_length, dtype)
        self.user = SeenTable(num_users, features, _SPREAD, dtype=dtype, rngs=rngs)
        self.had = SeenTable(num_items, features, _SPREAD, dtype=dtype, rngs=rngs)
        self.item = SeenTable(num_items, features, _SPREAD, dtype=dtype, rngs=rngs)
        self.fading = nnx.Param(
            jnp.linspace(-1.0, 4.0, features, dtype=jnp.float32)
        )  # before the sigmoid: from half of it to one in 50
        self.dropout = dropout_layer(dropout)

    def __call__(self, user: jax.Array, items: jax.Array, *, rngs: nnx.Rngs | None = None) -> Matched:
        """Return what histories [B, T] and items are held against each other by."""
        had = self.had(items)
        kept = jax.nn.sigmoid(self.fading[...].astype(had.dtype))[None, None]
        steps = jnp.swapaxes((1 - kept) * had, 0, 1)  # [T, B, D]

        def further(mean: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
            mean = kept[0] * mean + step
            return mean, mean

        # One step after another: an associative scan takes XLA minutes to compile on a CPU, and is not faster there.
        pooled = jnp.swapaxes(lax.scan(further, jnp.zeros_like(steps[0]), steps)[1], 0, 1)  # [B, T, D]
        states = self.user(user)[:, None] + self.dropout(pooled, rngs=rngs)
        return self._matched(states, self.item.table)
