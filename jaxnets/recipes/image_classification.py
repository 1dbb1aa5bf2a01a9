"""Classify images: handwritten digits, MNIST, CIFAR-10, or a user's own."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from jaxnets import losses
from jaxnets.data import Spec, Splits
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import supervised
from jaxnets.models import CNN, MLP, EfficientNet, MobileNetV2, ResNet, ViT
from jaxnets.network import Network, network, standardized
from jaxnets.options import (
    Arithmetic,
    ClassMetrics,
    ImageAugmentation,
    ImageData,
    LayerConfig,
    OptimizerConfig,
    PretrainedConfig,
    TrainingConfig,
    TransformerConfig,
    only,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset, Start
from jaxnets.weights.layout import Layout
from jaxnets.weights.layouts_images import efficientnet_lite, torchvision_mobilenet_v2, torchvision_resnet
from jaxnets.weights.pretrained import layout_of

_INVERTED = {"efficientnet": EfficientNet, "mobilenet": MobileNetV2}  # their activation and norm are part of them
_PUBLISHED_WIDTH = 64
_SMALL = 64  # pixels up to which images get the stem for small ones


@dataclass(frozen=True)
class Config:
    """A small image classifier."""

    images: ImageData = ImageData("digits")
    """what is classified"""
    model: Literal["cnn", "separable", "mlp", "resnet", "efficientnet", "mobilenet", "vit", "pretrained"] = "cnn"
    """the family of the network; separable is a cnn of depthwise-separable convolutions, efficientnet Lite0, mobilenet
    version 2, vit a vision transformer; pretrained is one with weights of others"""
    pretrained: PretrainedConfig = only(PretrainedConfig("efficientnet-lite0"), model=("pretrained",))
    """which weights, and how much of them learns (pretrained)"""
    depth: Literal[10, 18, 34, 50] = only(18, model=("resnet",))
    """layers (resnet)"""
    width: int = only(64, model=("resnet", *_INVERTED))
    """channels of a resnet's first stage; efficientnet and mobilenet have their published widths at 64, half of them at
    32; of all three, images above 64 pixels get the ImageNet stem"""
    features: tuple[int | Literal["pool"], ...] = only((32, 64, "pool"), model=("cnn", "separable"))
    """channels of each convolution, and pool for a 2x2 max-pooling (cnn, separable)"""
    hidden: tuple[int, ...] = only((128,), model=("cnn", "separable", "mlp"))
    """widths of the dense hidden layers (cnn, separable, mlp)"""
    patch: int = only(4, model=("vit",))
    """height and width of a patch in pixels, which divide the image's (vit)"""
    transformer: TransformerConfig = only(TransformerConfig(positions="learned"), model=("vit",))
    """how large a transformer (vit)"""
    layers: LayerConfig = only(
        LayerConfig(),
        parts={
            "norm": {"model": ("cnn", "separable", "mlp")},
            "activation": {"model": ("cnn", "separable", "mlp", "resnet", "vit")},
        },
    )
    """what stands between layers; a resnet and a vit have a normalisation of their own, efficientnet and mobilenet a
    ReLU6 too"""
    dropout: float = 0.0
    """probability that a unit of a dense hidden layer, one of a convolutional network's pooled features (resnet,
    efficientnet, mobilenet), or a number in a vit, is dropped in training"""
    augmentation: ImageAugmentation = ImageAugmentation()
    """how training images are changed"""
    label_smoothing: float = 0.0
    """part of each label that is spread over all classes, in the losses reported as well"""
    class_weights: Literal["alike", "balanced"] = "alike"
    """balanced: rare classes weigh more in training, so that all classes count as much; else all rows do"""
    metrics: ClassMetrics = ClassMetrics()
    """what is measured"""
    arithmetic: Arithmetic = Arithmetic()
    """what the network computes with"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.model == "pretrained":
            self.pretrained.check_kind("images")
            if self.pretrained.frozen_features and self.augmentation != ImageAugmentation():
                raise InputError("frozen_features are computed once, without augmentation; leave one of the two out")
        for name in ("dropout", "label_smoothing"):
            check_field(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name in ("width", "patch"):
            check_field(self, name, getattr(self, name) >= 1, "1 or more")
        if any(width != "pool" and width < 1 for width in self.features + self.hidden):
            raise InputError(f"widths must be 1 or more: features={self.features}, hidden={self.hidden}")


_CNN = OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2)
_DIGITS_CNN = Config(
    dropout=0.4, augmentation=ImageAugmentation(shift=1), training=TrainingConfig(duration="30ep"), optimizer=_CNN
)
_DIGITS_MLP = replace(
    _DIGITS_CNN, model="mlp", hidden=(256, 256), dropout=0.2, training=TrainingConfig(duration="100ep")
)
_MNIST_CNN = Config(
    images=ImageData("mnist"),
    features=(16, "pool", 32, "pool", 48, 48, "pool"),
    layers=LayerConfig(norm="batch"),
    dropout=0.4,
    augmentation=ImageAugmentation(shift=2),
    training=TrainingConfig(duration="12ep", batch_size=128),
    optimizer=OptimizerConfig(learning_rate=4e-3, weight_decay=3e-2, warmup=200),
)
_MNIST_VIT = replace(
    _MNIST_CNN,
    model="vit",
    patch=7,
    layers=LayerConfig(activation="gelu"),
    transformer=TransformerConfig(model_dim=64, positions="learned"),
    dropout=0.1,
    training=TrainingConfig(duration="15ep", batch_size=128),
    optimizer=OptimizerConfig("muon", learning_rate=1e-2, momentum=0.95, weight_decay=5e-2, warmup=200, clip_norm=1.0),
)
_CIFAR10_RESNET = Config(
    images=ImageData("cifar10"),
    model="resnet",
    augmentation=ImageAugmentation(shift=4, flip=True, cutout=8),
    label_smoothing=0.1,
    arithmetic=Arithmetic("bfloat16"),
    training=TrainingConfig(duration="30ep", batch_size=512),
    optimizer=OptimizerConfig(optimizer="nesterov", learning_rate=0.4, schedule="one-cycle", weight_decay=5e-4),
)
_CIFAR10_LITE0 = Config(
    images=ImageData("cifar10"),
    model="pretrained",
    pretrained=PretrainedConfig("efficientnet-lite0", input_size=96, lora_patterns=("blocks/**/kernel",)),
    augmentation=ImageAugmentation(flip=True),
    dropout=0.2,
    training=TrainingConfig(duration="2ep", batch_size=64),
    optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=1e-4, warmup=100, average=0.99),
)
PRESETS = {
    "digits-cnn": Preset(_DIGITS_CNN, "a small CNN on scikit-learn's 8x8 digits"),
    "digits-mlp": Preset(_DIGITS_MLP, "an MLP on scikit-learn's 8x8 digits"),
    "mnist-cnn": Preset(_MNIST_CNN, "a small CNN on MNIST"),
    "mnist-mlp": Preset(replace(_MNIST_CNN, model="mlp", hidden=(512, 512)), "an MLP on MNIST"),
    "mnist-vit": Preset(_MNIST_VIT, "a small vision transformer on MNIST"),
    "cifar10-lite0": Preset(_CIFAR10_LITE0, "EfficientNet-Lite0's weights, fine-tuned on CIFAR-10"),
    "cifar10-resnet": Preset(_CIFAR10_RESNET, "ResNet-18 on CIFAR-10, for a GPU (the README has a schedule for a CPU)"),
}


def load(config: Config) -> Splits:
    """Return the images and their classes; with pretrained weights, of a folder in their size unless told."""
    if config.model != "pretrained":
        splits = config.images.load()
    else:
        height, width, _ = config.pretrained.card.shape
        splits = config.images.load(usual_size=(height, width))
        if config.pretrained.frozen_features:
            splits = splits.mapped(partial(config.pretrained.featured, config.pretrained.read()))
    return splits.balanced() if config.class_weights == "balanced" else splits


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for images like those of ``spec``."""
    loss = partial(losses.softmax_cross_entropy, label_smoothing=config.label_smoothing)
    num_classes = len(spec["labels"].classes)
    metrics = config.metrics.of(num_classes)

    def learning(model: Network) -> Learner:
        return supervised(model, loss, optimizer_for(config, spec), metrics)

    if config.model == "pretrained":
        options = {"out_features": num_classes, "dropout": config.dropout, "dtype": config.arithmetic.dtype}
        return config.pretrained.learner(learning, **options)
    return learning(classifier(config, spec))


def start(config: Config, spec: Spec) -> Start | None:
    """Return the weights to begin from, if they are others'."""
    if config.model != "pretrained":
        return None
    return Start(*config.pretrained.start(out_features=len(spec["labels"].classes)))


def layout(config: Config, spec: Spec) -> Layout | None:
    """Return how PyTorch's model names the weights, where it has the same."""
    if config.model == "pretrained":
        return layout_of(config.pretrained.pretrained, out_features=len(spec["labels"].classes))
    if max(spec["inputs"].shape[:2]) <= _SMALL:
        return None  # other strides than theirs
    match config.model:
        case "resnet" if config.depth in (18, 34, 50) and config.layers.activation == "relu":
            return torchvision_resnet(config.depth)
        case "efficientnet":
            return efficientnet_lite()
        case "mobilenet":
            return torchvision_mobilenet_v2()
    return None


def classifier(config: Config, spec: Spec) -> Network:
    """Return the network: raw pixels in, one logit a class out."""
    inputs, num_classes = spec["inputs"], len(spec["labels"].classes)
    options = config.layers.options() | {"dropout": config.dropout, "dtype": config.arithmetic.dtype}
    own = {name: value for name, value in options.items() if name != "norm"}  # of models with their own normalisation
    stem = "cifar" if max(inputs.shape[:2]) <= _SMALL else "imagenet"
    if config.model == "resnet":
        model = network(ResNet, inputs.shape, config.depth, num_classes, stem=stem, width=config.width, **own)
    elif config.model in _INVERTED:
        own = {"width": config.width / _PUBLISHED_WIDTH, "dropout": config.dropout, "dtype": config.arithmetic.dtype}
        model = network(_INVERTED[config.model], inputs.shape, num_classes, stem=stem, **own)
    elif config.model == "vit":
        sizes = inputs.shape, config.patch, *config.transformer.sizes, num_classes
        model = network(ViT, *sizes, positions=config.transformer.positions, **own)
    elif config.model == "mlp":
        model = network(MLP, math.prod(inputs.shape), config.hidden, num_classes, **options)
    else:
        separable = config.model == "separable"
        shape = (inputs.shape, config.features, config.hidden, num_classes)
        model = network(CNN, *shape, separable=separable, **options)
    return standardized(model, inputs.mean, inputs.std)
