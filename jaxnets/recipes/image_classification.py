"""Classify images: handwritten digits, MNIST, CIFAR-10, or a user's own."""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from jaxnets import losses
from jaxnets.data import Spec, Splits, augment, labelled_images
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners.supervised import supervised
from jaxnets.models import CNN, MLP, ResNet, ViT
from jaxnets.network import Network, network, standardized
from jaxnets.options.choices import ACTIVATIONS, DTYPES, ActivationName, Precision
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer
from jaxnets.options.training import TrainingConfig
from jaxnets.options.transformer import TransformerConfig
from jaxnets.recipes.recipe import Preset
from jaxnets.transforms.augmented import augmented
from jaxnets.transforms.averaged import averaged


@dataclass(frozen=True)
class Augmentation:
    """How training images are changed, each time anew."""

    shift: int = 0
    """augmentation: move each training image by up to so many pixels"""
    rotate: float = 0.0
    """augmentation: turn each training image by up to so many degrees"""
    flip: bool = False
    """augmentation: mirror training images, one in two"""
    cutout: int = 0
    """augmentation: blank a square of so many pixels in each training image"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("shift", "rotate", "cutout"):
            check_field(self, name, 0 <= getattr(self, name) < math.inf, "0 or more")

    def function(self) -> augment.Augment | None:
        """Return these changes one after another; None if there are none."""
        sized = {augment.shift: self.shift, augment.rotate: self.rotate, augment.cutout: self.cutout}
        changes = [make(size) for make, size in sized.items() if size] + [augment.flip()] * self.flip
        return augment.chain(*changes) if changes else None


@dataclass(frozen=True)
class Config:
    """A small image classifier."""

    data: str = "digits"
    """digits, mnist, cifar10, or a folder or zip of images (train/CLASS/x.png), an npz file or a folder of IDX files"""
    data_dir: Path | None = None
    """where mnist's or cifar10's files are; else JAXNETS_DATA, else the cache folder, into which they are fetched"""
    image_size: tuple[int, int] | None = None
    """height and width to resize a folder's or zip's images to; they must all have one size without it"""
    validation: float = 0.1
    """fraction of the training data held out to choose by, if they have no validation part; 0 for none"""
    model: Literal["cnn", "separable", "mlp", "resnet", "vit"] = "cnn"
    """the family of the network; separable is a cnn of depthwise-separable convolutions, vit a vision transformer"""
    depth: Literal[10, 18, 34, 50] = 18
    """layers (resnet)"""
    width: int = 64
    """channels of the first stage (resnet); images above 64 pixels get the ImageNet stem"""
    features: tuple[int | Literal["pool"], ...] = (32, 64, "pool")
    """channels of each convolution, and pool for a 2x2 max-pooling (cnn, separable)"""
    hidden: tuple[int, ...] = (128,)
    """widths of the dense hidden layers (cnn, separable, mlp)"""
    patch: int = 4
    """height and width of a patch in pixels, which divide the image's (vit)"""
    transformer: TransformerConfig = field(default_factory=lambda: TransformerConfig(positions="learned"))
    """how large a transformer (vit)"""
    activation: ActivationName = "relu"
    """the non-linearity"""
    norm: Literal["none", "batch", "layer"] = "none"
    """normalisation after each hidden layer; a resnet has batch normalisation in any case"""
    dropout: float = 0.0
    """probability that a unit of a dense hidden layer, a resnet's pooled feature, or a number in a vit, is dropped in
    training"""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """how training images are changed"""
    label_smoothing: float = 0.0
    """part of each label that is spread over all classes, in the losses reported as well"""
    precision: Precision = "float32"
    """dtype of the network's arithmetic; weights and losses are float32 in both"""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """how long, in which batches"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("dropout", "validation", "label_smoothing"):
            check_field(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name, values in {
            "width": (self.width,),
            "patch": (self.patch,),
            "image_size": self.image_size or (),
        }.items():
            check_field(self, name, all(value >= 1 for value in values), "1 or more")
        if self.validation == 0 and self.training.patience is not None:
            raise InputError("patience needs validation data; give --validation a fraction above 0")
        if any(width != "pool" and width < 1 for width in self.features + self.hidden):
            raise InputError(f"widths must be 1 or more: features={self.features}, hidden={self.hidden}")


_CNN = OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2)
_DIGITS_CNN = Config(
    dropout=0.4, augmentation=Augmentation(shift=1), training=TrainingConfig(duration="30ep"), optimizer=_CNN
)
_DIGITS_MLP = replace(
    _DIGITS_CNN, model="mlp", hidden=(256, 256), dropout=0.2, training=TrainingConfig(duration="100ep")
)
_MNIST_CNN = Config(
    data="mnist",
    features=(16, "pool", 32, "pool", 48, 48, "pool"),
    norm="batch",
    dropout=0.4,
    augmentation=Augmentation(shift=2),
    validation=0.05,
    training=TrainingConfig(duration="12ep", batch_size=128),
    optimizer=OptimizerConfig(learning_rate=4e-3, weight_decay=3e-2, warmup=200),
)
_MNIST_VIT = replace(
    _MNIST_CNN,
    model="vit",
    patch=7,
    activation="gelu",
    norm="none",
    transformer=TransformerConfig(model_dim=64, positions="learned"),
    dropout=0.1,
    training=TrainingConfig(duration="15ep", batch_size=128),
    optimizer=OptimizerConfig("muon", learning_rate=1e-2, momentum=0.95, weight_decay=5e-2, warmup=200, clip_norm=1.0),
)
_CIFAR10_RESNET = Config(
    data="cifar10",
    model="resnet",
    augmentation=Augmentation(shift=4, flip=True, cutout=8),
    label_smoothing=0.1,
    validation=0.02,
    precision="bfloat16",
    training=TrainingConfig(duration="30ep", batch_size=512),
    optimizer=OptimizerConfig(optimizer="nesterov", learning_rate=0.4, schedule="one-cycle", weight_decay=5e-4),
)
PRESETS = {
    "digits-cnn": Preset(_DIGITS_CNN, "a small CNN on scikit-learn's 8x8 digits"),
    "digits-mlp": Preset(_DIGITS_MLP, "an MLP on scikit-learn's 8x8 digits"),
    "mnist-cnn": Preset(_MNIST_CNN, "a small CNN on MNIST"),
    "mnist-mlp": Preset(replace(_MNIST_CNN, model="mlp", hidden=(512, 512)), "an MLP on MNIST"),
    "mnist-vit": Preset(_MNIST_VIT, "a small vision transformer on MNIST"),
    "cifar10-resnet": Preset(_CIFAR10_RESNET, "ResNet-18 on CIFAR-10, for a GPU (the README has a schedule for a CPU)"),
}


def load(config: Config) -> Splits:
    """Return the images and labels that ``config.data`` names."""
    return labelled_images(config.data, config.data_dir, config.image_size, config.validation)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for images like those of ``spec``."""
    num_steps = config.training.num_steps(spec.num_examples)
    learner = supervised(
        classifier(config, spec),
        partial(losses.softmax_cross_entropy, label_smoothing=config.label_smoothing),
        make_optimizer(config.optimizer, num_steps),
        {"accuracy": losses.accuracy},
        accumulate=config.optimizer.accumulate,
    )
    if change := config.augmentation.function():
        learner = augmented(learner, change)
    if config.optimizer.average:
        learner = averaged(learner, config.optimizer.average)
    return learner


def classifier(config: Config, spec: Spec) -> Network:
    """Return the network: raw pixels in, one logit a class out."""
    inputs, num_classes = spec["inputs"], len(spec["labels"].classes)
    options = {
        "activation": ACTIVATIONS[config.activation],
        "dropout": config.dropout,
        "dtype": DTYPES[config.precision],
    }
    norm = None if config.norm == "none" else config.norm
    if config.model == "resnet":
        stem = "cifar" if max(inputs.shape[:2]) <= 64 else "imagenet"
        model = network(ResNet, inputs.shape, config.depth, num_classes, stem=stem, width=config.width, **options)
    elif config.model == "vit":
        sizes = inputs.shape, config.patch, *config.transformer.sizes, num_classes
        model = network(ViT, *sizes, positions=config.transformer.positions, **options)
    elif config.model == "mlp":
        model = network(MLP, math.prod(inputs.shape), config.hidden, num_classes, norm=norm, **options)
    else:
        separable = config.model == "separable"
        shape = (inputs.shape, config.features, config.hidden, num_classes)
        model = network(CNN, *shape, separable=separable, norm=norm, **options)
    return standardized(model, inputs.mean, inputs.std)
