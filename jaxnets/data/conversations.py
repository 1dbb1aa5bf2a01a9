"""Conversations as tokens, by the chat template that weights come with."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from jaxnets.data.subwords import library
from jaxnets.errors import InputError

# ``'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'``, as Jinja has it.
_CHATML = re.compile(
    r"""(['"])<\|im_start\|>\1\s*[+~]\s*message(?:\[['"]role['"]\]|\.role)\s*[+~]\s*(['"])(?:\\n|\n)\2\s*[+~]\s*"""
    r"""message(?:\[['"]content['"]\]|\.content)\s*[+~]\s*(['"])<\|im_end\|>"""
)
_SYSTEM = re.compile(r"<\|im_start\|>system(?:\\n|\n)((?:(?!<\|im_).)+)<\|im_end\|>", re.DOTALL)
_START, _END = "<|im_start|>", "<|im_end|>"


class Template(NamedTuple):
    """How a conversation becomes tokens: ``<|im_start|>ROLE``, its text and ``<|im_end|>``, a message a line (ChatML).

    Attributes:
        tokenizer: of the ``tokenizers`` library; text that spells a special token is text to it.
        start: the token that begins a message.
        end: the token that ends one.
        stops: tokens that end a reply.
        system: the first message, where none is given; "" for none.
        padding: a token that no text has, and that no conversation ends with, to fill up short ones.
    """

    tokenizer: Any
    start: int
    end: int
    stops: tuple[int, ...]
    system: str
    padding: int

    def message(self, role: str, content: str) -> list[int]:
        """Return the tokens of a message, with the end of its line."""
        return [self.start, *self.text(f"{role}\n{content}"), *self.closing]

    def first(self, system: str | None = None) -> list[int]:
        """Return what a conversation begins with: the message of the system, this or the usual one, or nothing."""
        content = self.system if system is None else system
        return self.message("system", content) if content else []

    def asked(self, content: str) -> list[int]:
        """Return the tokens of a user's message, and those with which a reply begins."""
        return [*self.message("user", content), self.start, *self.text("assistant\n")]

    def counted(self, messages: Sequence[tuple[str, str]]) -> tuple[list[int], list[int]]:
        """Return the tokens of a conversation, and 1 for each that is of a reply, or ends one, else 0.

        They are those of ``first`` and ``asked``, and of what a model says to it, with its end.

        Args:
            messages: (role, content), maybe of a "system", then of a "user" and an "assistant" by turns.
        """
        given = messages[0][1] if messages[0][0] == "system" else None
        tokens = self.first(given)
        counts = [0] * len(tokens)
        for role, content in messages[given is not None :]:
            said = self.asked(content) if role == "user" else [*self.text(content), *self.closing]
            reply = len(said) - len(self.closing) + 1 if role == "assistant" else 0
            tokens += said
            counts += [1] * reply + [0] * (len(said) - reply)
        return tokens, counts

    @property
    def closing(self) -> list[int]:
        """What ends a message."""
        return [self.end, *self.text("\n")]

    def text(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def told(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)


@lru_cache(maxsize=4)
def chat_template(template: str, tokenizer: str, name: str) -> Template:
    """Return how conversations become tokens, of a chat template in Jinja.

    A template is a program, and none is run that a file holds: those are read that say what ChatML says.

    Args:
        template: as a GGUF file or a tokenizer's config has it.
        tokenizer: JSON of the ``tokenizers`` library.
        name: of the weights, for errors.

    Raises:
        InputError: if there is no template, it is another than ChatML, or the tokenizer lacks its tokens.
    """
    if not template:
        raise InputError(f"{name}: has no chat template; it goes on with text, and does not chat")
    if not _CHATML.search(template):
        raise InputError(
            f"{name}: its chat template is none that is read, which is ChatML ({_START}ROLE, text, {_END}): "
            f"{template[:80]!r}"
        )
    read = library().Tokenizer.from_str(tokenizer)
    read.encode_special_tokens = True
    start, end, text_end = (read.token_to_id(token) for token in (_START, _END, "<|endoftext|>"))
    if start is None or end is None:
        raise InputError(f"{name}: its tokenizer has no {_START} and {_END}, which its chat template needs")
    system = _SYSTEM.search(template)
    stops = (end,) if text_end is None else (end, text_end)
    first = system[1].replace("\\n", "\n") if system else ""
    return Template(read, start, end, stops, first, start if text_end is None else text_end)
