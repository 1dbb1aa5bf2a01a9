"""Learn features of images without labels: MNIST, or a user's own; fine-tuning goes on from them with a few labels."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Spec, Splits, check_pixels
from jaxnets.errors import FINITE, InputError, check_field
from jaxnets.learner import Learner, TrainState
from jaxnets.learners import byol, filled_in, masked_autoencoding, vicreg
from jaxnets.models import CNN, MLP, MaskedDecoder, ViT
from jaxnets.network import Network, network, standardized
from jaxnets.options import (
    Arithmetic,
    ImageAugmentation,
    ImageData,
    LayerConfig,
    OptimizerConfig,
    TrainingConfig,
    TransformerConfig,
    ViewsConfig,
    only,
    optimizer_for,
)
from jaxnets.recipes import image_classification
from jaxnets.recipes.recipe import Onward, Preset
from jaxnets.tasks.representations import representations
from jaxnets.tasks.task import Task
from jaxnets.transforms import augmented, features, probed

_TWO_VIEWS = ("byol", "vicreg")
_HEADS = 4  # of the decoder's attention
_WIDEST = 2**15  # projections: VICReg compares each dimension with each other one


@dataclass(frozen=True)
class Config:
    """An encoder of images that learns without labels."""

    images: ImageData = ImageData()
    """what is learned from; labels are only looked at to tell how good the features are"""
    kind: Literal["byol", "vicreg", "mae"] = "byol"
    """what is learned: to predict a teacher's view of the image, to make two views alike and features uncorrelated, or
    to fill in hidden patches"""
    model: Literal["cnn", "vit"] = "cnn"
    """the family of the encoder; mae takes a vision transformer, vit"""
    features: tuple[int | Literal["pool"], ...] = only((16, "pool", 32, "pool", 64, "pool"), model=("cnn",))
    """channels of each convolution, and pool for a 2x2 max-pooling (cnn)"""
    hidden: tuple[int, ...] = only((256,), model=("cnn",))
    """widths of the dense hidden layers, the last of which are the features (cnn)"""
    patch: int = only(4, model=("vit",))
    """height and width of a patch in pixels, which divide the image's (vit)"""
    transformer: TransformerConfig = only(
        TransformerConfig(num_layers=4, model_dim=64, positions="learned"),
        model=("vit",),
        parts={"positions": {"kind": _TWO_VIEWS}},
    )
    """how large a transformer (vit)"""
    layers: LayerConfig = only(LayerConfig(norm="batch"), parts={"norm": {"model": ("cnn",)}})
    """what stands between layers; a vit has a normalisation of its own"""
    views: ViewsConfig = ViewsConfig()
    """how images are changed, each time anew"""
    projector: tuple[int, ...] = only((256, 128), kind=_TWO_VIEWS)
    """widths of the layers on which the views are compared (byol, vicreg)"""
    predictor: int = only(256, kind=("byol",))
    """width of the hidden layer that predicts the teacher's projection (byol)"""
    teacher_decay: float = only(0.99, kind=("byol",))
    """how much of the teacher stays in each step (byol)"""
    variance: float = only(25.0, kind=("vicreg",))
    """weight of what deviations lack of 1, where that of the views' distance is 25 (vicreg)"""
    covariance: float = only(1.0, kind=("vicreg",))
    """weight of what dimensions have in common (vicreg)"""
    masked: float = only(0.75, kind=("mae",))
    """share of the patches that is hidden (mae)"""
    decoder_layers: int = only(1, kind=("mae",))
    """blocks of the decoder, which is as wide as the encoder (mae)"""
    arithmetic: Arithmetic = Arithmetic()
    """what the networks compute with"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.kind == "mae" and self.model != "vit":
            raise InputError(f"kind='mae' hides patches, which model={self.model!r} does not have; use model vit")
        if self.kind == "mae" and self.transformer.positions != "learned":
            raise InputError(f"positions={self.transformer.positions!r}: mae knows learned positions; use learned")
        for name in ("predictor", "patch", "decoder_layers"):
            check_field(self, name, 1 <= getattr(self, name) < 2**31, "1 or more, and less than 2147483648")
        for name in ("variance", "covariance"):
            check_field(self, name, 0 <= getattr(self, name) < FINITE, "0 or more")
        check_field(self, "teacher_decay", 0 <= self.teacher_decay < 1, "in [0, 1)")
        check_field(self, "masked", 0 < self.masked < 1, "in (0, 1)")
        check_field(self, "hidden", min(self.hidden, default=0) >= 1, "one width of 1 or more at least")
        good = self.projector and all(1 <= width <= _WIDEST for width in self.projector)
        check_field(self, "projector", bool(good), f"one width at least, each of 1 to {_WIDEST}")
        if any(width != "pool" and width < 1 for width in self.features):
            raise InputError(f"features={self.features} must be channels of 1 or more, and pool")


_VIEWS = ViewsConfig(shift=2, rotate=20, stretch=0.25, shear=0.25, bend=1.0, cutout=8)
_BYOL = Config(
    views=_VIEWS,
    training=TrainingConfig(duration="10ep", batch_size=256),
    optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2, warmup=200),
)
_VICREG = replace(_BYOL, kind="vicreg", projector=(256, 256))
_MAE = replace(
    _BYOL,
    kind="mae",
    model="vit",
    layers=LayerConfig(activation="gelu"),
    views=ViewsConfig(shift=2, rotate=10, stretch=0.1),
    optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=5e-2, warmup=200, clip_norm=1.0),
)
PRESETS = {
    "mnist-byol": Preset(_BYOL, "features of digits without labels, by a teacher that follows (BYOL)"),
    "mnist-vicreg": Preset(_VICREG, "features of digits without labels, alike and uncorrelated (VICReg)"),
    "mnist-mae": Preset(_MAE, "fill in hidden patches of digits, without labels (a masked autoencoder)"),
}


def load(config: Config) -> Splits:
    """Return the images."""
    splits = config.images.load()
    check_pixels(splits.train.spec)
    return splits


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for images like those of ``spec``, probed where there are classes."""
    tx, encoder = optimizer_for(config, spec), _encoder(config, spec)
    if config.kind == "mae":
        own = {"masked": config.masked, "target": partial(_standard, spec)}
        learner = masked_autoencoding(encoder, _decoder(config, spec), config.patch, tx, **own)
        learner = augmented(learner, config.views.augment)
    else:
        *hidden, width = config.projector
        options = {"norm": "batch", "dtype": config.arithmetic.dtype}
        projector = network(MLP, _width(config), hidden, width, **options)
        if config.kind == "vicreg":
            weights = {"variance": config.variance, "covariance_weight": config.covariance}
            learner = vicreg(encoder, projector, tx, config.views.augment, **weights)
        else:
            predictor = network(MLP, width, (config.predictor,), width, **options)
            learner = byol(encoder, projector, predictor, tx, config.views.augment, decay=config.teacher_decay)
    num_classes = len(spec["labels"].classes)
    return learner if num_classes < 2 else probed(learner, _width(config), num_classes)


def _standard(spec: Spec, images: Any) -> Any:
    inputs = spec["inputs"]
    mean, std = np.asarray(inputs.mean, np.float32), np.asarray(inputs.std, np.float32)
    return (jnp.asarray(images, jnp.float32) - mean) / np.where(std > 0, std, 1).astype(np.float32)


def _width(config: Config) -> int:
    """Return how many features there are."""
    return config.transformer.model_dim if config.model == "vit" else config.hidden[-1]


def _encoder(config: Config, spec: Spec) -> Network:
    """Return what makes features of raw pixels; of a masked autoencoder, of standardised ones.

    Its weights have the names that they have in a classifier.
    """
    inputs, options = spec["inputs"], config.layers.options() | {"dtype": config.arithmetic.dtype}
    if config.model == "vit":
        sizes = inputs.shape, config.patch, *config.transformer.sizes, None
        kept = {name: value for name, value in options.items() if name != "norm"}
        model = network(ViT, *sizes, positions=config.transformer.positions, **kept)
    else:
        whole = network(CNN, inputs.shape, config.features, config.hidden, 1, **options)
        model = features(whole, "head/out", "inputs")
    return model if config.kind == "mae" else standardized(model, inputs.mean, inputs.std)


def _decoder(config: Config, spec: Spec) -> Network:
    height, width, channels = spec["inputs"].shape
    dim, size = config.transformer.model_dim, config.patch
    sizes = height * width // size**2, dim, dim, config.decoder_layers, _HEADS, size**2 * channels
    options = {"activation": config.layers.options()["activation"], "dtype": config.arithmetic.dtype}
    return network(MaskedDecoder, *sizes, **options)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with features."""
    fill = None
    if config.kind == "mae":
        own = {"masked": config.masked, "target": partial(_standard, spec)}
        standard = filled_in(_encoder(config, spec), _decoder(config, spec), config.patch, **own)

        def filling(state: TrainState, images: jax.Array) -> tuple[jax.Array, jax.Array]:
            inputs = spec["inputs"]
            mean, std = np.asarray(inputs.mean, np.float32), np.asarray(inputs.std, np.float32)
            seen, made = standard(state, images)
            return (seen * std + mean) / np.float32(inputs.high), (made * std + mean) / np.float32(inputs.high)

        fill = filling

    return representations(spec, partial(load, config), fill)


def onward(config: Config) -> Onward:
    """Return the classifier of images that fine-tuning goes on with: the encoder, and a head on it."""
    views = config.views
    shared = {name: getattr(config, name) for name in ("images", "model", "arithmetic", "layers")}
    shared |= {"patch": config.patch, "transformer": config.transformer} if config.model == "vit" else {}
    shared |= {"features": config.features, "hidden": config.hidden} if config.model == "cnn" else {}
    more = image_classification.Config(
        **shared,
        augmentation=ImageAugmentation(shift=int(views.shift), rotate=views.rotate, flip=views.flip),
        training=TrainingConfig(duration="600", batch_size=32, evaluate_every="100"),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=1e-2),
    )
    return Onward("mnist-cnn", more, "encoder")
