"""The convolution against XLA's own and PyTorch's, under every transformation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads

from jaxnets.nn import Conv, conv_general_dilated

CASES = {
    "same": {},
    "valid": {"padding": "VALID"},
    "stride": {"window_strides": (2, 2)},
    "uneven strides": {"window_strides": (2, 3), "padding": "VALID"},
    "kernel dilation": {"rhs_dilation": (2, 2)},
    "input dilation": {"lhs_dilation": (2, 2), "padding": ((2, 2), (2, 2))},
    "groups": {"feature_group_count": 2},
    "depthwise": {"feature_group_count": 4},
    "depthwise, all at once": {
        "window_strides": (2, 1),
        "padding": ((1, 2), (-1, 3)),
        "rhs_dilation": (2, 1),
        "feature_group_count": 4,
    },
    "explicit padding": {"padding": ((3, 0), (1, 4))},
    "negative padding": {"padding": ((-1, 0), (0, -2))},
    "wide padding": {"padding": ((5, 5), (4, 6)), "window_strides": (3, 2)},
    "all at once": {
        "window_strides": (2, 1),
        "padding": ((1, 2), (0, 3)),
        "lhs_dilation": (1, 2),
        "rhs_dilation": (2, 1),
        "feature_group_count": 2,
    },
}


def arrays(options: dict, spatial: tuple[int, ...] = (9, 8), kernel: tuple[int, ...] = (3, 3)):
    groups = options.get("feature_group_count", 1)
    x = jax.random.normal(jax.random.key(0), (2, *spatial, 4))
    w = jax.random.normal(jax.random.key(1), (*kernel, 4 // groups, 8))
    return x, w


def pair(options: dict, rank: int = 2):
    """Return the two convolutions as functions of inputs and kernel."""
    full = {"window_strides": (1,) * rank, "padding": "SAME"} | options
    space = "DHW"[3 - rank :]
    numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
    ours = lambda x, w: conv_general_dilated(x, w, dimension_numbers=numbers, **full)
    xla = lambda x, w: lax.conv_general_dilated(x, w, dimension_numbers=numbers, **full)
    return ours, xla


def close(got, wanted, tolerance=3e-6):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        scale = float(jnp.abs(b).max()) or 1.0
        np.testing.assert_allclose(np.asarray(a) / scale, np.asarray(b) / scale, rtol=0, atol=tolerance)


def gradients(conv):
    return jax.grad(lambda x, w: jnp.sin(conv(x, w)).sum(), (0, 1))


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_equal_xla(name):
    x, w = arrays(CASES[name])
    ours, xla = pair(CASES[name])
    close(ours(x, w), xla(x, w))
    close(jax.jit(gradients(ours))(x, w), jax.jit(gradients(xla))(x, w))


@pytest.mark.parametrize("rank", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_one_and_three_dimensions(rank):
    options = {"window_strides": (2,) * rank}
    x, w = arrays(options, (7, 6, 5)[:rank], (3,) * rank)
    ours, xla = pair(options, rank)
    close(jax.jit(gradients(ours))(x, w), jax.jit(gradients(xla))(x, w))


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2),
    groups=st.sampled_from([1, 2, 4]),
)
def test_any_window(size, kernel, strides, dilation, padding, groups):
    if any((k - 1) * d + 1 > n + sum(p) for k, d, n, p in zip(kernel, dilation, size, padding, strict=True)):
        return  # no output
    options = {
        "window_strides": strides,
        "rhs_dilation": dilation,
        "padding": padding,
        "feature_group_count": groups,
    }
    x, w = arrays(options, size, kernel)
    ours, xla = pair(options)
    close(gradients(ours)(x, w), gradients(xla)(x, w))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["same", "all at once"])
def test_every_transformation(name):
    x, w = arrays(CASES[name])
    xs, ws = jnp.stack([x, 2 * x]), jnp.stack([w, w - 1])
    ours, xla = pair(CASES[name])

    def loss(conv):
        return lambda x, w: jnp.sin(conv(x, w)).sum()

    transformations = {
        "forward mode": lambda f: jax.jvp(loss(f), (x, w), (x + 1, w + 2)),
        "forward over reverse": lambda f: jax.jvp(gradients(f), (x, w), (x + 1, w + 2)),
        "reverse over reverse": lambda f: jax.grad(lambda w: (gradients(f)(x, w)[0] ** 2).sum())(w),
        "vmap over inputs": lambda f: jax.vmap(gradients(f), (0, None))(xs, w),
        "vmap over kernels": lambda f: jax.vmap(gradients(f), (None, 0))(x, ws),
        "vmap over both": lambda f: jax.vmap(gradients(f))(xs, ws),
        "gradient of vmap": lambda f: jax.grad(lambda w: jax.vmap(loss(f))(xs, w).sum())(ws),
        "rematerialised": lambda f: jax.grad(jax.checkpoint(loss(f)), 1)(x, w),
    }
    for transform in transformations.values():
        close(transform(ours), transform(xla))


@pytest.mark.slow
def test_gradients_against_finite_differences():
    with jax.enable_x64(True):
        x, w = (a.astype(jnp.float64) for a in arrays(CASES["all at once"]))
        ours, _ = pair(CASES["all at once"])
        check_grads(jax.jit(ours), (x, w), order=2, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


def test_other_layouts_and_dtypes_fall_back_to_xla():
    x, w = arrays({})
    nchw = jnp.moveaxis(x, -1, 1), jnp.moveaxis(w, (-1, -2), (0, 1))
    got = conv_general_dilated(*nchw, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))
    close(jnp.moveaxis(got, 1, -1), pair({})[1](x, w))
    assert pair({})[0](x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_a_program_with_gradients_holds_no_convolution_in_swapped_layout():
    """The reason for this module: XLA:CPU is slow, inside a loop, at any convolution that is not channels-last."""
    x, w = arrays({})
    text = jax.jit(gradients(pair({})[0])).lower(x, w).as_text()
    layouts = [
        line.split("dim_numbers = ")[1].split(", window")[0] for line in text.splitlines() if "dim_numbers" in line
    ]
    assert len(layouts) == 3
    assert set(layouts) == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


def test_depthwise_sums_are_rounded_once():
    """In half precision nine products are added in float32, as XLA adds them."""
    x, w = (a.astype(jnp.bfloat16) for a in arrays(CASES["depthwise"]))
    ours, xla = pair(CASES["depthwise"])
    assert ours(x, w).dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(ours(x, w), np.float32), np.asarray(xla(x, w), np.float32))


def test_layer_is_flax_layer_with_another_convolution():
    ours = Conv(4, 8, (3, 3), strides=2, rngs=nnx.Rngs(0))
    flax = nnx.Conv(4, 8, (3, 3), strides=2, rngs=nnx.Rngs(0))
    x = arrays({})[0]
    close(ours(x), flax(x))


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"), list(itertools.product([1, 2], [0, 1], [1, 2], [1, 2, 4]))
)
def test_equals_pytorch(stride, padding, dilation, groups):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    options = {
        "window_strides": (stride, stride),
        "padding": ((padding, padding),) * 2,
        "rhs_dilation": (dilation, dilation),
        "feature_group_count": groups,
    }
    x, w = arrays(options)
    ours = pair(options)[0]
    tx = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy(), requires_grad=True)
    tw = torch.tensor(np.asarray(w).transpose(3, 2, 0, 1).copy(), requires_grad=True)
    ty = torch.nn.functional.conv2d(tx, tw, None, stride, padding, dilation, groups)
    ty.sin().sum().backward()
    close(ours(x, w), ty.detach().numpy().transpose(0, 2, 3, 1), 1e-5)
    dx, dw = gradients(ours)(x, w)
    close(dx, tx.grad.numpy().transpose(0, 2, 3, 1), 1e-5)
    close(dw, tw.grad.numpy().transpose(2, 3, 1, 0), 1e-5)
