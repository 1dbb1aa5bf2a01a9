"""Metrics of answers that are spans of a text: of positions in the loop, and of words, as SQuAD scores them."""

import re
import string
from collections import Counter
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxnets.errors import InputError
from jaxnets.metrics.metric import Mean, Metric, divide, mean_of

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _spans(outputs: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the likeliest first and last positions, and the true ones, [B, 2] each."""
    if outputs.ndim != 3 or outputs.shape[:2] != labels.shape or labels.shape[1] != 2:
        raise InputError(f"spans are [B, 2] and their logits [B, 2, T], not {labels.shape} and {outputs.shape}")
    return outputs.argmax(-1), labels


def _exact(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> Mean:
    found, true = _spans(outputs, labels)
    return mean_of((found == true).all(-1).astype(jnp.float32), weights)


def _overlap(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> Mean:
    found, true = _spans(outputs, labels)
    shared = jnp.minimum(found[:, 1], true[:, 1]) - jnp.maximum(found[:, 0], true[:, 0]) + 1
    lengths = jnp.maximum(found[:, 1] - found[:, 0] + 1, 0) + (true[:, 1] - true[:, 0] + 1)
    return mean_of(2 * jnp.maximum(shared, 0).astype(jnp.float32) / lengths.astype(jnp.float32), weights)


span_accuracy = Metric(_exact, divide, "higher")
"""The share of rows whose likeliest first and last position, of logits [B, 2, T], are both those of labels [B, 2]."""

span_f1 = Metric(_overlap, divide, "higher")
"""The mean F1 of the positions between the likeliest first and last and those between the true ones."""


def normalized_answer(text: str) -> str:
    """Return the text lower-cased, without punctuation, articles (a, an, the) and surplus spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def answer_exact_match(given: str, answers: Sequence[str]) -> float:
    """Return 1 if an answer is one of the true ones, both normalised, else 0 (Rajpurkar et al., 2016 and 2018).

    Args:
        given: the answer; "" for none.
        answers: the true ones; none where there is no answer.
    """
    return float(normalized_answer(given) in _true(answers))


def answer_f1(given: str, answers: Sequence[str]) -> float:
    """Return the F1 of an answer's words and a true one's, normalised, at its best over the true ones, 0 to 1.

    Where one of the two is empty, both must be (Rajpurkar et al., 2018).

    Args:
        given: the answer; "" for none.
        answers: the true ones; none where there is no answer.
    """
    words = normalized_answer(given).split()
    return max(_f1(words, true.split()) for true in _true(answers))


def _true(answers: Sequence[str]) -> list[str]:
    return [text for text in map(normalized_answer, answers) if text] or [""]


def _f1(given: Sequence[str], true: Sequence[str]) -> float:
    if not given or not true:
        return float(given == true)
    shared = sum((Counter(given) & Counter(true)).values())
    return 2 * shared / (len(given) + len(true))
