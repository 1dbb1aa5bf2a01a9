"""Recommendations: what a user would like, or what may come next, by name."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets.data import Ratings, Spec, Vocabulary
from jaxnets.data.histories import UNSEEN
from jaxnets.data.names import spelled
from jaxnets.errors import InputError, check_field, nearest
from jaxnets.learners.recommending import BESIDE
from jaxnets.options import RatingData
from jaxnets.tasks.recommended import next_found, ratings_told
from jaxnets.tasks.task import Examples, Row, Task, Trained

_NEAR = 5  # titles that an error names


@dataclass(frozen=True)
class RecommendOptions:
    """To whom something is recommended."""

    user: str | None = None
    """a user of the data, as they name it"""
    likes: tuple[str, ...] = ()
    """for somebody new: titles of what is liked, the latest last"""
    top: int = 10
    """how many items are listed"""
    data: str | None = None
    """where the ratings are now, if not where they were"""

    def __post_init__(self) -> None:
        """Check the range."""
        check_field(self, "top", 1 <= self.top < 2**31, "1 or more")


class _Asked(NamedTuple):
    """What a model is given, and what its outputs are of.

    Attributes:
        inputs: of one row.
        items: numbers of the items that may be recommended, [C].
        outputs: where they stand among the outputs, [C].
        top: how many are wanted.
    """

    inputs: dict[str, np.ndarray]
    items: np.ndarray
    outputs: np.ndarray
    top: int


def recommendations(spec: Spec, source: RatingData, *, of_ratings: bool) -> Task:
    """Return the task of items for a user: those with the highest ratings to be expected, or the likeliest to be next.

    What somebody rated is read from the data again: a run's folder holds nobody's ratings.

    Args:
        spec: of the training data.
        source: where the ratings are.
        of_ratings: whether the learner tells ratings.
    """
    names = spec["inputs"].classes

    def read(given: Sequence[str], options: RecommendOptions) -> Examples:
        if given:
            raise InputError(f"given={given[0]!r}: name a user, --user USER, or what somebody new likes, --likes TITLE")
        if (options.user is None) == (not options.likes):
            raise InputError("say for whom: --user USER, of the data, or --likes TITLE ..., for somebody new")
        moved = source if options.data is None else replace(source, data=options.data, data_dir=None)
        if options.user is not None:
            ratings = moved.load()
            history = _of_user(ratings, options.user)
        else:
            ratings = moved.load() if of_ratings else _NOBODY
            history = _liking([_title(title, names) for title in options.likes], ratings, spec)
        asked = _for_ratings(history, spec) if of_ratings else _for_what_is_next(history, spec)
        return Examples([{}], asked._replace(top=options.top))

    def predict(trained: Trained, examples: Examples) -> np.ndarray:
        inputs = examples.inputs.inputs
        return (trained.mean(inputs) if of_ratings else trained.mean(inputs, _probabilities))[0]

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        asked: _Asked = examples.inputs
        found = made[asked.outputs]
        best = np.argsort(-found, kind="stable")[: asked.top]
        what = "rating" if of_ratings else "probability"
        return [{"item": names[asked.items[i]], what: float(found[i])} for i in best]

    def example(spec: Spec) -> dict[str, jax.ShapeDtypeStruct]:
        """Return one row: what stands beside the items, too."""
        beside = BESIDE if of_ratings else ("user",)
        return {"items": spec["inputs"].example} | {name: spec[name].example for name in beside}

    finish = ratings_told if of_ratings else next_found
    return Task(read=read, predict=predict, rows=rows, options=RecommendOptions(), example=example, finish=finish)


_NOBODY = Ratings(*np.empty((2, 0), str), *np.empty((2, 0)), tags={})


def _probabilities(scores: Any) -> np.ndarray:
    return np.asarray(jax.nn.softmax(scores, -1))


def _of_user(ratings: Ratings, user: str) -> Ratings:
    rows = np.flatnonzero(ratings.users == spelled(user))
    if not len(rows):
        users = np.unique(ratings.users).tolist()
        raise InputError(
            f"user={user!r} has rated nothing in the data, which have {len(users):,} users{nearest(user, users)}; for "
            "somebody new: --likes TITLE ..."
        )
    arrays = {name: getattr(ratings, name)[rows] for name in ("users", "items", "values", "times")}
    return ratings._replace(**arrays, test=None)


def _liking(titles: Sequence[str], ratings: Ratings, spec: Spec) -> Ratings:
    """Return the history of somebody new who has given the highest rating to these, at the end of the data."""
    best, now = spec["labels"].high, ratings.times.max() if len(ratings.times) else 0.0
    number = len(titles)
    full = np.full(number, best, np.float32), np.full(number, now)
    return Ratings(np.full(number, ""), np.array(titles), *full, tags=ratings.tags)


def _title(title: str, names: Sequence[str]) -> str:
    """Return the item of this title, whatever its case.

    Raises:
        InputError: if there is none; it names those that are near.
    """
    wanted = spelled(title)
    lower = {name.lower(): name for name in names[UNSEEN + 1 :]}
    if wanted.lower() in lower:
        return lower[wanted.lower()]
    near = difflib.get_close_matches(wanted.lower(), lower, _NEAR, 0.5)
    near += [name for name in lower if wanted.lower() in name and name not in near] if wanted else []
    listed = ", ".join(repr(lower[name]) for name in sorted(near, key=lambda name: wanted.lower() not in name)[:_NEAR])
    raise InputError(
        f"likes: {title!r} is none of the {len(lower):,} items" + (f"; near it are {listed}" if near else "")
    )


def _for_ratings(history: Ratings, spec: Spec) -> _Asked:
    """Return a row of what was rated and, at the same time as the latest of it, of all else."""
    sets, items = spec["tags"].classes, spec["inputs"].classes
    rated, number = set(history.items.tolist()), len(history.items)
    others = np.array([item for item in items[UNSEEN + 1 :] if item not in rated])
    if not len(others):
        raise InputError("there is nothing left to recommend: all items are rated")
    count = len(others)
    whole = history._replace(
        users=np.full(number + count, history.users[0]),
        items=np.concatenate([history.items, others]),
        values=np.concatenate([history.values, np.zeros(count, np.float32)]),
        times=np.concatenate([history.times, np.full(count, history.times[-1])]),
    )
    vocabulary = Vocabulary(spec["user"].classes, items, sets, float(history.times.min()))
    numbers = vocabulary.numbers(whole)
    given = (np.arange(number + count) < number).astype(np.int32)
    inputs = {"items": numbers["inputs"][None], "tags": numbers["tags"][None], "times": numbers["times"][None]}
    inputs |= {"ratings": whole.values[None], "given": given[None], "user": numbers["user"][:1]}
    return _Asked(inputs, numbers["inputs"][number:], np.arange(number, number + count), 0)


def _for_what_is_next(history: Ratings, spec: Spec) -> _Asked:
    """Return the row of a history; what training does not hold is left out of it."""
    column, users = spec["inputs"], spec["user"].classes
    vocabulary = Vocabulary(users, column.classes, ("",), float(history.times.min()))
    numbers = vocabulary.numbers(history)
    items = numbers["inputs"][numbers["inputs"] != UNSEEN][-column.shape[0] :]
    if not len(items):
        raise InputError("none of what this user rated is among the items of the training data; use --likes TITLE ...")
    inputs = {"items": np.pad(items, (0, column.shape[0] - len(items)))[None], "user": numbers["user"][:1]}
    others = np.setdiff1d(np.arange(UNSEEN + 1, len(column.classes)), numbers["inputs"])
    return _Asked(inputs, others, others, 0)
