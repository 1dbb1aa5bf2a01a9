"""Memory networks: a question looks several times into facts, each a sentence."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.errors import InputError, check_number
from jaxnets.models.blocks import check_sizes
from jaxnets.models.sequences import check_tokens
from jaxnets.nn import dropout_layer


class Attended(NamedTuple):
    """Inputs of a model that is to tell what it attends to: it returns ``(outputs, weights)``."""

    inputs: Any


class Reading(nnx.Module):
    """A look into facts: attention of several heads and two dense layers, each added to what comes in (pre-norm).

    Args:
        features: D.
        num_heads: of the attention.
        dropout: probability that a feature is dropped in training.
        dtype: of the computation.
        rngs: where initial values come from.
    """

    def __init__(self, features: int, num_heads: int, *, dropout: float, dtype: Any, rngs: nnx.Rngs):
        options = {"dtype": dtype, "rngs": rngs}
        self.num_heads = num_heads
        self.norm, self.norm_of_facts, self.norm_of_dense = (nnx.LayerNorm(features, **options) for _ in range(3))
        self.q, self.v, self.out = (nnx.Linear(features, features, **options) for _ in range(3))
        self.k = nnx.Linear(features, features, use_bias=False, **options)  # a softmax would not see a bias
        self.hidden = nnx.Linear(features, 2 * features, **options)
        self.back = nnx.Linear(2 * features, features, **options)
        self.dropout = dropout_layer(dropout)

    def __call__(
        self, x: jax.Array, facts: jax.Array, mask: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Return [B, T, D] after looking into facts [B, F, D], and the weights of each head, [B, N, T, F]."""
        q, k, v = (
            part.reshape(*part.shape[:2], self.num_heads, -1)  # [B, T or F, N, H]
            for facts in (self.norm_of_facts(facts),)
            for part in (self.q(self.norm(x)), self.k(facts), self.v(facts))
        )
        exact = jnp.promote_types(q.dtype, jnp.float32)
        logits = jnp.einsum("btnh,bfnh->bntf", q, k).astype(exact) * q.shape[-1] ** -0.5
        logits = jnp.where(mask[:, None, None], logits, jnp.finfo(exact).min)
        weights = jax.nn.softmax(logits, -1)
        read = jnp.einsum("bntf,bfnh->btnh", weights.astype(v.dtype), v).reshape(x.shape)
        x += self.dropout(self.out(read), rngs=rngs)
        x += self.dropout(self.back(nnx.relu(self.hidden(self.norm_of_dense(x)))), rngs=rngs)
        return x, weights


class MemoryNetwork(nnx.Module):
    """Logits [B, C] of a question's answer, from stories of sentences, tokens [B, (1 + F) * W].

    A row is the question, then facts from the newest back, W tokens each. A sentence is the sum of its words' vectors,
    each times a learned vector of the word's position (Henaff et al., 2017). A fact has a learned vector of its age
    besides. The question looks into the facts ``num_hops`` times (Sukhbaatar et al., 2015), with attention of several
    heads; with ``mixing``, facts look at each other before each time, and it is a transformer over facts (Dehghani et
    al., 2019).

    In training, ages grow by chance, as if empty facts lay between (random noise in time). Given ``Attended(inputs)``,
    it returns the weights too, the mean over heads of each look, [B, num_hops, F].

    Args:
        in_features: tokens in the vocabulary.
        features: D, of a sentence.
        num_hops: looks.
        num_heads: of each look.
        out_features: C.
        max_facts: the most facts, F.
        max_words: W.
        padding: the token of no word.
        tied: the same weights in every look, which then differ by a learned vector of the look's number.
        mixing: facts look at each other.
        noise: probability of an empty fact behind each in training.
        dropout: probability that a feature is dropped in training.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        num_hops: int,
        num_heads: int,
        out_features: int,
        *,
        max_facts: int,
        max_words: int,
        padding: int = 0,
        tied: bool = True,
        mixing: bool = False,
        noise: float = 0.0,
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        sizes = {"features": features, "num_hops": num_hops, "num_heads": num_heads, "out_features": out_features}
        check_sizes(in_features=in_features, **sizes, max_facts=max_facts, max_words=max_words)
        check_number("noise", noise, 0, 1, "in [0, 1), such as 0.1")
        if features % num_heads:
            raise InputError(f"{num_heads=} does not divide {features=}; the heads share the features evenly")
        self.in_features, self.num_hops, self.padding = in_features, num_hops, padding
        self.max_facts, self.max_words, self.noise = max_facts, max_words, noise
        normal, options = nnx.initializers.normal, {"dtype": dtype, "rngs": rngs}
        self.embed = nnx.Embed(in_features, features, embedding_init=normal(0.1), **options)
        around_one = lambda key, shape, dtype: 1 + normal(0.3)(key, shape, dtype)  # noqa: E731
        positions = {"num_embeddings": max_words, "features": features, "embedding_init": around_one}
        self.positions_of_question, self.positions = (nnx.Embed(**positions, **options) for _ in range(2))
        self.ages = nnx.Embed(2 * max_facts, features, embedding_init=normal(0.1), **options)
        self.hops = nnx.Embed(num_hops, features, embedding_init=normal(0.1), **options)
        parts = {"dropout": dropout, **options}
        number = 1 if tied else num_hops
        self.looks = nnx.List([Reading(features, num_heads, **parts) for _ in range(number)])
        self.mixing = nnx.List([Reading(features, num_heads, **parts) for _ in range(number if mixing else 0)])
        self.norm = nnx.LayerNorm(features, **options)
        self.out = nnx.Linear(features, out_features, **options)
        self.dropout = dropout_layer(dropout)

    def check(self, inputs: Any) -> None:
        """Check tokens on the host, as ``check_tokens`` does, and that a row is of whole sentences."""
        tokens = inputs.inputs if isinstance(inputs, Attended) else inputs
        if tokens.ndim != 2 or tokens.shape[1] % self.max_words or tokens.shape[1] > self._width:
            raise InputError(
                f"inputs of shape {tokens.shape}: a row is a question and 1 to {self.max_facts} facts of "
                f"{self.max_words} tokens each, [B, {2 * self.max_words}..{self._width}]"
            )
        check_tokens(tokens, self.in_features, self.padding)

    @property
    def _width(self) -> int:
        return (1 + self.max_facts) * self.max_words

    def __call__(self, inputs: Any, *, train: bool = False, rngs: nnx.Rngs | None = None) -> Any:
        """Return the logits; ``rngs`` is what dropout and noise draw from."""
        tokens = inputs.inputs if isinstance(inputs, Attended) else inputs
        sentences = tokens.reshape(len(tokens), -1, self.max_words)  # [B, 1 + F, W]
        words = self.embed(sentences)
        words *= (sentences != self.padding)[..., None].astype(words.dtype)  # [B, 1 + F, W, D]
        positions = [table.embedding[...].astype(words.dtype) for table in (self.positions_of_question, self.positions)]
        question, facts = (
            jnp.einsum("bfwd,wd->bfd", part, table)
            for part, table in zip((words[:, :1], words[:, 1:]), positions, strict=True)
        )
        facts += self.ages(self._ages(sentences, train, rngs))
        mask = (sentences[:, 1:] != self.padding).any(-1)  # [B, F]
        question, facts = self.dropout(question, rngs=rngs), self.dropout(facts, rngs=rngs)
        attended = []
        for hop in range(self.num_hops):
            if self.mixing:
                facts, _ = self.mixing[hop % len(self.mixing)](facts, facts, mask, rngs=rngs)
            question += self.hops(jnp.full((1, 1), hop))
            question, weights = self.looks[hop % len(self.looks)](question, facts, mask, rngs=rngs)
            attended.append(weights.mean((1, 2)))
        logits = self.out(self.norm(question[:, 0]))
        return (logits, jnp.stack(attended, 1)) if isinstance(inputs, Attended) else logits

    def _ages(self, sentences: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """Return how many facts are newer than each, [B, F], with empty ones among them in training."""
        batch, number = sentences.shape[0], sentences.shape[1] - 1
        ages = jnp.broadcast_to(jnp.arange(number), (batch, number))
        if train and self.noise and rngs is not None:
            ages += jnp.cumsum(jax.random.bernoulli(rngs.noise(), self.noise, ages.shape).astype(ages.dtype), 1)
        return jnp.minimum(ages, 2 * self.max_facts - 1)
