"""Histories: a row for each user, with what was rated in the order of time; how ratings become data sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.ratings import Ratings
from jaxnets.data.splits import Splits
from jaxnets.errors import InputError

HeldOut = Literal["usual", "time", "latest"]
UNSEEN = 0  # the number of whatever training does not hold; of items, padding, too
_UNSEEN_NAME = "(unseen)"
_LATEST_SHARE = 0.1  # of all ratings, that is held out by time
_MOST_SECONDS = 2**31 - 2


@dataclass(frozen=True)
class Vocabulary:
    """The numbers of users and items of the training part, from 1 on, and of the sets of tags that items have.

    Attributes:
        users: by their numbers; the first stands for all that training does not hold.
        items: likewise.
        tags: sets of tags, as text with | between them; the first is of none.
        start: the time from which seconds are counted.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    tags: tuple[str, ...]
    start: float

    @classmethod
    def of(cls, ratings: Ratings, train: np.ndarray) -> "Vocabulary":
        """Return the numbering of the ratings that are trained on, bool [N]."""
        users, items = (tuple(np.unique(names[train]).tolist()) for names in (ratings.users, ratings.items))
        sets = sorted({"|".join(ratings.tags.get(item, ())) for item in items} | {""})
        return cls((_UNSEEN_NAME, *users), (_UNSEEN_NAME, *items), tuple(sets), float(ratings.times.min()))

    def numbers(self, ratings: Ratings) -> dict[str, np.ndarray]:
        """Return the numbers of users, items and their tags, and times in seconds from 1 on, int32 [N] each."""
        seconds = np.round(ratings.times - self.start) + 1
        if seconds.max() > _MOST_SECONDS:
            raise InputError(
                f"times from {self.start:g} to {ratings.times.max():g}: that is more than 68 years in seconds; give "
                "seconds, or ISO 8601"
            )
        places = {name: number for number, name in enumerate(self.tags)}
        sets = np.array([places.get("|".join(ratings.tags.get(item, ())), 0) for item in self.items])
        items = _places(self.items, ratings.items)
        found = {"user": _places(self.users, ratings.users), "inputs": items, "tags": sets[items]}
        return {name: array.astype(np.int32) for name, array in found.items()} | {"times": seconds.astype(np.int32)}

    @property
    def known(self) -> dict[str, dict[str, Any]]:
        """What is known of the arrays of a data set: the inputs are items."""
        names = {"user": self.users, "inputs": self.items, "tags": self.tags}
        return {name: {"classes": classes} for name, classes in names.items()}


def _places(names: Sequence[str], wanted: np.ndarray) -> np.ndarray:
    numbers = {name: number for number, name in enumerate(names)}
    found, inverse = np.unique(wanted, return_inverse=True)
    return np.array([numbers.get(name, UNSEEN) for name in found.tolist()])[inverse]


def rating_splits(ratings: Ratings, held_out: HeldOut, *, validation: bool, longest: int, seed: int = 0) -> Splits:
    """Return the ratings of each user as a row: those that are given, and those that are to be told from them.

    Inputs are the numbers of items, [N, T]; beside them stand "user" [N], and of each rating its "tags", "times",
    "ratings" and which are "given", [N, T]. Labels are the ratings, and the mask says which are to be told. In
    training that is each of them, from the others; in validation and test those held out, from all that were trained
    on.

    Args:
        ratings: in the order of time.
        held_out: which are for testing: the usual ones, the latest tenth of all by time, or each user's latest.
        validation: hold out as many more to choose by, in the same way: of the usual ones, which are drawn for each
            user, by a draw.
        longest: ratings of a row; a user with more has several rows.
        seed: of that draw.
    """
    test = _held_out(ratings, held_out, np.ones(len(ratings.users), bool))
    chosen = np.zeros_like(test)
    if validation:
        if held_out == "usual":
            chosen = _drawn(ratings.users, ~test, _usual_number(ratings.users, test), seed)
        else:
            chosen = _held_out(ratings, held_out, ~test)
    train = ~test & ~chosen
    _check_some(train, test)
    vocabulary = Vocabulary.of(ratings, train)
    rows = _rows(ratings.users, longest)
    numbers = vocabulary.numbers(ratings)
    arrays = {name: numbers[name] for name in ("inputs", "tags", "times")} | {"ratings": ratings.values}
    values = ratings.values[train].astype(np.float64)
    facts = {"low": float(values.min()), "high": float(values.max()), "mean": (values.mean(),), "std": (values.std(),)}

    def part(given: np.ndarray, told: np.ndarray) -> Data:
        shown = given | told
        filled = [row[shown[row]] for row in rows]
        filled = [row for row in filled if told[row].any()]
        columns: dict[str, Any] = {name: _padded(filled, array, longest) for name, array in arrays.items()}
        return Data(
            **columns,
            user=np.array([numbers["user"][row[0]] for row in filled], np.int32),
            given=_padded(filled, given.astype(np.int32), longest),
            labels=columns["ratings"],
            mask=_padded(filled, told.astype(np.int32), longest),
            lengths=np.array([len(row) for row in filled], np.int32),
            known=vocabulary.known | {"labels": facts},
        )

    longest = min(longest, max(map(len, rows)))
    return Splits(part(train, train), part(train, chosen) if validation else None, part(train | chosen, test))


def _held_out(ratings: Ratings, held_out: HeldOut, among: np.ndarray) -> np.ndarray:
    """Return which ratings are held out of those among which they may be, bool [N]."""
    if held_out == "usual" and ratings.test is not None:
        return ratings.test & among
    found, rows = np.zeros(len(among), bool), np.flatnonzero(among)
    if held_out == "latest":
        _, last = np.unique(ratings.users[rows][::-1], return_index=True)
        found[rows[len(rows) - 1 - last]] = True
    else:
        found[rows[len(rows) - max(1, round(_LATEST_SHARE * len(rows))) :]] = True
    return found


def _usual_number(users: np.ndarray, test: np.ndarray) -> int:
    return int(np.ceil(test.sum() / len(np.unique(users[test])))) if test.any() else 1


def _drawn(users: np.ndarray, among: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Return ``number`` rows of each user that has more than that, drawn from those among which they may be."""
    random, found = np.random.default_rng(seed), np.zeros(len(users), bool)
    for rows in _rows(np.where(among, users, "")):
        if among[rows[0]] and len(rows) > number:
            found[random.choice(rows, number, replace=False)] = True
    return found


def _rows(users: np.ndarray, longest: int | None = None) -> list[np.ndarray]:
    """Return the rows of each user, in their order, in parts of at most ``longest``."""
    order = np.argsort(users, kind="stable")
    _, starts = np.unique(users[order], return_index=True)
    rows = np.split(order, starts[1:])
    if longest is None:
        return rows
    return [part for row in rows for part in np.array_split(row, -(-len(row) // longest))]


def _padded(rows: Sequence[np.ndarray], values: np.ndarray, length: int) -> np.ndarray:
    """Return the values of each row, filled up with zeros, [N, length]."""
    found = np.zeros((len(rows), length), values.dtype)
    for i, row in enumerate(rows):
        found[i, : len(row)] = values[row]
    return found


def _check_some(train: np.ndarray, test: np.ndarray) -> None:
    if not train.any() or not test.any():
        raise InputError(f"{train.sum()} ratings to train on and {test.sum()} to test; give more of them")


def next_splits(ratings: Ratings, *, validation: bool, longest: int) -> Splits:
    """Return what each user had, in the order of time, and what came next: the latest is for testing.

    Inputs are the numbers of items, [N, T], with 0 at the end of short histories, beside each "user" [N]; labels are
    what came next, [N]. With ``validation`` what came before the latest is held out to choose by, and stands in the
    test's history. Of a history longer than T the latest T are seen; in training the whole is, in several rows.

    Args:
        ratings: in the order of time.
        validation: whether something is held out to choose by.
        longest: T.
    """
    rows = _rows(ratings.users)
    least = 2 + validation
    if not (enough := [row for row in rows if len(row) > least]):
        raise InputError(f"no user has more than {least} ratings, of which the latest are held out; give more of them")
    train = np.ones(len(ratings.users), bool)
    for row in enough:
        train[row[len(row) - 1 - validation :]] = False
    vocabulary = Vocabulary.of(ratings, train)
    numbers = vocabulary.numbers(ratings)
    longest = min(longest, max(map(len, rows)) - 1)

    def part(histories: Sequence[np.ndarray]) -> Data:
        """Return rows that end with what comes next."""
        seen = [row[:-1][-longest:] for row in histories]
        return Data(
            inputs=_padded(seen, numbers["inputs"], longest),
            user=np.array([numbers["user"][row[-1]] for row in histories], np.int32),
            labels=np.array([numbers["inputs"][row[-1]] for row in histories], np.int32),
            lengths=np.array([len(row) for row in seen], np.int32),
            classes=vocabulary.items,
            known={name: known for name, known in vocabulary.known.items() if name != "tags"},
        )

    def ending(before: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda row: row[: len(row) - before]

    trained = [row[: len(row) - 1 - validation] if len(row) > least else row for row in rows]
    return Splits(
        part([piece for row in trained if len(row) > 1 for piece in _pieces(row, longest + 1)]),
        part(list(map(ending(1), enough))) if validation else None,
        part(list(map(ending(0), enough))),
    )


def _pieces(row: np.ndarray, longest: int) -> list[np.ndarray]:
    """Return a row in pieces, the first of which may be short; each begins with the one before's last element."""
    ends = range(len(row), 1, -(longest - 1))
    return [row[max(0, end - longest) : end] for end in ends]
