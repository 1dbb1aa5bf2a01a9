"""Ratings from who rated what: biased factorisation.

Users and items are numbers from 1 on; 0 is one that was never seen, and padding: all that is known of it is 0.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.errors import InputError, check_number
from jaxnets.models.blocks import check_sizes
from jaxnets.models.mlp import MLP
from jaxnets.models.sequences import SeenTable
from jaxnets.nn import dropout_layer

_SPREAD = 0.1  # of initial factors
_POOLED = 0.8  # of what is pooled, so that a decay of weights holds it back more than the rest


class RatingFactors(nnx.Module):
    """Biased factorisation: what each user gives to each item of a list, by what else the user gave, [B, T].

    A rating is told by the mean, a bias of the user, of the item and of its tags, the product of a user's and an item's
    vectors (Koren, Bell and Volinsky, 2009), and what the user gave to other items, pooled in two ways. To the user's
    vector comes ``0.8 n^-1/2`` times the sum of a vector of each item that was rated, and of another times how far
    the rating is from the item's mean (SVD++ and asymmetric factors; Koren, 2008). And for each of several
    ranges of time, ratings of that time count by how far they are from theirs, for people rate several things in a
    sitting. What is to be told is never among what it is told from.

    In training a share of each user's ratings, drawn anew, may be hidden from the others, as inputs of a denoising
    autoencoder are (Wu et al., 2016); they are told all the same.

    Args:
        num_users: users, 0 included.
        num_items: items, 0 included.
        tags: which tags each set of them holds, 0 or 1, [sets, tags].
        mean: of all ratings.
        features: numbers of a vector.
        hidden: widths of an MLP over both vectors and their products, whose output is added (neural factorisation; He
            et al., 2017); none if empty.
        pooled: whether what else the user gave is pooled.
        ranges: of times, in seconds; none if empty.
        dropout: probability that a number of a vector is dropped in training.
        hidden_share: the largest share of a user's ratings that is hidden in training; any up to it is as likely.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        tags: np.ndarray,
        *,
        mean: float,
        features: int = 32,
        hidden: tuple[int, ...] = (),
        pooled: bool = True,
        ranges: tuple[float, ...] = (),
        dropout: float = 0.0,
        hidden_share: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        check_sizes(num_users=num_users, num_items=num_items, features=features)
        check_number("hidden_share", hidden_share, 0, 1, "a share in [0, 1)")
        options = {"dtype": dtype, "rngs": rngs}
        self.num_users, self.num_items, self.dtype = num_users, num_items, dtype or jnp.float32
        self.mean, self.sets, self.ranges = (
            mean,
            tuple(map(tuple, np.asarray(tags).tolist())),
            tuple(map(float, ranges)),
        )
        self.user_bias = SeenTable(num_users, None, 0.0, **options)
        self.item_bias = SeenTable(num_items, None, 0.0, **options)
        self.user = SeenTable(num_users, features, _SPREAD, **options)
        self.item = SeenTable(num_items, features, _SPREAD, **options)
        num_tags = np.asarray(tags).shape[1]
        self.tag = nnx.Param(_SPREAD * jax.random.normal(rngs.params(), (num_tags, features), jnp.float32))
        self.tag_bias = nnx.Param(jnp.zeros(num_tags, jnp.float32))
        pool = (num_items, features, _SPREAD)
        self.rated = nnx.data(SeenTable(*pool, **options) if pooled else None)
        self.liked = nnx.data(SeenTable(*pool, **options) if pooled else None)
        self.range_weight = nnx.Param(jnp.full(len(ranges), 0.3 / max(1, len(ranges)), jnp.float32))
        self.range_prior = nnx.Param(jnp.ones(len(ranges), jnp.float32))
        self.mlp = nnx.data(MLP(3 * features, hidden, 1, dropout=dropout, **options) if hidden else None)
        self.dropout = dropout_layer(dropout)
        self.hidden_share, self.deterministic = hidden_share, True

    def check(self, inputs: Any) -> None:
        """Check the numbers of users, items and tags on the host.

        Raises:
            InputError: if one is none of those that there are.
        """
        for name, most in (("user", self.num_users), ("items", self.num_items), ("tags", len(self.sets))):
            numbers = np.asarray(inputs[name])
            if numbers.size and not (numbers.min() >= 0 and numbers.max() < most):
                raise InputError(f"{name} range from {numbers.min()} to {numbers.max()}, outside 0..{most - 1}")

    def __call__(
        self,
        user: jax.Array,
        items: jax.Array,
        tags: jax.Array,
        times: jax.Array,
        ratings: jax.Array,
        given: jax.Array,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """Return the ratings, [B, T].

        Args:
            user: [B].
            items: [B, T].
            tags: the number of each item's set of tags, [B, T].
            times: in seconds, [B, T].
            ratings: [B, T], read where they are given.
            given: which the others are told from, 0 or 1, [B, T].
            rngs: what dropout and what is hidden draw from.
        """
        sets = jnp.asarray(self.sets, self.dtype)[tags]  # [B, T, tags]
        of_item = self.mean + self.item_bias(items) + sets @ self.tag_bias[...].astype(self.dtype)
        seen = self._left(given, rngs).astype(self.dtype)
        residual = (ratings.astype(self.dtype) - of_item) * seen
        told = of_item + self.user_bias(user)[:, None] + self._of_the_time(times, residual, seen)
        person = self.user(user)[:, None] + self._pooled(items, residual, seen)  # [B, T, D]
        thing = self.item(items) + sets @ self.tag[...].astype(self.dtype)
        person, thing = self.dropout(person, rngs=rngs), self.dropout(thing, rngs=rngs)
        told += (person * thing).sum(-1)
        if self.mlp is not None:
            both = jnp.concatenate([person, thing, person * thing], -1)
            told += self.mlp(both.reshape(-1, both.shape[-1]), rngs=rngs).reshape(told.shape)
        return told

    def _left(self, given: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """Return which ratings others are told from, [B, T]: in training, but for those that are hidden."""
        if self.deterministic or rngs is None or not self.hidden_share:
            return given
        share = self.hidden_share * jax.random.uniform(rngs.dropout(), (len(given), 1))
        return given * (jax.random.uniform(rngs.dropout(), given.shape) >= share).astype(given.dtype)

    def _pooled(self, items: jax.Array, residual: jax.Array, seen: jax.Array) -> jax.Array:
        """Return the sum over the other items that are given, by the root of their number, [B, T, D] or 0."""
        if self.rated is None or self.liked is None:
            return jnp.zeros((*items.shape, 1), residual.dtype)
        own = self.rated(items) * seen[..., None] + self.liked(items) * residual[..., None]
        others = own.sum(1, keepdims=True) - own
        number = seen.sum(1, keepdims=True) - seen
        return _POOLED * others / jnp.sqrt(jnp.maximum(number, 1.0))[..., None]

    def _of_the_time(self, times: jax.Array, residual: jax.Array, seen: jax.Array) -> jax.Array:
        """Return how far the user's other ratings near in time are from the items' own, by ranges, [B, T]."""
        apart = jnp.abs(times[:, :, None] - times[:, None]).astype(self.dtype)  # [B, T, T]
        others = (1 - jnp.eye(times.shape[1], dtype=self.dtype))[None] * seen[:, None]
        weights, priors = (part[...].astype(self.dtype) for part in (self.range_weight, self.range_prior))
        told = jnp.zeros_like(residual)
        for i, span in enumerate(self.ranges):
            near = jnp.exp(-apart / span) * others
            weight = near.sum(-1) + jax.nn.softplus(priors[i])
            told += weights[i] * jnp.einsum("bts,bs->bt", near, residual) / weight
        return told
