"""Up-sampling for decoders: transposed convolution that is fast on CPU, and resizing."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.errors import InputError
from jaxnets.nn.conv import conv_general_dilated

Padding = Literal["SAME", "VALID"]
Axes = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


class ConvTranspose(nnx.ConvTranspose):
    """``flax.nnx.ConvTranspose`` with this package's convolution, [..., *spatial, C] -> [..., *larger, features].

    Args:
        in_features: channels of the inputs.
        out_features: channels of the outputs.
        kernel_size: along each spatial axis.
        strides: how many times larger the outputs are, along each spatial axis or along all.
        padding: "SAME" (the outputs are the inputs' size times the strides) or "VALID" (whatever a cell reaches).
        use_bias: whether a bias is added.
        kernel_init: initialiser of the kernel, [*kernel_size, in_features, out_features].
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.

    Raises:
        InputError: if the kernel's size and the strides do not have as many axes, or the padding is another.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sequence[int],
        strides: int | Sequence[int] = 1,
        *,
        padding: Padding = "SAME",
        use_bias: bool = True,
        kernel_init: nnx.Initializer = nnx.initializers.lecun_normal(),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        strides = (strides,) * len(kernel_size) if isinstance(strides, int) else tuple(strides)
        pads = _pads(kernel_size, strides, padding)
        options = {"use_bias": use_bias, "kernel_init": kernel_init, "dtype": dtype}
        super().__init__(in_features, out_features, kernel_size, strides, padding=padding, **options, rngs=rngs)
        self.window = (strides, pads)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Return the outputs; axes before the spatial ones are batch axes."""
        batch = inputs.shape[: -len(self.kernel_size) - 1]
        x, kernel, bias = self.promote_dtype(
            (inputs, self.kernel[...], None if self.bias is None else self.bias[...]), dtype=self.dtype
        )
        y = _dilated_conv(x.reshape(-1, *x.shape[len(batch) :]), kernel, *self.window, precision=self.precision)
        y = y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))
        return y.reshape(*batch, *y.shape[1:])


def conv_transpose(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding = "SAME", *, precision: Any = None
) -> jax.Array:
    """Return what ``jax.lax.conv_transpose`` returns, [B, *spatial, C] -> [B, *larger, features].

    The kernel slides unflipped, as in ``lax.conv_transpose`` without ``transpose_kernel``: PyTorch's
    ``ConvTranspose2d`` of the same weights has them flipped along the spatial axes, as [C, features, *kernel].

    Args:
        x: inputs, channels last.
        kernel: [*kernel, C, features].
        strides: how many times larger the outputs are, along each spatial axis.
        padding: "SAME" or "VALID".
        precision: of the products, as in JAX.
    """
    strides = tuple(strides)
    return _dilated_conv(x, kernel, strides, _pads(kernel.shape[:-2], strides, padding), precision)


def space_to_depth(images: jax.Array, size: int) -> jax.Array:
    """Return each square of ``size`` pixels a side as one position, [B, H, W, C] -> [B, H / size, W / size, size² C].

    A square's pixels follow one another row by row, each with its channels. ``depth_to_space`` is the inverse.
    """
    batch, height, width, channels = images.shape
    x = images.reshape(batch, height // size, size, width // size, size, channels)
    return x.swapaxes(2, 3).reshape(batch, height // size, width // size, size * size * channels)


def depth_to_space(x: jax.Array, size: int) -> jax.Array:
    """Return the images whose squares these are, [B, h, w, size² C] -> [B, h size, w size, C] (Shi et al., 2016)."""
    batch, height, width, channels = x.shape
    squares = x.reshape(batch, height, width, size, size, channels // size**2)
    return squares.swapaxes(2, 3).reshape(batch, height * size, width * size, channels // size**2)


def upsample(x: jax.Array, scale: int | Sequence[int], method: Literal["nearest", "bilinear"] = "nearest") -> jax.Array:
    """Return images (or series, or volumes) ``scale`` times as large, [B, *spatial, C] -> [B, *larger, C].

    "nearest" repeats each cell; "bilinear" interpolates between cell centres, as PyTorch's ``interpolate`` with
    ``align_corners=False``.

    Args:
        x: inputs, channels last.
        scale: how many times larger, along each spatial axis or along all.
        method: "nearest" or "bilinear".
    """
    rank = x.ndim - 2
    scales = (scale,) * rank if isinstance(scale, int) else tuple(scale)
    if len(scales) != rank or min(scales) < 1:
        raise InputError(f"{scale=} must be a whole number of 1 or more for each of the {rank} spatial axes of x")
    size = [n * s for n, s in zip(x.shape[1:-1], scales, strict=True)]
    if method == "bilinear":
        return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "linear")
    if method != "nearest":
        raise InputError(f"{method=} must be 'nearest' or 'bilinear'")
    # A broadcast, whose gradient is a sum over the copies: no gather, no scatter.
    cells = x.reshape(x.shape[0], *(n for size in x.shape[1:-1] for n in (size, 1)), x.shape[-1])
    copies = (x.shape[0], *(n for pair in zip(x.shape[1:-1], scales, strict=True) for n in pair), x.shape[-1])
    return jnp.broadcast_to(cells, copies).reshape(x.shape[0], *size, x.shape[-1])


def _dilated_conv(x: jax.Array, kernel: jax.Array, strides: Axes, pads: Pads, precision: Any) -> jax.Array:
    layout = "DHW"[3 - len(strides) :]
    return conv_general_dilated(
        x,
        kernel,
        (1,) * len(strides),
        pads,
        lhs_dilation=strides,
        dimension_numbers=(f"N{layout}C", f"{layout}IO", f"N{layout}C"),
        precision=precision,
    )


def _pads(kernel: Sequence[int], strides: Sequence[int], padding: str) -> Pads:
    """Return how much the dilated inputs are padded, so that sizes become ``lax.conv_transpose``'s."""
    if len(kernel) != len(strides) or not 1 <= len(kernel) <= 3:
        raise InputError(f"kernel_size={tuple(kernel)} and strides={tuple(strides)} need one number an axis, of 1 to 3")
    pads = []
    for k, s in zip(kernel, strides, strict=True):
        if padding == "SAME":
            total = k + s - 2
            low = k - 1 if s > k - 1 else -(-total // 2)
        elif padding == "VALID":
            total, low = k + s - 2 + max(k - s, 0), k - 1
        else:
            raise InputError(f"{padding=} is not a padding of transposed convolutions; use 'SAME' or 'VALID'")
        pads.append((low, total - low))
    return tuple(pads)
