"""A small file of SQuAD's format, for a run of minutes: bAbI's questions whose answers are words of their stories.

    python -m benchmarks.spans babi-squad    # train.json and test.json: 400 and 100 questions of each of ten tasks
    jaxnets train extractive --data babi-squad --duration 200 --evaluate-every 100

The first stories of each task are taken; bAbI's training and test questions stay apart.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from jaxnets.data.spans import Asked, babi_spans

NUMBERS = {"train": 400, "test": 100}  # of each task


def first(questions: Sequence[Asked], number: int) -> list[Asked]:
    """Return so many questions of each task, whose name is what their titles begin with."""
    kept = []
    for _, of_task in groupby(questions, key=lambda one: one.title.split()[0]):
        kept += list(of_task)[:number]
    return kept


def squad(questions: Sequence[Asked]) -> dict[str, object]:
    """Return questions in SQuAD's format, an article for each title."""
    articles = [
        {"title": title, "paragraphs": [paragraph(one) for one in of_title]}
        for title, of_title in groupby(questions, key=lambda one: one.title)
    ]
    return {"version": "1.1", "data": articles}


def paragraph(one: Asked) -> dict[str, object]:
    """Return a question with its text."""
    answers = [{"text": answer.text, "answer_start": answer.start} for answer in one.answers]
    return {"context": one.context, "qas": [{"id": one.name, "question": one.text, "answers": answers}]}


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for part, questions in babi_spans().items():
        kept = first(questions, NUMBERS[part])
        (folder / f"{part}.json").write_text(json.dumps(squad(kept)))
        print(f"{folder / part}.json: {len(kept)} questions")


if __name__ == "__main__":
    main()
