"""EfficientNet-Lite: EfficientNet (Tan and Le, 2019) with ReLU6 and without squeeze-and-excitation."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from flax import nnx

from jaxnets.errors import check_number
from jaxnets.models.blocks import Activation
from jaxnets.models.inverted import InvertedResidualNetwork, Stage, scaled


class Scale(NamedTuple):
    """How a variant is larger than Lite0: its factors of channels and of blocks."""

    width: float
    depth: float


LITE = {
    "lite0": Scale(1.0, 1.0),
    "lite1": Scale(1.0, 1.1),
    "lite2": Scale(1.1, 1.2),
    "lite3": Scale(1.2, 1.4),
    "lite4": Scale(1.4, 1.8),
}
# Table 1 of the paper.
_STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1),
)


def stages(width: float = 1.0, depth: float = 1.0) -> list[Stage]:
    """Return the stages with their channels and blocks scaled; the first and the last keep their single block."""
    check_number("depth", depth, 0, 100, "a factor of the published depth, such as 1.2", low_too=False)
    found = [stage._replace(features=scaled(stage.features, width)) for stage in _STAGES]
    inner = [stage._replace(num_blocks=math.ceil(stage.num_blocks * depth)) for stage in found[1:-1]]
    return [found[0], *inner, found[-1]]


class EfficientNet(InvertedResidualNetwork):
    """EfficientNet-Lite, [B, H, W, C] -> [B, out_features]; ``EfficientNet(shape, 10, **LITE["lite0"]._asdict())``.

    It is TensorFlow's: "SAME" padding, which adds the odd pixel below and at the right, and normalisation with an
    epsilon of 1e-3 and a momentum of 0.99. The first and the last convolution keep their 32 and 1280 channels in all
    variants.

    Args:
        input_shape: (H, W, C) of one image; as published 224, 240, 260, 280 and 300 pixels for Lite0 to Lite4.
        out_features: width of the output (classes, or targets).
        width: factor of all channels in blocks, to multiples of 8.
        depth: factor of the blocks of a stage, rounded up.
        stem: "imagenet", which halves images five times, or "cifar" for small images, three times.
        activation: the non-linearity.
        momentum: of the norms' running statistics; 0.9 follows faster, in runs of a few hundred steps.
        dropout: probability that one of the averaged features is dropped in training; as published 0.2 for Lite0 and
            Lite1, else 0.3.
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
        momentum: float = 0.99,
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        shared = {"stem": stem, "activation": activation, "dropout": dropout, "dtype": dtype, "rngs": rngs}
        norm = {"momentum": momentum, "epsilon": 1e-3}
        super().__init__(input_shape, out_features, stages=stages(width, depth), padding="SAME", **norm, **shared)
