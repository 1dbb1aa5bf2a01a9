"""Residual networks (He et al., 2015), in the form that is called v1.5: a bottleneck strides in its 3x3 convolution."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.errors import InputError
from jaxnets.models.blocks import Activation, check_image_shape, check_sizes, conv_block, identity
from jaxnets.nn import dropout_layer, max_pool

STAGES = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}  # blocks of each stage, by depth


class ResidualBlock(nnx.Module):
    """Convolutions beside a shortcut, their sum, then the activation, [B, H, W, C] -> [B, H / s, W / s, features].

    Two 3x3 convolutions, or, for a bottleneck, a 1x1, a 3x3 and a 1x1 that widens four times. The shortcut is a strided
    1x1 convolution where the shapes differ.

    Args:
        in_features: channels of the inputs.
        features: channels of the 3x3 convolutions.
        strides: of the first 3x3 convolution.
        bottleneck: whether there are three convolutions.
        activation: the non-linearity.
        zero_init: start with a scale of 0 in the last norm, so that the block is its shortcut at first.
        dtype: of the computation; parameters and the norms' statistics stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        strides: int = 1,
        *,
        bottleneck: bool = False,
        activation: Activation = nnx.relu,
        zero_init: bool = True,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "rngs": rngs}
        scale = nnx.initializers.zeros if zero_init else nnx.initializers.ones
        last = {"activation": identity, "scale_init": scale, **options}
        self.out_features = features * (4 if bottleneck else 1)
        if bottleneck:
            self.layers = nnx.List(
                [
                    conv_block(in_features, features, 1, 1, activation, **options),
                    conv_block(features, features, 3, strides, activation, **options),
                    conv_block(features, self.out_features, 1, 1, **last),
                ]
            )
        else:
            self.layers = nnx.List(
                [
                    conv_block(in_features, features, 3, strides, activation, **options),
                    conv_block(features, features, 3, 1, **last),
                ]
            )
        project = strides != 1 or in_features != self.out_features
        self.shortcut = (
            conv_block(in_features, self.out_features, 1, strides, identity, **options) if project else identity
        )
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the activations."""
        y = x
        for layer in self.layers:
            y = layer(y)
        return self.activation(y + self.shortcut(x))


class ResNet(nnx.Module):
    """A residual network of 10, 18, 34 or 50 layers with batch normalisation, [B, H, W, C] -> [B, out_features].

    The weights' shapes, the padding and the statistics' momentum (0.9) are torchvision's. One thing differs: running
    variances follow the batch's biased variance, as Flax' do, and PyTorch's the unbiased one.

    Args:
        input_shape: (H, W, C) of one image.
        depth: 10, 18 or 34 layers of basic blocks, or 50 of bottlenecks.
        out_features: width of the output (classes, or targets).
        stem: "cifar" for small images (a 3x3 convolution), or "imagenet" (7x7 with stride 2, then pooling by 2).
        width: channels of the first stage; each further stage has twice as many.
        activation: the non-linearity.
        dropout: probability that one of the averaged features is dropped in training.
        zero_init: start each block as its shortcut (Goyal et al., 2017).
        dtype: of the computation; parameters and the norms' statistics stay float32.
        rngs: where initial values come from.

    Raises:
        InputError: for another depth or stem.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        depth: Literal[10, 18, 34, 50],
        out_features: int,
        *,
        stem: Literal["cifar", "imagenet"] = "cifar",
        width: int = 64,
        activation: Activation = nnx.relu,
        dropout: float = 0.0,
        zero_init: bool = True,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        if depth not in STAGES:
            raise InputError(f"{depth=} is no depth of a ResNet here; use one of {', '.join(map(str, STAGES))}")
        if stem not in ("cifar", "imagenet"):
            raise InputError(f"{stem=} is not a stem; use 'cifar' for small images or 'imagenet'")
        check_image_shape("input_shape", input_shape)
        check_sizes(out_features=out_features, width=width)
        options = {"activation": activation, "dtype": dtype, "rngs": rngs}
        self.input_shape = tuple(input_shape)
        self.pooled = stem == "imagenet"
        self.stem = conv_block(input_shape[-1], width, *((7, 2) if self.pooled else (3, 1)), **options)
        self.blocks = nnx.List()
        features = width
        for stage, num_blocks in enumerate(STAGES[depth]):
            for i in range(num_blocks):
                strides = 2 if stage > 0 and i == 0 else 1
                shape = {"strides": strides, "bottleneck": depth >= 50, "zero_init": zero_init}
                block = ResidualBlock(features, width * 2**stage, **shape, **options)
                self.blocks.append(block)
                features = block.out_features
        self.dropout = dropout_layer(dropout)
        self.out = nnx.Linear(features, out_features, dtype=dtype, rngs=rngs)

    def __call__(self, inputs: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs, [B, out_features]; ``rngs`` is what dropout draws from."""
        if inputs.shape[1:] != self.input_shape:
            raise InputError(f"ResNet(input_shape={self.input_shape}) got inputs of shape {inputs.shape}, [B, H, W, C]")
        x = self.stem(inputs)
        if self.pooled:
            x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.out(self.dropout(jnp.mean(x, (1, 2)), rngs=rngs))
