"""Convolution whose gradients stay fast inside a compiled loop on CPU.

XLA's CPU backend brings convolutions into the form that its fast kernel takes only in a program's entry computation.
Inside a loop the two gradients of a plain ``lax`` convolution, whose axes are swapped by their dimension numbers, fall
to a naive kernel: 43 times slower for the inputs, 77 for the kernel. Here both gradients are plain NHWC/HWIO
convolutions, with their axes swapped by explicit transposes. The operation is a bilinear primitive like XLA's own, so
forward and reverse mode, higher orders and ``vmap`` all work. Other backends take XLA's convolution.

Two kinds have a form of their own. A convolution of dilated inputs (transposed convolutions, gradients of strided ones)
is one plain convolution for each phase of its outputs: with both gradients in a loop, 4x4 kernels of stride 2, 64
channels, 16x16 -> 32x32 and a batch of 32 take 1/23 of the time of XLA's own on jax 0.10, 1/45 on 0.12. A depthwise
convolution is a sum of shifted slices: 1/39 for 3x3 kernels, 64 channels, 32x32 and a batch of 64 (2 cores).
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxnets.platform import platform

# Above these the forms of their own would unroll into too large a program.
_MOST_PHASES = 16
_MOST_SLICES = 25


class Conv(nnx.Conv):
    """``flax.nnx.Conv`` (the same arguments), on the convolution of this module."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, conv_general_dilated=conv_general_dilated, **kwargs)


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """Return what ``jax.lax.conv_general_dilated`` returns, with gradients that are fast in a loop on CPU.

    The fast form covers every stride, padding, dilation and number of groups, for channels-last inputs
    ``[B, *spatial, C]`` and kernels ``[*spatial, C / groups, features]``. Anything else goes to XLA's own path.
    """
    rank = lhs.ndim - 2
    ones = (1,) * rank
    strides, lhs_dilation, rhs_dilation = (tuple(v or ones) for v in (window_strides, lhs_dilation, rhs_dilation))
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    special = preferred_element_type is not None or out_sharding is not None
    if platform() != "cpu" or numbers != _channels_last(rank) or special:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers=numbers,
            feature_group_count=feature_group_count,
            precision=precision,
            preferred_element_type=preferred_element_type,
            out_sharding=out_sharding,
        )
    if isinstance(padding, str):
        sizes = [(k - 1) * d + 1 for k, d in zip(rhs.shape[:-2], rhs_dilation, strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], sizes, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    window = _Window(strides, pads, lhs_dilation, rhs_dilation, feature_group_count, precision)
    if feature_group_count == lhs.shape[-1] > 1 and lhs_dilation == ones and math.prod(rhs.shape[:-2]) <= _MOST_SLICES:
        return _depthwise(lhs, rhs, window)
    return _conv.bind(lhs, rhs, window=window)


class _Window(NamedTuple):
    """How the kernel w moves over the inputs x."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    x_dilation: tuple[int, ...]
    w_dilation: tuple[int, ...]
    groups: int
    precision: Any


def _channels_last(rank: int) -> lax.ConvDimensionNumbers:
    inputs = (0, rank + 1, *range(1, rank + 1))
    return lax.ConvDimensionNumbers(inputs, (rank + 1, rank, *range(rank)), inputs)


def _xla_conv(x: jax.Array, w: jax.Array, *, window: _Window) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        w,
        window.strides,
        window.padding,
        window.x_dilation,
        window.w_dilation,
        dimension_numbers=_channels_last(x.ndim - 2),
        feature_group_count=window.groups,
        precision=window.precision,
    )


def _depthwise(x: jax.Array, w: jax.Array, window: _Window) -> jax.Array:
    """Return the convolution of each channel by itself, as a sum of shifted, strided slices times their weights.

    Its gradients are sums of slices again.
    """
    batch, *_, channels = x.shape
    *kernel, _, c_out = w.shape
    exact = jnp.promote_types(jnp.result_type(x, w), jnp.float32)  # sums are rounded once, as a convolution's are
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)])
    reach = [(k - 1) * dilation for k, dilation in zip(kernel, window.w_dilation, strict=True)]
    y = jnp.zeros((), exact)
    for offset in itertools.product(*map(range, kernel)):
        start = [o * dilation for o, dilation in zip(offset, window.w_dilation, strict=True)]
        stop = [size - r + at for size, r, at in zip(x.shape[1:-1], reach, start, strict=True)]
        part = lax.slice(x, (0, *start, 0), (batch, *stop, channels), (1, *window.strides, 1)).astype(exact)
        weights = w[offset].reshape((1,) * (x.ndim - 1) + (channels, c_out // channels))
        y += part[..., None] * weights.astype(exact)
    return y.reshape(*y.shape[:-2], c_out).astype(jnp.result_type(x, w))


def _phased_conv(x: jax.Array, w: jax.Array, *, window: _Window) -> jax.Array:
    """Return the convolution; of dilated inputs, without the products with the zeros between them.

    With ``d`` the dilation, output ``d * q + phase`` meets inputs only at every ``d``-th cell of the kernel: a plain
    convolution with that part of the kernel. The phases are then interleaved (depth to space).
    """
    dilation, ones = window.x_dilation, (1,) * (x.ndim - 2)
    if dilation == ones or (window.strides, window.w_dilation) != (ones, ones) or math.prod(dilation) > _MOST_PHASES:
        return _xla_conv(x, w, window=window)
    size = jax.eval_shape(partial(_xla_conv, window=window), x, w).shape
    counts = [-(-n // d) for n, d in zip(size[1:-1], dilation, strict=True)]
    phases = []
    for phase in itertools.product(*map(range, dilation)):
        cells, padding = [], []
        for at, d, (low, _), k, n, count in zip(
            phase, dilation, window.padding, w.shape[:-2], x.shape[1:-1], counts, strict=True
        ):
            first = (low - at) % d
            before = (low - at - first) // d
            cells.append(slice(first, None, d))
            padding.append((before, count - 1 + len(range(first, k, d)) - n - before))
        part = w[tuple(cells)]
        if part.size:
            plain = window._replace(x_dilation=ones, padding=tuple(padding))
            phases.append(_xla_conv(x, part, window=plain))
        else:
            phases.append(jnp.zeros((size[0], *counts, size[-1]), jnp.result_type(x, w)))
    y = jnp.stack(phases, 1).reshape(size[0], *dilation, *counts, size[-1])  # [B, *phases, *counts, C]
    rank = len(dilation)
    order = [axis for i in range(rank) for axis in (1 + rank + i, 1 + i)]
    y = y.transpose(0, *order, 1 + 2 * rank)
    y = y.reshape(size[0], *(n * d for n, d in zip(counts, dilation, strict=True)), size[-1])
    return y[tuple(map(slice, size))]


def _input_gradient(g: jax.Array, x: Any, w: jax.Array, *, window: _Window) -> jax.Array:
    """Convolve g, dilated by the strides, with the flipped kernel whose channels are swapped within each group."""
    *kernel, c_in, c_out = w.shape
    padding = []
    for k, x_size, g_size, (low, _), stride, x_dilation, w_dilation in _axes(kernel, x.aval, g, window):
        reach = (k - 1) * w_dilation
        full = (x_size - 1) * x_dilation + reach - (g_size - 1) * stride  # what both sides must add up to
        padding.append((reach - low, full - (reach - low)))
    flipped = jnp.flip(w, range(len(kernel))).reshape(*kernel, c_in, window.groups, c_out // window.groups)
    swapped = jnp.swapaxes(flipped, -1, -3).reshape(*kernel, c_out // window.groups, window.groups * c_in)
    moved = window._replace(strides=window.x_dilation, padding=tuple(padding), x_dilation=window.strides)
    return _conv.bind(g, swapped, window=moved)


def _kernel_gradient(g: jax.Array, x: jax.Array, w: Any, *, window: _Window) -> jax.Array:
    """Convolve x with g as the (large) kernel: batch and channels swap roles, and the strides dilate g."""
    *kernel, c_in, _ = w.aval.shape
    batch, *sizes, _ = x.shape
    padding = []
    for k, x_size, g_size, (low, _), stride, x_dilation, w_dilation in _axes(kernel, x, g, window):
        reach = (k - 1) * w_dilation
        padding.append((low, reach + (g_size - 1) * stride - (x_size - 1) * x_dilation - low))
    # Groups stay among the features: [B, *sizes, groups * c_in] -> [c_in, *sizes, groups * B].
    grouped = x.reshape(batch, *sizes, window.groups, c_in)
    swapped = jnp.moveaxis(grouped, (-1, 0), (0, -1)).reshape(c_in, *sizes, window.groups * batch)
    moved = window._replace(strides=window.w_dilation, padding=tuple(padding), w_dilation=window.strides)
    return jnp.moveaxis(_conv.bind(swapped, jnp.moveaxis(g, 0, -2), window=moved), 0, -2)


def _axes(kernel: Sequence[int], x: Any, g: jax.Array, window: _Window) -> Any:
    """Return the numbers of each spatial axis: kernel, input and output size, padding, stride and dilations."""
    sizes = (kernel, x.shape[1:-1], g.shape[1:-1])
    return zip(*sizes, window.padding, window.strides, window.x_dilation, window.w_dilation, strict=True)


def _batch(args: Any, axes: Any, *, window: _Window) -> tuple[jax.Array, int]:
    """Fold a batch of inputs into the batch axis; run several kernels one after another, each at full speed."""
    (x, w), (x_axis, w_axis) = args, axes
    if w_axis is None:
        x = jnp.moveaxis(x, x_axis, 0)
        y = _conv.bind(x.reshape(-1, *x.shape[2:]), w, window=window)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0
    w = jnp.moveaxis(w, w_axis, 0)
    if x_axis is None:
        return lax.map(lambda kernel: _conv.bind(x, kernel, window=window), w), 0
    return lax.map(lambda pair: _conv.bind(*pair, window=window), (jnp.moveaxis(x, x_axis, 0), w)), 0


def _shape(x: Any, w: Any, *, window: _Window) -> ShapedArray:
    y = jax.eval_shape(partial(_xla_conv, window=window), x, w)
    return ShapedArray(y.shape, y.dtype)


_conv = Primitive("canonical_conv")
_conv.def_impl(jax.jit(_phased_conv, static_argnames="window"))
_conv.def_abstract_eval(_shape)
mlir.register_lowering(_conv, mlir.lower_fun(_phased_conv, multiple_results=False))
ad.defbilinear(_conv, _input_gradient, _kernel_gradient)
batching.primitive_batchers[_conv] = _batch
