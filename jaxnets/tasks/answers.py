"""Answers to questions about stories, and the facts that the network attended to."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from jaxnets.data import Spec, Splits, tokens
from jaxnets.data.stories import Question, encode_stories, read_questions, words_of
from jaxnets.errors import InputError
from jaxnets.models import Attended
from jaxnets.runs import plots
from jaxnets.tasks.sentences import names_file
from jaxnets.tasks.task import Examples, Finished, Row, Task, Trained, one_row_each
from jaxnets.training.evaluation import predict as predict_outputs

UNSEEN = "<unseen>"  # the class of answers that the training questions lack; it is always wrong
_FAILED = 0.05  # error of a task above which it is failed (Weston et al., 2015)
_SHOWN = 6  # stories whose attention is drawn
_MOST_DRAWN = 12  # facts of such a story


def answers(spec: Spec, max_facts: int, max_words: int, test: Callable[[], Sequence[Question]]) -> Task:
    """Return the task of a memory network: one of the known answers to each question.

    Args:
        spec: of the training data.
        max_facts: of a story, the newest, which are kept.
        max_words: of a sentence.
        test: returns the questions of the test data, in their order.
    """
    vocabulary, names = spec["inputs"].classes, spec["labels"].classes
    known = set(vocabulary)

    def read(given: Sequence[str], options: object) -> Examples:
        found = [question for text in given for question in _questions(text)]
        if not found:
            raise InputError('nothing is given; give a story with its question, "Mary went home. Where is Mary?"')
        rows = [
            {
                "question": question.text,
                "unknown words": " ".join(
                    dict.fromkeys(
                        word
                        for sentence in (*question.facts, question.text)
                        for word in words_of(sentence)
                        if word not in known
                    )
                ),
            }
            for question in found
        ]
        return Examples(rows, (found, encode_stories(found, vocabulary, max_facts, max_words)[0]))

    def predict(trained: Trained, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
        return trained.mean(
            Attended(examples.inputs[1]), lambda outputs: (np.asarray(jax.nn.softmax(outputs[0])), outputs[1])
        )

    def rows(examples: Examples, made: tuple[np.ndarray, np.ndarray]) -> Sequence[Row]:
        found = []
        for question, chances, weights in zip(examples.inputs[0], *made, strict=True):
            facts = question.facts[::-1][: weights.shape[1]]
            looks = [f"{facts[look.argmax()]} ({look.max():.0%})" for look in weights]
            found.append(
                {
                    "answer": names[chances.argmax()],
                    "probability": float(chances.max()),
                    "attended to": " ".join(dict.fromkeys(looks)),
                }
            )
        return one_row_each(examples, found)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Measure the error of each task, and how many supporting facts were attended to; draw both."""
        if splits.test is None:
            return Finished()
        questions, inputs = test(), splits.test["inputs"]
        made = [predict_outputs(trained.learner, state, Attended(inputs)) for state in trained.states]
        wrong = np.stack([logits.argmax(-1) != splits.test["labels"] for logits, _ in made])  # [seeds, N]
        tasks = np.array([question.task for question in questions])
        errors = {task: wrong[:, tasks == task].mean(1) for task in dict.fromkeys(tasks.tolist())}
        every = np.stack(list(errors.values()))  # [tasks, seeds]
        save_errors(folder / "tasks.png", {task: error.tolist() for task, error in errors.items()})
        save_attention(folder / "attention.png", _drawn(questions, made[0], names))
        metrics = {
            "test/mean_error_of_tasks": every.mean(0).tolist(),
            "test/failed_tasks": (every > _FAILED).sum(0).astype(float).tolist(),
        }
        about = {"test/failed_tasks": f"of {len(errors)}, with an error above {_FAILED:.0%}"}
        found = [_found(questions, weights) for _, weights in made]
        if not np.isnan(found).any():
            metrics["test/supporting_facts_found"] = found
            about["test/supporting_facts_found"] = "share that is the most attended to in a look"
        for task, error in errors.items():
            short, _, rest = task.partition("_")
            name = f"test/error_of_{re.sub(r'[^a-z0-9]+', '_', short.lower())}"
            metrics[name], about[name] = error.tolist(), rest.replace("-", " ")
        return Finished(metrics, {}, about)

    return Task(read=read, predict=predict, rows=rows, finish=finish)


def _questions(text: str) -> list[Question]:
    """Return the questions of the file that a text names, or that of a story in its own words, which ends with it."""
    path = Path(text)
    if names_file(text):
        return read_questions("\n".join(tokens.lines(path)), path, answered=False)
    *facts, question = [part.strip() for part in re.findall(r"[^.?!\n]+[.?!]?", text) if part.strip()] or [""]
    if not facts or not question.endswith("?"):
        raise InputError(
            f"{text[:50]!r} is no story with a question; give sentences that end with one, such as "
            '"Mary went home. John left. Where is Mary?", or a file of NUMBER SENTENCE lines'
        )
    return [Question(tuple(facts), question)]


def _found(questions: Sequence[Question], weights: np.ndarray) -> float:
    """Return the share of the supporting facts that have the largest weight of a look, [N, hops, F]; NaN if none is."""
    shares = []
    for question, places in zip(questions, weights.argmax(-1), strict=True):
        attended = {len(question.facts) - 1 - int(place) for place in places}
        if question.supporting:
            shares.append(len(attended & set(question.supporting)) / len(set(question.supporting)))
    return float(np.mean(shares)) if shares else float("nan")


def _drawn(
    questions: Sequence[Question], made: tuple[np.ndarray, np.ndarray], names: tuple[str, ...]
) -> list[tuple[Question, str, np.ndarray]]:
    """Return the first short question of each task, what it is answered, and the weights, for as many as are drawn."""
    found: dict[str, tuple[Question, str, np.ndarray]] = {}
    for question, logits, weights in zip(questions, made[0], made[1], strict=True):
        if question.task not in found and 1 < len(question.facts) <= min(_MOST_DRAWN, weights.shape[1]):
            shown = weights[:, : len(question.facts)].T[::-1]  # [facts, hops], the oldest first
            found[question.task] = (question, names[logits.argmax()], shown)
    return list(found.values())[:_SHOWN]


def save_errors(path: Path, errors: dict[str, list[float]]) -> None:
    """Save the error of each task, its seeds as points, as a picture of bars."""
    figure = plots.figure(figsize=(8, 1 + 0.28 * len(errors)))
    axes, means = figure.subplots(), [float(np.mean(values)) for values in errors.values()]
    places = np.arange(len(errors))
    axes.barh(places, means, color=["C3" if mean > _FAILED else "C2" for mean in means], alpha=0.7)
    for place, values in zip(places, errors.values(), strict=True):
        axes.plot(values, [place] * len(values), "k.", markersize=3)
        axes.annotate(f" {np.mean(values):.1%}", (max(values), place), va="center", fontsize="small")
    axes.axvline(_FAILED, color="0.4", linestyle="--", linewidth=0.8)
    axes.set_yticks(places, [task.replace("_", " ") for task in errors], fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="error", xlim=(0, max([0.1, *(max(values) for values in errors.values())]) * 1.12))
    axes.set_title(f"mean error {np.mean(means):.2%}; {sum(mean > _FAILED for mean in means)} above {_FAILED:.0%}")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)


def save_attention(path: Path, stories: Sequence[tuple[Question, str, np.ndarray]]) -> None:
    """Save how much each look of the question weighed each fact; supporting facts are bold."""
    if not stories:
        return
    heights = [0.9 + 0.22 * len(question.facts) for question, _, _ in stories]
    figure = plots.figure(figsize=(7.5, sum(heights)))
    panels = figure.subplots(len(stories), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (question, answer, weights) in zip(panels, stories, strict=True):
        axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_yticks(range(len(question.facts)), question.facts, fontsize="small")
        for number, label in enumerate(axes.get_yticklabels()):
            label.set_fontweight("bold" if number in question.supporting else "normal")
        axes.set_xticks(range(weights.shape[1]), [f"look {i + 1}" for i in range(weights.shape[1])], fontsize="small")
        right = answer == question.answer
        told = f"{question.text} {answer}" + ("" if right else f" (right: {question.answer})")
        axes.set_title(told, fontsize="small", color="black" if right else "C3", loc="left")
    figure.savefig(path, dpi=120)
