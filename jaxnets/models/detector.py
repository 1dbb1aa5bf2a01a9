"""Anchor-free detectors: a backbone, a pyramid that brings its maps together, and two heads at every cell."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.errors import InputError
from jaxnets.models.blocks import check_image_shape, check_sizes, conv_block
from jaxnets.models.efficientnet import LITE, EfficientNet
from jaxnets.models.resnet import ResidualBlock
from jaxnets.nn import Conv, upsample

PRIOR = 0.01  # probability that a cell sees a class at first (Lin et al., 2017)


class ResidualBackbone(nnx.Module):
    """A small residual network, [B, H, W, C] -> its maps of strides 2, 4, 8, ...

    The first two are made by one strided convolution each, every other by a strided residual block. ``widths`` are the
    channels of the maps, as of every backbone.

    Args:
        channels: of the images.
        widths: channels of each map.
        dtype: of the computation; parameters and the norms' statistics stay float32.
        rngs: where initial values come from.
    """

    def __init__(self, channels: int, widths: Sequence[int], *, dtype: Any = None, rngs: nnx.Rngs):
        self.widths = tuple(widths)
        self.stages = nnx.List()
        for i, (before, width) in enumerate(zip((channels, *widths), widths, strict=False)):
            options = {"dtype": dtype, "rngs": rngs}
            plain = conv_block(before, width, 3, 2, nnx.relu, **options) if i < 2 else None
            self.stages.append(plain or ResidualBlock(before, width, 2, zero_init=False, **options))

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Return the maps."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class EfficientNetBackbone(EfficientNet):
    """EfficientNet-Lite0 up to its last blocks, [B, H, W, 3] -> its maps of strides 2 to 32.

    Its parameters have the names of the whole, but for what comes after the blocks.

    Args:
        input_shape: (H, W, C) of one image.
        dtype: of the computation.
        rngs: where initial values come from.
    """

    def __init__(self, input_shape: Sequence[int], *, dtype: Any = None, rngs: nnx.Rngs):
        super().__init__(input_shape, 1, **LITE["lite0"]._asdict(), momentum=0.9, dtype=dtype, rngs=rngs)
        del self.conv_head, self.out, self.dropout
        self.ends = [i for i, block in enumerate(self.blocks[1:]) if block.depthwise.layer.strides in (2, (2, 2))]
        self.ends = [*self.ends, len(self.blocks) - 1]  # the last block of each stride
        self.widths = tuple(self.blocks[end].project.layer.out_features for end in self.ends)

    def __call__(self, inputs: jax.Array, *, rngs: nnx.Rngs | None = None) -> Any:
        """Return the maps; nothing is drawn."""
        x, maps = self.stem(inputs), []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.ends:
                maps.append(x)
        return maps


class Detector(nnx.Module):
    """An anchor-free detector, [B, H, W, C] -> [B, h, w, num_classes + 4], cells of one stride.

    Each cell says for each class by how much it is that of a box around the cell (logits), and the logarithms of the
    distances from its centre to the box's left, top, right and bottom, in strides (FCOS, Tian et al., 2019). Classes
    and distances have convolutions of their own. Maps of larger strides are brought in from the top down (FPN, Lin et
    al., 2017).

    Args:
        input_shape: (H, W, C) of one image.
        num_classes: what a box may be of.
        stride: pixels between two cells; a power of 2 up to the backbone's largest.
        widths: channels of a small residual backbone's maps, of strides 2, 4, 8, ...; none for EfficientNet-Lite0's.
        features: channels of the pyramid and the heads.
        depth: 3x3 convolutions of each head.
        dtype: of the computation; parameters and the norms' statistics stay float32.
        rngs: where initial values come from.

    Raises:
        InputError: if no map has the stride, or the images are smaller than a cell.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        stride: int = 8,
        widths: Sequence[int] = (16, 32, 64, 128, 192),
        features: int = 64,
        depth: int = 2,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        check_image_shape("input_shape", input_shape)
        check_sizes(num_classes=num_classes, features=features, depth=depth)
        options = {"dtype": dtype, "rngs": rngs}
        self.input_shape, self.num_classes = tuple(input_shape), num_classes
        self.backbone: Any = (
            ResidualBackbone(input_shape[-1], widths, **options)
            if widths
            else EfficientNetBackbone(input_shape, **options)
        )
        strides = [2 ** (i + 1) for i in range(len(self.backbone.widths))]
        if stride not in strides or min(input_shape[:2]) < stride:
            raise InputError(
                f"stride={stride} must be one of {strides}, the backbone's, and no larger than the images of "
                f"{input_shape[0]} x {input_shape[1]} pixels"
            )
        self.used = strides.index(stride)
        self.laterals = nnx.List(
            conv_block(width, features, 1, 1, nnx.relu, **options) for width in self.backbone.widths[self.used :]
        )
        self.smooth = conv_block(features, features, 3, 1, nnx.relu, **options)
        self.class_head, self.box_head = (
            nnx.List(conv_block(features, features, 3, 1, nnx.relu, **options) for _ in range(depth)) for _ in range(2)
        )
        small = nnx.initializers.normal(0.01)
        self.classes = Conv(features, num_classes, (3, 3), kernel_init=small, bias_init=_PRIOR_BIAS, **options)
        self.distances = Conv(features, 4, (3, 3), kernel_init=small, bias_init=_ONE, **options)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Return logits and distances, [B, h, w, num_classes + 4]."""
        if inputs.shape[1:] != self.input_shape:
            raise InputError(
                f"Detector(input_shape={self.input_shape}) got inputs of shape {inputs.shape}, [B, H, W, C]"
            )
        maps = [lateral(x) for lateral, x in zip(self.laterals, self.backbone(inputs)[self.used :], strict=True)]
        x = maps.pop()
        while maps:
            finer = maps.pop()
            x = finer + upsample(x, 2)[:, : finer.shape[1], : finer.shape[2]]
        seen = bounded = self.smooth(x)
        for of_class, of_box in zip(self.class_head, self.box_head, strict=True):
            seen, bounded = of_class(seen), of_box(bounded)
        return jnp.concatenate([self.classes(seen), self.distances(bounded)], -1)


_PRIOR_BIAS = nnx.initializers.constant(math.log(PRIOR / (1 - PRIOR)))
_ONE = nnx.initializers.constant(1.0)
