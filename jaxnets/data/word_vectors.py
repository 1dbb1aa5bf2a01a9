"""Vectors of words that others have learned: GloVe's and word2vec's text files, and NumPy's with the words beside."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.formats import read_text
from jaxnets.data.numpy_files import read_npy
from jaxnets.data.unpacking import check_utf8, reading, unpacked
from jaxnets.errors import InputError
from jaxnets.memory import check_fits

_LONGEST = 1 << 20  # bytes of a line
_WIDEST = 10_000  # numbers of a vector
_FEW = 5  # words that a report names


class WordVectors(NamedTuple):
    """The vectors of a vocabulary.

    Attributes:
        table: a vector for each word, float32 [V, D].
        found: which of them the file holds, [V]; the others are drawn.
        words: the vocabulary.
    """

    table: np.ndarray
    found: np.ndarray
    words: Sequence[str]

    def coverage(self, special: int = 0) -> str:
        """Return how many words were found, and some that were not; the first few may be no words, such as padding."""
        words, found = self.words[special:], self.found[special:]
        number = int(found.sum())
        missing = [word for word, known in zip(words, found, strict=True) if not known][:_FEW]
        without = f"; without: {', '.join(missing)}{', ...' * (len(words) - number > _FEW)}" if missing else ""
        return f"vectors of {number:,} of {len(words):,} words ({number / len(words):.1%}){without}"


def read_word_vectors(path: Path, words: Sequence[str]) -> WordVectors:
    """Return the vectors that a file has for words, each found as it is written, or else lower-cased.

    Text files, gzipped or not, have a word and its numbers a line, with spaces between them (GloVe's ``.txt``), and
    maybe a first line with the number of words and of a vector's numbers (word2vec's and fastText's ``.vec``). Beside
    an ``.npy`` of vectors [N, D] stand the words, one a line, in a ``.txt`` of the same name. Of a word that is there
    twice the first counts. Vectors of words that are not found are drawn, always the same, from a normal distribution
    with mean and standard deviation of the found ones.

    Args:
        path: of the file.
        words: the vocabulary, whose rows the table has.

    Raises:
        InputError: if the file is missing, broken or holds other things, or none of the words; it names the line.
    """
    wanted = {*words, *(word.lower() for word in words)}
    parse = _of_npy if path.suffix == ".npy" else _of_text
    vectors = reading(path, "vectors of words", lambda path: parse(path, wanted))
    rows = [vectors.get(word, vectors.get(word.lower())) for word in words]
    known = [row for row in rows if row is not None]
    if not known:
        raise InputError(f"{path}: holds none of the {len(words):,} words, such as {', '.join(words[-_FEW:])}")
    check_fits(f"vectors of {len(words):,} words", 4 * len(words) * len(known[0]), "use fewer words")
    held = np.stack(known)
    found = np.array([row is not None for row in rows])
    draws = np.random.default_rng(0).normal(held.mean(0), held.std(0), (len(words), held.shape[1]))
    table = draws.astype(np.float32)
    table[found] = held
    return WordVectors(table, found, words)


def _of_npy(path: Path, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Return the vectors of the words that are wanted, as far as they are there."""
    vectors, beside = read_npy(path), path.with_suffix(".txt")
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.size:
        raise InputError(f"{path}: holds {vectors.dtype}{list(vectors.shape)}, not vectors of words, floats [N, D]")
    if not beside.is_file():
        raise InputError(f"{path}: there is no {beside.name} beside it, with the words of its rows, one a line")
    words = read_text(beside).replace("\r\n", "\n").removesuffix("\n").split("\n")
    if len(words) != len(vectors):
        raise InputError(f"{path}: holds {len(vectors):,} vectors, but {beside} {len(words):,} words; one a line")
    found: dict[str, np.ndarray] = {}
    for number, word in enumerate(words):
        if word in wanted and word not in found:
            found[word] = _finite(vectors[number], f"{path}: row {number}")
    return found


def _of_text(path: Path, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Return the vectors of the words that are wanted, as far as they are there; every line is looked at."""
    found: dict[str, np.ndarray] = {}
    promised, width, number = None, 0, 0
    for at, line in _lines(path):
        if at == 1:
            head = line.split(b" ")
            if len(head) == 2 and head[0].isdigit() and head[1].isdigit():
                promised, width = int(head[0]), int(head[1])
            else:
                width = len(head) - 1
            if not 1 <= width <= _WIDEST:
                raise InputError(
                    f"{path}: line 1 has {width:,} numbers after a word, and vectors have 1 to {_WIDEST:,}; lines are "
                    "WORD NUMBER NUMBER ... (words alone belong beside an .npy, which is named then)"
                )
            if promised is not None:
                continue
        number += 1
        word, numbers = _parted(line, width, f"{path}: line {at}")
        if (text := _decoded(word, f"{path}: line {at}")) in wanted and text not in found:
            found[text] = _finite(_numbers(numbers, f"{path}: line {at}"), f"{path}: line {at}")
    if promised not in (None, number):
        raise InputError(f"{path}: its first line promises {promised:,} words, it holds {number:,}; is it cut short?")
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its number, without white space at its end."""
    with unpacked(path) as file:
        number = 0
        while line := file.readline(_LONGEST + 1):
            number += 1
            if number == 1:
                check_utf8(line, path)
                line = line.removeprefix(b"\xef\xbb\xbf")
            if len(line) > _LONGEST:
                raise InputError(f"{path}: line {number} is longer than {_LONGEST:,} bytes; these are no vectors")
            yield number, line.rstrip(b" \r\n")


def _parted(line: bytes, width: int, where: str) -> tuple[bytes, bytes]:
    """Return a line's word, which may have spaces in it, and its numbers, with spaces between them."""
    spaces = line.count(b" ")
    word, _, numbers = line.partition(b" ")
    if spaces > width:
        numbers = b" ".join(line.rsplit(b" ", width)[1:])
        word = line[: -len(numbers) - 1]
        if _is_number(word.rsplit(b" ", 1)[1]):
            raise InputError(f"{where} has more than {width} numbers after a word")
    if spaces < width or not word:
        raise InputError(f"{where} has {spaces} numbers after a word, not {width}")
    return word, numbers


def _decoded(word: bytes, where: str) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8: {error}; save the file as UTF-8") from error


def _numbers(text: bytes, where: str) -> np.ndarray:
    try:
        return np.array([float(number) for number in text.split(b" ")])
    except ValueError as error:
        raise InputError(f"{where}: {error}; after the word stand its numbers") from error


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _finite(numbers: np.ndarray, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        vector = numbers.astype(np.float32)
    if not np.isfinite(vector).all():
        raise InputError(f"{where} has a number that is NaN, infinite or too large")
    return vector
