"""What is measured and drawn of recommendations in the end, beside what simple methods say."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnets.data import Data, Splits
from jaxnets.learners.recommending import BESIDE, LISTED
from jaxnets.metrics.ranking import ranks
from jaxnets.runs import plots
from jaxnets.tasks.task import Finished, Trained

_DEEPEST = 100  # of the ranks that are drawn
_ROUNDS = 10  # in which biases are fitted in turn
_SHRINK_USER, _SHRINK_ITEM = 5.0, 3.0  # ratings that a user's and an item's mean are shrunk by
_BOUNDS = (0, 20, 50, 100, 200)  # of how much a user had rated


def ratings_told(trained: Trained, splits: Splits, folder: Path) -> Finished:
    """Draw ratings as they are told and given, and return the errors of biases alone (Koren, 2010)."""
    test = splits.test
    assert test is not None
    inputs = {"items": test["inputs"]} | {name: test[name] for name in BESIDE}
    counts = test["mask"] > 0
    told, given = np.asarray(trained.mean(inputs), np.float64)[counts], test["labels"][counts].astype(np.float64)
    save_ratings(
        folder / "ratings.png", told, given, np.broadcast_to(test["given"].sum(1)[:, None], counts.shape)[counts]
    )
    wrong = _of_biases(splits.train, test) - given
    baselines = {
        "test/rmse_of_biases": float(np.sqrt(np.mean(wrong**2))),
        "test/mae_of_biases": float(np.abs(wrong).mean()),
    }
    return Finished(baselines=baselines, about=dict.fromkeys(baselines, "the mean, and what users and items differ by"))


def _of_biases(train: Data, test: Data) -> np.ndarray:
    """Return the mean and shrunk differences of user and item, fitted in turn, for each rating to be told."""
    users, items = (np.broadcast_to(train["user"][:, None], train["mask"].shape), train["inputs"])
    counts = train["mask"] > 0
    users, items, values = users[counts], items[counts], train["labels"][counts].astype(np.float64)
    mean, size = values.mean(), (len(train.spec["user"].classes), len(train.spec["inputs"].classes))
    user, item = (np.zeros(number) for number in size)
    of_user, of_item = (np.bincount(places, minlength=n) for places, n in zip((users, items), size, strict=True))
    for _ in range(_ROUNDS):
        item = np.bincount(items, values - mean - user[users], size[1]) / (_SHRINK_ITEM + of_item)
        user = np.bincount(users, values - mean - item[items], size[0]) / (_SHRINK_USER + of_user)
    told = mean + user[test["user"]][:, None] + item[test["inputs"]]
    column = train.spec["labels"]
    return np.clip(told, column.low, column.high)[test["mask"] > 0]


def save_ratings(path: Path, told: np.ndarray, given: np.ndarray, known: np.ndarray) -> None:
    """Save how what is told spreads for each rating that was given, and its error by how much a user had rated.

    Args:
        path: of the picture.
        told: ratings, [N].
        given: likewise, [N].
        known: ratings of the same user that it is told from, [N].
    """
    figure = plots.figure(figsize=(9, 3.5))
    left, right = figure.subplots(1, 2)
    cuts = np.unique(given) if len(np.unique(given)) <= 10 else np.unique(np.quantile(given, np.linspace(0, 1, 6)))
    nearest = np.abs(given[:, None] - cuts[None]).argmin(1)
    left.boxplot([told[nearest == i] for i in range(len(cuts))], whis=(5, 95), showfliers=False)
    left.set_xticks(range(1, len(cuts) + 1), [f"{cut:g}" for cut in cuts])
    left.set(xlabel="given", ylabel="told", title=f"{len(told):,} ratings")
    places = np.digitize(known, _BOUNDS) - 1
    there = [i for i in range(len(_BOUNDS)) if (places == i).any()]
    errors = [np.sqrt(np.mean((told - given)[places == i] ** 2)) for i in there]
    right.plot(range(len(there)), errors, "o")
    ends = [*_BOUNDS[1:], None]
    right.set_xticks(range(len(there)), [f"{_BOUNDS[i]}-{ends[i] - 1}" if ends[i] else f"{_BOUNDS[i]}+" for i in there])
    right.set(xlabel="ratings of the same user that are known", ylabel="RMSE", title="error by what is known")
    figure.savefig(path, dpi=120)


def next_found(trained: Trained, splits: Splits, folder: Path) -> Finished:
    """Draw how many of the items that came next are among the first, and return what the most popular ones reach."""
    test = splits.test
    assert test is not None
    scores = trained.mean({"items": test["inputs"], "user": test["user"]})
    had = np.isneginf(scores)
    items = np.concatenate([splits.train["inputs"].reshape(-1), splits.train["labels"]])
    often = np.bincount(items, minlength=scores.shape[1]).astype(np.float32)
    found = {
        name: _ranks(each, test["labels"])
        for name, each in (("the model", scores), ("most popular", np.where(had, -np.inf, often)))
    }
    save_ranks(folder / "ranks.png", found)
    popular = found["most popular"]
    gains = np.where(popular < LISTED, 1 / np.log2(popular + 2.0), 0)
    baselines = {f"test/hit_rate_{LISTED}_of_popularity": float((popular < LISTED).mean())}
    baselines[f"test/ndcg_{LISTED}_of_popularity"] = float(gains.mean())
    return Finished(baselines=baselines, about=dict.fromkeys(baselines, "what most had, that the user had not"))


def _ranks(scores: Any, labels: np.ndarray) -> np.ndarray:
    """Return how many items are ahead of each label, [N]; of an item that training does not hold, all."""
    found = np.asarray(ranks(jnp.asarray(scores), jnp.asarray(labels)))
    return np.where(labels == 0, scores.shape[1], found)


def save_ranks(path: Path, found: dict[str, np.ndarray]) -> None:
    """Save the share of items that are among the first so many, by method.

    Args:
        path: of the picture.
        found: how many items are ahead of each that was wanted, [N], by method.
    """
    figure = plots.figure(figsize=(5, 3.5))
    axes = figure.subplots()
    for name, ahead in found.items():
        axes.plot(range(1, _DEEPEST + 1), [(ahead < k).mean() for k in range(1, _DEEPEST + 1)], label=name)
    axes.axvline(LISTED, color="0.8", zorder=0)
    axes.set(xlabel="length of the list", ylabel="share of wanted items in it", xscale="log")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
