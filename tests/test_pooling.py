"""Pooling against XLA's and PyTorch's."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import quick
from jax.test_util import check_grads

import jaxnets as jn
from jaxnets.nn import avg_pool, max_pool

WINDOWS = [((2, 2), None), ((3, 3), (2, 2)), ((2, 3), (1, 2)), ((3, 3), (1, 1)), ((6, 6), (2, 2))]


@pytest.mark.parametrize(("window", "strides"), WINDOWS)
@pytest.mark.parametrize("padding", quick(["SAME", "VALID"]))
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_values_and_gradients_equal_reduce_window(window, strides, padding, kind):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    options = {"strides": strides or window, "padding": padding}
    if kind == "max":
        ours, other = max_pool, lambda x: flax.linen.max_pool(x, window, **options)
    else:
        ours, other = avg_pool, lambda x: flax.linen.avg_pool(x, window, count_include_pad=False, **options)
    mine = lambda x: ours(x, window, strides, padding)
    np.testing.assert_allclose(mine(x), other(x), rtol=1e-6, atol=1e-6)
    got, wanted = (jax.jit(jax.grad(lambda x, f=f: jnp.sin(f(x)).sum()))(x) for f in (mine, other))
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("window", "strides"), [((2, 2), (2, 2)), ((3, 3), (2, 2))])
def test_equals_pytorch(window, strides):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 3)).astype(np.float32)
    for ours, theirs in ((max_pool, torch.nn.functional.max_pool2d), (avg_pool, torch.nn.functional.avg_pool2d)):
        tx = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
        ty = theirs(tx, window, strides)
        ty.sin().sum().backward()
        np.testing.assert_allclose(ours(x, window, strides), ty.detach().numpy().transpose(0, 2, 3, 1), atol=1e-6)
        got = jax.grad(lambda x, f=ours: jnp.sin(f(x, window, strides)).sum())(jnp.asarray(x))
        np.testing.assert_allclose(got, tx.grad.numpy().transpose(0, 2, 3, 1), atol=1e-6)


@pytest.mark.parametrize("size", [8, 9])
def test_padding_by_number_equals_pytorch(size):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    x = np.random.default_rng(0).normal(size=(2, size, 8, 3)).astype(np.float32)
    wanted = torch.nn.functional.max_pool2d(torch.tensor(x.transpose(0, 3, 1, 2).copy()), 3, 2, 1)
    got = max_pool(jnp.asarray(x), (3, 3), (2, 2), ((1, 1), (1, 1)))
    np.testing.assert_array_equal(got, wanted.numpy().transpose(0, 2, 3, 1))


def test_no_examples_have_no_gradient():
    assert jax.grad(lambda x: max_pool(x, (2, 2)).sum())(jnp.zeros((0, 4, 4, 1))).shape == (0, 4, 4, 1)


@pytest.mark.slow
def test_equal_cells_share_the_gradient():
    got = jax.grad(lambda x: max_pool(x, (2, 2)).sum())(jnp.zeros((1, 2, 2, 1)))
    np.testing.assert_array_equal(got, np.full((1, 2, 2, 1), 0.25))
    x = jnp.array([1.0, 2.0, 2.0, 0.0, 2.0, 1.0, 5.0]).reshape(1, 7, 1)  # the last has no window
    got = jax.grad(lambda x: max_pool(x, (6,)).sum())(x)
    np.testing.assert_allclose(got.ravel(), [0, 1 / 3, 1 / 3, 0, 1 / 3, 0, 0])


@pytest.mark.slow
def test_gradients_against_finite_differences():
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), (1, 5, 5, 2), jnp.float64)
        for pool in (max_pool, avg_pool):
            check_grads(lambda x, f=pool: f(x, (3, 3), (2, 2), "SAME"), (x,), order=1, atol=1e-6, rtol=1e-6)
        check_grads(lambda x: max_pool(x, (3, 3), padding="SAME"), (x,), order=2, atol=1e-6, rtol=1e-6)


def test_a_window_of_the_wrong_rank_is_an_error():
    with pytest.raises(ValueError, match="one number for each of the 2 spatial axes"):
        max_pool(jnp.zeros((1, 4, 4, 1)), (2,))


@pytest.mark.slow
def test_gradients_of_a_u_net_survive_what_xla_computes_anew():
    """Where a pooling's inputs are computed twice, they are rounded twice: no cell may then be "not the maximum"."""
    network = jn.network(jn.models.UNet, 1, (3, 4), 2, norm="layer")
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (8, 6, 6))
    images = (labels[..., None] + random.normal(size=(8, 6, 6, 1))).astype(np.float32)[:1]
    params, model_state = network.init(jax.random.key(0))

    def loss(params):
        logits, _ = network.apply(params, model_state, images, train=True)
        return jax.nn.logsumexp(logits, -1).mean() - logits[..., 0].mean()

    one_by_one = jax.grad(loss)(params)  # each operation by itself
    for got, wanted in zip(jax.tree.leaves(jax.jit(jax.grad(loss))(params)), jax.tree.leaves(one_by_one), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
