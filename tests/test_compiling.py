"""Options of XLA: they reach the programs that train, and change nothing but the way there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import nn
from jaxnets.training.compiling import jit

X, W = (np.random.default_rng(0).standard_normal(shape, np.float32) for shape in ((8, 16, 16, 32), (3, 3, 32, 64)))


def convolved(x, w):
    numbers = ("NHWC", "HWIO", "NHWC")
    return nn.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers)


@pytest.mark.skipif(
    jax.default_backend() != "cpu" or jax.__version_info__ >= (0, 12),
    reason="this jax convolves on many threads by itself",
)
def test_convolutions_are_not_left_to_a_kernel_of_one_thread():
    as_it_is, ours = (made(convolved).lower(X, W).compile().as_text() for made in (jax.jit, jit))
    assert "__ynn_fusion" in as_it_is, "no option is needed any more: take it out"
    assert "__ynn_fusion" not in ours
    assert "__ynn_fusion" in jit(jnp.matmul).lower(W[0, 0], W[0, 0].T).compile().as_text()


def test_options_change_no_result():
    np.testing.assert_allclose(jit(convolved)(X, W), jax.jit(convolved)(X, W), rtol=1e-4, atol=1e-4)
