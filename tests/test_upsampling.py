"""Transposed convolution and resizing against XLA's own, Flax' layer and PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxnets import InputError
from jaxnets.nn import ConvTranspose, conv_transpose, depth_to_space, space_to_depth, upsample

WINDOWS = {  # kernel, strides, padding
    "4 by 2": ((4, 4), (2, 2), "SAME"),
    "3 by 2": ((3, 3), (2, 2), "SAME"),
    "3 by 2, valid": ((3, 3), (2, 2), "VALID"),
    "2 by 2": ((2, 2), (2, 2), "SAME"),
    "5 by 3": ((5, 5), (3, 3), "SAME"),
    "rectangular": ((4, 3), (1, 2), "VALID"),
    "kernel smaller than strides": ((1, 2), (2, 3), "SAME"),
    "kernel smaller than strides, valid": ((1, 2), (2, 3), "VALID"),
    "4 by 2, valid": ((4, 4), (2, 2), "VALID"),
    "5 by 3, valid": ((5, 5), (3, 3), "VALID"),
    "no stride": ((3, 3), (1, 1), "SAME"),
    "many phases": ((5, 5), (5, 5), "SAME"),
}
LINES_AND_VOLUMES = {"a line": ((4,), (2,), "SAME"), "a volume": ((3, 2, 2), (2, 2, 1), "VALID")}
SLOW = (
    "rectangular",
    "2 by 2",
    "3 by 2, valid",
    "kernel smaller than strides",
    "4 by 2, valid",
    "5 by 3, valid",
    "no stride",
    "many phases",
    "a volume",
)


def cases(*tables):
    rows = [row for table in tables for row in table.items()]
    return pytest.mark.parametrize(
        "window", [pytest.param(case, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, case in rows]
    )


def arrays(kernel):
    x = jax.random.normal(jax.random.key(0), (2, *(5, 4, 3)[: len(kernel)], 3))
    return x, jax.random.normal(jax.random.key(1), (*kernel, 3, 4))


def close(got, wanted, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, float(np.abs(b).max())))


def with_gradients(f):
    def loss(x, w):
        y = f(x, w)
        return jnp.sin(y).sum(), y

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))


@cases(WINDOWS, LINES_AND_VOLUMES)
def test_values_and_gradients_equal_xla(window):
    kernel, *rest = window
    x, w = arrays(kernel)
    ours, xla = (lambda x, w, f=f: f(x, w, *rest) for f in (conv_transpose, lax.conv_transpose))
    close(with_gradients(ours)(x, w), with_gradients(xla)(x, w))


@cases(WINDOWS)
def test_equals_pytorch(window):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    kernel, strides, padding = window
    x, w = arrays(kernel)
    tx = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy(), requires_grad=True)
    tw = torch.tensor(np.asarray(w)[::-1, ::-1].transpose(2, 3, 0, 1).copy(), requires_grad=True)
    # PyTorch's outputs are all that a cell reaches; JAX' are a crop of them (SAME), or have a margin of zeros more.
    ty = torch.nn.functional.pad(torch.nn.functional.conv_transpose2d(tx, tw, None, strides), (0, 4, 0, 4))
    crop = [0, 0]
    if padding == "SAME":
        crop = [max(k - s, 0) // 2 for k, s in zip(kernel, strides, strict=True)]
    size = lax.conv_transpose(x, w, strides, padding).shape[1:3]
    ty = ty[:, :, crop[0] : crop[0] + size[0], crop[1] : crop[1] + size[1]]
    ty.sin().sum().backward()
    (_, y), (dx, dw) = with_gradients(lambda x, w: conv_transpose(x, w, strides, padding))(x, w)
    close(y, ty.detach().numpy().transpose(0, 2, 3, 1))
    close(dx, tx.grad.numpy().transpose(0, 2, 3, 1))
    close(dw, tw.grad.numpy().transpose(2, 3, 0, 1)[::-1, ::-1])


def test_squares_of_pixels_are_positions_and_back():
    images = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    x = space_to_depth(images, 2)
    assert x.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(x[1, 1, 2], images[1, 2:4, 4:6].reshape(-1))  # row by row, each with its channels
    np.testing.assert_array_equal(depth_to_space(x, 2), images)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_the_layer_is_flax_layer(padding):
    options = {"strides": (2, 2), "padding": padding, "rngs": nnx.Rngs(0)}
    ours, flax = ConvTranspose(3, 4, (4, 3), **options), nnx.ConvTranspose(3, 4, (4, 3), **options)
    flax.kernel[...], flax.bias[...] = ours.kernel[...], ours.bias[...] + 1
    ours.bias[...] = flax.bias[...]
    x = jax.random.normal(jax.random.key(0), (2, 3, 6, 5, 3))  # two batch axes
    close(ours(x), flax(x))
    close(ours(x[0, 0]), flax(x[0, 0]))


def test_the_layer_in_half_precision_and_without_bias():
    layer = ConvTranspose(3, 4, (4, 4), 2, use_bias=False, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    y = layer(jnp.ones((2, 5, 4, 3)))
    assert y.shape == (2, 10, 8, 4) and y.dtype == jnp.bfloat16
    assert layer.kernel[...].dtype == jnp.float32 and layer.bias is None


def test_a_program_multiplies_no_zeros():
    """The reason for the phases: XLA:CPU is slow where the inputs are dilated, forward and backward."""
    x, w = arrays((4, 4))
    text = with_gradients(lambda x, w: conv_transpose(x, w, (2, 2))).lower(x, w).as_text()
    assert "lhs_dilate = [1, 1]" in text and "lhs_dilate = [2" not in text


def test_under_vmap_and_forward_mode():
    x, w = arrays((4, 4))
    ours, xla = (lambda x, w, f=f: jnp.sin(f(x, w, (2, 2), "SAME")) for f in (conv_transpose, lax.conv_transpose))
    xs, ws = jnp.stack([x, 2 * x]), jnp.stack([w, w - 1])
    close(jax.jit(jax.vmap(ours))(xs, ws), jax.vmap(xla)(xs, ws))
    close(jax.jvp(ours, (x, w), (x + 1, w + 1)), jax.jvp(xla, (x, w), (x + 1, w + 1)))


def test_refuses():
    x, w = arrays((4, 4))
    with pytest.raises(InputError, match=r"kernel_size=\(4, 4\) and strides=\(2,\) need one number an axis"):
        conv_transpose(x, w, (2,))
    with pytest.raises(InputError, match="padding='FULL' is not a padding of transposed convolutions"):
        conv_transpose(x, w, (2, 2), "FULL")
    with pytest.raises(InputError, match=r"scale=\(2,\) must be a whole number of 1 or more for each of the 2"):
        upsample(x, (2,))
    with pytest.raises(InputError, match="method='cubic' must be"):
        upsample(x, 2, "cubic")


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("scale", [2, (3, 1)])
def test_upsample_equals_pytorch(method, scale):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    x = arrays((1, 1))[0]
    options = {"align_corners": False} if method == "bilinear" else {}
    tx = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy(), requires_grad=True)
    ty = torch.nn.functional.interpolate(tx, scale_factor=scale, mode=method, **options)
    close(upsample(x, scale, method), ty.detach().numpy().transpose(0, 2, 3, 1))
    ty.sin().sum().backward()
    close(jax.grad(lambda x: jnp.sin(upsample(x, scale, method)).sum())(x), tx.grad.numpy().transpose(0, 2, 3, 1))


def test_upsample_repeats_along_a_line():
    assert upsample(jnp.arange(3.0)[None, :, None], 2)[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2]
