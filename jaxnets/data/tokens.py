"""Text as tokens: characters and words, with a vocabulary that is known."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.formats import read_text
from jaxnets.errors import InputError
from jaxnets.memory import check_fits

PADDING, UNKNOWN = 0, 1  # the first two words of every vocabulary of words
_SPECIAL = ("<padding>", "<unknown>")
_WORDS = r"n't|'(?:s|re|ve|ll|d|m)\b|\w+|[^\w\s]"
# What a column of labels may be called in a first line that is a heading.
_HEADINGS = {"label", "labels", "class", "category", "sentiment", "target", "polarity"}
_FEW = 4  # lines: of as many, a label that occurs once is no surprise


def composed(text: str) -> str:
    """Return the text with letters and their accents as one character each, where Unicode has one (NFC)."""
    return unicodedata.normalize("NFC", text)


def characters(text: str) -> tuple[str, ...]:
    """Return the characters that occur in a text, composed and sorted: a vocabulary."""
    return tuple(sorted(set(composed(text))))


def encode_characters(text: str, vocabulary: Sequence[str]) -> np.ndarray:
    """Return the numbers in the vocabulary of a text's characters, composed, int32 [N].

    Raises:
        InputError: if the text is empty or has characters that the vocabulary lacks.
    """
    text = composed(text)
    if not text:
        raise InputError("the text is empty; give at least one character")
    numbers = {character: number for number, character in enumerate(vocabulary)}
    unknown = sorted(set(text) - set(numbers))
    if unknown:
        raise InputError(
            f"{', '.join(map(repr, unknown[:10]))}: not among the {len(numbers)} characters that the model was trained "
            f"on, {''.join(vocabulary)!r}"
        )
    return np.array([numbers[character] for character in text], np.int32)


def windows(tokens: np.ndarray, length: int) -> np.ndarray:
    """Return stretches of ``2 * length`` tokens, one every ``length``, for crops of ``length + 1``.

    The last few tokens, fewer than ``length``, are left out.

    Raises:
        InputError: if there are fewer tokens than one stretch needs.
    """
    if len(tokens) < 2 * length:
        remedy = f"use {len(tokens) // 2} or less" if len(tokens) > 1 else "give more text, or hold out less"
        raise InputError(f"{len(tokens)} tokens are too few for windows of {length}; {remedy}")
    return np.lib.stride_tricks.sliding_window_view(tokens, 2 * length)[::length]


def contexts(tokens: np.ndarray, start: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return stretches of ``2 * length`` tokens, and which of them count, so that each from ``start`` on counts once.

    What counts has ``length - 1`` tokens or more before it; if there are fewer, the first stands for what is missing.

    Returns:
        Tokens and mask (1 where a token counts), [N, 2 * length] each.
    """
    ends = np.minimum(np.arange(start + length, len(tokens) + length, length), len(tokens))
    places = ends[:, None] + np.arange(-2 * length, 0)  # [N, 2 * length]
    first = np.maximum(start + length * np.arange(len(ends)), 1)  # nothing stands before a text's first token
    return tokens[np.maximum(places, 0)], (places >= first[:, None]).astype(np.uint8)


def word_vocabulary(sentences: Iterable[str], at_least: int = 1) -> tuple[str, ...]:
    """Return padding, unknown, and the words that occur ``at_least`` so often, the most frequent first."""
    counts = Counter(word for sentence in sentences for word in split_words(sentence))
    return _SPECIAL + tuple(word for word, count in counts.most_common() if count >= at_least)


def split_words(sentence: str) -> list[str]:
    """Return the lower-cased words of a sentence, punctuation apart and clitics cut off ("is n't", "film 's").

    It is how the treebanks write them, so that a sentence as people write it becomes what the model was trained on.
    Letters are composed first (NFC); the marks that scripts combine with letters, and what joins them, belong to words.
    """
    text = composed(sentence).lower().replace("\u2019", "'")
    text = re.sub(r"n't\b", " n't", text)
    text = re.sub(r"(?<=\w)'(s|re|ve|ll|d|m)\b", r" '\1", text)
    marks = "" if text.isascii() else "".join({char for char in text if _is_mark(char)})
    return re.findall(_WORDS.replace("\\w+", rf"\w[\w{marks}]*"), text)


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M") or char in "\u200c\u200d"


def encode_words(sentences: Sequence[str], vocabulary: Sequence[str], length: int) -> np.ndarray:
    """Return the words' numbers, int32 [len(sentences), length], filled up with padding; others are unknown.

    Raises:
        InputError: if a sentence has no words, or more than ``length``.
    """
    remedy = "use a smaller --max-words"
    check_fits(f"max_words={length} for each of {len(sentences):,} sentences", 4 * length * len(sentences), remedy)
    numbers = {word: number for number, word in enumerate(vocabulary)}
    tokens = np.full((len(sentences), length), PADDING, np.int32)
    for row, sentence in enumerate(sentences):
        words = split_words(sentence)
        if not 0 < len(words) <= length:
            remedy = "; use a larger --max-words" if words else ""
            raise InputError(
                f"sentence {row + 1}, {sentence[:50]!r}, has {len(words)} words; 1 to {length} are taken{remedy}"
            )
        tokens[row, : len(words)] = [numbers.get(word, UNKNOWN) for word in words]
    return tokens


class Sentences(NamedTuple):
    """Sentences, and the label of each."""

    texts: list[str]
    labels: list[str]


def labelled_sentences(path: Path) -> Sentences:
    """Return the sentences and the labels of a file with one ``sentence<TAB>label`` a line.

    A first line whose label is "label", or "class", "sentiment" and the like, which no other line has, is a heading,
    and left out.

    Raises:
        InputError: if the file cannot be read, a line is of another form, or the first may be a heading.
    """
    sentences, labels = [], []
    for number, line in enumerate(lines(path), start=1):
        sentence, _, label = line.rpartition("\t")
        if not line.strip():
            continue
        if not sentence.strip():
            raise InputError(f"{path}: line {number} is no sentence<TAB>label: {line[:50]!r}")
        sentences.append(sentence)
        labels.append(label.strip())
    counts = Counter(labels)
    if labels and counts[labels[0]] == 1:
        if labels[0].lower() in _HEADINGS:
            del sentences[0], labels[0]
        elif len(labels) > _FEW and min(number for label, number in counts.items() if label != labels[0]) > 1:
            raise InputError(
                f"{path}: the first line's label, {labels[0]!r}, is no other's; if it is a heading, call it 'label'; "
                "else give the class more sentences"
            )
    if not sentences:
        raise InputError(f"{path}: holds no lines of sentence<TAB>label")
    return Sentences(sentences, labels)


def parallel_text(paths: Sequence[Path]) -> list[list[str]]:
    """Return the lines of each file, line by line each other's translations.

    Raises:
        InputError: if a file cannot be read, they are not equally long, or a line is empty.
    """
    texts = [lines(path) for path in paths]
    texts = [text[:-1] if text[-1] == "" else text for text in texts]  # a file ends with an end of line
    lengths = {str(path): len(text) for path, text in zip(paths, texts, strict=True)}
    if len(set(lengths.values())) > 1 or not texts[0]:
        raise InputError(
            f"{' and '.join(f'{path} has {length} lines' for path, length in lengths.items())}; "
            "they must be as many, 1 or more"
        )
    for path, text in zip(paths, texts, strict=True):
        empty = next((number for number, line in enumerate(text, start=1) if not line.strip()), None)
        if empty:
            raise InputError(f"{path}: line {empty} is empty; leave it out of every file")
    return texts


def lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, gzipped or not."""
    return read_text(path).replace("\r\n", "\n").split("\n")
