"""Features that were learned without labels: what classifiers tell by them, what is near, and whether they collapse."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits
from jaxnets.inference.similarity import normalized
from jaxnets.learner import TrainState
from jaxnets.learners import supervised
from jaxnets.metrics import accuracy
from jaxnets.metrics.spread import spread_of
from jaxnets.models import MLP
from jaxnets.network import network, standardized
from jaxnets.runs import plots
from jaxnets.runs.console import console, warn
from jaxnets.tasks.task import Examples, FileOptions, Finished, Row, Task, Trained, one_row_each, reading_files
from jaxnets.training import readable
from jaxnets.training.evaluation import evaluate, predict
from jaxnets.training.fit import fit
from jaxnets.transforms.probed import probe_logits

NEAREST = 10  # neighbours that vote
PROBE_EPOCHS = 20
LABELS_EACH, DRAWS = 10, 5  # labels of a class for a classifier of few, and how often they are drawn
_KNOWN, _ASKED = 20_000, 10_000  # images at most whose neighbours are looked for in the end, and among which
_WATCHED = 3_000, 1_000  # the same at each evaluation
_SHOWN = 8  # images whose neighbours are drawn
_LEAST_DEVIATION, _LEAST_RANK = 0.1, 2.0  # below which features have collapsed

Fill = Callable[[TrainState, jax.Array], tuple[jax.Array, jax.Array]]


class Features(NamedTuple):
    """Features [N, D] of images, of length 1, and their classes [N]."""

    vectors: np.ndarray
    labels: np.ndarray


def representations(spec: Spec, load: Callable[[], Splits], fill: Fill | None = None) -> Task:
    """Return the task of a learner that predicts features [B, D] of images, which it learned without labels.

    Args:
        spec: of the training data; where it has two classes or more, the learner is ``probed``.
        load: returns the data, for what is told of them at each evaluation.
        fill: of a masked autoencoder: ``fill(state, images)``, what it sees of images and makes of it, pixels 0 to 1.
    """
    high = float(spec["inputs"].high)
    names = spec["labels"].classes if len(spec["labels"].classes) > 1 else ()
    splits_again = cache(load)

    def read_off(trained: Trained, examples: Examples) -> np.ndarray:
        """Return probabilities by the probes, the mean over seeds; features, if there are no classes."""
        if not names:
            return trained.mean(examples.inputs)
        of_each = [
            np.asarray(jax.nn.softmax(probe_logits(state, predict(trained.learner, state, examples.inputs))))
            for state in trained.states
        ]
        return np.mean(of_each, 0)

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        if not names:
            return one_row_each(examples, [{"norm": float(np.linalg.norm(row))} for row in made])
        found = [{"class": names[row.argmax()], "probability": float(row.max())} for row in made]
        return one_row_each(examples, found)

    def encode(trained: Trained, examples: Examples) -> np.ndarray:
        return predict(trained.learner, trained.first, examples.inputs)

    def watch(trained: Trained, step: int, folder: Path) -> None:
        """Tell how far neighbours are of one class, and warn of a collapse; draw neighbours."""
        splits, (known, asked) = splits_again(), _WATCHED
        held_out = splits.validation or splits.test or splits.train
        bank = _features(trained, trained.first, splits.train.take(slice(known)))
        queries = _features(trained, trained.first, held_out.take(slice(asked)))
        if names:
            share = float((nearest_class(bank, queries.vectors, len(names)) == queries.labels).mean())
            told = readable.metric("accuracy", share)
            console.print(f"step {step:,}: {NEAREST} nearest of {len(bank.labels):,} images vote {told}")
        warn_of_collapse(queries.vectors, step)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        if splits.test is None:
            return Finished()
        if fill is not None:
            _draw_filled(folder / "reconstructions.png", fill, trained.first, splits.test["inputs"][:12], high)
        _draw_neighbours(folder / "neighbours.png", trained, splits, high)
        return _measured(trained, splits, len(names)) if names else Finished()

    options: dict[str, Any] = {"options": FileOptions(), "encode": encode, "watch": watch, "finish": finish}
    return Task(read=reading_files(spec), predict=read_off, rows=rows, **options)


def warn_of_collapse(vectors: np.ndarray, step: int) -> bool:
    """Warn if features [N, D] of length 1 are nearly all alike, or along few directions; return whether they are."""
    found = spread_of(np.atleast_2d(np.cov(vectors, rowvar=False, ddof=0)))
    deviation, rank = found["feature_deviation"], found["effective_rank"]
    collapsed = bool(deviation < _LEAST_DEVIATION or rank < _LEAST_RANK)
    if collapsed:
        warn(
            f"step {step:,}: the features collapse: their deviation is {deviation:.3f} (1 where they are all around), "
            f"their effective rank {rank:.1f} of {vectors.shape[1]}; lower the learning rate, make views differ more, "
            "or give VICReg's variance more weight"
        )
    return collapsed


def nearest_class(bank: Features, queries: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the class that the nearest in the bank vote for, by cosine, [N]; of a tie, the one with more cosine.

    Args:
        bank: features of length 1, and their classes.
        queries: features of length 1, [N, D].
        num_classes: of the bank.
    """
    found = []
    for part in np.array_split(queries, max(1, len(queries) // 1000)):
        cosines, at = _nearest(bank.vectors, part, NEAREST)
        votes = np.zeros((len(part), num_classes))
        np.add.at(votes, (np.arange(len(part))[:, None], bank.labels[at]), 1 + 1e-3 * cosines)
        found.append(votes.argmax(1))
    return np.concatenate(found)


def _nearest(bank: np.ndarray, queries: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines of the nearest in the bank, and which they are, the nearest first, [N, number]."""
    cosines, number = queries @ bank.T, min(number, len(bank))
    at = np.argpartition(-cosines, number - 1, axis=1)[:, :number]
    near = np.take_along_axis(cosines, at, 1)
    order = np.argsort(-near, axis=1, kind="stable")
    return np.take_along_axis(near, order, 1), np.take_along_axis(at, order, 1)


def _features(trained: Trained, state: TrainState, data: Data) -> Features:
    return Features(normalized(predict(trained.learner, state, data["inputs"])), np.asarray(data["labels"]))


def _measured(trained: Trained, splits: Splits, num_classes: int) -> Finished:
    """Return the accuracy of three classifiers of each seed's features, beside that of pixels."""
    train, test = splits.train, splits.test
    assert test is not None
    metrics: dict[str, list[float]] = {}
    for state in trained.states:
        known, asked = _features(trained, state, train), _features(trained, state, test)
        found = by_few_and_near(known, asked, num_classes)
        found["linear_probe"] = linear_probe(known, asked, num_classes)
        for name, value in found.items():
            metrics.setdefault(f"test/{name}_accuracy", []).append(value)
    pixels = [
        Features(normalized(data["inputs"].reshape(len(data["labels"]), -1).astype(np.float32)), data["labels"])
        for data in (train.take(slice(_KNOWN)), test)
    ]
    baselines = {
        f"test/{name}_of_pixels_accuracy": v for name, v in by_few_and_near(pixels[0], pixels[1], num_classes).items()
    }
    about = {
        "knn": f"{NEAREST} nearest of {min(_KNOWN, train.num_examples):,}, by cosine",
        "few_labels": f"linear, {LABELS_EACH} labels a class, mean of {DRAWS} draws",
        "linear_probe": f"linear, all labels, {PROBE_EPOCHS} epochs",
    }
    told = {f"test/{name}{of}_accuracy": text for name, text in about.items() for of in ("", "_of_pixels")}
    return Finished(metrics, baselines, {n: text for n, text in told.items() if n in metrics or n in baselines})


def by_few_and_near(known: Features, asked: Features, num_classes: int) -> dict[str, float]:
    """Return the accuracy of the nearest neighbours' vote, "knn", and of a linear classifier of "few_labels"."""
    bank = Features(known.vectors[:_KNOWN], known.labels[:_KNOWN])
    votes = nearest_class(bank, asked.vectors[:_ASKED], num_classes)
    found = {"knn": float((votes == asked.labels[:_ASKED]).mean())}
    found["few_labels"] = float(np.mean([few_labels(known, asked, seed) for seed in range(DRAWS)]))
    return found


def few_labels(known: Features, asked: Features, seed: int) -> float:
    """Return the accuracy on ``asked`` of a linear classifier of a draw of few examples of each class."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  (slow to import)

    rows, scale = drawn_of_each(known.labels, LABELS_EACH, seed), np.sqrt(known.vectors.shape[1])
    method = LogisticRegression(C=0.1, max_iter=1000).fit(known.vectors[rows] * scale, known.labels[rows])
    return float(method.score(asked.vectors * scale, asked.labels))


def drawn_of_each(labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Return rows of so many examples of each class, or of all, where there are fewer."""
    draw = np.random.default_rng(seed)
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.concatenate([draw.permutation(of_class)[:number] for of_class in rows])


def linear_probe(known: Features, asked: Features, num_classes: int) -> float:
    """Return the accuracy on ``asked`` of a linear classifier that learned from all of ``known``."""
    data = Data(inputs=known.vectors, labels=known.labels)
    inputs = data.spec["inputs"]
    model = standardized(network(MLP, known.vectors.shape[1], (), num_classes), inputs.mean, inputs.std)
    size = min(256, data.num_examples)
    rate = optax.cosine_decay_schedule(3e-3, PROBE_EPOCHS * max(1, data.num_examples // size))
    learner = supervised(model, losses.softmax_cross_entropy, optax.adam(rate), {"accuracy": accuracy})
    result = fit(learner, data, duration=f"{PROBE_EPOCHS}ep", batch_size=size, progress=False)
    return float(evaluate(learner, result.state, Data(inputs=asked.vectors, labels=asked.labels))["accuracy"])


def _draw_neighbours(path: Path, trained: Trained, splits: Splits, high: float) -> None:
    """Write test images, each before the training images that are nearest."""
    assert splits.test is not None
    train, some = splits.train.take(slice(_KNOWN)), splits.test.take(slice(_SHOWN))
    bank, queries = (_features(trained, trained.first, data) for data in (train, some))
    _, at = _nearest(bank.vectors, queries.vectors, 11)
    classes = train.classes

    def title(i: int) -> str:
        if not classes:
            return f"image {i + 1}, and the nearest"
        return f"{classes[queries.labels[i]]}, and the nearest: {' '.join(classes[n] for n in bank.labels[at[i]])}"

    pixels = [np.concatenate([some["inputs"][i : i + 1], train["inputs"][at[i]]]) / high for i in range(len(at))]
    plots.save_image_rows(path, {f"{i + 1}. {title(i)}": images for i, images in enumerate(pixels)})


def _draw_filled(path: Path, fill: Fill, state: TrainState, images: np.ndarray, high: float) -> None:
    """Write images, what is seen of them, and what is made of that."""
    seen, made = jax.jit(fill)(state, images)
    rows = {"given": images / np.float32(high), "seen": np.asarray(seen), "filled in": np.asarray(made)}
    plots.save_image_rows(path, {name: row.clip(0, 1) for name, row in rows.items()})
