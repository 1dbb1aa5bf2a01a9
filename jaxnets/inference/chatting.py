"""Chatting: replies token by token, from keys and values of the conversation that are kept."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxnets.data.conversations import Template
from jaxnets.errors import InputError, check_whole
from jaxnets.inference.generation import Draw, categorical
from jaxnets.models import Continued
from jaxnets.network import Key, PyTree

_PIECE = 32  # tokens that are read at once; the rest one by one, so that two programs serve all lengths


class Chatter(NamedTuple):
    """A model that chats.

    Attributes:
        predict: ``predict(state, Continued(tokens, carry)) -> (logits, carry)``, as a learner's or a network's.
        state: its weights.
        template: how conversations become tokens.
        context: the most tokens that it sees.
    """

    predict: Callable[[Any, Any], Any]
    state: PyTree
    template: Template
    context: int


class Conversation(NamedTuple):
    """What was said, as tokens, and what is remembered of it.

    Attributes:
        system: the tokens of the first message.
        turns: those of each message with its reply.
        known: how many of all these, from the beginning, are in ``carry``.
        carry: what the model remembers of them.
        forgotten: turns that had no room any more.
        cut: whether the last reply ended at its length, and at no stop token.
    """

    system: tuple[int, ...]
    turns: tuple[tuple[int, ...], ...] = ()
    known: int = 0
    carry: Any = None
    forgotten: int = 0
    cut: bool = False


def begin(model: Chatter, system: str | None = None) -> Conversation:
    """Return a conversation in which nothing was said yet, but by the system: this, or the template's own message."""
    return Conversation(tuple(model.template.first(system)))


def reply(
    model: Chatter,
    conversation: Conversation,
    message: str,
    *,
    length: int = 512,
    draw: Draw | None = None,
    key: Key | None = None,
) -> Generator[int, None, Conversation]:
    """Yield the tokens of the reply to a message, as they are drawn; then return the conversation with both.

    Only what is new is computed: all else is remembered. Where the context has no room left, the oldest turns are
    forgotten, and what is left is read anew. The conversation that is given must not be used again.

    Args:
        model: that chats.
        conversation: so far.
        message: of the user.
        length: the most tokens of a reply; what is drawn ends before a stop token.
        draw: as ``generate`` takes it; the likeliest token if absent.
        key: of the draws.

    Raises:
        InputError: if the message is empty, or has no room in the context.
    """
    check_whole("length", length)
    if not message.strip():
        raise InputError("the message is empty; say something")
    asked = tuple(model.template.asked(message))
    conversation = _with_room(model, conversation, asked, length)
    before = (*conversation.system, *(token for turn in conversation.turns for token in turn), *asked)
    length = min(length, model.context - len(before))
    draw = draw or categorical(0)
    draw, key = draw if isinstance(draw, Partial) else Partial(draw), jax.random.key(0) if key is None else key
    carry = _empty(model) if conversation.carry is None else conversation.carry
    outputs, carry = _read(model, before[conversation.known :], carry)
    known, said = len(before), []
    while True:
        token = int(_drawn(draw, jax.random.fold_in(key, known), outputs))
        if token in model.template.stops:
            break
        said.append(token)
        yield token
        if len(said) == length:
            break
        outputs, carry = _read(model, [token], carry)
        known += 1
    turn = (*asked, *said, *model.template.closing)
    cut = len(said) == length
    return conversation._replace(turns=(*conversation.turns, turn), known=known, carry=carry, cut=cut)


def _with_room(model: Chatter, conversation: Conversation, asked: Sequence[int], length: int) -> Conversation:
    """Return the conversation without the oldest turns that leave no room for a message and a reply of some length."""
    least = len(conversation.system) + len(asked)
    if least >= model.context:
        raise InputError(
            f"the message has {least} tokens with what stands before it, and the context has {model.context}; say it "
            "shorter, or use a larger --context"
        )
    turns = list(conversation.turns)
    while turns and least + sum(map(len, turns)) + length > model.context:
        del turns[0]
    dropped = len(conversation.turns) - len(turns)
    if not dropped:
        return conversation
    return Conversation(conversation.system, tuple(turns), forgotten=conversation.forgotten + dropped)


def _read(model: Chatter, tokens: Sequence[int], carry: Any) -> tuple[jax.Array, Any]:
    """Return the logits of what comes after the tokens, [1, V], and what is remembered with them."""
    given, start = np.asarray(tokens, np.int32)[None], 0
    outputs: Any = None
    while start < len(tokens):
        size = _PIECE if len(tokens) - start >= _PIECE else 1
        outputs, carry = _extended(model.predict, model.state, given[:, start : start + size], carry)
        start += size
    return outputs, carry


def _empty(model: Chatter) -> Any:
    """Return what is remembered of nothing."""
    one = jax.ShapeDtypeStruct((1, 1), np.int32)
    _, carry = jax.eval_shape(lambda state, token: model.predict(state, Continued(token)), model.state, one)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), carry)


@partial(jax.jit, static_argnums=0, donate_argnums=3)
def _extended(predict: Any, state: PyTree, tokens: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
    outputs, carry = predict(state, Continued(tokens, carry))
    return outputs[:, -1], carry


@jax.jit
def _drawn(draw: Any, key: Key, outputs: jax.Array) -> jax.Array:
    return draw(key, outputs)[0]
