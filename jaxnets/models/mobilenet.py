"""MobileNetV2 (Sandler et al., 2018), as torchvision has it."""

from collections.abc import Sequence
from typing import Any, Literal

from flax import nnx

from jaxnets.models.blocks import Activation
from jaxnets.models.inverted import HEAD, STEM, InvertedResidualNetwork, Stage, scaled, scaled_stages

# Table 2 of the paper.
_STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)


def stages(width: float = 1.0, depth: float = 1.0) -> list[Stage]:
    """Return the stages with their channels and blocks scaled."""
    return scaled_stages(_STAGES, width, depth)


class MobileNetV2(InvertedResidualNetwork):
    """MobileNetV2, [B, H, W, C] -> [B, out_features].

    The weights' shapes, the padding and the statistics' momentum (0.9) are torchvision's. One thing differs: running
    variances follow the batch's biased variance, as Flax' do, and PyTorch's the unbiased one.

    Args:
        input_shape: (H, W, C) of one image.
        out_features: width of the output (classes, or targets).
        width: factor of all channels, to multiples of 8; the last convolution never has less than 1280.
        depth: factor of the blocks of a stage, rounded up; the first and the last stage keep their one.
        stem: "imagenet", which halves images five times, or "cifar" for small images, three times.
        activation: the non-linearity.
        dropout: probability that one of the averaged features is dropped in training; 0.2 as published.
        dtype: of the computation; parameters and the norms' statistics stay float32.
        rngs: where initial values come from.

    Raises:
        InputError: for another stem, or a width or depth of no more than 0.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        out_features: int,
        *,
        width: float = 1.0,
        depth: float = 1.0,
        stem: Literal["cifar", "imagenet"] = "imagenet",
        activation: Activation = nnx.relu6,
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        shared = {"stem": stem, "activation": activation, "dropout": dropout, "dtype": dtype, "rngs": rngs}
        widths = scaled(STEM, width), scaled(HEAD, max(width, 1.0))
        super().__init__(input_shape, out_features, stages=stages(width, depth), widths=widths, **shared)
