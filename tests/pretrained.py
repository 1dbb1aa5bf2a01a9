"""What tests of others' weights share: their libraries, real weights, and networks that are given them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import mend_torchvision

import jaxnets as jn
from jaxnets.inference.generation import categorical
from jaxnets.weights.layout import Layout, imported


def needs() -> tuple[Any, Any]:
    """Return PyTorch and transformers; skip the test where they are missing."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    mend_torchvision(torch)  # which transformers imports, if it is there
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[torch]'")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def given(network: jn.Network, layout: Layout, weights: dict[str, np.ndarray], **options: Any) -> Any:
    """Return a network's parameters with these values."""
    like = jax.eval_shape(network.init, jax.random.key(0))
    params, _ = imported(layout, weights, like, **options)
    return jax.tree.map(jnp.asarray, params)


def continued(network: jn.Network, params: Any, prompt: np.ndarray, length: int) -> np.ndarray:
    """Return the likeliest tokens, one after another."""
    learner = jn.autoregressive(jn.supervised(network, jn.losses.softmax_cross_entropy, optax.identity()))
    state = jax.eval_shape(learner.init, jax.random.key(0)).replace(params=params, step=jnp.int32(0), model_state={})
    state = state.replace(opt_state=optax.identity().init(params))
    return np.asarray(jn.generate(learner, state, prompt, length, jax.random.key(0), categorical(0)))
