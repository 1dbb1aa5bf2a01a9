"""Generation: sequences drawn from a learner element by element, or searched for, in one compiled loop."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.tree_util import Partial

from jaxnets.errors import InputError, check_callable, check_number, check_whole, short
from jaxnets.inference.beams import Found, penalty, search
from jaxnets.learner import Learner, TrainState, check_key, check_learner, check_state
from jaxnets.memory import check_fits
from jaxnets.models import Continued, SourceTarget
from jaxnets.network import Key

Draw = Callable[[Key, jax.Array], jax.Array]
Predict = Callable[[TrainState, Any], Any]


def generate(
    learner: Learner,
    state: TrainState,
    prompt: jax.Array | SourceTarget,
    length: int,
    key: Key,
    draw: Draw | None = None,
) -> jax.Array:
    """Return what follows the prompts, [B, P, ...] -> [B, length, ...].

    Args:
        learner: an ``autoregressive`` one, whose model takes and returns a state (``Continued``).
        state: its weights.
        prompt: what the sequences begin with, at least one element, or, for an encoder-decoder, sources and what the
            targets begin with.
        length: elements to draw.
        key: of the draws.
        draw: ``draw(key, outputs) -> element``: the next elements, given the outputs [B, ...] for them;
            ``categorical()`` if absent.

    Raises:
        InputError: if the prompt is empty or the length is not positive.
    """
    prompt = _as_prompt(prompt)
    _check_prompt(learner, state, prompt, length)
    check_key(key)
    draw = draw or categorical()
    check_callable("draw", draw, "give one of draw(key, outputs), such as generation.categorical(0.8)")
    draw = draw if isinstance(draw, Partial) else Partial(draw)  # a pytree: its numbers are arguments of the program
    return _generated(learner.predict, length, draw, state, prompt, key)


@partial(jax.jit, static_argnums=(0, 1))
def _generated(predict: Predict, length: int, draw: Draw, state: TrainState, prompt: Any, key: Key) -> jax.Array:
    outputs, carry = predict(state, Continued(prompt))

    def step(last: tuple, i: jax.Array) -> tuple[tuple, jax.Array]:
        outputs, carry = last
        element = draw(jax.random.fold_in(key, i), outputs).astype(_written(prompt).dtype)
        outputs, carry = predict(state, Continued(element[:, None], carry))
        return (outputs[:, -1], carry), element

    _, elements = lax.scan(step, (outputs[:, -1], carry), jnp.arange(length))
    return jnp.swapaxes(elements, 0, 1)


def beam_search(
    learner: Learner,
    state: TrainState,
    prompt: jax.Array | SourceTarget,
    length: int,
    *,
    end: int,
    num_beams: int = 4,
    length_penalty: float = 0.6,
) -> Found:
    """Return the likeliest sequences of tokens that follow the prompts, as far as a beam search finds them.

    At each step the ``num_beams`` likeliest unfinished sequences are gone on with; finished ones are kept by
    ``log p / ((5 + n) / 6) ** length_penalty``, n their tokens (Wu et al., 2016). The search ends when nothing that is
    unfinished can be better. Where nothing has finished, the best unfinished is returned.

    Args:
        learner: an ``autoregressive`` one, whose model takes and returns a state (``Continued``).
        state: its weights.
        prompt: as ``generate``'s.
        length: the most tokens that may follow.
        end: the token that finishes a sequence.
        num_beams: K; 1, with no length penalty, is greedy.
        length_penalty: 0 is none, which favours short sequences.
    """
    prompt = _as_prompt(prompt)
    check_whole("end", end, 0, remedy="the token that finishes a sequence")
    check_whole("num_beams", num_beams)
    check_number("length_penalty", length_penalty, 0, float("inf"), "0 (none) or more")
    size = _check_prompt(learner, state, prompt, length, num_beams)
    if end >= size:
        raise InputError(f"{end=} is no token of 0..{size - 1}")
    return _searched(learner.predict, length, num_beams, state, prompt, end, length_penalty)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _searched(
    predict: Predict, length: int, num_beams: int, state: TrainState, prompt: Any, end: int, length_penalty: float
) -> Found:
    outputs, carry = predict(state, Continued(prompt))
    longest = penalty(length, length_penalty)
    return search(
        lambda tokens, carry: predict(state, Continued(tokens, carry)),
        outputs[:, -1],
        carry,
        length,
        end=end,
        num_beams=num_beams,
        dtype=_written(prompt).dtype,
        penalty=partial(penalty, length_penalty=length_penalty),
        reachable=lambda score, count: score / longest,  # a score is below 0: the longest loses least
    )


def _as_prompt(prompt: Any) -> Any:
    """Return the prompt as arrays.

    Raises:
        InputError: if it is no array of numbers, such as sequences of unlike lengths.
    """
    if isinstance(prompt, SourceTarget):
        return SourceTarget(_as_prompt(prompt.source), _as_prompt(prompt.target))
    if isinstance(prompt, jax.Array):
        return prompt
    try:
        found = np.asarray(prompt)
    except ValueError as error:
        raise InputError(f"prompts of unlike lengths are no array; draw from each alone, [1, P]: {error}") from error
    if found.dtype.kind not in "biuf":
        raise InputError(f"prompt={short(prompt)} is {found.dtype}, not numbers; give tokens [B, P], or numbers")
    return jnp.asarray(found)


def _written(prompt: jax.Array | SourceTarget) -> jax.Array:
    return prompt.target if isinstance(prompt, SourceTarget) else prompt


def _check_prompt(
    learner: Learner, state: TrainState, prompt: jax.Array | SourceTarget, length: int, num_beams: int = 1
) -> int:
    """Check what is to be continued, tokens too, and return how many outputs each element has."""
    check_learner(learner)
    check_whole("length", length, most=2**63, remedy="elements to draw")
    shape, itemsize = _written(prompt).shape, _written(prompt).dtype.itemsize
    if len(shape) < 2 or min(shape[:2]) < 1:
        raise InputError(f"a prompt of shape {shape} and {length=}: give [B, P, ...] and 1 or more of each")
    size = 2 * shape[0] * num_beams * math.prod(shape[2:]) * length * itemsize  # as drawn, and in order
    check_fits(f"{length=}", size, "draw less at a time, from fewer prompts")
    check_whole("length", length)
    check_state(learner, state)
    size = int(_num_outputs(learner.predict, state, prompt))
    for part in jax.tree.leaves(prompt):
        if part.ndim == 2 and not isinstance(part, Tracer):
            low, high = int(part.min()), int(part.max())
            if low < 0 or high >= size:
                raise InputError(f"the prompt's tokens range from {low} to {high}, outside 0..{size - 1}")
    return size


@partial(jax.jit, static_argnums=0)
def _num_outputs(predict: Predict, state: TrainState, prompt: Any) -> jax.Array:
    return jnp.int32(predict(state, Continued(prompt))[0].shape[-1])


def categorical(temperature: float = 1.0, *, top_k: int | None = None, top_p: float = 1.0) -> Draw:
    """Return the draw of one token from logits [B, V] divided by ``temperature``; 0 takes the likeliest.

    Args:
        temperature: below 1 likelier and duller.
        top_k: draw from so many of the likeliest tokens only; of equal ones the first.
        top_p: draw from the fewest tokens, the likeliest first, that have this probability together (nucleus sampling,
            Holtzman et al., 2020).
    """
    _check_temperature(temperature)
    if top_k is not None:
        check_whole("top_k", top_k, remedy="of the likeliest tokens, or None")
    check_number("top_p", top_p, 0, math.nextafter(1, 2), "in (0, 1]", low_too=False)
    if temperature == 0:
        return _likeliest
    return Partial(_categorical(top_k, top_p < 1), temperature, top_p)


def bernoulli(temperature: float = 1.0) -> Draw:
    """Return the draw of independent binary values from logits [B, D] over ``temperature``; 0 takes the likelier."""
    _check_temperature(temperature)
    if temperature == 0:
        return _likelier
    return Partial(_bernoulli, temperature)


@cache
def _categorical(top_k: int | None, nucleus: bool) -> Callable[..., jax.Array]:
    """Return a draw of ``(temperature, top_p, key, logits)``, the same for the same arguments: so it compiles once."""

    def draw(temperature: float, top_p: float, key: Key, logits: jax.Array) -> jax.Array:
        logits = (logits - logits.max(-1, keepdims=True)) / temperature
        if top_k is not None:
            _, likeliest = lax.top_k(logits, min(top_k, logits.shape[-1]))
            logits = _only(logits, likeliest, jnp.ones(likeliest.shape, bool))
        if nucleus:
            order = jnp.argsort(-logits, -1)
            share = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
            before = jnp.cumsum(share, -1) - share  # of likelier tokens
            logits = _only(logits, order, before < top_p)
        return jax.random.categorical(key, logits)

    return draw


def _only(logits: jax.Array, tokens: jax.Array, kept: jax.Array) -> jax.Array:
    """Return the logits [B, V] of those tokens [B, K] that are kept [B, K], -inf for all others."""
    chosen = jnp.put_along_axis(jnp.zeros(logits.shape, bool), tokens, kept, -1, inplace=False)
    return jnp.where(chosen, logits, -jnp.inf)


def _bernoulli(temperature: float, key: Key, logits: jax.Array) -> jax.Array:
    return jax.random.bernoulli(key, jax.nn.sigmoid(logits / temperature))


def _likeliest(key: Key, logits: jax.Array) -> jax.Array:
    return jnp.argmax(logits, -1)


def _likelier(key: Key, logits: jax.Array) -> jax.Array:
    return logits > 0


def _check_temperature(temperature: float) -> None:
    wanted = "0 (always the likeliest) or more; 1 draws as the model was trained"
    check_number("temperature", temperature, 0, float("inf"), wanted)
