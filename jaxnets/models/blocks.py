"""Parts that several families of models share."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import jax
from flax import nnx

from jaxnets.errors import InputError, check_callable, check_whole, check_widths, short
from jaxnets.nn import Conv

Activation = Callable[[jax.Array], jax.Array]
Norm = Literal["batch", "layer"] | None
_HE_FAN_OUT = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


def exact_gelu(x: jax.Array) -> jax.Array:
    """Return ``x`` times the normal distribution function of it (Hendrycks and Gimpel, 2016): BERT's and ViT's GELU.

    ``nnx.gelu`` is the approximation by tanh that GPT-2 has.
    """
    return nnx.gelu(x, approximate=False)


def check_sizes(**sizes: Any) -> None:
    """Raise an ``InputError`` unless each of these arguments is a whole number of 1 or more."""
    for name, size in sizes.items():
        check_whole(name, size, most=2**63)


def check_image_shape(name: str, shape: Any) -> None:
    """Raise an ``InputError`` unless it is the shape of an image, (H, W, C)."""
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 3:
        raise InputError(f"{name}={short(shape)} must be height, width and channels of one image, such as (28, 28, 1)")
    check_widths(name, shape)


class Layer(Protocol):
    """What comes first in a block, such as an ``nnx.Linear`` or a convolution."""

    out_features: int

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Return the outputs, their last axis of ``out_features``."""
        ...


class Block(nnx.Module):
    """A dense or convolutional layer, then (optionally) a norm, then the activation.

    Args:
        layer: an ``nnx.Linear`` or a convolution.
        norm: "batch" or "layer" normalisation over the last axis, or none.
        activation: the non-linearity.
        dtype: of the norm's computation.
        rngs: where initial values come from.
        **norm_options: handed to the norm, such as ``momentum`` or ``scale_init``.

    Raises:
        InputError: if ``norm`` is none of these.
    """

    def __init__(
        self,
        layer: Layer,
        norm: Norm,
        activation: Activation,
        *,
        dtype: Any = None,
        rngs: nnx.Rngs,
        **norm_options: Any,
    ):
        norms = {None: None, "batch": nnx.BatchNorm, "layer": nnx.LayerNorm}
        if norm not in norms:
            raise InputError(f"{norm=} is not a normalisation; use 'batch', 'layer' or None")
        check_callable("activation", activation, "give one, such as nnx.relu")
        self.layer = layer
        make = norms[norm]
        self.norm = nnx.data(make(layer.out_features, dtype=dtype, rngs=rngs, **norm_options) if make else None)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the activations, of the layer's output shape."""
        x = self.layer(x)
        if self.norm is not None:
            x = self.norm(x)
        return self.activation(x)


def conv_block(
    in_features: int,
    features: int,
    kernel_size: int,
    strides: int,
    activation: Activation,
    *,
    padding: int | str | None = None,
    depthwise: bool = False,
    dtype: Any = None,
    rngs: nnx.Rngs,
    **norm_options: Any,
) -> Block:
    """Return a convolution without biases, batch normalisation and the activation.

    Args:
        in_features: channels of the inputs.
        features: channels of the outputs.
        kernel_size: height and width of the kernel.
        strides: of the convolution.
        activation: the non-linearity.
        padding: of each side, or "SAME"; by default alike on both sides and as PyTorch's models have it.
        depthwise: convolve each channel by itself.
        dtype: of the computation; parameters and the norm's statistics stay float32.
        rngs: where initial values come from.
        **norm_options: handed to the norm; its ``momentum`` is 0.9 unless they say otherwise.
    """
    conv = Conv(
        in_features,
        features,
        (kernel_size, kernel_size),
        strides=strides,
        padding=kernel_size // 2 if padding is None else padding,
        feature_group_count=in_features if depthwise else 1,
        use_bias=False,
        kernel_init=nnx.initializers.he_normal() if depthwise else _HE_FAN_OUT,
        dtype=dtype,
        rngs=rngs,
    )
    return Block(conv, "batch", activation, dtype=dtype, rngs=rngs, **{"momentum": 0.9} | norm_options)


def identity(x: jax.Array) -> jax.Array:
    """Return the inputs: where there is no activation, or nothing to project."""
    return x


class SeparableBlock(nnx.Module):
    """A depthwise-separable convolution: each channel by itself, then all channels at each pixel, [B, H, W, C].

    Each half is a ``Block`` with its own norm and activation, as in MobileNet (Howard et al., 2017). It has about
    1 / kernel_size ** 2 of the weights and products of a full convolution.

    Args:
        in_features: channels of the inputs.
        out_features: channels of the outputs.
        kernel_size: of the depthwise half, which keeps the image's size ("SAME") but for the strides.
        strides: of the depthwise half.
        norm: "batch" or "layer" normalisation after each half, or none.
        activation: the non-linearity.
        use_bias: whether the halves have biases; before batch normalisation they are of no use.
        kernel_init: initialiser of the weights.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        kernel_size: int = 3,
        strides: int = 1,
        norm: Norm = "batch",
        activation: Activation = nnx.relu,
        use_bias: bool = False,
        kernel_init: nnx.Initializer = nnx.initializers.he_normal(),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        options = {"use_bias": use_bias, "kernel_init": kernel_init, "dtype": dtype, "rngs": rngs}
        window = {"kernel_size": (kernel_size, kernel_size), "strides": strides}
        depthwise = Conv(in_features, in_features, **window, feature_group_count=in_features, **options)
        pointwise = Conv(in_features, out_features, (1, 1), **options)
        self.depthwise = Block(depthwise, norm, activation, dtype=dtype, rngs=rngs)
        self.pointwise = Block(pointwise, norm, activation, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the activations, [B, H, W, out_features]."""
        return self.pointwise(self.depthwise(x))
