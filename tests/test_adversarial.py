"""The learner of adversarial networks, against updates by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_bits
from scipy.special import expit

import jaxnets as jn
from jaxnets.adversarial import HINGE, NON_SATURATING, WASSERSTEIN, adversarial
from jaxnets.errors import InputError
from jaxnets.models import StridedDecoder, StridedEncoder
from jaxnets.network import Coded, Network
from jaxnets.transforms import averaged

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


def images_learner(num_classes: int = 0, **options) -> jn.Learner:
    generator = jn.network(StridedDecoder, 4 + num_classes, (8, 8, 1), (6, 4), out_activation=jnp.tanh)
    discriminator = jn.network(StridedEncoder, (8, 8, 1 + num_classes), (4, 6), 1, norm="batch", dropout=0.2)
    tx = optax.adam(1e-3)
    return adversarial(
        generator, discriminator, 4, tx, tx, num_classes=num_classes, target=lambda x: x / 8 - 1, **options
    )


IMAGES = np.random.default_rng(0).integers(0, 17, (48, 8, 8, 1)).astype(np.uint8)
LABELS = np.arange(48) % 3


@pytest.mark.parametrize(
    "game",
    [NON_SATURATING, pytest.param(HINGE, marks=pytest.mark.slow), pytest.param(WASSERSTEIN, marks=pytest.mark.slow)],
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
    with pytest.raises(InputError, match="discriminator_steps=0"):
        images_learner(discriminator_steps=0)
    with pytest.raises(InputError, match=r"population\(learner, 2\)"):
        learner.init(jax.random.split(jax.random.key(0)))
