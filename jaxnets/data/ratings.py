"""Ratings: who gave what to which item, and when; MovieLens, and any CSV file of user, item, rating and time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data.fetching import Remote, located
from jaxnets.data.names import spelled
from jaxnets.data.separated import Sheet, read_sheet
from jaxnets.data.times import read_times
from jaxnets.data.unpacking import decoded, reading, unpacked
from jaxnets.errors import InputError

_HOME = "https://files.grouplens.org/datasets/movielens/ml-100k"
_MOVIELENS = {
    "u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
    "u.item": "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
    "ua.test": "d0497e202417720f57a184ec8c66be2d1afa4ff41bb53787c57b28d6bf79bc42",
}
MOVIELENS = {name: Remote(f"{_HOME}/{name}", sha) for name, sha in _MOVIELENS.items()}
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
# How the names of columns begin, where they are not told.
_BEGINNINGS = {
    "user": ("user", "customer", "person"),
    "item": ("item", "movie", "title", "product", "article", "song", "book"),
    "rating": ("rating", "score", "stars"),
    "time": ("time", "date", "when"),
}
_OPTIONAL = {"tags": ("tag", "genre", "categor")}


class Ratings(NamedTuple):
    """Ratings in the order of time; of one time, in that of the file. Nobody rates an item twice.

    Attributes:
        users: who rated, text [N].
        items: what was rated, by its title if it has one, text [N].
        values: the ratings, float32 [N]; 1 where the file has none.
        times: in seconds, float64 [N].
        tags: of an item, by its name: such as genres; empty where none are known.
        test: which are usually held out, bool [N]; None where nothing is usual.
        rated: whether the file has ratings.
    """

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    times: np.ndarray
    tags: Mapping[str, tuple[str, ...]]
    test: np.ndarray | None = None
    rated: bool = True


def movielens_100k(data_dir: Path | None = None) -> Ratings:
    """Return 100,000 ratings, 1 to 5, of 1,682 films by 943 people (Harper and Konstan, 2015); tags are genres.

    ``test`` is the split "ua": ten ratings of each person, drawn at random. Films of one title have their number
    beside it.
    """
    paths = located("movielens-100k", MOVIELENS, data_dir)
    table = reading(paths["u.data"], "tab-separated numbers", _numbers)
    held_out = reading(paths["ua.test"], "tab-separated numbers", _numbers)
    films = reading(paths["u.item"], "MovieLens' films", _films)
    numbers, titles = list(films), [title for title, _ in films.values()]
    times = Counter(titles)
    names = [
        f"{title} [{number}]" if times[title] > 1 else title for number, title in zip(numbers, titles, strict=True)
    ]
    by_number = dict(zip(numbers, names, strict=True))
    if unknown := set(table[:, 1].tolist()) - set(by_number):
        raise InputError(f"{paths['u.data']}: film {min(unknown)} is not in {paths['u.item'].name}")
    tested = set(map(tuple, held_out[:, :2].tolist()))
    return in_order(
        Ratings(
            table[:, 0].astype(str),
            np.array([by_number[number] for number in table[:, 1].tolist()]),
            table[:, 2].astype(np.float32),
            table[:, 3].astype(np.float64),
            {name: films[number][1] for number, name in by_number.items()},
            np.array([pair in tested for pair in map(tuple, table[:, :2].tolist())]),
        )
    )


def _numbers(path: Path) -> np.ndarray:
    with unpacked(path) as file:
        lines = decoded(file.read(), path).split("\n")
    rows = np.array([line.split("\t") for line in lines if line], np.int64)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise InputError(f"{path}: rows of shape {rows.shape[1:]}; there are to be user, item, rating and time")
    return rows


def _films(path: Path) -> dict[int, tuple[str, tuple[str, ...]]]:
    """Return the title and the genres of each film."""
    with unpacked(path) as file:
        lines = file.read().decode("latin-1").split("\n")
    found = {}
    for line in filter(None, lines):
        (
            number,
            title,
            *_,
        ) = fields = line.split("|")
        genres = tuple(name for name, has in zip(_GENRES, fields[-len(_GENRES) :], strict=True) if has == "1")
        found[int(number)] = (spelled(title), genres)
    return found


def read_ratings(path: Path, columns: Sequence[str] = ()) -> Ratings:
    """Return the ratings of a CSV file with a header, gzipped or not.

    Times are numbers of seconds, or ISO 8601. A column whose name begins with "tag" or "genre" holds what is known of
    an item, several with | between them.

    Args:
        path: the file.
        columns: of user, item, rating and time, or, where there are no ratings, of user, item and time; found by their
            names if absent (such as userId, movieId, rating, timestamp).

    Raises:
        InputError: if the file cannot be read, a column is not there, or a field is empty or no number.
    """
    sheet = read_sheet(path)
    sheet.check_names()
    named = _columns(sheet, columns)
    texts = {what: _texts(sheet, named[what]) for what in ("user", "item")}
    values = np.ones(len(sheet.lines), np.float32)
    if "rating" in named:
        fields = sheet.column(named["rating"])
        numbers = sheet.numbers(fields)
        if numbers is None or not np.isfinite(numbers).all():
            raise InputError(sheet.no_number(named["rating"], fields, np.isfinite))
        values = numbers.astype(np.float32)
    times, _ = read_times(sheet, named["time"])
    if times.dtype.kind == "M":
        times = times.astype("M8[s]").astype(np.float64)
    tags: dict[str, tuple[str, ...]] = {}
    if "tags" in named:
        words = _texts(sheet, named["tags"], empty=True)
        pairs = zip(texts["item"].tolist(), words.tolist(), strict=True)
        tags = {item: tuple(filter(None, map(spelled, text.split("|")))) for item, text in pairs}
    return in_order(Ratings(texts["user"], texts["item"], values, times, tags, rated="rating" in named))


def _columns(sheet: Sheet, given: Sequence[str]) -> dict[str, str]:
    """Return the name of each column that is read, by what it holds."""
    if given:
        if len(given) not in (3, 4):
            raise InputError(
                f"columns={tuple(given)} must be four, of user, item, rating and time, or three without a rating"
            )
        sheet.check_names(*given)
        wanted = ("user", "item", "rating", "time") if len(given) == 4 else ("user", "item", "time")
        return dict(zip(wanted, given, strict=True))
    found: dict[str, str] = {}
    for what, beginnings in (_BEGINNINGS | _OPTIONAL).items():
        fitting = [name for name in sheet.header if name.lower().startswith(beginnings)]
        if fitting:
            found[what] = fitting[0]
    if missing := [what for what in ("user", "item", "time") if what not in found]:
        raise InputError(
            f"{sheet.path}: no column of {' and '.join(missing)} is known by its name; it has {sheet.listed}: name "
            "them, --columns USER ITEM RATING TIME"
        )
    return found


def _texts(sheet: Sheet, name: str, *, empty: bool = False) -> np.ndarray:
    texts = sheet.padded(name, np.strings.strip(sheet.column(name)))
    found, places = np.unique(texts, return_inverse=True)
    names = np.array([spelled(text) for text in found])[places]
    if not empty and (names == "").any():
        raise InputError(f"{sheet.at(name, int((names == '').argmax()))}: is empty; remove the row")
    return names


def in_order(ratings: Ratings) -> Ratings:
    """Return ratings in the order of time; of one time, in that in which they are given.

    Of several ratings of one item by one user the latest is kept, and how many are left out is printed.
    """
    order = np.argsort(ratings.times, kind="stable")
    _, users = np.unique(ratings.users[order], return_inverse=True)
    items, numbers = np.unique(ratings.items[order], return_inverse=True)
    pairs = users.astype(np.int64) * len(items) + numbers
    _, last = np.unique(pairs[::-1], return_index=True)
    kept = order[np.sort(len(order) - 1 - last)]
    if repeated := len(order) - len(kept):
        print(f"{repeated:,} ratings of an item that the same user rates again later are left out")
    arrays: dict[str, Any] = {name: getattr(ratings, name)[kept] for name in ("users", "items", "values", "times")}
    return ratings._replace(**arrays, test=None if ratings.test is None else ratings.test[kept])
