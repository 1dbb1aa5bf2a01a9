"""A U-Net: what is seen coarsely is brought back to every pixel, beside what is seen finely."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.errors import InputError, check_widths
from jaxnets.models.blocks import Activation, Block, Norm, check_sizes
from jaxnets.nn import Conv, ConvTranspose, depth_to_space, dropout_layer, max_pool, space_to_depth


class UNet(nnx.Module):
    """Images to one number a pixel and class, [B, H, W, C] -> [B, H, W, out_features] (Ronneberger et al., 2015).

    Each level has two 3x3 convolutions on the way down and two on the way up; between levels a 2x2 max-pooling halves
    the image and a 2x2 transposed convolution doubles it, beside which stands what the level saw on the way down. The
    image keeps its size ("SAME" convolutions), whatever that is: sides that 2 ** (levels - 1) does not divide are
    filled up with copies of the edge, which the outputs lack again.

    With ``patch``, the finest level sees a square of so many pixels as one position with all their channels, and says
    the outputs of all its pixels (space to depth, and depth to space: Shi et al., 2016). It is ``patch`` squared times
    cheaper, and for what is some pixels wide about as exact.

    Args:
        in_features: channels of the images.
        features: channels of each level, the finest first.
        out_features: numbers a pixel.
        patch: sides in pixels of the squares that the finest level sees as one position.
        activation: the non-linearity.
        norm: "batch" or "layer" normalisation after each 3x3 convolution, or none.
        dropout: probability that a number of the coarsest level is dropped in training.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        in_features: int,
        features: Sequence[int],
        out_features: int,
        *,
        patch: int = 1,
        activation: Activation = nnx.relu,
        norm: Norm = "batch",
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_features=in_features, out_features=out_features, patch=patch)
        check_widths("features", features)
        if not len(features):
            raise InputError("features=() must name the channels of one level or more, such as (16, 32, 64)")
        kind = {"activation": activation, "norm": norm, "dtype": dtype, "rngs": rngs}
        self.in_features, self.num_levels, self.patch = in_features, len(features), patch
        channels = (in_features * patch**2, *features)
        self.down = nnx.List([Pair(before, width, **kind) for before, width in zip(channels, features, strict=False)])
        self.dropout = dropout_layer(dropout)
        widths = list(zip(features[1:], features, strict=False))  # of each level's coarser neighbour, and its own
        self.larger = nnx.List(
            [ConvTranspose(coarse, fine, (2, 2), 2, dtype=dtype, rngs=rngs) for coarse, fine in widths]
        )
        self.up = nnx.List([Pair(2 * fine, fine, **kind) for _, fine in widths])
        self.out = Conv(features[0], out_features * patch**2, (1, 1), dtype=dtype, rngs=rngs)

    def __call__(self, inputs: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs, [B, H, W, out_features]; ``rngs`` is what dropout draws from."""
        if inputs.ndim != 4 or inputs.shape[-1] != self.in_features:
            raise InputError(f"UNet(in_features={self.in_features}) got inputs of shape {inputs.shape}, [B, H, W, C]")
        height, width = inputs.shape[1:3]
        spare = [(0, -side % (self.patch * 2 ** (self.num_levels - 1))) for side in (height, width)]
        x = jnp.pad(inputs, ((0, 0), *spare, (0, 0)), mode="edge") if any(n for _, n in spare) else inputs
        x = space_to_depth(x, self.patch)
        seen = []
        for level, pair in enumerate(self.down):
            x = pair(max_pool(x, (2, 2)) if level else x)
            seen.append(x)
        x = self.dropout(x, rngs=rngs)
        for larger, pair, fine in reversed(list(zip(self.larger, self.up, seen[:-1], strict=True))):
            x = pair(jnp.concatenate([fine, larger(x)], -1))
        return depth_to_space(self.out(x), self.patch)[:, :height, :width]


class Pair(nnx.Module):
    """Two 3x3 convolutions, each with a norm and the activation, [B, H, W, in_features] -> [B, H, W, features].

    Args:
        in_features: channels of the inputs.
        features: channels of the outputs.
        activation: the non-linearity.
        norm: "batch" or "layer" normalisation, or none.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self, in_features: int, features: int, *, activation: Activation, norm: Norm, dtype: Any, rngs: nnx.Rngs
    ):
        options = {"use_bias": norm != "batch", "kernel_init": nnx.initializers.he_normal(), "dtype": dtype}
        convs = [Conv(width, features, (3, 3), **options, rngs=rngs) for width in (in_features, features)]
        kind = {"momentum": 0.9} if norm == "batch" else {}
        self.first, self.second = (Block(conv, norm, activation, dtype=dtype, rngs=rngs, **kind) for conv in convs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the activations."""
        return self.second(self.first(x))
