"""Evaluation and prediction over every example exactly once."""

import chex
import jax
import numpy as np
import pytest
from helpers import small_learner

import jaxnets as jn
from jaxnets import metrics


@pytest.mark.parametrize("batch_size", [1, 7, 50, 150, 1000])
def test_means_are_exact_over_uneven_batches(batch_size, blobs):
    learner = small_learner()
    state = learner.init(jax.random.key(0))
    outputs = np.asarray(learner.predict(state, blobs["inputs"]))
    losses = np.asarray(jn.losses.softmax_cross_entropy(outputs, blobs["labels"]), np.float64)
    got = jn.evaluate(learner, state, blobs, batch_size=batch_size)
    assert got["accuracy"] == np.mean(np.argmax(outputs, -1) == blobs["labels"])
    assert got["loss"] == pytest.approx(losses.mean(), rel=1e-6)


def test_the_last_batch_needs_no_second_trace(blobs):
    learner = small_learner()
    chex.clear_trace_counter()
    traced = learner._replace(evaluate=chex.assert_max_traces(learner.evaluate, n=1))
    jn.evaluate(traced, learner.init(jax.random.key(0)), blobs, batch_size=64)


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_predictions_in_order(batch_size, blobs):
    learner = small_learner()
    state = learner.init(jax.random.key(0))
    got = jn.predict(learner, state, blobs["inputs"], batch_size=batch_size)
    np.testing.assert_allclose(got, learner.predict(state, blobs["inputs"]), rtol=1e-5, atol=1e-6)
    many = jn.population(learner, 2)
    got = jn.predict(many, many.init(jax.random.split(jax.random.key(0))), blobs["inputs"], batch_size=batch_size)
    assert got.shape == (2, 150, 3)


def test_sums_add_up_in_float64():
    parts = [{"loss": metrics.Mean(np.float32(2**24), np.int32(1))}, {"loss": metrics.Mean(np.float32(1), np.int32(1))}]
    assert metrics.compute(metrics.add_up(parts)) == {"loss": (2**24 + 1) / 2}


def test_a_mean_over_nothing_is_nan():
    assert np.isnan(metrics.compute({"loss": metrics.Mean(np.float32(0), np.int32(0))})["loss"])


def test_nothing_to_evaluate():
    learner = small_learner()
    with pytest.raises(jn.InputError, match="no examples to evaluate"):
        jn.evaluate(learner, learner.init(jax.random.key(0)), {"inputs": np.zeros((0, 4)), "labels": np.zeros(0)})
