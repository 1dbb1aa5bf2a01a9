"""Verification and identification against scikit-learn and plain loops."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from jaxnets.errors import InputError
from jaxnets.metrics import equal_error_rate, pair_auc, true_accept_rate
from jaxnets.metrics.verification import (
    accepted_at,
    area,
    cumulative_matches,
    equal_error,
    open_set_scores,
    pairs_of,
    rank,
    roc,
)


def examples(spread: float, seed: int = 0, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings of length 1, and their classes, one of which has one example."""
    random = np.random.default_rng(seed)
    labels = np.append(np.repeat(np.arange(classes), 7), classes)
    made = random.normal(size=(classes + 1, 5))[labels] + spread * random.normal(size=(len(labels), 5))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32), labels


def all_pairs(made: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosine of each pair, and whether it is genuine."""
    pairs = [(i, j) for i in range(len(labels)) for j in range(i)]
    scores = [float(np.dot(made[i].astype(np.float64), made[j])) for i, j in pairs]
    return np.array(scores), np.array([labels[i] == labels[j] for i, j in pairs])


SPREADS = [0.1, 0.8, 3.0]


@pytest.mark.parametrize("spread", SPREADS)
def test_pairs_equal_scikit_learns(spread):
    made, labels = examples(spread)
    scores, same = all_pairs(made, labels)
    curve = roc(*pairs_of(made, labels))
    assert area(curve) == pytest.approx(roc_auc_score(same, scores), abs=1e-6)
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    fine = np.linspace(0, 1, 200_001)
    line = np.interp(fine, far, tar)
    wanted = fine[np.argmin(np.abs(line + fine - 1))]
    rate, threshold = equal_error(curve)
    assert rate == pytest.approx(wanted, abs=2e-3 if spread > 0.1 else 1e-6)
    accepted, rejected = (scores[~same] >= threshold).mean(), (scores[same] < threshold).mean()
    assert abs(accepted - rejected) <= 2 / min(same.sum(), (~same).sum()) and abs(accepted - rate) < 0.02
    for level in (0.01, 0.1):
        assert accepted_at(curve, level) == pytest.approx(tar[far <= level].max(), abs=1e-9)


def test_a_threshold_lies_midway_between_those_it_parts():
    assert equal_error(roc(np.array([0.9, 0.8]), np.array([0.2, 0.1]))) == (0.0, pytest.approx(0.5))


@pytest.mark.parametrize("spread", SPREADS)
def test_metrics_of_batches_equal_those_of_pairs(spread):
    made, labels = examples(spread)
    curve = roc(*pairs_of(made, labels))
    mask = np.append(np.ones(len(labels), np.int32), np.zeros(3, np.int32))
    padded, named = np.concatenate([made, np.full((3, 5), np.nan, np.float32)]), np.append(labels, [0, 0, 1])
    wanted = {pair_auc(): area(curve), equal_error_rate(): equal_error(curve)[0]}
    wanted |= {true_accept_rate(0.1): accepted_at(curve, 0.1)}
    for metric, value in wanted.items():
        for args in ((made, labels, None), (padded, named, mask)):
            sums = metric.measure(*(None if array is None else jnp.asarray(array) for array in args))
            assert metric.compute(np.asarray(sums)) == pytest.approx(value, abs=3e-3)


def test_a_weight_counts_a_pair_by_the_product():
    made, labels = examples(0.8)
    times = np.ones(len(labels), np.int32)
    times[-1] = 3  # the class with one example, whose copies would be pairs themselves
    metric = pair_auc()
    got = metric.measure(jnp.asarray(made), jnp.asarray(labels), jnp.asarray(times, jnp.float32))
    repeated = np.repeat(np.arange(len(labels)), times)
    copies = metric.measure(jnp.asarray(made[repeated]), jnp.asarray(labels[repeated]), None)
    np.testing.assert_array_equal(got[0], copies[0])
    assert copies[1].sum() - got[1].sum() == 3


def test_nothing_to_measure_is_nan():
    made, labels = examples(0.8)
    for some in (labels == 0, labels == 6):
        sums = pair_auc().measure(jnp.asarray(made[some]), jnp.asarray(labels[some]), None)
        assert np.isnan(pair_auc().compute(np.asarray(sums)))


@pytest.mark.parametrize("spread", SPREADS)
def test_identification_equals_a_plain_search(spread):
    made, labels = examples(spread)
    ranks, known, strangers = [], [], []
    for i, label in enumerate(labels):
        best = {}
        for j, other in enumerate(labels):
            if j != i:
                best[other] = max(best.get(other, -2), float(np.dot(made[i], made[j])))
        strangers.append(max(score for other, score in best.items() if other != label))
        if label in best:
            known.append(best[label])
            ranks.append(sorted(best, key=best.get, reverse=True).index(label) + 1)
    matches = cumulative_matches(made, labels)
    np.testing.assert_allclose(matches, [np.mean(np.array(ranks) <= k) for k in range(1, 8)])
    assert rank(matches) == np.mean(np.array(ranks) == 1) and matches[-1] == 1
    for got, wanted in zip(open_set_scores(made, labels), (known, strangers), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_refuses():
    made, labels = examples(0.8)
    with pytest.raises(InputError, match="genuine: there is no such pair"):
        roc(*pairs_of(made, np.arange(len(labels))))
    with pytest.raises(InputError, match="no class has two examples"):
        cumulative_matches(made, np.arange(len(labels)))
    with pytest.raises(InputError, match="k=8 must be a whole number from 1 to 7"):
        rank(cumulative_matches(made, labels), 8)
    with pytest.raises(InputError, match=r"far=0 must be in \(0, 1\)"):
        true_accept_rate(0)
    with pytest.raises(InputError, match="make pairs, not"):
        pair_auc().measure(jnp.zeros((3, 2)), jnp.zeros((3, 2), jnp.int32), None)
