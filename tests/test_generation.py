"""Generation: what is drawn equals the model called over and over on all that came before."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets import generation
from jaxnets.errors import InputError
from jaxnets.generation import bernoulli, categorical, generate
from jaxnets.learner import autoregressive
from jaxnets.models import RNN
from jaxnets.nn import GRU


@pytest.fixture(scope="module")
def trained():
    """Return a learner of the sequence 0 1 2 3 4 0 1 ..., and its state."""
    network = jn.network(RNN, 5, (16,), 5, cell=GRU, embedding=8)
    learner = autoregressive(jn.supervised(network, jn.losses.softmax_cross_entropy, optax.adam(2e-2)))
    rows = (np.arange(12) + np.arange(5)[:, None]) % 5
    state = jn.fit(learner, jn.Data(inputs=rows), duration=150, batch_size=5, progress=False).state
    return learner, state


def test_it_goes_on_as_it_was_taught(trained):
    prompts = jnp.array([[3, 4], [0, 1]])
    drawn = generate(*trained, prompts, 7, jax.random.key(0), categorical(0.0))
    assert drawn.tolist() == [[0, 1, 2, 3, 4, 0, 1], [2, 3, 4, 0, 1, 2, 3]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_state_stands_for_all_that_came_before(trained, temperature):
    """The compiled loop, one element at a time from a state, against whole sequences without one."""
    learner, state = trained
    key, draw = jax.random.key(3), categorical(temperature)
    fast = generate(learner, state, jnp.array([[2, 0, 1]]), 5, key, draw)
    slow, predict = jnp.array([[2, 0, 1]]), jax.jit(learner.predict)
    for i in range(5):
        logits = predict(state, slow)[:, -1]
        slow = jnp.concatenate([slow, draw(jax.random.fold_in(key, i), logits)[:, None]], 1)
    assert fast.tolist() == slow[:, 3:].tolist()


def test_one_program_serves_all_temperatures(trained):
    learner, state = trained
    before = generation._generated._cache_size()
    for temperature in (0.5, 0.8, 1.0):
        generate(learner, state, jnp.array([[0, 1, 2, 3]]), 3, jax.random.key(0), categorical(temperature))
    assert generation._generated._cache_size() == before + 1


def test_draws_follow_their_probabilities():
    logits = jnp.tile(jnp.log(jnp.array([0.7, 0.2, 0.1])), (20_000, 1))
    shares = np.bincount(categorical()(jax.random.key(0), logits), minlength=3) / 20_000
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.015)
    sharp = np.bincount(categorical(0.5)(jax.random.key(0), logits), minlength=3) / 20_000
    np.testing.assert_allclose(sharp, np.array([0.49, 0.04, 0.01]) / 0.54, atol=0.015)
    keys = jnp.tile(jnp.array([-1.0, 0.0, 2.0]), (20_000, 1))
    wanted = 1 / (1 + np.exp(-np.array([-1.0, 0.0, 2.0])))
    np.testing.assert_allclose(bernoulli()(jax.random.key(0), keys).mean(0), wanted, atol=0.015)
    assert bernoulli(0.0)(jax.random.key(0), keys[:1]).tolist() == [[False, False, True]]


def test_frames_are_drawn_too():
    network = jn.network(RNN, 3, (4,), 3)
    learner = autoregressive(jn.supervised(network, jn.losses.bernoulli_nll, optax.adam(1e-2)))
    state = learner.init(jax.random.key(0))
    frames = generate(learner, state, jnp.zeros((2, 1, 3), jnp.uint8), 6, jax.random.key(0), bernoulli())
    assert frames.shape == (2, 6, 3) and frames.dtype == jnp.uint8 and set(np.unique(frames)) == {0, 1}


def test_refuses(trained):
    with pytest.raises(InputError, match=r"a prompt of shape \(1, 0\) and length=3"):
        generate(*trained, jnp.zeros((1, 0), jnp.int32), 3, jax.random.key(0))
    with pytest.raises(InputError, match="length=0"):
        generate(*trained, jnp.zeros((1, 1), jnp.int32), 0, jax.random.key(0))
    with pytest.raises(InputError, match="temperature=-1 must be 0"):
        categorical(-1)
