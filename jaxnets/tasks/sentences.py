"""Sentences that a user gives to a model of words."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxnets.data import subwords, tokens
from jaxnets.errors import InputError
from jaxnets.tasks.task import Examples


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
    try:
        is_file = Path(text).is_file()
    except OSError:  # too long for a name
        is_file = False
    return [line for line in tokens.lines(Path(text)) if line.strip()] if is_file else [text]
