"""Generation: what is drawn equals the model called over and over on all that came before."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets.errors import InputError
from jaxnets.inference import generation
from jaxnets.inference.generation import beam_search, bernoulli, categorical, generate
from jaxnets.learners.sequences import autoregressive
from jaxnets.models import RNN, EncoderDecoder, SourceTarget, Transformer
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


def test_of_equal_tokens_no_more_are_drawn_from_than_asked_for():
    logits = jnp.zeros((2_000, 5))
    assert set(np.unique(categorical(top_k=2)(jax.random.key(0), logits))) == {0, 1}
    assert set(np.unique(categorical(top_p=0.5)(jax.random.key(0), logits))) == {0, 1, 2}


def test_draws_from_the_likeliest_only():
    probabilities = np.array([0.1, 0.4, 0.05, 0.3, 0.15])
    logits = jnp.tile(jnp.log(probabilities), (20_000, 1))
    for options, kept in (({"top_k": 2}, [1, 3]), ({"top_p": 0.75}, [1, 3, 4]), ({"top_p": 0.7}, [1, 3])):
        shares = np.bincount(categorical(**options)(jax.random.key(0), logits), minlength=5) / 20_000
        wanted = np.where(np.isin(np.arange(5), kept), probabilities, 0)
        np.testing.assert_allclose(shares, wanted / wanted.sum(), atol=0.015)
    both = categorical(top_k=3, top_p=0.6)(jax.random.key(0), logits)  # of 0.47, 0.35 and 0.18
    assert set(np.unique(both)) == {1, 3}
    # Temperature comes first: at 0.5 the shares are as their squares, 0.58 for the likeliest.
    assert set(np.unique(categorical(0.5, top_p=0.55)(jax.random.key(0), logits))) == {1}


@pytest.fixture(scope="module")
def model():
    """Return a learner of 4 tokens, random, and its state."""
    options = {"max_length": 8, "tokens": True, "causal": True, "kernel_init": jax.nn.initializers.normal(0.5)}
    network = jn.network(Transformer, 4, 8, 1, 2, 4, **options)
    learner = autoregressive(jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1)))
    return learner, learner.init(jax.random.key(5))


class TestBeamSearch:
    """Against every sequence there is, of a random GPT of 4 tokens."""

    LENGTH, END = 5, 3

    def every(self, model, prompt, penalty):
        """Return score and tokens of each sequence that ends in time, the best first, in float64."""
        learner, state = model
        grid = np.stack(np.meshgrid(*[range(4)] * self.LENGTH, indexing="ij"), -1).reshape(-1, self.LENGTH)
        whole = np.concatenate([np.tile(prompt, (len(grid), 1)), grid], 1)
        logits = np.asarray(jax.jit(learner.predict)(state, whole[:, :-1]), np.float64)[:, len(prompt) - 1 :]
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        each = np.take_along_axis(logs, grid[..., None], 2)[..., 0]
        found = {}
        for tokens, values in zip(grid, each, strict=True):
            if self.END in tokens:
                count = int(np.argmax(tokens == self.END)) + 1
                kept = (*tokens[:count].tolist(), *[self.END] * (self.LENGTH - count))
                found[kept] = values[:count].sum() / ((5 + count) / 6) ** penalty
        return sorted(((score, tokens) for tokens, score in found.items()), reverse=True)

    @pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
    def test_wide_enough_it_finds_the_best_of_all(self, model, penalty):
        prompts = np.array([[0, 1], [2, 0]])
        found = beam_search(
            *model, jnp.asarray(prompts), self.LENGTH, end=self.END, num_beams=256, length_penalty=penalty
        )
        for row, prompt in enumerate(prompts):
            wanted = self.every(model, prompt, penalty)[:5]
            np.testing.assert_allclose(found.scores[row, :5], [score for score, _ in wanted], atol=1e-4)
            assert [tuple(tokens.tolist()) for tokens in found.tokens[row, :5]] == [tokens for _, tokens in wanted]

    def test_one_beam_is_greedy(self, model):
        prompts = jnp.array([[0, 1], [2, 0], [1, 1]])
        found = beam_search(*model, prompts, self.LENGTH, end=self.END, num_beams=1, length_penalty=0.0).tokens[:, 0]
        greedy = np.asarray(generate(*model, prompts, self.LENGTH, jax.random.key(0), categorical(0.0)))
        for got, wanted in zip(np.asarray(found), greedy, strict=True):
            count = int(np.argmax(wanted == self.END)) + 1 if self.END in wanted else self.LENGTH
            np.testing.assert_array_equal(got[:count], wanted[:count])

    def test_refuses(self, model):
        with pytest.raises(InputError, match="num_beams=0"):
            beam_search(*model, jnp.zeros((1, 1), int), 3, end=3, num_beams=0)
        with pytest.raises(InputError, match="end=4 is no token of 0"):
            beam_search(*model, jnp.zeros((1, 1), int), 3, end=4)
        with pytest.raises(InputError, match="range from 0 to 4, outside 0"):
            generate(*model, jnp.array([[0, 4]]), 3, jax.random.key(0))
        with pytest.raises(InputError, match=r"top_p=0\.0"):
            categorical(top_p=0.0)


@pytest.mark.slow
def test_an_encoder_decoder_goes_on_with_what_it_has_written():
    network = jn.network(
        EncoderDecoder, 7, 8, 1, 2, max_length=9, padding=0, kernel_init=jax.nn.initializers.normal(0.5)
    )
    learner = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1))
    state = learner.init(jax.random.key(0))
    source, target = jnp.array([[3, 4, 5, 0], [6, 1, 0, 0]]), jnp.array([[1], [1]])
    drawn = generate(learner, state, SourceTarget(source, target), 6, jax.random.key(0), categorical(0.0))
    for _ in range(6):
        logits = learner.predict(state, SourceTarget(source, target))
        target = jnp.concatenate([target, logits[:, -1:].argmax(-1)], 1)
    assert drawn.tolist() == target[:, 1:].tolist()
    found = beam_search(learner, state, SourceTarget(source, target[:, :1]), 6, end=2, num_beams=3)
    alone = beam_search(learner, state, SourceTarget(source[1:], target[1:, :1]), 6, end=2, num_beams=3)
    assert found.tokens[1].tolist() == alone.tokens[0].tolist()
