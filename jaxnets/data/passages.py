"""Documents as passages: stretches of whole sentences, with the file and the line that each begins in."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxnets.data.formats import read_text
from jaxnets.errors import InputError, check_whole

SUFFIXES = (".txt", ".md", ".rst")
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9À-ÖØ-Þ])")


class Passage(NamedTuple):
    """Sentences of a document in a row.

    Attributes:
        file: it stands in.
        line: its paragraph begins in, from 1.
        sentences: of it.
    """

    file: str
    line: int
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentences as one text."""
        return " ".join(self.sentences)


def read_passages(path: Path, most_words: int = 80) -> list[Passage]:
    """Return the passages of a document, or of all in a folder (.txt, .md, .rst), in the order of their names.

    A passage is of one paragraph, and paragraphs stand between blank lines. A sentence that is longer than a passage is
    cut.

    Args:
        path: of a text file, UTF-8, or a folder.
        most_words: of a passage.

    Raises:
        InputError: if there is no such file, it is no text, or there is no text in any.
    """
    check_whole("most_words", most_words)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder; give one of documents")
    files = [path]
    if path.is_dir():
        inside = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES and file.is_file()]
        files = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    found = [passage for file in files for passage in _of_file(file, most_words)]
    if not found:
        raise InputError(f"{path}: holds no text; give documents, {', '.join(SUFFIXES)}")
    return found


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a paragraph, by full stops and the like before capitals and digits."""
    return [part for part in (" ".join(each.split()) for each in _END.split(text)) if part]


def _of_file(file: Path, most_words: int) -> Iterator[Passage]:
    lines = read_text(file).splitlines()
    paragraph: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield from _of_paragraph(str(file), number - len(paragraph), "\n".join(paragraph), most_words)
            paragraph = []


def _of_paragraph(file: str, line: int, text: str, most_words: int) -> Iterator[Passage]:
    kept: list[str] = []
    count = 0
    for sentence in sentences_of(text):
        words = sentence.split()
        for start in range(0, len(words), most_words):
            part = words[start : start + most_words]
            if kept and count + len(part) > most_words:
                yield Passage(file, line, tuple(kept))
                kept, count = [], 0
            kept.append(" ".join(part))
            count += len(part)
    if kept:
        yield Passage(file, line, tuple(kept))
