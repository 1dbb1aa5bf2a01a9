"""Answers that stand in a text: to questions of a file or of one's own, with their probability and their place."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets.data import Spec, Splits
from jaxnets.data.formats import read_text
from jaxnets.data.span_windows import Windows, encode_windows
from jaxnets.data.spans import Asked, read_asked
from jaxnets.errors import InputError
from jaxnets.inference.spans import Span, best_spans
from jaxnets.metrics.spans import answer_exact_match, answer_f1
from jaxnets.tasks.sentences import names_file
from jaxnets.tasks.span_baselines import baselines
from jaxnets.tasks.span_plots import save_spans
from jaxnets.tasks.task import Examples, Finished, Row, Task, Trained, one_row_each

NO_ANSWER = "no answer"  # the class of the first position, where a question may have none
_BESIDE = 30  # characters that are printed on either side of an answer
_SHOWN = 4  # questions that are drawn


@dataclass(frozen=True)
class AskOptions:
    """What is asked."""

    question: tuple[str, ...] = ()
    """asked of each text, or text file, that is given; files in SQuAD's format have their own"""


def spans(
    spec: Spec,
    max_tokens: int,
    overlap: int,
    max_answer: int,
    lengths: Sequence[int],
    parts: Callable[[], Mapping[str, Sequence[Asked]]],
) -> Task:
    """Return the task of a network that points at the first and the last token of an answer.

    Args:
        spec: of the training data.
        max_tokens: of a row.
        overlap: tokens that neighbouring windows of a context share.
        max_answer: tokens of an answer, at most.
        lengths: to which rows are cut that need no more, rising.
        parts: returns the questions of the training and the test data.
    """
    tokenizer, or_none = spec["inputs"].tokenizer, spec["labels"].classes[0] == NO_ANSWER

    def read(given: Sequence[str], options: AskOptions) -> Examples:
        found = [pair for text in given for pair in _asked(text, options.question)]
        if not found:
            raise InputError('nothing is given; give a JSON file in SQuAD\'s format, or a text and --question "..."')
        asked = [one for _, one in found]
        names = [{"text": name, "question": one.text} for name, one in found]
        return Examples(names, (asked, encode_windows(asked, tokenizer, max_tokens, overlap)))

    def chances_of(trained: Trained, windows: Windows) -> np.ndarray:
        """Return the probabilities of the first and the last token, [N, 2, T], rows of like length together."""
        used = windows.at + windows.length + 1
        found = np.zeros((len(used), 2, max_tokens), np.float32)
        low = 0
        for high in [*(length for length in lengths if length < max_tokens), max_tokens]:
            rows = np.flatnonzero((used > low) & (used <= high))
            if len(rows):
                found[rows, :, :high] = trained.mean(windows.tokens[rows, :high], _softmax)
            low = high
        return found

    def answers_of(asked: Sequence[Asked], windows: Windows, chances: np.ndarray) -> list[Span]:
        return best_spans(chances, windows, [one.context for one in asked], max_answer, or_none=or_none)

    def predict(trained: Trained, examples: Examples) -> list[Span]:
        asked, windows = examples.inputs
        return answers_of(asked, windows, chances_of(trained, windows))

    def rows(examples: Examples, made: list[Span]) -> Sequence[Row]:
        return one_row_each(examples, [_told(one, span) for one, span in zip(examples.inputs[0], made, strict=True)])

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Score the answers to the test questions by their words, keep those of the first seed, and draw some."""
        if splits.test is None:
            return Finished()
        told = parts()
        asked = told["test"]
        windows = encode_windows(asked, tokenizer, max_tokens, overlap)
        metrics: dict[str, list[float]] = {}
        for seed, state in enumerate(trained.states):
            chances = chances_of(Trained(trained.learner, [state]), windows)
            found = answers_of(asked, windows, chances)
            for name, value in scores(asked, [span.text for span in found]).items():
                metrics.setdefault(f"test/{name}", []).append(value)
            if seed == 0:
                texts = {one.name: span.text for one, span in zip(asked, found, strict=True)}
                (folder / "predictions.json").write_text(json.dumps(texts, indent=1, ensure_ascii=False))
                save_spans(folder / "spans.png", _drawn(asked, found), found, chances, windows, asked)
        about = {"test/exact_match": f"of {len(asked):,} questions, by SQuAD's rules", "test/f1": "of words, likewise"}
        simple = {
            f"test/{score}_of_{name}": scores(asked, texts)[score]
            for name, texts in baselines(told["train"], asked).items()
            for score in ("exact_match", "f1")
        }
        return Finished(metrics, simple, about)

    return Task(read=read, predict=predict, rows=rows, options=AskOptions(), finish=finish)


def scores(asked: Sequence[Asked], given: Sequence[str]) -> dict[str, float]:
    """Return "exact_match" and "f1" of answers, each 0 to 1, as SQuAD's scripts define them.

    Where some questions have no answer, they are told apart: "exact_match_of_answered", "f1_of_answered" and
    "accuracy_of_unanswerable", as version 2 has them.

    Args:
        asked: with their true answers.
        given: the answers, "" for none.
    """
    true = [[answer.text for answer in one.answers] for one in asked]
    exact = np.array([answer_exact_match(*pair) for pair in zip(given, true, strict=True)])
    f1 = np.array([answer_f1(*pair) for pair in zip(given, true, strict=True)])
    found = {"exact_match": float(exact.mean()), "f1": float(f1.mean())}
    has = np.array([bool(one) for one in true])
    if has.any() and not has.all():
        found |= {"exact_match_of_answered": float(exact[has].mean()), "f1_of_answered": float(f1[has].mean())}
        found["accuracy_of_unanswerable"] = float(exact[~has].mean())
    return found


def _softmax(logits: Any) -> np.ndarray:
    return np.asarray(jax.nn.softmax(logits, -1))


def _asked(text: str, questions: Sequence[str]) -> list[tuple[str, Asked]]:
    """Return the questions of a file in SQuAD's format, or those that are asked of a text file, or of a text."""
    path = Path(text)
    is_file = names_file(text)
    if is_file and path.name.removesuffix(".gz").endswith(".json"):
        if questions:
            raise InputError(f"question={questions[0]!r}: {text} has questions of its own; leave --question out")
        return [(str(path), one) for one in read_asked(path, answered=False)]
    context = read_text(path) if is_file else text
    if not questions:
        raise InputError(f'{text[:50]!r} is a text, and nothing is asked; use --question "...", or give a JSON file')
    if empty := [one for one in (context, *questions) if not one.strip()]:
        raise InputError(f"{empty[0]!r} is empty; give a text and a question with words")
    name = str(path) if is_file else _short(text)
    return [(name, Asked(f"{question[:50]!r}", question, context)) for question in questions]


def _short(text: str) -> str:
    return text if len(text) <= _BESIDE else f"{text[:_BESIDE]}..."


def _told(asked: Asked, span: Span) -> Row:
    """Return what is printed of an answer: it, its probability, its characters in the text, and what is around it."""
    if span.start < 0:
        return {"answer": "", "probability": span.probability, "from": -1, "to": -1, "there": NO_ANSWER}
    before = asked.context[max(0, span.start - _BESIDE) : span.start]
    behind = asked.context[span.stop : span.stop + _BESIDE]
    there = " ".join(f"{before}[{span.text}]{behind}".split())
    return {
        "answer": span.text, "probability": span.probability, "from": span.start, "to": span.stop, "there": there
    }  # fmt: skip


def _drawn(asked: Sequence[Asked], found: Sequence[Span]) -> list[int]:
    """Return the numbers of the questions that are drawn, of several articles: answered right and wrong in turn."""
    right = [
        bool(answer_exact_match(span.text, [answer.text for answer in one.answers]))
        for one, span in zip(asked, found, strict=True)
    ]
    wrong_first = sorted(range(len(asked)), key=lambda i: (right[i], i))
    right_first = sorted(range(len(asked)), key=lambda i: (not right[i], i))
    mixed = [number for pair in zip(right_first, wrong_first, strict=True) for number in pair]
    return list(dict.fromkeys(mixed))[:_SHOWN]
