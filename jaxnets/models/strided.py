"""Strided convolutions down to a vector and up from one: DCGAN's two halves, and a convolutional autoencoder's."""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
from flax import nnx

from jaxnets.errors import InputError
from jaxnets.models.blocks import Activation, Block, Norm
from jaxnets.nn import Conv, ConvTranspose, dropout_layer

KERNEL = (4, 4)  # a multiple of the stride, so that every pixel is reached as often (Odena et al., 2016)
leaky_relu = partial(nnx.leaky_relu, negative_slope=0.2)


class StridedEncoder(nnx.Module):
    """Convolutions that halve the image, then dense layers, [B, H, W, C] -> [B, out_features].

    As in DCGAN's discriminator (Radford et al., 2016): 4x4 kernels with stride 2, and no norm in the first layer;
    ``hidden`` is InfoGAN's (Chen et al., 2016).

    Args:
        input_shape: (H, W, C) of one image.
        features: channels of each convolution.
        out_features: width of the output (1 for a score, or a code's width).
        hidden: widths of dense layers between the convolutions and the last layer.
        activation: the non-linearity.
        norm: "batch" or "layer" normalisation after each hidden layer but the first, or none.
        dropout: probability that a unit before the last layer is dropped in training.
        kernel_init: initialiser of all weights but the last layer's; the default draws with variance 2 / fan-in (He et
            al., 2015).
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.

    Raises:
        InputError: if the image cannot be halved so often.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        features: Sequence[int],
        out_features: int,
        *,
        hidden: Sequence[int] = (),
        activation: Activation = leaky_relu,
        norm: Norm = None,
        dropout: float = 0.0,
        kernel_init: nnx.Initializer = nnx.initializers.he_normal(),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        *size, channels = input_shape
        self.input_shape = tuple(input_shape)
        self.convs = nnx.List()
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise((channels, *features))):
            of_this = norm if i else None
            options = {"use_bias": of_this != "batch", "kernel_init": kernel_init, "dtype": dtype}
            conv = Conv(fan_in, fan_out, KERNEL, strides=2, **options, rngs=rngs)
            self.convs.append(Block(conv, of_this, activation, dtype=dtype, rngs=rngs))
        width = math.prod(_halved(size, len(features))) * (channels, *features)[-1]
        self.hidden = _dense(width, hidden, norm, activation, kernel_init, dtype, rngs)
        self.dropout = dropout_layer(dropout)
        self.out = nnx.Linear((width, *hidden)[-1], out_features, dtype=dtype, rngs=rngs)

    def __call__(self, inputs: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs, [B, out_features]; ``rngs`` is what dropout draws from."""
        if inputs.shape[1:] != self.input_shape:
            raise InputError(
                f"StridedEncoder(input_shape={self.input_shape}) got inputs of shape {inputs.shape}, [B, H, W, C]"
            )
        x = inputs  # [B, H, W, C]
        for conv in self.convs:
            x = conv(x)
        x = x.reshape(x.shape[0], -1)
        for block in self.hidden:
            x = block(x)
        return self.out(self.dropout(x, rngs=rngs))


class StridedDecoder(nnx.Module):
    """Dense layers, then transposed convolutions that double the image, [B, in_features] -> [B, H, W, C].

    As in DCGAN's generator (Radford et al., 2016), ``StridedEncoder``'s mirror image.

    Args:
        in_features: width of the codes.
        output_shape: (H, W, C) of one image.
        features: channels of each image on the way, the smallest first.
        hidden: widths of dense layers before the first image.
        activation: the non-linearity.
        norm: "batch" or "layer" normalisation of each hidden layer and image on the way, or none.
        out_activation: of the last layer; none by default, "tanh" is DCGAN's.
        kernel_init: initialiser of all weights but the last layer's; the default draws with variance 2 / fan-in (He et
            al., 2015).
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.

    Raises:
        InputError: if the image's sides are no multiples of two so often.
    """

    def __init__(
        self,
        in_features: int,
        output_shape: Sequence[int],
        features: Sequence[int],
        *,
        hidden: Sequence[int] = (),
        activation: Activation = nnx.relu,
        norm: Norm = "batch",
        out_activation: Activation = lambda x: x,
        kernel_init: nnx.Initializer = nnx.initializers.he_normal(),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        *size, channels = output_shape
        self.in_features = in_features
        self.start = (*_halved(size, len(features)), features[0])
        options = {"use_bias": norm != "batch", "kernel_init": kernel_init, "dtype": dtype}
        block = {"norm": norm, "activation": activation, "dtype": dtype, "rngs": rngs}
        self.hidden = _dense(in_features, hidden, norm, activation, kernel_init, dtype, rngs)
        self.project = nnx.Linear((in_features, *hidden)[-1], math.prod(self.start), **options, rngs=rngs)
        self.first = Block(_Reshape(self.start), **block)
        self.deconvs = nnx.List()
        for fan_in, fan_out in itertools.pairwise(features):
            self.deconvs.append(Block(ConvTranspose(fan_in, fan_out, KERNEL, 2, **options, rngs=rngs), **block))
        self.out = ConvTranspose(features[-1], channels, KERNEL, 2, dtype=dtype, rngs=rngs)
        self.out_activation = out_activation

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Return the images, [B, H, W, C]."""
        if inputs.shape[1:] != (self.in_features,):
            raise InputError(
                f"StridedDecoder(in_features={self.in_features}) got codes of shape {inputs.shape}, [B, D]"
            )
        x = inputs
        for block in self.hidden:
            x = block(x)
        x = self.first(self.project(x))  # [B, h, w, features[0]]
        for deconv in self.deconvs:
            x = deconv(x)
        return self.out_activation(self.out(x))


class _Reshape(nnx.Module):
    """The rows of a dense layer as images."""

    def __init__(self, shape: Sequence[int]):
        self.shape = tuple(shape)
        self.out_features = self.shape[-1]

    def __call__(self, inputs: jax.Array) -> jax.Array:
        return inputs.reshape(-1, *self.shape)


def _dense(
    in_features: int,
    hidden: Sequence[int],
    norm: Norm,
    activation: Activation,
    kernel_init: nnx.Initializer,
    dtype: Any,
    rngs: nnx.Rngs,
) -> nnx.List:
    """Return dense layers, each with a norm and an activation."""
    options = {"use_bias": norm != "batch", "kernel_init": kernel_init, "dtype": dtype, "rngs": rngs}
    layers = (nnx.Linear(*widths, **options) for widths in itertools.pairwise((in_features, *hidden)))
    return nnx.List(Block(layer, norm, activation, dtype=dtype, rngs=rngs) for layer in layers)


def _halved(size: Sequence[int], times: int) -> tuple[int, ...]:
    """Return the sides of an image, halved so often."""
    if not times or any(side % 2**times or not side for side in size):
        raise InputError(
            f"{times} layers halve images of {' x '.join(map(str, size))} pixels {times} times, which must come out "
            "even, at least once; give fewer or more features, or resize the images"
        )
    return tuple(side // 2**times for side in size)
