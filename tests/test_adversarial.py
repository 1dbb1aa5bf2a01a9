"""The learner of adversarial networks, against updates by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_bits
from scipy.special import expit

import jaxnets as jn
from jaxnets.errors import InputError
from jaxnets.learners.adversarial import HINGE, NON_SATURATING, WASSERSTEIN, adversarial
from jaxnets.models import StridedDecoder, StridedEncoder
from jaxnets.network import Coded, Network
from jaxnets.transforms.averaged import averaged

REAL = np.random.default_rng(0).normal(1.0, 0.5, (8, 2)).astype(np.float32)
W, B, RATE = np.array([0.5, -2.0]), np.array([-0.3, 0.7]), 0.1
# A discriminator that is a product with w, and a generator that makes b whatever its codes: their steps can be written.
SCORE = Network(lambda key: ({"w": jnp.asarray(W, jnp.float32)}, {}), lambda p, s, x, **_: (x @ p["w"][:, None], s))
POINT = Network(
    lambda key: ({"b": jnp.asarray(B, jnp.float32)}, {}),
    lambda p, s, codes, **_: (jnp.broadcast_to(p["b"], (len(codes), 2)), s),
)


def by_hand(game: str, w: np.ndarray, b: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return w and b after one step of gradient descent each."""
    scores, fake = real @ w, b @ w
    if game == "non-saturating":
        slope = (-expit(-scores)[:, None] * real).mean(0) + expit(fake) * b
    elif game == "hinge":
        slope = (-1.0 * (scores < 1)[:, None] * real).mean(0) + (fake > -1) * b
    else:
        norm = np.linalg.norm(w)
        slope = b - real.mean(0) + 10 * 2 * (norm - 1) * w / norm
    w = w - RATE * slope
    return w, b + RATE * (expit(-(b @ w)) if game == "non-saturating" else 1.0) * w


GAMES = {"non-saturating": NON_SATURATING, "hinge": HINGE, "wasserstein": WASSERSTEIN}


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("discriminator_steps", [1, 2])
def test_a_step_is_the_one_by_hand(game, discriminator_steps):
    learner = adversarial(
        POINT, SCORE, 3, optax.sgd(RATE), optax.sgd(RATE), game=GAMES[game], discriminator_steps=discriminator_steps
    )
    state, metrics = jax.jit(learner.step)(learner.init(jax.random.key(0)), {"inputs": REAL}, jax.random.key(1))
    w, b = W, B
    for i, part in enumerate(np.split(REAL.astype(np.float64), discriminator_steps)):
        w, moved = by_hand(game, w, B, part)
        b = moved if i == discriminator_steps - 1 else b
    np.testing.assert_allclose(state.params["discriminator"]["w"], w, rtol=1e-5)
    np.testing.assert_allclose(state.params["generator"]["b"], b, rtol=1e-5)
    assert state.step == 1
    assert metrics["loss"].count == len(REAL) // discriminator_steps


def linear(size: int, weights: np.ndarray) -> Network:
    """Return a product with [size, D] weights, its parameters."""
    return Network(
        lambda key: ({"w": jnp.asarray(weights, jnp.float32).reshape(size, -1)}, {}),
        lambda p, s, x, **_: (x @ p["w"], s),
    )


@pytest.mark.slow
def test_a_conditional_step_is_the_one_by_hand():
    """Scores that depend on point and class, and a generator that makes one point a class (its codes count for 0)."""
    labels = np.array([0, 1, 1, 0, 1, 1, 1, 0])
    w, points = np.array([0.5, -2.0, 1.0, -0.7]), np.array([[0.3, -1.0], [1.2, 0.4]])
    generator, discriminator = linear(5, np.concatenate([np.zeros((3, 2)), points])), linear(4, w)
    learner = adversarial(generator, discriminator, 3, optax.sgd(RATE), optax.sgd(RATE), num_classes=2)
    batch = {"inputs": REAL, "labels": labels}
    state, _ = learner.step(learner.init(jax.random.key(0)), batch, jax.random.key(1))
    real, fake = (np.concatenate([x, np.eye(2)[labels]], 1) for x in (REAL.astype(np.float64), points[labels]))
    w = w - RATE * (-expit(-(real @ w))[:, None] * real + expit(fake @ w)[:, None] * fake).mean(0)
    slopes = -expit(-(fake @ w))[:, None] * w[:2]
    for number in (0, 1):
        points[number] -= RATE * slopes[labels == number].sum(0) / len(labels)
    np.testing.assert_allclose(state.params["discriminator"]["w"][:, 0], w, rtol=1e-5)
    np.testing.assert_allclose(state.params["generator"]["w"][3:], points, rtol=1e-5)


@pytest.mark.slow
def test_the_penalty_is_of_points_between_real_and_generated_ones():
    """With score s |x|^2 / 2, real points at 0 and generated ones at b, slopes are s |b| t, t uniform in 0 to 1."""
    s = 0.8
    score = Network(
        lambda key: ({"s": jnp.float32(s)}, {}),
        lambda p, m, x, **_: (p["s"] * jnp.square(x).sum(1, keepdims=True) / 2, m),
    )
    learner = adversarial(POINT, score, 3, optax.sgd(RATE), optax.sgd(RATE), game=WASSERSTEIN)
    batch = {"inputs": np.zeros((20_000, 2), np.float32)}
    state, _ = learner.step(learner.init(jax.random.key(0)), batch, jax.random.key(1))
    size = np.linalg.norm(B)
    slope = size**2 / 2 + 10 * 2 * (s * size**2 / 3 - size / 2)
    np.testing.assert_allclose(state.params["discriminator"]["s"], s - RATE * slope, rtol=5e-3)


@pytest.mark.slow
def test_batch_statistics_are_each_players_own():
    """The generator's move once a step; the discriminator's by real and by generated images, not for the generator."""
    learner = images_learner()
    before = learner.init(jax.random.key(0))
    after, _ = learner.step(before, {"inputs": IMAGES[:8]}, jax.random.key(1))
    mean = after.model_state["generator"]["first"]["norm"]["mean"]
    assert np.abs(mean - before.model_state["generator"]["first"]["norm"]["mean"]).max() > 0
    variances = after.model_state["discriminator"]["convs"][1]["norm"]["var"] - 0.99**2  # two moves of a hundredth
    assert (variances > 0).all() and np.abs(variances).max() < 0.01 * 100


def images_learner(num_classes: int = 0, **options) -> jn.Learner:
    generator = jn.network(StridedDecoder, 4 + num_classes, (8, 8, 1), (6, 4), out_activation=jnp.tanh)
    discriminator = jn.network(StridedEncoder, (8, 8, 1 + num_classes), (4, 6), 1, norm="batch", dropout=0.2)
    tx = optax.adam(1e-3)
    return adversarial(
        generator, discriminator, 4, tx, tx, num_classes=num_classes, target=lambda x: x / 8 - 1, **options
    )


IMAGES = np.random.default_rng(0).integers(0, 17, (48, 8, 8, 1)).astype(np.uint8)
LABELS = np.arange(48) % 3


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize(
    "game", [NON_SATURATING, *(pytest.param(game, marks=pytest.mark.release) for game in (HINGE, WASSERSTEIN))]
)
def test_it_trains_like_any_learner(game):
    """The same loop, population, average and resume, with batch statistics and dropout on the way."""
    learner = averaged(images_learner(game=game), 0.9)
    data = jn.Data(inputs=IMAGES)
    options = {"batch_size": 8, "progress": False, "validation": data}
    both = jn.fit(jn.population(learner, 2), data, seed=(0, 1), duration=12, **options)
    alone = jn.fit(learner, data, seed=1, duration=12, **options)
    assert_same_bits(jax.tree.map(lambda leaf: leaf[1], both.state), alone.state)
    assert set(alone.history[-1]) >= {"train/loss", "train/generator_loss", "validation/fooled"}
    assert jn.predict(learner, alone.state, Coded(np.zeros((3, 4), np.float32))).shape == (3, 8, 8, 1)
    assert jn.predict(learner, alone.state, IMAGES[:5]).shape == (5,)


@pytest.mark.slow
def test_a_conditional_network_is_given_the_class():
    learner = images_learner(num_classes=3)
    data = jn.Data(inputs=IMAGES, labels=LABELS)
    state = jn.fit(learner, data, duration=5, batch_size=8, validation=data, progress=False).state
    codes = np.concatenate([np.zeros((3, 4)), np.eye(3)], 1).astype(np.float32)
    made = jn.predict(learner, state, Coded(codes))
    assert np.abs(made[0] - made[1]).max() > 0
    assert jn.predict(learner, state, IMAGES[:5]).shape == (5,)
    with pytest.raises(InputError, match=r"labels range from 1 to 3, outside 0\.\.2"):
        learner.check({"inputs": IMAGES, "labels": LABELS + 1})
    with pytest.raises(InputError, match="no labels"):
        learner.check({"inputs": IMAGES})


def test_refuses():
    learner = images_learner(discriminator_steps=3)
    state = learner.init(jax.random.key(0))
    with pytest.raises(InputError, match="discriminator_steps=3 does not divide the batch of 8"):
        learner.step(state, {"inputs": IMAGES[:8]}, jax.random.key(0))
    with pytest.raises(InputError, match="takes no mask"):
        learner.step(state, {"inputs": IMAGES[:6], "mask": np.ones(6)}, jax.random.key(0))
    with pytest.raises(InputError, match=r"makes examples of shape \(8, 8, 1\), but the data's are \(4, 4, 1\)"):
        learner.check({"inputs": IMAGES[:, :4, :4]})
    with pytest.raises(InputError, match=r"outputs of shape \(2, 2\), not one score each, \(2, 1\)"):
        adversarial(POINT, linear(2, np.zeros((2, 2))), 3, optax.sgd(1.0), optax.sgd(1.0)).check({"inputs": REAL})
    with pytest.raises(InputError, match="give the number of each class"):
        images_learner(num_classes=3).check({"inputs": IMAGES, "labels": LABELS + 0.5})
    with pytest.raises(InputError, match="discriminator_steps=0"):
        images_learner(discriminator_steps=0)
    with pytest.raises(InputError, match=r"population\(learner, 2\)"):
        learner.init(jax.random.split(jax.random.key(0)))
