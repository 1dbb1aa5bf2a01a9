"""Find things in images and draw boxes around them: blood cells, scattered digits, or a user's own."""

from dataclasses import dataclass
from typing import Literal

from jaxnets.data import Spec, Splits
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import detection, flipped
from jaxnets.models import Detector
from jaxnets.network import network, standardized
from jaxnets.options import (
    Arithmetic,
    BoxAugmentation,
    BoxData,
    OptimizerConfig,
    TrainingConfig,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.boxes import boxes
from jaxnets.tasks.task import Task


@dataclass(frozen=True)
class Config:
    """An anchor-free detector of things in images."""

    images: BoxData = BoxData()
    """what is to be found in which images"""
    stride: Literal[4, 8, 16] = 8
    """pixels between two cells that each may find a box: small for small things"""
    widths: tuple[int, ...] = (16, 32, 64, 128, 192)
    """channels of the backbone's maps, each of half the sides of the one before it"""
    features: int = 64
    """channels of the pyramid and the head"""
    radius: float = 1.5
    """cells so many strides around a box's centre learn to find it"""
    box_weight: float = 2.0
    """how much the boxes' part of the loss counts, beside the classes'"""
    overlap: float = 0.5
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
        check_field(self, "overlap", 0 < self.overlap < 1, "in (0, 1), such as 0.5")
        check_field(self, "sizes", 0 <= self.sizes[0] < self.sizes[1] < 1e6, "two rising sides in pixels")
        if 2 ** len(self.widths) < self.stride or min((*self.widths, self.features)) < 1:
            raise InputError(
                f"widths={self.widths}, features={self.features}: give 1 or more each, and a width for every halving "
                f"of the image up to the stride of {self.stride}"
            )


_CELLS = Config(
    images=BoxData(image_size=(240, 320)),
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
    "cells-detect": Preset(_CELLS, "blood cells found and counted, BCCD's photographs at half their size"),
    "digits-detect": Preset(_DIGITS, "digits that are scattered over a canvas, found in a minute"),
}


def load(config: Config) -> Splits:
    """Return the images with their boxes."""
    return config.images.load()


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for images like those of ``spec``."""
    inputs, classes = spec["inputs"], spec["labels"].classes
    sizes = {"stride": config.stride, "widths": config.widths, "features": config.features}
    model = network(Detector, inputs.shape, len(classes), **sizes, dtype=config.arithmetic.dtype)
    model = standardized(model, inputs.mean, inputs.std)
    return detection(
        flipped(model) if config.mirrored else model,
        optimizer_for(config, spec),
        classes,
        inputs.shape[:2],
        stride=config.stride,
        radius=config.radius,
        box_weight=config.box_weight,
        overlap=config.overlap,
        sizes=config.sizes,
    )


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with boxes."""
    return boxes(spec, config.sizes)
