"""Find the class of each pixel: membranes in electron micrographs, or a user's own images and masks."""

from dataclasses import dataclass
from typing import Literal

from jaxnets.data import Spec, Splits
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import segmentation
from jaxnets.metrics import dice, iou, pixel_accuracy
from jaxnets.models import UNet
from jaxnets.network import network, standardized
from jaxnets.options import (
    Arithmetic,
    LayerConfig,
    MaskAugmentation,
    MaskData,
    OptimizerConfig,
    TrainingConfig,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.masks import masks
from jaxnets.tasks.task import Task

_LOSSES = {
    "cross-entropy": segmentation.cross_entropy,
    "dice": segmentation.dice_loss,
    "focal": segmentation.focal,
    "lovasz": segmentation.lovasz,
}
_MOST_NAMED = 6  # classes up to which each has a curve of its own


@dataclass(frozen=True)
class Config:
    """A U-Net that finds the class of each pixel."""

    images: MaskData = MaskData()
    """images and their masks"""
    features: tuple[int, ...] = (16, 32, 64, 128)
    """channels of each level of the U-Net, the finest first; each level halves the image"""
    patch: int = 1
    """sides in pixels of the squares that the finest level sees as one position: 2 is about four times cheaper"""
    layers: LayerConfig = LayerConfig(norm="batch")
    """what stands between layers"""
    dropout: float = 0.0
    """probability that a number of the coarsest level is dropped in training"""
    losses: tuple[Literal["cross-entropy", "dice", "focal", "lovasz"], ...] = ("cross-entropy",)
    """what is minimised: the sum of these"""
    instances: str | None = None
    """the class whose connected parts are objects, to be counted and compared, such as the cells between membranes"""
    tile: int = 512
    """height and width of the tiles that an image is predicted by in the end, whatever its size"""
    overlap: int = 64
    """pixels that neighbouring tiles share, where one fades into the other"""
    test_flips: bool = True
    """predict in the end the mean over the eight ways to turn and mirror a tile"""
    augmentation: MaskAugmentation = MaskAugmentation()
    """how training images and masks are changed"""
    arithmetic: Arithmetic = Arithmetic()
    """what the network computes with"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "patch", 1 <= self.patch <= 64, "1 to 64")
        good = min(self.features, default=0) >= 1 and len(self.features) <= 10
        check_field(self, "features", good, "1 to 10 widths of 1 or more")
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        check_field(self, "tile", 1 <= self.tile < 2**15, "1 or more, and less than 32768")
        check_field(self, "overlap", 0 <= self.overlap < self.tile, f"from 0 to less than tile={self.tile}")
        if not self.losses or len(set(self.losses)) < len(self.losses):
            raise InputError(f"losses={self.losses} must name one or more of {', '.join(_LOSSES)}, each once")


PRESETS = {
    "membranes": Preset(
        Config(
            patch=2,
            losses=("cross-entropy", "dice"),
            instances="cell",
            augmentation=MaskAugmentation(flips=True),
            training=TrainingConfig(duration="165ep", batch_size=4, evaluate_every="33ep"),
            optimizer=OptimizerConfig(learning_rate=3e-3, weight_decay=1e-3, warmup=20, average=0.98),
        ),
        "a U-Net that finds the membranes of nerve cells in electron micrographs",
    )
}


def load(config: Config) -> Splits:
    """Return the images and the class of each pixel."""
    return config.images.load()


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner: images in, a logit for each pixel and class out."""
    inputs, names = spec["inputs"], spec["labels"].classes
    options = {**config.layers.options(), "dropout": config.dropout, "dtype": config.arithmetic.dtype}
    options |= {"patch": config.patch}
    model = network(UNet, inputs.shape[-1], config.features, len(names), **options)
    shown = names if len(names) <= _MOST_NAMED else ()
    metrics = {
        "pixel_accuracy": pixel_accuracy(),
        "dice": dice(len(names), shown),
        "iou": iou(len(names)),
    }
    loss = segmentation.total([_LOSSES[name] for name in config.losses])
    model = standardized(model, inputs.mean, inputs.std)
    return segmentation.segmenting(model, loss, optimizer_for(config, spec), metrics)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with masks."""
    return masks(spec, config.tile, config.overlap, config.instances, flips=config.test_flips)
