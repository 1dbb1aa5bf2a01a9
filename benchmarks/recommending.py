"""Recommendation by others' methods, on the splits of `movielens` and `movielens-next`.

    python -m benchmarks.recommending ratings    # RMSE and MAE of biases, item kNN, SVD and SVD++ (scikit-surprise)
    python -m benchmarks.recommending next       # HR@10, NDCG@10 and coverage of popularity, item kNN, ALS and EASE

Settings are chosen by the validation part; the figures are of the test part, trained on all that comes before it. ALS
is the one of `implicit` where that is installed, and else our own. Rankings are of all items that were not had. Each
takes a minute or two: `pip install -e ".[recommendation]"` brings what they need.
"""

import argparse
import importlib
import importlib.util
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxnets.data import Ratings, load
from jaxnets.data.histories import next_splits, rating_splits

Scores = np.ndarray  # [users, items], the higher the better
Triples = tuple[np.ndarray, np.ndarray, np.ndarray]  # users, items and ratings
Rows = list[np.ndarray]  # of each user, the numbers of what was had, the latest last


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("ratings", "next"))
    what = parser.parse_args().what
    ratings = load("movielens-100k")
    for name, found in (told if what == "ratings" else followed)(ratings):
        print(f"{name:<70}" + "  ".join(f"{metric} {value:.4f}" for metric, value in found.items()), flush=True)


def followed(ratings: Ratings) -> Iterable[tuple[str, Mapping[str, float]]]:
    """Yield the figures of each method of what comes next."""
    choosing, final = (parts_of(ratings, part) for part in ("validation", "test"))
    for name, method, settings in METHODS:
        best = max(
            settings, key=lambda chosen: figures(method(choosing[0], choosing[2], **chosen), *choosing)["NDCG@10"]
        )
        rows, _, number = final
        yield named(name, best), figures(method(rows, number, **best), *final)


def named(method: str, settings: Mapping[str, float]) -> str:
    """Return a method's name with its settings."""
    told = ", ".join(f"{name} {value:g}" for name, value in settings.items())
    return f"{method} ({told})" if told else method


def parts_of(ratings: Ratings, part: str) -> tuple[Rows, np.ndarray, int]:
    """Return what each user had, what came next, and the number of items (0 is none)."""
    data = next_splits(ratings, validation=True, longest=2000).parts[part]
    rows = [row[:length] for row, length in zip(data["inputs"], data["lengths"], strict=True)]
    return rows, data["labels"], len(data.classes)


def figures(scores: Scores, rows: Rows, labels: np.ndarray, number: int) -> dict[str, float]:
    """Return the metrics of rankings, by a plain loop."""
    gains, listed = [], set()
    for row, had, label in zip(scores, rows, labels, strict=True):
        free = row.astype(np.float64)
        free[[0, *had]] = -np.inf
        best = np.argsort(-free, kind="stable")[:10].tolist()
        listed.update(best)
        gains.append(1 / np.log2(best.index(label) + 2) if label in best else 0.0)
    hits = float(np.mean(np.array(gains) > 0))
    return {"HR@10": hits, "NDCG@10": float(np.mean(gains)), "coverage": len(listed) / (number - 1)}


def matrix(rows: Rows, number: int, half_life: float = np.inf) -> np.ndarray:
    """Return what was had, [users, items]; the weight of what is so many steps back is halved."""
    had = np.zeros((len(rows), number))
    for user, row in enumerate(rows):
        had[user, row] = 0.5 ** (np.arange(len(row))[::-1] / half_life)
    had[:, 0] = 0
    return had


def popularity(rows: Rows, number: int) -> Scores:
    """Return how often each item was had."""
    return np.broadcast_to(matrix(rows, number).sum(0), (len(rows), number))


def item_knn(rows: Rows, number: int, neighbours: int, half_life: float) -> Scores:
    """Return sums of cosines with what was had, of each item's nearest (Sarwar et al., 2001)."""
    had = matrix(rows, number)
    unit = had / np.maximum(np.linalg.norm(had, axis=0), 1e-9)
    alike = unit.T @ unit
    np.fill_diagonal(alike, 0)
    least = np.sort(alike, 0)[-neighbours]
    return matrix(rows, number, half_life) @ np.where(alike >= least, alike, 0)


def ease(rows: Rows, number: int, penalty: float, half_life: float) -> Scores:
    """Return a linear map of what was had, its diagonal 0, in closed form (EASE; Steck, 2019)."""
    had = matrix(rows, number)
    inverse = np.linalg.inv(had.T @ had + penalty * np.eye(number))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return matrix(rows, number, half_life) @ weights


def als(rows: Rows, number: int, factors: int, penalty: float, alpha: float) -> Scores:
    """Return products of vectors that are fitted in turn (ALS; Hu, Koren and Volinsky, 2008)."""
    had = matrix(rows, number)
    if importlib.util.find_spec("implicit"):
        return _als_of_others(had, factors, penalty, alpha)
    random = np.random.default_rng(0)
    users, items = (random.normal(0, 0.1, (size, factors)) for size in had.shape)

    def solved(fixed: np.ndarray, rows: np.ndarray) -> np.ndarray:
        gram = fixed.T @ fixed + penalty * np.eye(factors)
        out = np.empty((len(rows), factors))
        for i, row in enumerate(rows):
            seen = fixed[row > 0]
            out[i] = np.linalg.solve(gram + alpha * seen.T @ seen, (1 + alpha) * seen.sum(0))
        return out

    for _ in range(15):
        users = solved(items, had)
        items = solved(users, had.T)
    return users @ items.T


def _als_of_others(had: np.ndarray, factors: int, penalty: float, alpha: float) -> Scores:
    from scipy.sparse import csr_matrix  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    kind: Any = importlib.import_module("implicit.cpu.als").AlternatingLeastSquares
    with threadpool_limits(1, "blas"):  # as it asks for
        model = kind(factors, penalty, alpha + 1, iterations=15, random_state=0, num_threads=1)
        model.fit(csr_matrix(had), show_progress=False)
    return model.user_factors @ model.item_factors.T


def _grid(**values: Sequence[float]) -> list[dict[str, Any]]:
    """Return all settings that can be made of the values."""
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


_NEVER, _HALVES = (np.inf,), (20.0, 10.0, 5.0, 2.5)
METHODS: list[tuple[str, Callable[..., Scores], list[dict[str, Any]]]] = [
    ("popularity", popularity, [{}]),
    ("item kNN", item_knn, _grid(neighbours=(5, 10, 20, 50, 200), half_life=_NEVER)),
    ("item kNN, recent first", item_knn, _grid(neighbours=(10, 20, 50), half_life=_HALVES)),
    ("ALS", als, _grid(factors=(32, 64, 128), penalty=(0.1, 1.0, 10.0), alpha=(0.25, 1.0, 4.0))),
    ("EASE", ease, _grid(penalty=(30.0, 100.0, 300.0, 1000.0), half_life=_NEVER)),
    ("EASE, recent first", ease, _grid(penalty=(30.0, 100.0, 300.0, 1000.0), half_life=_HALVES)),
]


def told(ratings: Ratings) -> Iterable[tuple[str, Mapping[str, float]]]:
    """Yield the figures of each method of ratings."""
    train, test = rated(ratings, validation=False)
    mean, users, items = biases(*train)
    base = mean + users[test[0]] + items[test[1]]
    yield "biases", errors(base, train, test)
    near = base + _neighbours(train, test, mean, users, items)
    yield "item kNN (60 neighbours, Pearson, shrunk)", errors(near, train, test)
    if not importlib.util.find_spec("surprise"):
        print("SVD and SVD++ are not run: scikit-surprise is not installed")
        return
    choosing = rated(ratings, validation=True)
    for name, kind, settings in SURPRISE:
        best = min(settings, key=lambda chosen: errors(_surprise(kind, chosen, *choosing), *choosing)["RMSE"])
        yield named(name, best), errors(_surprise(kind, best, train, test), train, test)


def rated(ratings: Ratings, *, validation: bool) -> tuple[Triples, Triples]:
    """Return users, items and ratings that are known, and those to be told: of validation, or of the test."""
    splits = rating_splits(ratings, "usual", validation=validation, longest=2000)
    held_out = splits.validation if validation else splits.test
    assert held_out is not None
    return _triples(splits.train), _triples(held_out)


def errors(found: np.ndarray, train: Triples, test: Triples) -> dict[str, float]:
    """Return the errors of what is told, within the range of the known ratings."""
    wrong = np.clip(found, train[2].min(), train[2].max()) - test[2]
    return {"RMSE": float(np.sqrt(np.mean(wrong**2))), "MAE": float(np.abs(wrong).mean())}


def _triples(data: Mapping[str, np.ndarray]) -> Triples:
    rows, places = np.nonzero(data["mask"])
    return data["user"][rows], data["inputs"][rows, places], data["labels"][rows, places].astype(np.float64)


def biases(
    users: np.ndarray, items: np.ndarray, values: np.ndarray, of_user: float = 5.0, of_item: float = 3.0
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the mean, and how far each user and each item is from it, shrunk, fitted in turn (Koren, 2010)."""
    mean = float(values.mean())
    user, item = np.zeros(users.max() + 1), np.zeros(items.max() + 1)
    for _ in range(20):
        item = np.bincount(items, values - mean - user[users], len(item)) / (of_item + np.bincount(items))
        user = np.bincount(users, values - mean - item[items], len(user)) / (of_user + np.bincount(users))
    return mean, user, item


def _neighbours(train: Triples, test: Triples, mean: float, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return what is added for the user's ratings of the 60 items most alike, by Pearson's correlation of residuals."""
    users, items, values = train
    left = np.zeros((len(user), len(item)))
    left[users, items] = values - mean - user[users] - item[items]
    seen = np.zeros_like(left)
    seen[users, items] = 1
    both = seen.T @ seen
    squares = np.square(left).T @ seen
    alike = left.T @ left / np.sqrt(np.maximum(squares * squares.T, 1e-9)) * both / (both + 100)
    added = np.zeros(len(test[0]))
    for i, (person, thing) in enumerate(zip(test[0], test[1], strict=True)):
        rated = np.flatnonzero(seen[person])
        weight = np.maximum(alike[thing, rated], 0)
        near = np.argsort(-weight)[:60]
        added[i] = weight[near] @ left[person, rated[near]] / max(weight[near].sum(), 1e-9)
    return added


SURPRISE = [
    ("SVD", "SVD", _grid(n_factors=(100,), reg_all=(0.05, 0.1, 0.15), n_epochs=(40, 80))),
    ("SVD++", "SVDpp", _grid(n_factors=(20,), reg_all=(0.05, 0.1), n_epochs=(20, 40))),
]


def _surprise(kind: str, settings: Mapping[str, Any], train: Triples, test: Triples) -> np.ndarray:
    """Return what a method of Surprise tells."""
    surprise: Any = importlib.import_module("surprise")
    rows = [(person, thing, value, None) for person, thing, value in zip(*train, strict=True)]
    known = surprise.Dataset(surprise.Reader(rating_scale=(1, 5))).construct_trainset(rows)
    method = getattr(surprise, kind)(random_state=0, **settings).fit(known)
    pairs = zip(test[0].tolist(), test[1].tolist(), strict=True)
    return np.array([method.predict(person, thing).est for person, thing in pairs])


if __name__ == "__main__":
    main()
