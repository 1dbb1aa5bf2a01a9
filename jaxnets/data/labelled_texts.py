"""Texts with labels of one's own: CSV, TSV and JSONL files, and folders of text files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.formats import read_text
from jaxnets.data.images import SPLITS
from jaxnets.data.separated import read_sheet
from jaxnets.data.tokens import Sentences, labelled_sentences, lines
from jaxnets.data.unpacking import parse_json
from jaxnets.errors import InputError, nearest

SUFFIXES = (".tsv", ".csv", ".jsonl")
_TEXTS = ("text", "sentence", "review", "document", "content", "body", "message")
_LABELS = ("label", "labels", "class", "category", "sentiment", "target", "tags")
_PARTS = SPLITS | {"dev": "validation"}


def read_texts(path: Path, text: str | None = None, label: str | None = None, several: str | None = None) -> Sentences:
    """Return the texts and labels of a file: CSV or TSV with a header, JSONL of objects, or ``text<TAB>label`` lines.

    Args:
        path: of the file; gzipped or not.
        text: the column of the texts; the one of a usual name, such as "text", if absent.
        label: the column of the labels, likewise.
        several: the sign between a text's labels, by which lists in JSONL are joined.

    Raises:
        InputError: if the file is broken, has no such columns, or a text or a label is empty.
    """
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix == ".jsonl":
        return _of_objects(path, text, label, several)
    if suffix == ".tsv" and text is None and label is None:
        return labelled_sentences(path)
    sheet = read_sheet(path)
    columns = _columns(path, sheet.header, text, label)
    sheet.check_names(*columns)
    texts, labels = ([str(field) for field in sheet.column(name)] for name in columns)
    places = [f"row {line}" for line in sheet.lines]
    return _checked(path, places, texts, labels, several)


def text_parts(
    folder: Path, text: str | None = None, label: str | None = None, several: str | None = None
) -> dict[str, Sentences]:
    """Return the texts of a folder by part, as they lie there; without parts, all are of "train".

    It holds train.tsv (.csv, .jsonl) and, maybe, dev and test, or ``CLASS/x.txt``, below train, test and so on or not.

    Raises:
        InputError: as ``read_texts`` does, or if the folder holds neither.
    """
    files = {_PARTS[file.stem]: file for file in sorted(folder.iterdir()) if _is_part(file)}
    if "train" in files:
        return {part: read_texts(file, text, label, several) for part, file in files.items()}
    if text is not None or label is not None:
        raise InputError(f"{folder}: holds no train.csv; columns are of files, and classes of folders their names")
    found: dict[str, list[tuple[str, str]]] = {}
    for file in sorted(folder.rglob("*.txt")):
        *above, name = file.relative_to(folder).parts
        if name.startswith(".") or any(part.startswith(".") for part in above):
            continue
        part = _PARTS.get(above[0].lower(), "") if len(above) > 1 else ""
        label_of_file = "/".join(above[1:] if part else above)
        if not label_of_file:
            raise InputError(f"{file}: lies in no folder of a class; give CLASS/{name}, or train/CLASS/{name}")
        found.setdefault(part or "train", []).append((" ".join(read_text(file).split()), label_of_file))
        if not found[part or "train"][-1][0]:
            raise InputError(f"{file}: holds no text; leave it out")
    if "train" not in found:
        raise InputError(f"{folder}: holds no train.tsv, .csv or .jsonl, and no CLASS/x.txt")
    return {part: Sentences(*map(list, zip(*pairs, strict=True))) for part, pairs in found.items()}


def label_names(labels: Iterable[str], several: str) -> tuple[str, ...]:
    """Return the labels that occur, sorted.

    Args:
        labels: of each text, all in one.
        several: the sign between them.

    Raises:
        InputError: if there are none.
    """
    found = sorted({label for each in labels for label in _parts_of(each, several)})
    if not found:
        raise InputError(f"several={several!r}: no text has a label")
    return tuple(found)


def label_rows(labels: Sequence[str], several: str, names: Sequence[str]) -> np.ndarray:
    """Return 1 for each label that a text has, else 0, float32 [N, labels].

    Raises:
        InputError: if a text has a label that is none of the names: the training texts'.
    """
    numbers = {name: number for number, name in enumerate(names)}
    rows = np.zeros((len(labels), len(names)), np.float32)
    for row, each in zip(rows, labels, strict=True):
        for label in _parts_of(each, several):
            if label not in numbers:
                raise InputError(f"the label {label!r} is none of the training texts'{nearest(label, names)}")
            row[numbers[label]] = 1
    return rows


def _parts_of(label: str, several: str) -> list[str]:
    return [part.strip() for part in label.split(several) if part.strip()]


def _is_part(file: Path) -> bool:
    return file.suffix in SUFFIXES and _PARTS.get(file.stem) is not None


def _of_objects(path: Path, text: str | None, label: str | None, several: str | None) -> Sentences:
    rows: list[dict[str, Any]] = []
    places = []
    for number, line in enumerate(lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise InputError(f"{path}: line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f'{path}: line {number} is no object, such as {{"text": "...", "label": "..."}}')
        rows.append(row)
        places.append(f"line {number}")
    if not rows:
        raise InputError(f"{path}: holds no lines of objects")
    names = _columns(path, [*rows[0]], text, label)
    found = []
    for place, row in zip(places, rows, strict=True):
        if missing := [name for name in names if name not in row]:
            raise InputError(f"{path}: {place} has no {missing[0]!r}")
        found.append((str(row[names[0]]), _spelled(f"{path}: {place}", row[names[1]], several)))
    return _checked(path, places, [one for one, _ in found], [one for _, one in found], several)


def _spelled(place: str, label: Any, several: str | None) -> str:
    """Return a label as text; a list of them with the sign between."""
    if not isinstance(label, list):
        return "" if label is None else str(label)
    if several is None:
        raise InputError(f"{place} has a list of labels; use --several ';', if texts have several")
    if with_sign := [each for each in map(str, label) if several in each]:
        raise InputError(f"{place}: the label {with_sign[0]!r} holds {several!r}; use another --several")
    return several.join(map(str, label))


def _columns(path: Path, header: Sequence[str], text: str | None, label: str | None) -> list[str]:
    """Return the columns of texts and of labels."""
    return [_column(path, header, "text", text, _TEXTS), _column(path, header, "label", label, _LABELS)]


def _column(path: Path, header: Sequence[str], what: str, given: str | None, usual: Sequence[str]) -> str:
    """Return the column that is named, or the one of a usual name."""
    if given is not None:
        if given not in header:
            raise InputError(f"{path}: no column {given!r}{nearest(given, header)}; it has {', '.join(header[:10])}")
        return given
    found = [name for name in usual for column in header if column.lower() == name]
    if not found:
        raise InputError(f"{path}: which column has the {what}s? use --{what}-column; it has {', '.join(header[:10])}")
    return next(column for column in header if column.lower() == found[0])


def _checked(
    path: Path, places: Sequence[str], texts: list[str], labels: list[str], several: str | None = None
) -> Sentences:
    """Return texts and labels, if there is something in each; a text of several may have none."""
    for place, text, label in zip(places, texts, labels, strict=True):
        if not text.strip():
            raise InputError(f"{path}: {place} has no text; leave it out")
        if not label.strip() and several is None:
            raise InputError(f"{path}: {place} has no label; leave it out")
    return Sentences([" ".join(text.split()) for text in texts], [label.strip() for label in labels])
