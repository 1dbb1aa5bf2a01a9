"""A plain convolutional network: convolutions and pooling, then dense layers."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
from flax import nnx

from jaxnets.errors import InputError, check_widths, short
from jaxnets.models.blocks import Activation, Block, Norm, SeparableBlock, check_image_shape, check_sizes
from jaxnets.models.mlp import MLP
from jaxnets.nn import Conv, max_pool

Pool = Literal["pool"]


class CNN(nnx.Module):
    """Convolutions with max-pooling, then dense layers, [B, H, W, C] -> [B, out_features].

    Each convolution is followed by (optionally) a norm and by the activation. What is left of the image in the end is
    flattened for the dense layers.

    Args:
        input_shape: (H, W, C) of one image.
        features: channels of each convolution, and "pool" for a 2x2 max-pooling: (16, "pool", 32, 32, "pool").
        hidden: widths of the dense hidden layers.
        out_features: width of the output (classes, or targets).
        kernel_size: of the convolutions, which keep the image's size ("SAME").
        separable: whether the convolutions after the first are depthwise-separable: fewer weights and products.
        activation: the non-linearity.
        norm: "batch" or "layer" normalisation after each hidden layer, or none.
        dropout: probability that a unit of a dense hidden layer is dropped in training.
        kernel_init: initialiser of all weights; by default as an ``MLP``'s.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        features: Sequence[int | Pool],
        hidden: Sequence[int],
        out_features: int,
        *,
        kernel_size: int = 3,
        separable: bool = False,
        activation: Activation = nnx.relu,
        norm: Norm = None,
        dropout: float = 0.0,
        kernel_init: nnx.Initializer | None = None,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        check_image_shape("input_shape", input_shape)
        if isinstance(features, str) or not isinstance(features, Sequence):
            raise InputError(f"features={short(features)} must be a list of channels and 'pool', such as (32, 'pool')")
        check_sizes(kernel_size=kernel_size)
        height, width, channels = input_shape
        num_pools = features.count("pool")
        if min(height, width) >> num_pools == 0:
            raise InputError(f"{num_pools} poolings halve images of {height} x {width} pixels to nothing; use fewer")
        check_widths("features", [width for width in features if width != "pool"])
        options = {
            "use_bias": norm != "batch",
            "kernel_init": kernel_init or nnx.initializers.he_normal(),
            "dtype": dtype,
        }
        self.input_shape = tuple(input_shape)
        self.features = tuple(features)
        self.convs = nnx.List()
        for width_out in features:
            if width_out == "pool":
                continue
            if separable and self.convs:
                halves = {"kernel_size": kernel_size, "norm": norm, "activation": activation, **options}
                self.convs.append(SeparableBlock(channels, width_out, **halves, rngs=rngs))
            else:
                conv = Conv(channels, width_out, (kernel_size, kernel_size), **options, rngs=rngs)
                self.convs.append(Block(conv, norm, activation, dtype=dtype, rngs=rngs))
            channels = width_out
        self.head = MLP(
            (height >> num_pools) * (width >> num_pools) * channels,
            hidden,
            out_features,
            activation=activation,
            norm=norm,
            dropout=dropout,
            kernel_init=kernel_init,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, inputs: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs, [B, out_features]; ``rngs`` is what dropout draws from."""
        if inputs.shape[1:] != self.input_shape:
            raise InputError(f"CNN(input_shape={self.input_shape}) got inputs of shape {inputs.shape}, [B, H, W, C]")
        x, convs = inputs, iter(self.convs)  # [B, H, W, C]
        for width in self.features:
            x = max_pool(x, (2, 2)) if width == "pool" else next(convs)(x)
        return self.head(x, rngs=rngs)
