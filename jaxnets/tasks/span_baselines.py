"""What simple rules answer to questions about a text, to stand beside a network."""

import re
from collections.abc import Sequence

from jaxnets.data.passages import sentences_of
from jaxnets.data.spans import Asked

_WORD = re.compile(r"\w+")
_MOST_WORDS = 5  # of an answer that is looked for


def baselines(train: Sequence[Asked], asked: Sequence[Asked]) -> dict[str, list[str]]:
    """Return the answers of two rules: the sentence most like the question, and what is mentioned last.

    Args:
        train: questions, whose answers are looked for in the texts.
        asked: questions that are answered.

    Returns:
        "likest_sentence": the sentence that shares most words with the question, the last of several;
        "last_mentioned": the answer to a training question that stands last in the text.
    """
    answers = {_key(answer.text) for one in train for answer in one.answers}
    answers = {words for words in answers if 0 < len(words) <= _MOST_WORDS}
    return {
        "likest_sentence": [_likest(one) for one in asked],
        "last_mentioned": [_last(one.context, answers) for one in asked],
    }


def _key(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def _likest(asked: Asked) -> str:
    wanted = set(_key(asked.text))
    return max(reversed(sentences_of(asked.context) or [""]), key=lambda sentence: len(wanted & {*_key(sentence)}))


def _last(context: str, answers: set[tuple[str, ...]]) -> str:
    """Return the longest of the answers that end with the last word with which one does; "" if none does."""
    words = list(_WORD.finditer(context))
    lowered = [word[0].lower() for word in words]
    for end in range(len(words), 0, -1):
        for begin in range(max(0, end - _MOST_WORDS), end):
            if tuple(lowered[begin:end]) in answers:
                return context[words[begin].start() : words[end - 1].end()]
    return ""
