"""Classify small images: handwritten digits, MNIST, or a user's own."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
from flax import nnx

from jaxnets import data, losses
from jaxnets.data import Data, Spec, Splits, augment
from jaxnets.errors import InputError, nearest
from jaxnets.learner import Learner, supervised
from jaxnets.models import CNN, MLP
from jaxnets.network import Network, network, standardized
from jaxnets.optimizers import OptimizerConfig, make_optimizer
from jaxnets.options import TrainingConfig
from jaxnets.recipes import Preset
from jaxnets.transforms import augmented, averaged

ACTIVATIONS = {"relu": nnx.relu, "gelu": nnx.gelu, "tanh": nnx.tanh, "sigmoid": nnx.sigmoid}
DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}


@dataclass(frozen=True)
class Config:
    """A small image classifier."""

    data: str = "digits"
    """digits, mnist, or the path of an npz file or of a folder of IDX files"""
    data_dir: Path | None = None
    """where mnist's IDX files are; else JAXNETS_DATA, else the cache folder, into which they are fetched"""
    validation: float = 0.1
    """fraction of the training data held out to choose by; 0 for none"""
    model: Literal["cnn", "mlp"] = "cnn"
    """the family of the network"""
    features: tuple[int | Literal["pool"], ...] = (32, 64, "pool")
    """channels of each convolution, and pool for a 2x2 max-pooling (cnn)"""
    hidden: tuple[int, ...] = (128,)
    """widths of the dense hidden layers"""
    activation: Literal["relu", "gelu", "tanh", "sigmoid"] = "relu"
    """the non-linearity"""
    norm: Literal["none", "batch", "layer"] = "none"
    """normalisation after each hidden layer"""
    dropout: float = 0.0
    """probability that a dense hidden unit is dropped in training"""
    shift: int = 0
    """augmentation: move each training image by up to so many pixels"""
    rotate: float = 0.0
    """augmentation: turn each training image by up to so many degrees"""
    flip: bool = False
    """augmentation: mirror training images, one in two"""
    cutout: int = 0
    """augmentation: blank a square of so many pixels in each training image"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """dtype of the network's arithmetic; weights and losses are float32 in both"""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """how long, in which batches"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout={self.dropout} must be in [0, 1)")
        if not 0 <= self.validation < 1:
            raise InputError(f"validation={self.validation} must be in [0, 1)")
        for name in ("shift", "rotate", "cutout"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise InputError(f"{name}={value} must be 0 or more")
        if self.validation == 0 and self.training.patience is not None:
            raise InputError("patience needs validation data; give --validation a fraction above 0")
        if any(width != "pool" and width < 1 for width in self.features + self.hidden):
            raise InputError(f"widths must be 1 or more: features={self.features}, hidden={self.hidden}")


_CNN = OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2)
_DIGITS_CNN = Config(dropout=0.4, shift=1, training=TrainingConfig(duration="30ep"), optimizer=_CNN)
_DIGITS_MLP = replace(
    _DIGITS_CNN, model="mlp", hidden=(256, 256), dropout=0.2, training=TrainingConfig(duration="100ep")
)
_MNIST_CNN = Config(
    data="mnist",
    features=(16, "pool", 32, "pool", 48, 48, "pool"),
    norm="batch",
    dropout=0.4,
    shift=2,
    validation=0.05,
    training=TrainingConfig(duration="12ep", batch_size=128),
    optimizer=OptimizerConfig(learning_rate=4e-3, weight_decay=3e-2, warmup=200),
)
PRESETS = {
    "digits-cnn": Preset(_DIGITS_CNN, "a small CNN on scikit-learn's 8x8 digits"),
    "digits-mlp": Preset(_DIGITS_MLP, "an MLP on scikit-learn's 8x8 digits"),
    "mnist-cnn": Preset(_MNIST_CNN, "a small CNN on MNIST"),
    "mnist-mlp": Preset(replace(_MNIST_CNN, model="mlp", hidden=(512, 512)), "an MLP on MNIST"),
}


def load(config: Config) -> Splits:
    """Return the images and labels that ``config.data`` names."""
    match config.data:
        case "digits":
            splits = data.digits()
        case "mnist":
            splits = data.mnist(config.data_dir)
        case path if Path(path).is_dir():
            splits = data.idx_folder(Path(path))
        case path if Path(path).suffix == ".npz":
            splits = data.npz_splits(Path(path))
        case name:
            hint = nearest(name, ["digits", "mnist"])
            raise InputError(f"data={name!r} is not digits, mnist, an npz file or a folder of IDX files{hint}")
    train, test = _as_images(splits.train), splits.test and _as_images(splits.test)
    if not config.validation:
        return Splits(train, test=test)
    train, validation = train.split(config.validation)
    return Splits(train, validation, test)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for images like those of ``spec``."""
    num_steps = config.training.num_steps(spec.num_examples)
    learner = supervised(
        classifier(config, spec),
        losses.softmax_cross_entropy,
        make_optimizer(config.optimizer, num_steps),
        {"accuracy": losses.accuracy},
        accumulate=config.optimizer.accumulate,
    )
    sized = {augment.shift: config.shift, augment.rotate: config.rotate, augment.cutout: config.cutout}
    augments = [make(size) for make, size in sized.items() if size] + [augment.flip()] * config.flip
    if augments:
        learner = augmented(learner, augment.chain(*augments))
    if config.optimizer.average:
        learner = averaged(learner, config.optimizer.average)
    return learner


def classifier(config: Config, spec: Spec) -> Network:
    """Return the network: raw pixels in, one logit a class out."""
    inputs, num_classes = spec["inputs"], len(spec["labels"].classes)
    options = {
        "activation": ACTIVATIONS[config.activation],
        "norm": None if config.norm == "none" else config.norm,
        "dropout": config.dropout,
        "dtype": DTYPES[config.precision],
    }
    if config.model == "cnn":
        model = network(CNN, inputs.shape, config.features, config.hidden, num_classes, **options)
    else:
        size = inputs.shape[0] * inputs.shape[1] * inputs.shape[2]
        model = network(MLP, size, config.hidden, num_classes, **options)
    return standardized(model, inputs.mean, inputs.std)


def _as_images(part: Data) -> Data:
    """Return [N, H, W] images as [N, H, W, 1], with labels [N]."""
    inputs, labels = part["inputs"], part["labels"]
    inputs = inputs[..., None] if inputs.ndim == 3 else inputs
    if inputs.ndim != 4 or labels.ndim != 1:
        raise InputError(f"images [N, H, W] or [N, H, W, C] and labels [N] are needed, not {part}")
    if not part.classes:
        raise InputError(
            f"labels of {labels.dtype} from {labels.min()} to {labels.max()} are no classes; "
            "use whole numbers from 0, or text"
        )
    return Data(inputs=inputs, labels=labels, classes=part.classes)
