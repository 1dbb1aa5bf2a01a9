"""Networks of inverted residual blocks (Sandler et al., 2018), which MobileNetV2 and EfficientNet-Lite share."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.errors import InputError, check_number
from jaxnets.models.blocks import Activation, check_image_shape, check_sizes, conv_block, identity
from jaxnets.nn import dropout_layer

STEM, HEAD = 32, 1280  # channels of the first and the last convolution
_DIVISOR = 8  # of every number of channels


class Stage(NamedTuple):
    """Blocks of one width; the first of them strides.

    Attributes:
        expansion: how many times as wide the depthwise layers are as a block's inputs.
        features: channels of the blocks' outputs.
        num_blocks: how many.
        strides: of the first one.
        kernel_size: of the depthwise layers.
    """

    expansion: int
    features: int
    num_blocks: int
    strides: int
    kernel_size: int = 3


class InvertedResidual(nnx.Module):
    """A narrow shortcut around wide depthwise layers, [B, H, W, C] -> [B, H / s, W / s, features].

    A 1x1 convolution widens (left out where ``expansion`` is 1), a depthwise one follows, and a 1x1 without activation
    narrows. The inputs are added where the shapes agree.

    Args:
        in_features: channels of the inputs.
        features: channels of the outputs.
        expansion: how many times as wide the depthwise layer is as the inputs.
        strides: of the depthwise convolution.
        kernel_size: of the depthwise convolution.
        activation: the non-linearity.
        **options: handed to the three layers, such as ``padding``, ``momentum`` and ``epsilon``, ``dtype``, ``rngs``.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        expansion: int,
        strides: int = 1,
        kernel_size: int = 3,
        activation: Activation = nnx.relu6,
        **options: Any,
    ):
        wide = in_features * expansion
        self.expand = conv_block(in_features, wide, 1, 1, activation, **options) if expansion > 1 else identity
        self.depthwise = conv_block(wide, wide, kernel_size, strides, activation, depthwise=True, **options)
        self.project = conv_block(wide, features, 1, 1, identity, **options)
        self.residual = strides == 1 and in_features == features

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the block's outputs."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class InvertedResidualNetwork(nnx.Module):
    """A strided convolution, stages of inverted residual blocks, and a wide 1x1 convolution whose averages are used.

    Args:
        input_shape: (H, W, C) of one image.
        out_features: width of the output (classes, or targets).
        stages: of the blocks.
        widths: channels of the first and the last convolution.
        stem: "imagenet", which halves images five times, or "cifar" for small images: the first two strides are 1.
        activation: the non-linearity.
        dropout: probability that one of the averaged features is dropped in training.
        dtype: of the computation; parameters and the norms' statistics stay float32.
        rngs: where initial values come from.
        **options: handed to all convolutions with their norms, such as ``padding``, ``momentum`` and ``epsilon``.

    Raises:
        InputError: for another stem.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        out_features: int,
        *,
        stages: Sequence[Stage],
        widths: tuple[int, int] = (STEM, HEAD),
        stem: Literal["cifar", "imagenet"] = "imagenet",
        activation: Activation = nnx.relu6,
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        if stem not in ("cifar", "imagenet"):
            raise InputError(f"{stem=} is not a stem; use 'cifar' for small images or 'imagenet'")
        check_image_shape("input_shape", input_shape)
        check_sizes(out_features=out_features)
        options = {"activation": activation, "dtype": dtype, "rngs": rngs, **options}
        self.input_shape = tuple(input_shape)
        features, last = widths
        first, *strides = _strides(stages, stem)
        self.stem = conv_block(input_shape[-1], features, 3, first, **options)
        self.blocks = nnx.List()
        for stage, stride in zip(stages, strides, strict=True):
            for i in range(stage.num_blocks):
                shape = {"expansion": stage.expansion, "kernel_size": stage.kernel_size}
                block = InvertedResidual(features, stage.features, strides=1 if i else stride, **shape, **options)
                self.blocks.append(block)
                features = stage.features
        self.conv_head = conv_block(features, last, 1, 1, **options)
        self.dropout = dropout_layer(dropout)
        self.out = nnx.Linear(last, out_features, dtype=dtype, rngs=rngs)

    def __call__(self, inputs: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs, [B, out_features]; ``rngs`` is what dropout draws from."""
        if inputs.shape[1:] != self.input_shape:
            name = type(self).__name__
            raise InputError(f"{name}(input_shape={self.input_shape}) got inputs of shape {inputs.shape}, [B, H, W, C]")
        x = self.stem(inputs)
        for block in self.blocks:
            x = block(x)
        return self.out(self.dropout(jnp.mean(self.conv_head(x), (1, 2)), rngs=rngs))


def scaled(features: int, width: float) -> int:
    """Return a number of channels times the width, as a multiple of 8 that is no more than a tenth too small."""
    check_number("width", width, 0.01, 100, "a factor of the published widths, such as 0.5")
    wanted = features * width
    rounded = max(_DIVISOR, int(wanted + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    return rounded + _DIVISOR * (rounded < 0.9 * wanted)


def scaled_stages(stages: Sequence[Stage], width: float, depth: float) -> list[Stage]:
    """Return stages with their channels and, but for the first and the last, their blocks scaled."""
    check_number("depth", depth, 0, 100, "a factor of the published depth, such as 1.2", low_too=False)
    found = [stage._replace(features=scaled(stage.features, width)) for stage in stages]
    inner = [stage._replace(num_blocks=math.ceil(stage.num_blocks * depth)) for stage in found[1:-1]]
    return [found[0], *inner, found[-1]]


def _strides(stages: Sequence[Stage], stem: str) -> list[int]:
    """Return the strides of the first convolution and of each stage."""
    strides = [2, *(stage.strides for stage in stages)]
    if stem == "cifar":
        for i in [i for i, stride in enumerate(strides) if stride > 1][:2]:
            strides[i] = 1
    return strides
