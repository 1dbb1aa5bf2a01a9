"""Schedules, weight decay and clipping by name, and what they refuse."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnets import InputError
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer, make_schedule

RULES = ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "muon"]


def rates(num_steps=100, **kwargs):
    schedule = make_schedule(OptimizerConfig(learning_rate=0.1, **kwargs), num_steps)
    return np.array([schedule(jnp.int32(step)) for step in range(num_steps)])


def test_schedules():
    np.testing.assert_allclose(rates(schedule="constant"), 0.1)
    cosine = rates(schedule="cosine")
    np.testing.assert_allclose(cosine, 0.05 * (1 + np.cos(np.pi * np.arange(100) / 100)), atol=1e-8)
    warm = rates(schedule="cosine", warmup=10)
    np.testing.assert_allclose(warm[:10], np.arange(1, 11) / 100, atol=1e-7)  # the first step has a rate, too
    np.testing.assert_allclose(warm[10:], 0.05 * (1 + np.cos(np.pi * np.arange(90) / 90)), atol=1e-8)
    assert rates(schedule="constant", warmup=10)[8:].tolist() == pytest.approx([0.09] + [0.1] * 91)
    cycle = rates(schedule="one-cycle")
    assert cycle.argmax() == 30 and cycle.max() == pytest.approx(0.1) and cycle[0] < 0.01 and cycle[-1] < 1e-3
    test = rates(schedule="range-test")
    np.testing.assert_allclose(np.diff(np.log(test)), np.log(1e6) / 100, rtol=1e-3)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle", "range-test"])
def test_the_shortest_run_has_a_finite_rate(schedule):
    assert np.isfinite(rates(num_steps=1, schedule=schedule)).all()


def test_a_duration_in_time_needs_a_constant_rate():
    with pytest.raises(InputError, match=r"schedule='cosine' needs the number of steps.*--schedule constant"):
        make_schedule(OptimizerConfig(), None)
    make_schedule(OptimizerConfig(schedule="constant"), None)


@pytest.mark.parametrize("rule", RULES)
def test_decay_leaves_biases_and_norms_alone(rule):
    tx = make_optimizer(OptimizerConfig(rule, learning_rate=0.1, schedule="constant", weight_decay=0.1), 10)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "norm": {"scale": jnp.ones(2)}}
    zeros = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2), "norm": {"scale": jnp.zeros(2)}}
    updates, _ = tx.update(zeros, tx.init(params), params)
    assert (updates["kernel"] < 0).all()
    assert (updates["bias"] == 0).all() and (updates["norm"]["scale"] == 0).all()


def test_muon_makes_matrices_nearly_orthogonal_and_leaves_the_rest_to_adam():
    """Jordan et al. (2024): the gradient's singular vectors, its singular values all about 1."""
    tx = make_optimizer(OptimizerConfig("muon", learning_rate=0.1, schedule="constant", momentum=0.95), 10)
    gradient = np.random.default_rng(0).normal(size=(6, 4)) * np.logspace(-1, 1, 4)
    grads = {"kernel": jnp.asarray(gradient, jnp.float32), "bias": jnp.array([3.0, -0.5])}
    updates, _ = tx.update(grads, tx.init(grads), grads)
    u, _, vt = np.linalg.svd(gradient, full_matrices=False)
    turned = -u.T @ np.asarray(updates["kernel"]) @ vt.T / 0.1
    np.testing.assert_allclose(turned, np.diag(np.diag(turned)), atol=1e-4)
    assert (np.diag(turned) > 0.6).all() and (np.diag(turned) < 1.3).all()
    bias = np.asarray(updates["bias"])
    assert bias[0] == pytest.approx(-bias[1], rel=1e-3) and -0.2 < bias[0] < -0.1  # sign descent, with momentum ahead


@pytest.mark.slow
def test_muon_leaves_embeddings_to_adam_at_its_own_rate():
    params = {
        "embed": {"embedding": jnp.ones((6, 4))},
        "position_embedding": jnp.ones((5, 4)),
        "kernel": jnp.eye(4),
        "bias": jnp.ones(4),
    }
    shared = {"momentum": 0.9, "schedule": "cosine", "warmup": 3}
    beside = make_optimizer(OptimizerConfig("muon", learning_rate=0.1, adam_rate=0.02, **shared), 10)
    adam = optax.nadam(make_schedule(OptimizerConfig(learning_rate=0.02, **shared), 10), 0.9)
    muon = make_optimizer(OptimizerConfig("muon", learning_rate=0.1, **shared), 10)
    states = [tx.init(params) for tx in (beside, adam, muon)]
    random = np.random.default_rng(0)
    for _ in range(4):
        grads = {
            name: jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), jnp.float32), leaf)
            for name, leaf in params.items()
        }
        updates = []
        for i, tx in enumerate((beside, adam, muon)):
            update, states[i] = tx.update(grads, states[i], params)
            updates.append(update)
    chex.assert_trees_all_close(updates[0]["kernel"], updates[2]["kernel"], rtol=1e-4)
    for name in ("embed", "position_embedding", "bias"):
        chex.assert_trees_all_close(updates[0][name], updates[1][name], rtol=1e-5)


def test_adam_has_a_rate_of_its_own_beside_muon_only():
    with pytest.raises(
        InputError, match=r"adam_rate=0\.1 is beside muon; adamw has its --learning-rate alone: --adam-rate None"
    ):
        OptimizerConfig(adam_rate=0.1)


def test_clipping_scales_the_global_norm():
    tx = make_optimizer(OptimizerConfig("sgd", learning_rate=1.0, schedule="constant", clip_norm=1.0), 10)
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    updates, _ = tx.update(grads, tx.init(grads), grads)
    assert optax.tree.norm(updates) == pytest.approx(1.0)
    assert updates["b"] / updates["a"] == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0.0),
        ("warmup", -1),
        ("adam_rate", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -0.1),
        ("clip_norm", 0.0),
        ("accumulate", 0),
        ("average", 1.0),
    ],
)
def test_values_out_of_range_are_errors(field, value):
    with pytest.raises(InputError, match=f"{field}={value} must be"):
        OptimizerConfig(**{field: value})


def test_a_warm_up_longer_than_the_run_is_an_error():
    with pytest.raises(InputError, match="warmup=10 is not shorter than the run of 10 steps"):
        make_schedule(OptimizerConfig(warmup=10), 10)
