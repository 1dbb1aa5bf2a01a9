"""A step of a generative adversarial network, by this library."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets.bench.jax_peers import Way, compiled_loop
from jaxnets.learner import Learner, TrainState
from jaxnets.learners.adversarial import adversarial
from jaxnets.models import StridedDecoder, StridedEncoder
from jaxnets.network import Network, PyTree, network
from jaxnets.training.chunk import run_keys, step_key

BATCH_SIZE, CODE, STEPS, NUM_BATCHES, LEARNING_RATE = 64, 64, 4, 4, 2e-4
FEATURES = (64, 128)  # channels of the discriminator, from the image on; the generator's are the same backwards
_CONVS = 2 * BATCH_SIZE * 16 * (14 * 14 * 64 + 7 * 7 * 64 * 128)  # of either network, forward
FLOPS = 4 * (_CONVS + 2 * BATCH_SIZE * CODE * 7 * 7 * 128) + 8 * (_CONVS + 2 * BATCH_SIZE * 7 * 7 * 128)


def initial_params() -> PyTree:
    """Return the weights that all start from."""
    return jax.tree.map(np.asarray, _learner().init(run_keys(0)[0]).params)


def images() -> np.ndarray:
    """Return the batches, [NUM_BATCHES, B, 28, 28, 1] in [-1, 1]."""
    return np.random.default_rng(0).uniform(-1, 1, (NUM_BATCHES, BATCH_SIZE, 28, 28, 1)).astype(np.float32)


def ours(params: PyTree) -> Way:
    """Return the compiled loop that ``fit`` runs."""
    return compiled_loop(*_started(params), {"inputs": images()}, STEPS)


def single_steps(params: PyTree) -> Way:
    """Return a loop in Python over one jitted step."""
    learner, state, key = _started(params)
    step = jax.jit(lambda s, images: learner.step(s, {"inputs": images}, step_key(key, s.step)), donate_argnums=0)
    batches = list(jax.device_put(images()))

    def run() -> float:
        nonlocal state
        losses: list[Any] = []
        for batch in itertools.islice(itertools.cycle(batches), STEPS):
            state, sums = step(state, batch)
            losses.append(sums["loss"].total / sums["loss"].count)
        return float(np.mean(jax.device_get(losses)))

    return run


def _started(params: PyTree) -> tuple[Learner, TrainState, jax.Array]:
    learner = _learner()
    init_key, key = run_keys(0)
    return learner, learner.init(init_key).replace(params=jax.device_put(params)), key


def networks() -> dict[str, Network]:
    """Return the two players."""
    generator = network(StridedDecoder, CODE, (28, 28, 1), FEATURES[::-1], out_activation=jnp.tanh)
    return {"generator": generator, "discriminator": network(StridedEncoder, (28, 28, 1), FEATURES, 1, norm="batch")}


def _learner() -> Learner:
    tx, both = partial(optax.adam, LEARNING_RATE, b1=0.5), networks()
    return adversarial(both["generator"], both["discriminator"], CODE, tx(), tx())
