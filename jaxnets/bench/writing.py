"""Tokens written by a GPT that remembers keys and values, by this library."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets import losses
from jaxnets.bench.jax_peers import Way
from jaxnets.inference.generation import categorical, generate
from jaxnets.learner import Learner
from jaxnets.learners.sequences import autoregressive
from jaxnets.learners.supervised import supervised
from jaxnets.models import Transformer
from jaxnets.network import PyTree, network

VOCABULARY, BATCH_SIZE, PROMPT, LENGTH = 65, 8, 16, 128
SIZES = 256, 4, 4  # width, layers, heads
FLOPS = 2 * BATCH_SIZE * (12 * SIZES[1] * SIZES[0] ** 2 + VOCABULARY * SIZES[0])  # of a token in each row


def initial_params() -> PyTree:
    """Return the weights that all write by."""
    params = _learner().init(jax.random.key(0)).params
    return jax.tree.map(np.asarray, params)


def prompts() -> np.ndarray:
    """Return what the texts begin with, [B, PROMPT]."""
    return np.random.default_rng(0).integers(0, VOCABULARY, (BATCH_SIZE, PROMPT)).astype(np.int32)


def digest(tokens: np.ndarray) -> float:
    """Return a number that two texts [B, LENGTH] have in common only if they are the same, or nearly never else."""
    weights = np.arange(1, tokens.size + 1) ** 2
    return float((tokens.reshape(-1) * weights).sum())


def ours(params: PyTree) -> Way:
    """Return one compiled loop; the result is the text's ``digest``."""
    learner = _learner()
    state = learner.init(jax.random.key(0)).replace(params=jax.device_put(params))
    prompt, draw = jnp.asarray(prompts()), categorical(0)
    return lambda: digest(np.asarray(generate(learner, state, prompt, LENGTH, jax.random.key(0), draw)))


def _learner() -> Learner:
    options = {"tokens": True, "causal": True, "tied": True, "use_bias": False, "positions": "learned"}
    model = network(Transformer, VOCABULARY, *SIZES, VOCABULARY, max_length=PROMPT + LENGTH, **options)
    return autoregressive(supervised(model, losses.softmax_cross_entropy, optax.sgd(0.0)))
