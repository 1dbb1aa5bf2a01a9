"""Sentences that a user gives to a model of words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data import subwords, tokens
from jaxnets.errors import InputError, check_field
from jaxnets.tasks.task import Examples, Row, Task, Trained

_MOST_WORDS = 200  # of a text, from its beginning, that are left out in turn


@dataclass(frozen=True)
class WordOptions:
    """What is told of a prediction."""

    because: int = 0
    """so many words that speak most for the prediction: how much less likely it is without each (occlusion)"""

    def __post_init__(self) -> None:
        """Check the range."""
        check_field(self, "because", 0 <= self.because <= _MOST_WORDS, f"0 (none) to {_MOST_WORDS}")


class _Explained(NamedTuple):
    """What is predicted, and of which words it is told that they speak for it."""

    made: Any
    words: list[str] | None


def explained(task: Task) -> Task:
    """Return a task of texts that tells which words speak for its predictions, if that is asked for.

    Each word in turn is left out: what counts is by how much the probability of the likeliest class, or label, falls.

    Args:
        task: whose ``read`` names each text "sentence", and whose ``predict`` gives probabilities, [N, C].
    """

    def read(given: Sequence[str], options: WordOptions) -> Examples:
        found = task.read(given, task.options)
        return Examples(found.names, (found, options.because))

    def predict(trained: Trained, examples: Examples) -> _Explained:
        found, number = examples.inputs
        made = task.predict(trained, found)
        if not number:
            return _Explained(made, None)
        texts = [name["sentence"] for name in found.names]
        return _Explained(made, [_speaking(task, trained, *each, number) for each in zip(texts, made, strict=True)])

    def rows(examples: Examples, made: _Explained) -> Sequence[Row]:
        found = task.rows(examples.inputs[0], made.made)
        if made.words is None:
            return found
        return [row | {"because": words} for row, words in zip(found, made.words, strict=True)]

    def agreement(trained: Trained, examples: Examples) -> Sequence[Row]:
        assert task.agreement is not None
        return task.agreement(trained, examples.inputs[0])

    return replace(
        task,
        read=read,
        predict=predict,
        rows=rows,
        options=WordOptions(),
        agreement=None if task.agreement is None else agreement,
    )


def _speaking(task: Task, trained: Trained, text: str, made: np.ndarray, number: int) -> str:
    """Return the words without which the likeliest class is least likely, and by how much."""
    words = text.split()
    parts = [" ".join([*words[:i], *words[i + 1 :]]) for i in range(min(len(words), _MOST_WORDS))]
    kept = [i for i, part in enumerate(parts) if tokens.split_words(part)]
    if not kept:
        return ""
    without = task.predict(trained, task.read([parts[i] for i in kept], task.options))
    falls = made[made.argmax()] - without[:, made.argmax()]
    order = [int(i) for i in np.argsort(-falls, kind="stable")[:number] if falls[i] > 0]
    return ", ".join(f"{words[kept[i]]} ({falls[i]:+.3f})" for i in order)


def reading_sentences(vocabulary: Sequence[str], max_words: int) -> Callable[[Sequence[str], Any], Examples]:
    """Return a ``read`` of sentences as words' numbers; what names a file stands for the file's lines.

    Words that the vocabulary lacks stand beside each sentence.
    """

    def read(given: Sequence[str], options: Any) -> Examples:
        sentences, known = _sentences(given), set(vocabulary)
        names = [
            {
                "sentence": sentence,
                "unknown words": " ".join(word for word in tokens.split_words(sentence) if word not in known),
            }
            for sentence in sentences
        ]
        return Examples(names, tokens.encode_words(sentences, vocabulary, max_words))

    return read


def reading_tokens(tokenizer: str, most: int) -> Callable[[Sequence[str], Any], Examples]:
    """Return a ``read`` of sentences as a pretrained tokenizer's tokens, at most so many of each."""

    def read(given: Sequence[str], options: Any) -> Examples:
        sentences = _sentences(given)
        rows = subwords.encode_sentences(sentences, tokenizer, most)
        return Examples([{"sentence": sentence} for sentence in sentences], rows)

    return read


def _sentences(given: Sequence[str]) -> list[str]:
    """Return the sentences that are given, and those of files that are named."""
    sentences = [line for text in given for line in _lines(text)]
    if not sentences:
        raise InputError("nothing is given; give sentences, or the name of a file of them")
    return sentences


def _lines(text: str) -> list[str]:
    """Return the lines of the file that the text names, or the text itself."""
    return [line for line in tokens.lines(Path(text)) if line.strip()] if names_file(text) else [text]


def names_file(text: str) -> bool:
    """Return whether a text that is given is the name of a file."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a character that none has
        return False
