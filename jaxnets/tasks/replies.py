"""Replies: what a model that chats says to messages, token by token or whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax

from jaxnets.data import Splits
from jaxnets.data.conversations import Template
from jaxnets.data.dialogues import Dialogue
from jaxnets.errors import InputError, check_field
from jaxnets.inference.chatting import Chatter, Conversation, begin, reply
from jaxnets.inference.generation import categorical
from jaxnets.learner import TrainState
from jaxnets.network import Network
from jaxnets.options import GenerateOptions
from jaxnets.tasks.task import Examples, Finished, Generated, Row, Task, Trained, one_row_each
from jaxnets.transforms.averaged import in_use
from jaxnets.transforms.lora import merged

_LENGTH = 128  # tokens of a reply, where none are told
_HELD_OUT = 25  # conversations that are replied to in the end
_SHORT = 48  # tokens of a reply to these


@dataclass(frozen=True)
class ReplyOptions:
    """How messages are replied to; the likeliest token is taken each time."""

    system: str | None = None
    """what the model is told first; what its template says if absent, "" for nothing"""
    most_tokens: int = _LENGTH
    """the most tokens of a reply"""

    def __post_init__(self) -> None:
        """Check the range."""
        check_field(self, "most_tokens", 1 <= self.most_tokens < 2**24, "1 or more")


def replies(
    template: Template,
    making: Callable[[int], Network],
    context: int,
    held_out: Callable[[], Sequence[Dialogue]],
) -> Task:
    """Return the task of a model that chats.

    Args:
        template: how conversations become tokens.
        making: ``making(context)``: the network, without adapters, with room for so many tokens.
        context: tokens of a conversation that it was trained on; messages here have room for as many, and a reply.
        held_out: returns conversations whose last replies are compared with the model's in the end.
    """

    @cache
    def predicting(room: int) -> Callable[[Any, Any], Any]:
        model = making(room)

        def predict(state: Any, inputs: Any) -> Any:
            params, model_state = state
            return model.apply(params, model_state, inputs)[0]

        return predict

    def chatter(state: TrainState, room: int) -> Chatter:
        return Chatter(predicting(room), jax.device_put(plain(state)), template, room)

    def read(given: Sequence[str], options: ReplyOptions) -> Examples:
        if not given:
            raise InputError("nothing is given; give messages, each the first of a conversation")
        if empty := [number for number, text in enumerate(given, start=1) if not text.strip()]:
            raise InputError(f"message {empty[0]} is empty; say something")
        return Examples([{"message": text} for text in given], (given, options))

    def predict(trained: Trained, examples: Examples) -> list[list[int]]:
        messages, options = examples.inputs
        model = chatter(trained.first, context + options.most_tokens)
        first = begin(model, options.system)
        return [list(reply(model, first, message, length=options.most_tokens)) for message in messages]

    def rows(examples: Examples, made: list[list[int]]) -> Sequence[Row]:
        return one_row_each(examples, [{"reply": template.told(tokens), "tokens": len(tokens)} for tokens in made])

    def draw(trained: Trained, options: GenerateOptions) -> Generated:
        length = options.length or _LENGTH
        model = chatter(trained.first, context + length)
        how = categorical(options.temperature, top_k=options.top_k, top_p=options.top_p)
        if not options.prompt.strip():
            raise InputError(f"prompt={options.prompt!r} says nothing; give a message: --prompt TEXT")
        drawing = reply(model, begin(model), options.prompt, length=length, draw=how, key=jax.random.key(options.seed))
        text, files = template.told(list(drawing)), options.files(".txt")
        for file in files:
            file.write_text(text, encoding="utf-8")
        return Generated(text, files)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Reply to held-out conversations, and say how many replies are word for word those that were meant."""
        chosen = list(held_out())[:_HELD_OUT]
        if not chosen:
            return Finished()
        same = []
        for number, state in enumerate(trained.states):
            model = chatter(state, context + _SHORT)
            said = [template.told(list(last_reply(model, dialogue))) for dialogue in chosen]
            same.append(
                sum(text.strip() == one.messages[-1].content.strip() for text, one in zip(said, chosen, strict=True))
            )
            if number == 0:
                told = "".join(
                    f"user   {one.messages[-2].content}\nmodel  {text}\nmeant  {one.messages[-1].content}\n\n"
                    for text, one in zip(said, chosen, strict=True)
                )
                (folder / "replies.txt").write_text(told, encoding="utf-8")
        name = f"{'validation' if splits.test is None else 'test'}/same_replies"
        return Finished({name: [count / len(chosen) for count in same]}, {}, {name: f"word for word, of {len(chosen)}"})

    options = ReplyOptions()
    return Task(read=read, predict=predict, rows=rows, options=options, generate=draw, finish=finish, chatter=chatter)


def plain(state: TrainState) -> tuple[Any, Any]:
    """Return params and model state that the network without adapters takes: averages if there are any, and merged."""
    state = in_use(state)
    if set(state.params) == {"base", "lora"}:
        return jax.jit(merged)(state.params, state.model_state)
    return state.params, state.model_state


def last_reply(model: Chatter, dialogue: Dialogue) -> Any:
    """Yield the tokens of a reply to a conversation's last message, after all that was said before it."""
    messages = dialogue.messages
    system = messages[0].content if messages[0].role == "system" else None
    said = messages[system is not None :]
    turns = [
        (*model.template.asked(asked.content), *model.template.text(told.content), *model.template.closing)
        for asked, told in zip(said[:-2:2], said[1:-2:2], strict=True)
    ]
    before = Conversation(begin(model, system).system, tuple(turns))
    return reply(model, before, said[-2].content, length=_SHORT)
