"""Find things in images and draw boxes around them: blood cells, scattered digits, or a user's own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxnets.data import Spec, Splits
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Initial, Learner
from jaxnets.learners import detection, flipped
from jaxnets.models import Detector
from jaxnets.network import network, standardized
from jaxnets.options import (
    Arithmetic,
    BoxAugmentation,
    BoxData,
    OptimizerConfig,
    TrainingConfig,
    only,
    optimizer_for,
)
from jaxnets.parameters import paths
from jaxnets.recipes.recipe import Preset, Start
from jaxnets.tasks.boxes import boxes
from jaxnets.tasks.task import Task
from jaxnets.weights.cards import card
from jaxnets.weights.pretrained import pretrained


@dataclass(frozen=True)
class Config:
    """An anchor-free detector of things in images."""

    images: BoxData = BoxData()
    """what is to be found in which images"""
    stride: Literal[4, 8, 16] = 8
    """pixels between two cells that each may find a box: small for small things"""
    model: Literal["small", "efficientnet-lite0"] = "small"
    """what looks at the images: a small residual network, or EfficientNet-Lite0 with its weights of ImageNet"""
    widths: tuple[int, ...] = only((16, 32, 64, 128, 192), model=("small",))
    """channels of the small network's maps, each of half the sides of the one before it"""
    weights: Path | None = only(None, model=("efficientnet-lite0",))
    """a file of these weights; found in an installed package, the cache, or fetched, if absent"""
    features: int = 64
    """channels of the pyramid and the heads"""
    radius: float = 1.5
    """cells so many strides around a box's centre learn to find it"""
    box_weight: float = 2.0
    """how much the boxes' part of the loss counts, beside the classes'"""
    nms_iou: float = 0.5
    """the IoU above which two boxes of a class are taken for the same thing, and the surer one is kept"""
    mirrored: bool = False
    """find boxes in an image and its three mirror images, and take the mean: better, and four times slower"""
    sizes: tuple[float, float] = (32.0, 96.0)
    """average precision by size: sides of squares in pixels, below and above which boxes are small and large"""
    augmentation: BoxAugmentation = BoxAugmentation()
    """how training images are changed"""
    arithmetic: Arithmetic = Arithmetic()
    """what the network computes with"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "radius", 0 < self.radius < 1e3, "greater than 0, such as 1.5")
        check_field(self, "box_weight", 0 <= self.box_weight < 1e6, "0 or more")
        check_field(self, "nms_iou", 0 < self.nms_iou < 1, "in (0, 1), such as 0.5")
        check_field(
            self,
            "sizes",
            len(self.sizes) == 2 and 0 <= self.sizes[0] < self.sizes[1] < 1e6,
            "two rising sides in pixels",
        )
        if self.weights is not None:  # a run may go on from elsewhere
            object.__setattr__(self, "weights", self.weights.absolute())
        if 2 ** len(self.widths) < self.stride or min((*self.widths, self.features)) < 1:
            raise InputError(
                f"widths={self.widths}, features={self.features}: give 1 or more each, and a width for every halving "
                f"of the image up to the stride of {self.stride}"
            )


_CELLS = Config(
    images=BoxData(image_size=(240, 320)),
    nms_iou=0.6,
    sizes=(32.0, 80.0),
    augmentation=BoxAugmentation(flip=True, flip_vertical=True, zoom=1.25, colour=0.1),
    training=TrainingConfig(duration="90ep", batch_size=8, evaluate_every="10ep"),
    optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=2e-2, warmup=100, clip_norm=10.0, average=0.995),
)
_DIGITS = Config(
    images=BoxData("scattered-digits"),
    stride=4,
    widths=(16, 32, 64, 96),
    features=48,
    sizes=(11.0, 14.0),
    training=TrainingConfig(duration="8ep", batch_size=32, evaluate_every="1ep"),
    optimizer=OptimizerConfig(learning_rate=4e-3, weight_decay=1e-2, warmup=50, clip_norm=10.0, average=0.99),
)
PRESETS = {
    "digits-detect": Preset(_DIGITS, "digits that are scattered over a canvas, found in a minute"),
    "cells-detect": Preset(_CELLS, "blood cells found and counted, BCCD's photographs at half their size"),
}


def load(config: Config) -> Splits:
    """Return the images with their boxes."""
    return config.images.load()


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for images like those of ``spec``."""
    inputs, classes = spec["inputs"], spec["labels"].classes
    small = config.model == "small"
    sizes = {"stride": config.stride, "widths": config.widths if small else (), "features": config.features}
    model = network(Detector, inputs.shape, len(classes), **sizes, dtype=config.arithmetic.dtype)
    of = inputs if small else card(config.model)
    model = standardized(model, of.mean, of.std)
    return detection(
        flipped(model) if config.mirrored else model,
        optimizer_for(config, spec),
        classes,
        inputs.shape[:2],
        stride=config.stride,
        radius=config.radius,
        box_weight=config.box_weight,
        overlap=config.nms_iou,
        sizes=config.sizes,
    )


def start(config: Config, spec: Spec) -> Start | None:
    """Return the weights to begin from, if they are others'."""
    if config.model == "small":
        return None
    found = pretrained(config.model, config.weights)
    params, model_state = (
        {f"backbone/{name}": leaf for name, leaf in paths(part).items() if name.startswith(("stem/", "blocks/"))}
        for part in (found.params, found.model_state)
    )
    about = f"weights of {config.model}: {found.card.summary} ({found.card.licence})"
    return Start(Initial(params, model_state), about)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with boxes."""
    return boxes(spec, config.sizes)
