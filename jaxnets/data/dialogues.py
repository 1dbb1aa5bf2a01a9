"""Conversations of one's own: JSONL files, a conversation a line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data.conversations import Template
from jaxnets.data.images import SPLITS
from jaxnets.data.tokens import lines
from jaxnets.data.unpacking import parse_json
from jaxnets.errors import InputError, nearest, short
from jaxnets.memory import check_fits

ROLES = ("system", "user", "assistant")
_PARTS = SPLITS | {"dev": "validation"}
_FORMS = {"messages": ("role", "content"), "conversations": ("from", "value")}  # what a message's fields are called
_NAMES = {"human": "user", "gpt": "assistant"}  # in the second form
_FORM = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'


class Message(NamedTuple):
    """What was said: the role is "system", "user" or "assistant"."""

    role: str
    content: str


class Dialogue(NamedTuple):
    """A conversation: what the system says first, or nothing, then messages of a user, each with its reply.

    Attributes:
        messages: in their order.
        place: the file and line, for errors.
    """

    messages: tuple[Message, ...]
    place: str


class Encoded(NamedTuple):
    """Conversations as tokens, N of them.

    Attributes:
        tokens: int32 [N, T], filled up with the template's padding.
        counts: float32 [N, T], 1 where a token is of a reply, or ends one.
        lengths: int32 [N], tokens of each.
        cut: how many lost their ends.
    """

    tokens: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray
    cut: int


def read_dialogues(path: Path) -> list[Dialogue]:
    """Return the conversations of a JSONL file, gzipped or not: ``{"messages": [{"role", "content"}, ...]}`` a line.

    ``{"conversations": [{"from": "human" | "gpt" | "system", "value"}, ...]}`` says the same.

    Raises:
        InputError: if a line is no JSON of this form, a role is unknown or none that may follow, there is nothing in a
            message, or a message of a user has no reply; it names the line, and the message.
    """
    found = []
    for number, line in enumerate(lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path}: line {number}"
        try:
            row = parse_json(line)
        except ValueError as error:
            raise InputError(f"{place} is no JSON: {error}; each line is {_FORM}") from error
        found.append(Dialogue(_messages(place, row), place))
    if not found:
        raise InputError(f"{path}: holds no conversations; each line is {_FORM}")
    return found


def dialogue_parts(path: Path) -> dict[str, list[Dialogue]]:
    """Return the conversations of a file, as "train", or of a folder's train.jsonl, dev.jsonl and test.jsonl, by part.

    Raises:
        InputError: as ``read_dialogues``, or if a folder has no train.jsonl.
    """
    if not path.is_dir():
        return {"train": read_dialogues(path)}
    files = {_PARTS[file.stem]: file for file in sorted(path.glob("*.jsonl")) if file.stem in _PARTS}
    if "train" not in files:
        raise InputError(f"{path}: holds no train.jsonl; name a file, or put train.jsonl there, and dev.jsonl beside")
    return {part: read_dialogues(file) for part, file in files.items()}


def encode_dialogues(dialogues: Sequence[Dialogue], template: Template, most: int) -> Encoded:
    """Return conversations as tokens by a chat template, as those are that a model talks in.

    Args:
        dialogues: one or more.
        template: of the model.
        most: tokens of a conversation; a longer one ends with the last reply that has room as a whole.

    Raises:
        InputError: if the first reply of a conversation has no room.
    """
    found, cut = [], 0
    for dialogue in dialogues:
        tokens, counts = template.counted(dialogue.messages)
        ends = [at for at in range(1, len(counts) + 1) if counts[at - 1] > (counts[at] if at < len(counts) else 0)]
        kept = [end for end in ends if end <= most]
        if not kept:
            raise InputError(
                f"{dialogue.place}: its first reply ends at token {ends[0]}, and context={most}; use --context "
                f"{ends[0]} or more, as far as the model's context goes, or leave the conversation out"
            )
        cut += kept[-1] < ends[-1]
        found.append((tokens[: kept[-1]], counts[: kept[-1]]))
    longest = max(len(tokens) for tokens, _ in found)
    check_fits(f"{len(found):,} conversations of up to {longest:,} tokens", 8 * len(found) * longest, "give fewer")
    rows = np.full((len(found), longest), template.padding, np.int32)
    mask = np.zeros((len(found), longest), np.float32)
    for row, counted, (tokens, counts) in zip(rows, mask, found, strict=True):
        row[: len(tokens)], counted[: len(tokens)] = tokens, counts
    return Encoded(rows, mask, np.array([len(tokens) for tokens, _ in found], np.int32), cut)


def _messages(place: str, row: Any) -> tuple[Message, ...]:
    """Return a conversation's messages, checked."""
    form = next((form for form in _FORMS if isinstance(row, Mapping) and isinstance(row.get(form), list)), None)
    if form is None:
        held = f"has {', '.join(map(repr, list(row)[:5])) or 'nothing'}" if isinstance(row, Mapping) else short(row)
        raise InputError(f"{place} is no conversation ({held}); each line is {_FORM}")
    found: list[Message] = []
    for number, given in enumerate(row[form], start=1):
        message = _message(f"{place}, message {number}", given, *_FORMS[form])
        _check_order(f"{place}, message {number}", message.role, found)
        found.append(message)
    if not any(message.role == "assistant" for message in found):
        raise InputError(f"{place}: a conversation without a reply; give one of the role 'assistant', or leave it out")
    if found[-1].role == "user":
        raise InputError(f"{place}, message {len(found)}: a user's message without a reply; give one, or leave it out")
    return tuple(found)


def _message(place: str, given: Any, role: str, content: str) -> Message:
    if not isinstance(given, Mapping) or not {role, content} <= set(given):
        raise InputError(f"{place} is {short(given)}, not an object with {role!r} and {content!r}")
    said, text = given[role], given[content]
    said = _NAMES.get(said, said) if role == "from" and isinstance(said, str) else said
    if said not in ROLES:
        near = nearest(said, ROLES) if isinstance(said, str) else ""
        others = f" (or {' and '.join(_NAMES)})" if role == "from" else ""
        raise InputError(f"{place}: the role {short(said)} is none of {', '.join(ROLES)}{others}{near}")
    if not isinstance(text, str):
        raise InputError(f"{place}: its {content} is {short(text)}, not text")
    if not text.strip():
        raise InputError(f"{place}: its {content} is empty; give text, or leave the conversation out")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{place}: its {content} has half of a surrogate pair, which is no character") from None
    return Message(str(said), text)


def _check_order(place: str, role: str, before: Sequence[Message]) -> None:
    """Check that a role may follow: the system's only first, then a user's and an assistant's by turns."""
    last = before[-1].role if before else "nothing"
    if role == "system" and before:
        raise InputError(f"{place}: the role 'system' follows {last!r}; it may only stand first")
    wanted = "assistant" if last == "user" else "user"
    if role not in ("system", wanted):
        raise InputError(f"{place}: the role {role!r} follows {last!r}, where {wanted!r} belongs")
