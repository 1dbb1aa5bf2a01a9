"""Compress, denoise and generate images with autoencoders: MNIST, or a user's own."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, augment, check_pixels
from jaxnets.errors import FINITE, check_field
from jaxnets.learner import Learner
from jaxnets.learners import reconstructing, variational
from jaxnets.models import MLP, StridedDecoder, StridedEncoder
from jaxnets.network import Network, network, reshaped, standardized
from jaxnets.options import Arithmetic, ImageData, LayerConfig, OptimizerConfig, TrainingConfig, only, optimizer_for
from jaxnets.options.around import around
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.reconstructions import reconstructions
from jaxnets.tasks.task import Task
from jaxnets.transforms import augmented


@dataclass(frozen=True)
class Config:
    """An autoencoder of images: plain, denoising or variational."""

    images: ImageData = ImageData()
    """what is reconstructed"""
    kind: Literal["plain", "denoising", "variational"] = "plain"
    """what is learned: to reconstruct images, to clean noisy ones, or the distribution of binary ones"""
    model: Literal["dense", "conv"] = "dense"
    """the family of encoder and decoder"""
    code: int = 32
    """numbers in a code"""
    hidden: tuple[int, ...] = only((512, 512), model=("dense",))
    """widths of the encoder's hidden layers, and, reversed, of the decoder's (dense)"""
    features: tuple[int, ...] = only((32, 64), model=("conv",))
    """channels of the encoder's convolutions, and, reversed, of the decoder's; each halves the image (conv)"""
    layers: LayerConfig = LayerConfig()
    """what stands between layers"""
    noise: float = only(0.5, kind=("denoising",))
    """standard deviation of the noise that is added, pixels being 0 to 1 (denoising)"""
    importance_samples: int = only(100, kind=("variational",))
    """codes drawn for each test image to estimate its likelihood at the end (variational)"""
    arithmetic: Arithmetic = Arithmetic()
    """what the networks compute with"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "noise", 0 < self.noise < FINITE, "greater than 0")
        for name in ("code", "importance_samples"):
            check_field(self, name, getattr(self, name) >= 1, "1 or more")
        for name in ("hidden", "features"):
            check_field(self, name, min(getattr(self, name), default=1) >= 1, "widths of 1 or more")


_PLAIN = Config(
    layers=LayerConfig(activation="gelu"),
    training=TrainingConfig(duration="40ep", batch_size=128),
    optimizer=OptimizerConfig(learning_rate=4e-3),
)
_DENOISING = replace(
    _PLAIN,
    kind="denoising",
    model="conv",
    code=128,
    layers=LayerConfig(activation="gelu", norm="batch"),
    training=TrainingConfig(duration="4ep", batch_size=128),
)
_VARIATIONAL = replace(
    _PLAIN,
    kind="variational",
    code=40,
    training=TrainingConfig(duration="50ep", batch_size=128),
    optimizer=OptimizerConfig(learning_rate=2e-3, average=0.999),
)
PRESETS = {
    "mnist-autoencoder": Preset(_PLAIN, "a dense autoencoder with codes of 32 numbers, beside PCA"),
    "mnist-denoise": Preset(_DENOISING, "clean noisy digits"),
    "mnist-vae": Preset(_VARIATIONAL, "a variational autoencoder of binary digits"),
}


def load(config: Config) -> Splits:
    """Return the images; of held-out ones, noise or binary pixels are drawn once and for all."""
    splits = config.images.load()
    check_pixels(splits.train.spec)
    high = splits.train.spec["inputs"].high

    def held_out(part: Data | None, seed: int) -> Data | None:
        if part is None or config.kind == "plain":
            return part
        clean = part["inputs"]
        drawn = np.asarray(_corruption(config, high)(jax.random.key(seed), jnp.asarray(clean)))
        arrays = {"clean": clean} if config.kind == "denoising" else {}
        return Data(inputs=drawn, labels=part["labels"], classes=part.classes, known=part.known, **arrays)

    return Splits(splits.train, held_out(splits.validation, 0), held_out(splits.test, 1))


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for images like those of ``spec``."""
    return _learner(config, spec)


def _learner(config: Config, spec: Spec, importance_samples: int = 0) -> Learner:
    high = spec["inputs"].high
    encoder, decoder = _networks(config, spec)
    tx = optimizer_for(config, spec)

    def target(images: Any) -> Any:
        return images / np.float32(high)

    if config.kind == "variational":
        learner = variational(encoder, decoder, tx, target=target, importance_samples=importance_samples)
        return augmented(learner, _corruption(config, high))
    corrupt = _corruption(config, high) if config.kind == "denoising" else None
    metrics = {"mse": lambda logits, targets: losses.mse(jax.nn.sigmoid(logits), targets)}
    loss = losses.sigmoid_cross_entropy
    return reconstructing(encoder, decoder, loss, tx, metrics, corrupt=corrupt, target=target)


def _networks(config: Config, spec: Spec) -> tuple[Network, Network]:
    """Return the encoder, raw pixels to codes (of a variational one, their moments), and the decoder."""
    shape = spec["inputs"].shape
    width = 2 * config.code if config.kind == "variational" else config.code
    options = {**config.layers.options(), "dtype": config.arithmetic.dtype}
    if config.model == "conv":
        encoder = network(StridedEncoder, shape, config.features, width, **options)
        decoder = network(StridedDecoder, config.code, shape, config.features[::-1], **options)
    else:
        encoder = network(MLP, math.prod(shape), config.hidden, width, **options)
        decoder = reshaped(network(MLP, config.code, config.hidden[::-1], math.prod(shape), **options), shape)
    return standardized(encoder, (0.0,), (spec["inputs"].high,)), decoder


def _corruption(config: Config, high: float) -> augment.Augment:
    return augment.noise(config.noise * high, high=high) if config.kind == "denoising" else augment.binarize(high)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with reconstructions."""
    likelihood = None
    if config.kind == "variational":
        measured = around(_learner(config, spec, config.importance_samples), config, spec)
        likelihood = measured, f"from {config.importance_samples} codes an image"
    return reconstructions(spec, config.code, likelihood)
