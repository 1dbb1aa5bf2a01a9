"""The library where JAX was told otherwise: numbers of 64 bits, no promotion of ranks, nothing compiled."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets.inference import generation
from jaxnets.models import MLP, RNN, Transformer
from jaxnets.nn import GRU

SETTINGS = {
    "64 bits": lambda: jax.enable_x64(True),
    "no promotion of ranks": lambda: jax.numpy_rank_promotion("raise"),
    "nothing compiled": jax.disable_jit,
}
pytestmark = pytest.mark.slow
NETWORKS = {
    "standardized": lambda: jn.standardized(jn.network(MLP, 4, (6,), 3), (0, 1, 2, 3), (1,)),
    "gru": lambda: jn.network(RNN, 6, (4,), 6, embedding=3, cell=GRU),
    "transformer": lambda: jn.network(Transformer, 6, 8, 1, 2, 6, tokens=True, causal=True, max_length=9),
}


def found(name: str) -> dict[str, Any]:
    """Train, evaluate and predict or generate, and return all that comes of it."""
    learner, random = jn.supervised(NETWORKS[name](), jn.losses.softmax_cross_entropy, optax.sgd(0.1)), np.random
    if name == "standardized":
        inputs = random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
        data = jn.Data(inputs=inputs, labels=np.arange(8) % 3)
    else:
        learner = jn.autoregressive(learner)
        data = jn.Data(inputs=random.default_rng(0).integers(0, 6, (8, 5)))
    fitted = jn.fit(learner, data, batch_size=4, duration=3, validation=data, progress=False)
    results = {"state": fitted.state.params, "metrics": jn.evaluate(learner, fitted.state, data)}
    if name == "standardized":
        return results | {"outputs": jn.predict(learner, fitted.state, data["inputs"])}
    prompt, greedy = jnp.asarray(data["inputs"][:2, :2], jnp.int32), generation.categorical(top_k=1)
    return results | {"tokens": generation.generate(learner, fitted.state, prompt, 4, jax.random.key(0), greedy)}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_found_is_the_same(name, setting):
    wanted = jax.device_get(found(name))
    with SETTINGS[setting]():
        got = jax.device_get(found(name))
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(path))
