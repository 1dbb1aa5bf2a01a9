"""Questions whose answers stand in a text, in the format of SQuAD (Rajpurkar et al., 2016 and 2018)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data.formats import read_text
from jaxnets.data.stories import Question, babi
from jaxnets.data.unpacking import parse_json
from jaxnets.errors import InputError

_FILE = re.compile(r"(train|dev|val|valid|validation|test)(?![a-z]).*\.json(\.gz)?", re.IGNORECASE)
_PARTS = {"train": "train", "test": "test"}  # all other names are of validation data
_FEW = 10  # articles below which texts are held out one by one


class Answer(NamedTuple):
    """A text, and the character of the context that it begins with."""

    text: str
    start: int


class Asked(NamedTuple):
    """A question about a text.

    Attributes:
        name: its id.
        text: of the question.
        context: the text that it is about.
        answers: the true ones, as several people gave them; none where the context does not say, or they are asked for.
        title: of the article that the context is of.
    """

    name: str
    text: str
    context: str
    answers: tuple[Answer, ...] = ()
    title: str = ""

    @property
    def placed(self) -> list[Answer]:
        """The answers that stand in the context where they are said to."""
        return [one for one in self.answers if self.context[one.start : one.start + len(one.text)] == one.text]


def read_asked(path: Path, *, answered: bool = True) -> list[Asked]:
    """Return the questions of a JSON file in SQuAD's format, of version 1.1 or 2, gzipped or not.

    Version 2's ``is_impossible`` questions have no answers; what is plausible is left out.

    Args:
        path: of the file.
        answered: whether questions must have answers and ids; without, they are asked only.

    Raises:
        InputError: if it is no such file, a question lacks something, or an id occurs twice.
    """
    try:
        whole = parse_json(read_text(path))
    except ValueError as error:
        raise InputError(f"{path}: is no JSON: {error}") from error
    if not isinstance(whole, dict) or not isinstance(whole.get("data"), list):
        raise InputError(
            f'{path}: has no list "data", as SQuAD has it: {{"data": [{{"title": ..., "paragraphs": '
            '[{"context": ..., "qas": [{"id": ..., "question": ..., "answers": [{"text": ..., "answer_start": 0}]}'
            "]}]}]}"
        )
    found = list(_questions(path, whole["data"], answered))
    if not found:
        raise InputError(f"{path}: holds no questions")
    seen: set[str] = set()
    for one in found:
        if one.name in seen:
            raise InputError(f"{path}: the id {one.name!r} occurs twice; give each question one of its own")
        seen.add(one.name)
    return found


def _questions(path: Path, articles: list[Any], answered: bool) -> Iterator[Asked]:
    count = 0
    for i, article in enumerate(articles):
        title = article.get("title") if isinstance(article, dict) else None
        for j, paragraph in enumerate(_list(f"{path}: data[{i}]", article, "paragraphs")):
            place = f"{path}: data[{i}].paragraphs[{j}]"
            context = _text(place, paragraph, "context")
            for k, asked in enumerate(_list(place, paragraph, "qas")):
                where = f"{place}.qas[{k}]"
                name = asked.get("id") if isinstance(asked, dict) else None
                if not isinstance(name, str | int) or name == "":
                    if answered:
                        raise InputError(f"{where} has no id; give each question one of its own")
                    name = count
                count += 1
                where = f"{path}: question {name}"
                text = _text(where, asked, "question")
                answers = tuple(_answers(where, asked, answered))
                yield Asked(str(name), text, context, answers, title if isinstance(title, str) else "")


def _answers(where: str, asked: Mapping[str, Any], answered: bool) -> Iterator[Answer]:
    if asked.get("is_impossible") is True:
        return
    if not asked.get("answers"):
        if answered:
            raise InputError(f"{where} has no answer; give one, or is_impossible: true where the context has none")
        return
    for answer in _list(where, asked, "answers"):
        text = _text(f"{where}: an answer", answer, "text")
        start = answer.get("answer_start")
        if not isinstance(start, int) or isinstance(start, bool):
            raise InputError(f"{where}: the answer {text[:30]!r} has no answer_start, the character it begins with")
        yield Answer(text, start if start >= 0 else 2**31)  # outside, not from the end


def _list(place: str, holder: Any, key: str) -> list[Any]:
    found = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(found, list):
        raise InputError(f"{place} has no list {key!r}")
    return found


def _text(place: str, holder: Any, key: str) -> str:
    found = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(found, str) or not found.strip():
        raise InputError(f"{place} has no {key!r}, a text that is not empty")
    if any("\ud800" <= character <= "\udfff" for character in found):
        raise InputError(f"{place}: its {key!r} holds half of a character, an unpaired surrogate")
    return found


def span_parts(path: Path) -> dict[str, list[Asked]]:
    """Return the questions of a file, all of "train", or of a folder of ``train*.json`` and ``dev*.json``, ``test*``.

    Where a folder has no test file, the one to choose by is for testing.

    Returns:
        Questions of "train" and, of a folder, "test" and, if there are such, "validation".

    Raises:
        InputError: as ``read_asked`` does, or if a part is missing or has two files.
    """
    if not path.is_dir():
        return {"train": read_asked(path)}
    files: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        if match := _FILE.fullmatch(file.name):
            part = _PARTS.get(match[1].lower(), "validation")
            if part in files:
                raise InputError(f"{path}: {files[part].name} and {file.name} are both of {part}; leave one of them")
            files[part] = file
    if "test" not in files and "validation" in files:
        files["test"] = files.pop("validation")
    if missing := [name for name in ("train", "test") if name not in files]:
        raise InputError(
            f"{path}: holds no {' and no '.join(missing)} file; give train*.json and dev*.json or test*.json"
        )
    return {part: read_asked(file) for part, file in files.items()}


def whose(questions: Sequence[Asked]) -> np.ndarray:
    """Return the number of each question's article, or of its context where there are fewer than ten, [N]."""
    titles = {one.title for one in questions}
    names = [one.title if len(titles) >= _FEW else one.context for one in questions]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int32)


def hold_out(questions: Sequence[Asked], share: float, seed: int = 0) -> tuple[list[Asked], list[Asked]]:
    """Return the rest and about this share of the questions, by draws; those of one article, or text, stay together.

    Raises:
        InputError: if all are of one text.
    """
    groups = whose(questions)
    counts = np.bincount(groups)
    if len(counts) < 2:
        raise InputError(
            f"all {len(questions)} questions are about one text, and none can be held out; give more texts"
        )
    order = np.random.default_rng(seed).permutation(len(counts))
    number = 1 + int(np.searchsorted(np.cumsum(counts[order]), share * len(questions)))
    held = np.isin(groups, order[: min(number, len(counts) - 1)])
    return (
        [one for one, out in zip(questions, held, strict=True) if not out],
        [one for one, out in zip(questions, held, strict=True) if out],
    )


def babi_spans(data_dir: Path | None = None) -> dict[str, list[Asked]]:
    """Return bAbI's questions whose answers stand in their stories, as spans of these, "train" and "test".

    They are those of the tasks in which every answer is a word of the story, ten of the twenty: 1,000 questions each.
    An answer is pointed at in the last of the facts that it follows from which has it, else in the last fact that has
    it.

    Args:
        data_dir: as ``babi`` takes it.

    Raises:
        InputError: as ``babi`` does.
    """
    return as_spans(babi(data_dir))


def as_spans(parts: Mapping[str, Sequence[Question]]) -> dict[str, list[Asked]]:
    """Return questions about stories with their answers as spans, of the tasks in which every training answer is one.

    Raises:
        InputError: if there is no such task, or an answer of such a task is none in another part.
    """
    tasks = dict.fromkeys(question.task for question in parts["train"])
    for question in parts["train"]:
        if question.task in tasks and _place(question) is None:
            del tasks[question.task]
    if not tasks:
        raise InputError("there is no task in which every answer is a word of its story")
    found: dict[str, list[Asked]] = {}
    for part, questions in parts.items():
        found[part] = []
        for number, question in enumerate(questions):
            if question.task in tasks:
                place = _place(question)
                if place is None:
                    raise InputError(f"{part}: {question.answer!r} is no word of the story of {question.text!r}")
                name, title = f"{question.task}-{part}-{number}", f"{question.task} {question.story}"
                context, answer = " ".join(question.facts), Answer(question.answer, place)
                found[part].append(Asked(name, question.text, context, (answer,), title))
    return found


def _place(question: Question) -> int | None:
    """Return the character of the story that the answer begins with; None if it is no word of it."""
    word = re.compile(rf"\b{re.escape(question.answer)}\b", re.IGNORECASE)
    begins = np.cumsum([0, *(len(fact) + 1 for fact in question.facts)])
    for facts in (question.supporting, range(len(question.facts))):
        for number in sorted(facts, reverse=True):
            if (match := word.search(question.facts[number])) and match[0] == question.answer:
                return int(begins[number]) + match.start()
    return None
