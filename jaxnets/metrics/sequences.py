"""Metrics of sequences of tokens, and error rates of text.

Sequences are integers [..., T], with padding where nothing stands, at the end or anywhere. Their weights are [...], one
each, or a mask of the labels' own shape, which leaves out label tokens, and sequences of which no token is left.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets import losses
from jaxnets.errors import InputError, check_callable, check_whole
from jaxnets.metrics.metric import Mean, Metric, divide, per_example, spread_over

_NEVER = 2**30  # more than any number of edits; sums with it stay below 2**31


def _exp_of_mean(sums: Mean) -> float:
    with np.errstate(over="ignore"):
        return np.exp(divide(sums))


perplexity = Metric(per_example(losses.softmax_cross_entropy).measure, _exp_of_mean, "lower")
"""The exponential of the mean cross-entropy over the tokens that count, logits [..., V] and integer labels [...]."""


def most_likely(outputs: jax.Array) -> jax.Array:
    """Return the token with the largest logit, [..., V] -> [...]."""
    return jnp.argmax(outputs, axis=-1)


def ctc_tokens(outputs: jax.Array) -> jax.Array:
    """Return CTC's greedy tokens, [..., T, V] -> [..., T]: the likeliest class where it is new, elsewhere 0, the blank.

    For ``token_error_rate(ctc_tokens)``: the edits of the best path.
    """
    best = most_likely(outputs)
    before = jnp.concatenate([jnp.zeros_like(best[..., :1]), best[..., :-1]], -1)
    return jnp.where(best == before, 0, best)


def token_error_rate(decode: Callable[[Any], jax.Array] = most_likely, padding: int = 0) -> Metric:
    """Return the edits that turn outputs into labels, over the number of label tokens (Levenshtein, 1966).

    Edits are insertions, deletions and substitutions of a token, as few as can be. Where tokens are words, it is the
    word error rate; where they are characters, the character error rate. It may exceed 1.

    Args:
        decode: from the learner's outputs to tokens, [..., T], with padding where no token stands.
        padding: the token that is none.

    Raises:
        InputError: if tokens and labels [..., U] differ in more than the last axis or are no integers, or there are
            float weights for single tokens.
    """
    check_callable("token_error_rate: decode", decode, "give a function from outputs to tokens")
    check_whole("token_error_rate: padding", padding, 0)

    def measure(outputs: Any, labels: jax.Array, weights: jax.Array | None) -> Mean:
        tokens, labels, counts = _pairs("token_error_rate", decode(outputs), labels, weights, padding)
        edits = jax.vmap(partial(_edits, padding=padding))(tokens, labels)
        lengths = (labels != padding).sum(-1, dtype=jnp.int32)
        return Mean((edits.astype(counts.dtype) * counts).sum(), (lengths.astype(counts.dtype) * counts).sum())

    return Metric(measure, divide, "lower", in_training=False)


class _NGrams(NamedTuple):
    """Counts over a corpus: by order, of n-grams that the labels have too and of all; of tokens and of label tokens."""

    matches: jax.Array  # [max_order]
    totals: jax.Array  # [max_order]
    lengths: jax.Array  # [2]


def bleu(padding: int = 0, max_order: int = 4) -> Metric:
    """Return the corpus' BLEU, 0 to 100, of tokens [..., T] against labels [..., U] (Papineni et al., 2002).

    It is the geometric mean of the clipped precisions of n-grams up to ``max_order``, times the penalty for brevity,
    without smoothing: 0 if an order has no match. On text that is split into the same tokens, sacrebleu's
    ``corpus_bleu`` gives the same. Memory grows as T (T + U) for each sequence.

    Raises:
        InputError: if ``max_order`` is less than 1, and as ``token_error_rate`` does.
    """
    check_whole("bleu: padding", padding, 0)
    check_whole("bleu: max_order", max_order, remedy="words of the longest n-gram; 4 is usual")

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> _NGrams:
        tokens, labels, counts = _pairs("bleu", outputs, labels, weights, padding)
        found = jax.vmap(partial(_ngrams, padding=padding, max_order=max_order))(tokens, labels)
        return jax.tree.map(lambda leaf: (leaf.astype(counts.dtype) * counts[:, None]).sum(0), found)

    return Metric(measure, _score, "higher", in_training=False)


def word_error_rate(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Return the edits of words that turn the hypotheses into the references, over the number of reference words.

    Words are what white space separates.

    Raises:
        InputError: if they are not equally many, or the references have no words.
    """
    return _error_rate("word_error_rate", "words", str.split, hypotheses, references)


def character_error_rate(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Return the edits of characters, spaces too, that turn the hypotheses into the references, over their length.

    Raises:
        InputError: if they are not equally many, or the references have no characters.
    """
    return _error_rate("character_error_rate", "characters", list, hypotheses, references)


class _Pairs(NamedTuple):
    """Sequences in one row: tokens [N, T], labels [N, U] and weights [N]."""

    tokens: jax.Array
    labels: jax.Array
    weights: jax.Array


def _pairs(name: str, tokens: jax.Array, labels: jax.Array, weights: jax.Array | None, padding: int) -> _Pairs:
    if tokens.ndim < 1 or tokens.shape[:-1] != labels.shape[:-1] or tokens.ndim != labels.ndim:
        raise InputError(
            f"{name}: tokens of shape {tokens.shape} against labels of shape {labels.shape}; give [..., T] and "
            "[..., U], alike but for the last axis"
        )
    for what, array in (("tokens", tokens), ("labels", labels)):
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise InputError(f"{name}: {what} are {array.dtype}, not integers; give the numbers of tokens")
    tokens, labels = tokens.astype(jnp.int32), labels.astype(jnp.int32)
    counts = jnp.ones(labels.shape[:-1], jnp.int32)
    if weights is not None and weights.ndim == labels.ndim:
        if jnp.issubdtype(weights.dtype, jnp.floating):
            raise InputError(
                f"{name}: float weights of shape {weights.shape}, one a token, but edits and n-grams are of whole "
                f"sequences; give weights of shape {labels.shape[:-1]}, or a mask"
            )
        mask = weights.astype(bool)
        labels, counts = jnp.where(mask, labels, padding), mask.any(-1).astype(jnp.int32)
    elif weights is not None:
        counts = spread_over(weights, counts)
    return _Pairs(tokens.reshape(-1, tokens.shape[-1]), labels.reshape(-1, labels.shape[-1]), counts.reshape(-1))


def _edits(tokens: jax.Array, labels: jax.Array, padding: int) -> jax.Array:
    """Return the edit distance of tokens [T] and labels [U].

    A row holds the distances of the tokens so far to each of the labels' beginnings, 0..U long. All entries of the
    next row are found at once: an entry is the best one to its left plus the labels between, so that a cumulative
    minimum of entries less their number of labels serves. Padding among the labels costs nothing to pass.
    """
    real = labels != padding
    ahead = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(real, dtype=jnp.int32)])  # [U + 1]

    def step(row: jax.Array, token: jax.Array) -> tuple[jax.Array, None]:
        replaced = row[:-1] + (labels != token).astype(jnp.int32)
        below = jnp.where(real, jnp.minimum(row[1:] + 1, replaced), _NEVER)
        below = jnp.concatenate([row[:1] + 1, below])
        return jnp.where(token == padding, row, ahead + lax.cummin(below - ahead)), None

    return lax.scan(step, ahead, tokens)[0][-1]


def _ngrams(tokens: jax.Array, labels: jax.Array, padding: int, max_order: int) -> _NGrams:
    """Return the counts of one pair, tokens [T] and labels [U].

    An n-gram matches if the labels have as many like it as the tokens have up to and with it: the clipped count.
    """
    (tokens, real), (labels, real_labels) = _without_padding(tokens, padding), _without_padding(labels, padding)
    like = (tokens[:, None] == tokens[None]) & real[:, None] & real[None]
    like_labels = (tokens[:, None] == labels[None]) & real[:, None] & real_labels[None]
    same, found = (
        like,
        like_labels,
    )  # of n-grams, by where they begin, [T - n + 1, T - n + 1] and [T - n + 1, U - n + 1]
    matches, totals = [], []
    for order in range(max_order):
        if order:
            same, found = same[:-1, :-1] & like[order:, order:], found[:-1, :-1] & like_labels[order:, order:]
        whole = jnp.diagonal(same)
        seen = jnp.tril(same).sum(-1)  # this one and those like it before it
        matches.append((whole & (seen <= found.sum(-1))).sum(dtype=jnp.int32))
        totals.append(whole.sum(dtype=jnp.int32))
    lengths = jnp.stack([real.sum(dtype=jnp.int32), real_labels.sum(dtype=jnp.int32)])
    return _NGrams(jnp.stack(matches), jnp.stack(totals), lengths)


def _without_padding(tokens: jax.Array, padding: int) -> tuple[jax.Array, jax.Array]:
    """Return the tokens [T] with padding at the end alone, and which are none."""
    real = tokens != padding
    order = jnp.argsort(~real, stable=True)
    return tokens[order], real[order]


def _score(sums: _NGrams) -> float:
    matches, totals, (length, wanted) = (np.asarray(leaf, np.float64) for leaf in sums)
    if not length and not wanted:
        return math.nan
    if not matches.all():
        return 0.0
    brevity = min(0.0, 1.0 - wanted / length)
    return 100.0 * math.exp(brevity + np.log(matches / totals).mean())


def _error_rate(
    name: str,
    unit: str,
    split: Callable[[str], Sequence[Hashable]],
    hypotheses: Sequence[str],
    references: Sequence[str],
) -> float:
    for argument, given in (("hypotheses", hypotheses), ("references", references)):
        if isinstance(given, str):
            raise InputError(f"{name}: {argument}={given[:50]!r} is one text; give a list of them")
    if len(hypotheses) != len(references):
        raise InputError(f"{name}: {len(hypotheses)} hypotheses for {len(references)} references; give one for each")
    wanted = [split(text) for text in references]
    length = sum(map(len, wanted))
    if not length:
        raise InputError(f"{name}: {len(references)} references without {unit}; give at least one that has some")
    return sum(_distance(split(text), want) for text, want in zip(hypotheses, wanted, strict=True)) / length


def _distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Return the edit distance on the host, row by row as ``_edits`` does."""
    numbers = {symbol: number for number, symbol in enumerate(dict.fromkeys([*a, *b]))}
    columns = np.array([numbers[symbol] for symbol in b], np.int64)
    ahead = np.arange(len(b) + 1)
    row = ahead
    for symbol in a:
        below = np.minimum(row[1:] + 1, row[:-1] + (columns != numbers[symbol]))
        row = ahead + np.minimum.accumulate(np.concatenate([row[:1] + 1, below]) - ahead)
    return int(row[-1])
