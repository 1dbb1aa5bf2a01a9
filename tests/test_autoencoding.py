"""The learners of autoencoders, against formulas in float64 and integrals by quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from scipy import special, stats

import jaxnets as jn
from jaxnets.data import augment
from jaxnets.errors import InputError
from jaxnets.learners.autoencoding import reconstructing, variational
from jaxnets.models import MLP
from jaxnets.network import Coded, example_keys, reshaped, standardized
from jaxnets.transforms.augmented import augmented
from jaxnets.transforms.averaged import averaged

SHAPE = (4, 4, 1)
X = np.random.default_rng(0).integers(0, 2, (40, *SHAPE)).astype(np.uint8)
GREY = np.random.default_rng(1).integers(0, 256, (40, *SHAPE)).astype(np.uint8)


def networks(code: int = 3, width: int | None = None, inner=jn.network):
    encoder = inner(MLP, 16, (8,), width or code)
    return encoder, reshaped(jn.network(MLP, code, (8,), 16), SHAPE)


def small_vae(code: int = 3, **options) -> jn.Learner:
    return variational(*networks(code, 2 * code), optax.adam(1e-2), **options)


class TestReconstructing:
    @pytest.mark.slow
    def test_the_loss_is_that_of_the_clean_inputs(self):
        encoder, decoder = networks()
        learner = reconstructing(
            standardized(encoder, (0.0,), (255.0,)),
            decoder,
            jn.losses.mse,
            optax.sgd(0.0),
            corrupt=lambda key, x: jnp.zeros_like(x),
            target=lambda x: x / 255,
        )
        state = learner.init(jax.random.key(0))
        _, sums = learner.step(state, {"inputs": GREY}, jax.random.key(1))
        made = learner.predict(state, np.zeros_like(GREY)).outputs  # what the encoder is given is black
        np.testing.assert_allclose(sums["loss"].total / sums["loss"].count, np.square(made - GREY / 255).mean(), 1e-5)
        held_out = learner.evaluate(state, {"inputs": np.zeros_like(GREY), "clean": GREY})["loss"]
        np.testing.assert_allclose(held_out.total / held_out.count, np.square(made - GREY / 255).mean(), 1e-5)

    @pytest.mark.slow
    def test_codes_go_in_and_out(self):
        learner = reconstructing(*networks(), jn.losses.mse, optax.adam(1e-2))
        result = jn.fit(learner, jn.Data(inputs=X.astype(np.float32)), duration="30ep", batch_size=8, progress=False)
        assert result.history[-1]["train/loss"] < 0.5 * result.history[0]["train/loss"]
        coded = jn.predict(learner, result.state, X.astype(np.float32))
        assert coded.codes.shape == (40, 3)
        np.testing.assert_allclose(jn.predict(learner, result.state, Coded(coded.codes)).outputs, coded.outputs, 1e-5)

    @pytest.mark.slow
    def test_a_population_has_the_bits_of_its_members(self):
        learner = averaged(reconstructing(*networks(), jn.losses.mse, optax.adam(1e-2)), 0.9)
        data = jn.Data(inputs=X.astype(np.float32))
        both = jn.fit(jn.population(learner, 2), data, seed=(0, 1), duration=20, batch_size=8, progress=False)
        alone = jn.fit(learner, data, seed=1, duration=20, batch_size=8, progress=False)
        for a, b in zip(jax.tree.leaves(both.state), jax.tree.leaves(alone.state), strict=True):
            np.testing.assert_array_equal(a[1], b)

    def test_refuses_outputs_of_another_shape(self):
        learner = reconstructing(*networks(), jn.losses.mse, optax.adam(1e-2))
        with pytest.raises(InputError, match="mse: outputs of shape"):
            learner.check({"inputs": X.reshape(40, 16)})


class TestVariational:
    def test_the_loss_is_the_negative_evidence_lower_bound(self):
        learner = small_vae()
        state = learner.init(jax.random.key(0))
        sums = learner.evaluate(state, {"inputs": X})
        encoder, decoder = networks(3, 6)
        moments = np.asarray(encoder.apply(state.params["encoder"], {}, X.astype(np.float32))[0], np.float64)
        mean, log_variance = np.split(moments, 2, 1)
        noise = np.stack([jax.random.normal(key, (3,)) for key in example_keys(X)])
        codes = mean + np.exp(log_variance / 2) * noise
        logits = np.asarray(decoder.apply(state.params["decoder"], {}, codes.astype(np.float32))[0], np.float64)
        distortion = -np.where(X, special.log_expit(logits), special.log_expit(-logits)).sum((1, 2, 3))
        # The divergence of two normal distributions, from its definition: the mean of log q - log p under q.
        nodes, weights = np.polynomial.hermite_e.hermegauss(20)
        at = mean[..., None] + np.exp(log_variance / 2)[..., None] * nodes
        q = stats.norm.logpdf(at, mean[..., None], np.exp(log_variance / 2)[..., None])
        kl = ((q - stats.norm.logpdf(at)) * weights / weights.sum()).sum((1, 2))
        for name, expected in {"distortion": distortion, "kl": kl, "loss": distortion + kl}.items():
            np.testing.assert_allclose(sums[name].total / sums[name].count, expected.mean(), rtol=1e-5)

    @pytest.mark.slow
    def test_many_importance_samples_approach_the_likelihood(self):
        learner = small_vae(1, importance_samples=3000)
        data = jn.Data(inputs=X)
        state = jn.fit(learner, data, duration=200, batch_size=40, progress=False).state
        sums = jax.jit(learner.evaluate)(state, {"inputs": X})
        _, decoder = networks(1, 2)
        grid = np.linspace(-8, 8, 2001)
        logits = np.asarray(decoder.apply(state.params["decoder"], {}, grid[:, None].astype(np.float32))[0], np.float64)
        log_p = np.where(X[:, None], special.log_expit(logits), special.log_expit(-logits)).sum((2, 3, 4))
        exact = -special.logsumexp(log_p + stats.norm.logpdf(grid) + np.log(grid[1] - grid[0]), axis=1)
        nll, loss = (float(sums[name].total / sums[name].count) for name in ("nll", "loss"))
        assert abs(nll - exact.mean()) < 0.02
        assert abs(loss - exact.mean()) > 0.05  # one code an example is far off: the test would see it

    def test_an_examples_loss_depends_on_nothing_else(self):
        learner = small_vae(importance_samples=2)
        state = learner.init(jax.random.key(0))
        whole, parts = (jn.evaluate(learner, state, {"inputs": X}, batch_size=size) for size in (40, 7))
        for name in whole:
            np.testing.assert_allclose(whole[name], parts[name], rtol=1e-5)

    @pytest.mark.slow
    def test_gradients_against_finite_differences(self):
        with jax.enable_x64(True):
            encoder, decoder = (jn.network(MLP, a, (4,), b, dtype=jnp.float64) for a, b in ((16, 4), (2, 16)))
            learner = variational(encoder, decoder, optax.sgd(1.0))
            state = learner.init(jax.random.key(0))
            state = state.replace(params=jax.tree.map(lambda leaf: leaf.astype(jnp.float64), state.params))
            batch = {"inputs": X[:5].reshape(5, 16)}

            def loss(params):
                sums = learner.step(state.replace(params=params), batch, jax.random.key(1))[1]
                return sums["distortion"].total + sums["kl"].total

            check_grads(loss, (state.params,), order=1, modes=("rev",), atol=2e-2, rtol=2e-2, eps=1e-4)

    @pytest.mark.slow
    def test_training_lowers_the_loss_whatever_wraps_it(self):
        encoder, decoder = networks(3, 6)
        options = {"target": lambda x: x / 255}
        learner = variational(standardized(encoder, (0.0,), (255.0,)), decoder, optax.adam(1e-2), **options)
        learner = averaged(augmented(learner, augment.binarize()), 0.9)
        binary = np.asarray(augment.binarize()(jax.random.key(0), jnp.asarray(GREY)))
        held_out = jn.Data(inputs=binary)
        result = jn.fit(
            learner, jn.Data(inputs=GREY), validation=held_out, duration="40ep", batch_size=8, progress=False
        )
        assert result.history[-1]["validation/loss"] < result.history[0]["validation/loss"] - 0.5
        assert result.history[-1]["validation/kl"] > 0

    def test_refuses_targets_that_are_no_probabilities(self):
        with pytest.raises(InputError, match=r"labels range from .*outside 0\.\.1"):
            small_vae().check({"inputs": GREY})

    def test_refuses_what_would_broadcast(self):
        encoder, decoder = networks(3, 6)
        flat = jn.network(MLP, 3, (8,), 16)
        cases = {
            r"outputs of shape \(2, 16\), not the targets' \(2, 4, 4, 1\)": variational(encoder, flat, optax.sgd(1.0)),
            "it must make moments": variational(networks(3, 5)[0], decoder, optax.sgd(1.0)),
            "it must give one an example": variational(
                encoder, decoder, optax.sgd(1.0), nll=jn.losses.sigmoid_cross_entropy
            ),
        }
        for message, learner in cases.items():
            with pytest.raises(InputError, match=message):
                learner.check({"inputs": X})


def test_an_example_has_its_own_key():
    for x in (X, X.astype(np.float32) + 0.5, X.astype(np.int32)):
        keys = jax.random.key_data(example_keys(jnp.asarray(x)))
        assert len(np.unique(keys, axis=0)) == len(np.unique(x, axis=0))
        np.testing.assert_array_equal(jax.random.key_data(example_keys(jnp.asarray(x[7:9]))), keys[7:9])
    swapped = X[:1].reshape(1, -1)[:, ::-1].reshape(1, *SHAPE)  # the same numbers in another order
    assert (jax.random.key_data(example_keys(swapped)) != jax.random.key_data(example_keys(X[:1]))).any()


def test_outputs_are_not_reshaped_across_examples():
    network = reshaped(jn.network(MLP, 3, (), 16), (2, 2, 1))
    with pytest.raises(InputError, match=r"outputs of shape \(5, 16\) cannot be examples of shape \(2, 2, 1\)"):
        network.apply(*network.init(jax.random.key(0)), np.zeros((5, 3), np.float32))
