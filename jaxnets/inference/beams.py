"""The search for the likeliest sequences, several at a time, inside a compiled loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.models import Seen
from jaxnets.network import PyTree

Step = Callable[[jax.Array, PyTree], tuple[jax.Array, PyTree]]
Rules = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class Found(NamedTuple):
    """What a beam search found, the best first.

    Attributes:
        tokens: [B, K, length], filled up with the end's.
        scores: their log-probabilities over the length penalty, [B, K].
    """

    tokens: jax.Array
    scores: jax.Array


class _Search(NamedTuple):
    """Sequences of a beam search: ``live`` ones go on, ``done`` ones have ended, whose scores are penalised."""

    step: jax.Array
    live: jax.Array  # [B, K, length]
    live_scores: jax.Array
    done: jax.Array  # [B, K, length]
    done_scores: jax.Array
    outputs: jax.Array  # logits of the live ones' next tokens, [B, K, V]
    carry: PyTree


def penalty(count: jax.Array | int, length_penalty: float) -> Any:
    """Return by what the log-probability of ``count`` tokens is divided (Wu et al., 2016)."""
    return ((5.0 + count) / 6.0) ** length_penalty


def search(
    step: Step,
    outputs: jax.Array,
    carry: PyTree,
    length: int,
    *,
    end: Any,
    num_beams: int,
    dtype: Any,
    penalty: Callable[[Any], Any],
    reachable: Callable[[jax.Array, Any], jax.Array],
    rules: Rules | None = None,
) -> Found:
    """Return the likeliest sequences that follow a prompt, as far as a beam search finds them; to be traced.

    At each step the ``num_beams`` likeliest unfinished sequences are gone on with. The search ends when nothing that is
    unfinished can be better. Where nothing has finished, the best unfinished is returned.

    Args:
        step: ``step(tokens, carry) -> (outputs, carry)``: the logits [B K, 1, V] after one more token [B K, 1].
        outputs: logits of the first tokens, [B, V].
        carry: what is remembered of the prompt, as ``step`` takes it, of B sequences.
        length: the most tokens.
        end: the token that finishes a sequence.
        num_beams: K.
        dtype: of the tokens.
        penalty: ``penalty(count)``, by which the log-probability of a sequence of so many tokens is divided.
        reachable: ``reachable(score, count)``, the best that an unfinished sequence of this log-probability and so many
            tokens may come to.
        rules: ``rules(written, count, logits)``: the logits [B, K, V] with -inf for what may not follow the first
            ``count`` tokens of those written, [B, K, length].
    """
    batch = outputs.shape[0]

    def beams(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.repeat(leaf, num_beams, 0) if leaf.ndim else leaf, tree)

    def unsettled(search: _Search) -> jax.Array:
        best = reachable(search.live_scores.max(-1), search.step)
        return (search.step < length) & (search.done_scores.min(-1) < best).any()

    def advance(search: _Search) -> _Search:
        logits = search.outputs if rules is None else rules(search.live, search.step, search.outputs)
        logs = search.live_scores[..., None] + jax.nn.log_softmax(logits)  # [B, K, V]
        # Twice as many as there are beams: however many of these end, as many beams go on.
        scores, places = lax.top_k(logs.reshape(batch, -1), min(2 * num_beams, logs[0].size))
        parents, tokens = places // logs.shape[-1], (places % logs.shape[-1]).astype(dtype)
        grown = _rows(search.live, parents).at[:, :, search.step].set(tokens)
        ends = tokens == end
        kept = ends & (jnp.arange(tokens.shape[1]) < num_beams)  # of what ends, too, only as many as there are beams
        done, done_scores = _best(
            num_beams,
            jnp.concatenate([search.done, grown], 1),
            jnp.concatenate([search.done_scores, jnp.where(kept, scores / penalty(search.step + 1), -jnp.inf)], 1),
        )
        live_scores, rows = lax.top_k(jnp.where(ends, -jnp.inf, scores), num_beams)
        live, parents = _rows(grown, rows), _rows(parents, rows)
        flat = (parents + num_beams * jnp.arange(batch)[:, None]).reshape(-1)
        carry = _reordered(search.carry, flat)
        newest = lax.dynamic_index_in_dim(live, search.step, 2).reshape(-1, 1)
        outputs, carry = step(newest, carry)
        outputs = outputs[:, -1].reshape(batch, num_beams, -1)
        return _Search(search.step + 1, live, live_scores, done, done_scores, outputs, carry)

    empty = jnp.full((batch, num_beams, length), end, dtype)
    nothing = jnp.full((batch, num_beams), -jnp.inf)
    outputs = beams(outputs).reshape(batch, num_beams, -1)
    start = _Search(jnp.int32(0), empty, nothing.at[:, 0].set(0.0), empty, nothing, outputs, beams(carry))
    found = lax.while_loop(unsettled, advance, start)
    ended = jnp.isfinite(found.done_scores).any(-1)[:, None]
    tokens = jnp.where(ended[..., None], found.done, found.live)
    return Found(tokens, jnp.where(ended, found.done_scores, found.live_scores / penalty(length)))


def _reordered(carry: PyTree, rows: jax.Array) -> PyTree:
    """Return these rows of a state; what a source is remembered by is the same for all of its beams, and stays."""
    moved = jax.tree.map(lambda leaf: leaf[rows] if leaf.ndim else leaf, carry)
    return moved._replace(memory=carry.memory) if isinstance(carry, Seen) else moved


def _rows(array: jax.Array, rows: jax.Array) -> jax.Array:
    """Return rows [B, M] of each example, [B, K, ...] -> [B, M, ...]."""
    return jax.vmap(lambda one, rows: one[rows])(array, rows)


def _best(number: int, sequences: jax.Array, scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the sequences [B, K, ...] of the highest scores [B, K], the best first, and these."""
    scores, rows = lax.top_k(scores, number)
    return _rows(sequences, rows), scores
