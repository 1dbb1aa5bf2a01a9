"""What fine-tuning changes in replies: the held-out questions of `one-word`, before and after.

    jaxnets train chat --out runs/chat
    python -m benchmarks.replies runs/chat

Replies are greedy. "In the form" are those of one word in capitals, "right" those in which the answer is a word,
however it is written.
"""

import argparse
import re

from jaxnets.commands.chat import chatter
from jaxnets.data import load
from jaxnets.data.dialogues import Dialogue
from jaxnets.inference.chatting import Chatter, begin, reply

_LENGTH = 24  # tokens of a reply


def main() -> None:
    """Print the replies, and the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a run of chat")
    run, questions = parser.parse_args().run, load("one-word")["test"]
    said = {name: replies(chatter(name, None, 256), questions) for name in ("smollm2-135m", run)}
    for one, *told in zip(questions, *said.values(), strict=True):
        print(f"{one.messages[0].content:<44}" + " | ".join(f"{text!r}" for text in told))
    for name, texts in said.items():
        formed = sum(bool(re.fullmatch(r"[A-Z]+", text)) for text in texts)
        right = [is_right(text, one) for text, one in zip(texts, questions, strict=True)]
        both = sum(text == one.messages[-1].content for text, one in zip(texts, questions, strict=True))
        print(f"{name}: of {len(questions)}, {formed} in the form, {sum(right)} right, {both} both")


def replies(model: Chatter, questions: list[Dialogue]) -> list[str]:
    """Return the reply to each question, in a conversation of its own."""
    drawn = (reply(model, begin(model), one.messages[0].content, length=_LENGTH) for one in questions)
    return [model.template.told(list(tokens)) for tokens in drawn]


def is_right(text: str, question: Dialogue) -> bool:
    """Return whether the answer is one of a reply's words."""
    return question.messages[-1].content in re.findall(r"[A-Z]+", text.upper())


if __name__ == "__main__":
    main()
