"""Evaluation and prediction over every example exactly once."""

import sys

import chex
import jax
import numpy as np
import optax
import pytest
from helpers import small_learner
from jax import monitoring

import jaxnets as jn
from jaxnets import metrics
from jaxnets.training.evaluation import groups


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


def test_what_was_compiled_serves_again(blobs):
    learner, compiled, before = small_learner(), [], 0
    state = learner.init(jax.random.key(0))

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        compiled.extend([event] * ("backend_compile" in event))

    monitoring.register_event_duration_secs_listener(listen)
    try:
        for seed in (1, 2):
            before = len(compiled)
            other = blobs.split(0.3, seed=seed)[0]  # as many rows
            jn.evaluate(learner, state, other, batch_size=64)
            jn.predict(learner, state, other["inputs"], batch_size=64)
    finally:
        monitoring.unregister_event_duration_listener(listen)
    assert before > 0 and len(compiled) == before


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_predictions_in_order(batch_size, blobs):
    learner = small_learner()
    state = learner.init(jax.random.key(0))
    got = jn.predict(learner, state, blobs["inputs"], batch_size=batch_size)
    np.testing.assert_allclose(got, learner.predict(state, blobs["inputs"]), rtol=1e-5, atol=1e-6)
    many = jn.population(learner, 2)
    got = jn.predict(many, many.init(jax.random.split(jax.random.key(0))), blobs["inputs"], batch_size=batch_size)
    assert got.shape == (2, 150, 3)


@pytest.mark.parametrize(("most", "nums"), [(1 << 26, [16, 6]), (7 * 5 * 20, [5, 5, 5, 5, 2]), (1, [1] * 22)])
def test_batches_are_evaluated_together_as_far_as_they_are_small(most, nums, blobs, monkeypatch):
    """150 examples, of 20 bytes each, in batches of 7."""
    monkeypatch.setattr(sys.modules["jaxnets.training.evaluation"], "_MOST_BYTES", most)
    found = list(groups(blobs, 7))
    assert [num for _, num in found] == nums
    shapes = {batches["inputs"].shape for batches, _ in found}
    assert shapes == {(nums[0], 7, 4)}  # for one program
    assert sum(batches["mask"].sum() for batches, _ in found) == 150
    learner = small_learner()
    state = learner.init(jax.random.key(0))
    whole = learner.evaluate(state, blobs)["loss"]
    assert jn.evaluate(learner, state, blobs, batch_size=7)["loss"] == pytest.approx(float(whole.total) / 150, rel=1e-5)


def test_sums_add_up_in_float64():
    parts = [
        {"loss": metrics.Mean(np.array(totals, np.float32), np.ones(len(totals), np.int32))}
        for totals in ([2**24, 1], [1])
    ]
    assert metrics.compute({}, metrics.add_up(parts)) == {"loss": (2**24 + 2) / 3}


def test_a_mean_over_nothing_is_nan():
    assert np.isnan(metrics.compute({}, {"loss": metrics.Mean(np.float32(0), np.int32(0))})["loss"])


def test_nothing_to_evaluate():
    learner = small_learner()
    with pytest.raises(jn.InputError, match="no examples to evaluate"):
        jn.evaluate(learner, learner.init(jax.random.key(0)), {"inputs": np.zeros((0, 4)), "labels": np.zeros(0)})


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_of_nothing(batch_size, blobs):
    learner = small_learner()
    state = learner.init(jax.random.key(0))
    for call in (
        lambda: jn.evaluate(learner, state, blobs, batch_size=batch_size),
        lambda: jn.predict(learner, state, blobs["inputs"], batch_size=batch_size),
    ):
        with pytest.raises(jn.InputError, match=f"batch_size={batch_size} must be a whole number of 1 or more"):
            call()


class TestChecks:
    network = jn.network(jn.models.RNN, 5, (4,), 3, embedding=3)
    learner = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1))
    data = jn.Data(inputs=[[0, 4], [1, 2]], labels=[[0, 2], [1, 1]])

    @pytest.mark.parametrize(("token", "values"), [(5, "0 to 5"), (-1, "-1 to 2")])
    def test_tokens_beyond_the_vocabulary(self, token, values):
        state = self.learner.init(jax.random.key(0))
        wrong = np.array([[0, 1], [2, token]])
        for call in (
            lambda: jn.predict(self.learner, state, wrong),
            lambda: jn.evaluate(self.learner, state, {"inputs": wrong, "labels": np.array([0, 1])}),
        ):
            with pytest.raises(jn.InputError, match=f"tokens range from {values}, outside the vocabulary's 0..4"):
                call()

    def test_labels_out_of_range(self):
        state = self.learner.init(jax.random.key(0))
        with pytest.raises(jn.InputError, match=r"labels range from 0 to 3, outside 0\.\.2"):
            jn.evaluate(self.learner, state, jn.Data(inputs=[[0, 4], [1, 2]], labels=[[0, 3], [0, 1]]))

    def test_a_state_of_another_learner(self, blobs):
        other = small_learner()
        state = other.init(jax.random.key(0))
        for call in (
            lambda state: jn.predict(self.learner, state, self.data["inputs"]),
            lambda state: jn.evaluate(self.learner, state, self.data),
        ):
            with pytest.raises(jn.InputError, match=r"the state is not of this learner: .*missing for \("):
                call(state)
            with pytest.raises(jn.InputError, match="state is of dict; give a TrainState"):
                call(state.params)
        with pytest.raises(jn.InputError, match="the state lacks average, which this learner keeps"):
            jn.evaluate(jn.averaged(other, 0.9), state, blobs)
