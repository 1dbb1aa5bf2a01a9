"""Orders of rows: pure functions of the seed and the step, however they are asked for."""

import numpy as np
import pytest

import jaxnets as jn
from jaxnets.data import balanced, by_length, classes_and_examples, episodes, shuffled, usual, weighted
from jaxnets.errors import InputError

LABELS = np.repeat(np.arange(6), [30, 3, 12, 5, 8, 2])
DATA = {"inputs": np.arange(60), "labels": LABELS, "lengths": np.arange(60) % 7}
ORDERS = {
    "shuffled": (shuffled, 16),
    "by_length": (by_length, 16),
    "usual": (usual, 16),
    "weighted": (weighted(np.arange(60)), 16),
    "balanced": (balanced, 16),
    "classes_and_examples": (classes_and_examples(4, 4), 32),
    "episodes": (episodes(3, 1, 4), 30),
}


@pytest.mark.parametrize("name", ORDERS)
def test_rows_depend_on_seed_and_step_alone(name):
    make, batch_size = ORDERS[name]
    whole = make(DATA, batch_size, 0).rows(0, 12)
    assert whole.dtype == np.int32 and whole.shape == (12, batch_size)
    assert whole.min() >= 0 and whole.max() < 60
    parts = make(DATA, batch_size, 0)
    np.testing.assert_array_equal(whole[7:9], parts.rows(7, 2))
    np.testing.assert_array_equal(whole[2:9], parts.rows(2, 7))
    assert (whole != make(DATA, batch_size, 1).rows(0, 12)).any()
    assert (whole[0] != whole[1]).any()


def test_what_is_drawn():
    rows = weighted([0.0, 1.0, 3.0])({"inputs": np.zeros(3)}, 1000, 0).rows(0, 4).reshape(-1)
    np.testing.assert_allclose(np.bincount(rows) / len(rows), [0, 0.25, 0.75], atol=0.02)
    counts = np.bincount(LABELS[balanced(DATA, 1200, 0).rows(0, 5).reshape(-1)])
    np.testing.assert_allclose(counts / counts.sum(), 1 / 6, atol=0.02)


def test_classes_and_examples():
    make, size = ORDERS["classes_and_examples"]
    for batch in make(DATA, size, 0).rows(0, 10):
        for group in batch.reshape(2, 4, 4):
            labels = LABELS[group]
            assert (labels == labels[:, :1]).all() and len(set(labels[:, 0])) == 4
            for rows, label in zip(group, labels[:, 0], strict=True):
                assert len(set(rows)) == min(4, (label == LABELS).sum())  # repeated only where there are too few


def test_episodes():
    make, size = ORDERS["episodes"]
    for batch in make(DATA, size, 0).rows(0, 10):
        for episode in batch.reshape(2, 15):
            shots, queries = episode[:3], episode[3:].reshape(3, 4)
            assert len(set(episode)) == 15
            np.testing.assert_array_equal(LABELS[queries], np.repeat(LABELS[shots][:, None], 4, 1))


def test_fit_takes_an_order(blobs):
    from helpers import small_learner

    skewed = blobs.take(np.flatnonzero((blobs["labels"] > 0) | (np.arange(150) < 12)))
    options = {"batch_size": 16, "duration": 40, "progress": False, "validation": blobs}
    even, plain = (jn.fit(small_learner(), skewed, order=order, **options) for order in (balanced, shuffled))
    assert even.history[-1]["validation/accuracy"] >= plain.history[-1]["validation/accuracy"]
    assert even.history[-1]["train/loss"] != plain.history[-1]["train/loss"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (weighted([1.0]), r"shares of shape \(1,\) for 60 rows"),
        (weighted(np.full(60, -1.0)), "0 or more, not all 0"),
        (classes_and_examples(7, 2), "the data have 6 classes"),
        (classes_and_examples(3, 3), "batch_size=16 must be a multiple of 9"),
        (episodes(5, 1, 4), "the data have 4 classes of 5 rows or more"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(InputError, match=message):
        make(DATA, 16, 0)
    with pytest.raises(InputError, match=r"needs classes|shares"):
        make({"inputs": np.zeros(5)}, 16, 0)
    with pytest.raises(InputError, match="need lengths=, one for each of 60 rows"):
        by_length({**DATA, "lengths": np.zeros(3)}, 16, 0)
