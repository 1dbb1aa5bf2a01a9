"""Generate images with an adversarial network: MNIST, or a user's own."""

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Spec, Splits, check_pixels
from jaxnets.errors import FINITE, InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners.adversarial import HINGE, NON_SATURATING, WASSERSTEIN, Game, adversarial
from jaxnets.models import StridedDecoder, StridedEncoder
from jaxnets.network import network
from jaxnets.options import Arithmetic, ImageData, OptimizerConfig, TrainingConfig, make_optimizer
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.generated_images import generated_images
from jaxnets.tasks.task import Task

GAMES = {"non-saturating": NON_SATURATING, "hinge": HINGE, "wasserstein": WASSERSTEIN}


@dataclass(frozen=True)
class Config:
    """A generative adversarial network of DCGAN's kind."""

    images: ImageData = ImageData(validation=0.0)
    """what is to be drawn"""
    game: Literal["non-saturating", "hinge", "wasserstein"] = "non-saturating"
    """what the two players minimise; wasserstein has a gradient penalty"""
    penalty: float | None = None
    """weight of the gradient penalty; the game's own (10 for wasserstein, else 0) if absent"""
    conditional: bool = False
    """give both networks the class, so that images of a class can be asked for"""
    code: int = 64
    """numbers in a code"""
    features: tuple[int, ...] = (32, 64)
    """channels of the discriminator's convolutions, and, reversed, of the generator's; each halves the image"""
    hidden: tuple[int, ...] = (256,)
    """widths of dense layers between the discriminator's convolutions and its score, and, reversed, between the code
    and the generator's first image"""
    norm: Literal["auto", "none", "batch", "layer"] = "auto"
    """normalisation in the discriminator; auto is batch, or layer with a gradient penalty, which is of single images"""
    dropout: float = 0.0
    """probability that one of the discriminator's last features is dropped in training"""
    discriminator_steps: int = 1
    """parts that a batch is cut into, one for each update of the discriminator in a step"""
    discriminator_rate: float = 1.0
    """the discriminator's learning rate, as a multiple of the generator's"""
    arithmetic: Arithmetic = Arithmetic()
    """what the networks compute with"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate, both networks"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "penalty", self.penalty is None or 0 <= self.penalty < FINITE, "0 or more")
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        check_field(self, "discriminator_rate", 0 < self.discriminator_rate < FINITE, "greater than 0")
        check_field(self, "features", min(self.features, default=0) >= 1, "widths of 1 or more, at least one")
        check_field(self, "hidden", min(self.hidden, default=1) >= 1, "widths of 1 or more")
        for name in ("code", "discriminator_steps"):
            check_field(self, name, getattr(self, name) >= 1, "1 or more")
        if self.norm == "batch" and self.rules.penalty:
            raise InputError(
                f"norm='batch' mixes the images that the gradient penalty of {self.rules.penalty:g} looks at singly; "
                "use --norm layer, or --penalty 0"
            )

    @property
    def rules(self) -> Game:
        """The game that is played."""
        game = GAMES[self.game]
        return game if self.penalty is None else game._replace(penalty=self.penalty)


_MNIST = Config(
    code=32,
    training=TrainingConfig(duration="4ep", batch_size=64),
    optimizer=OptimizerConfig(optimizer="adam", momentum=0.5, learning_rate=1e-3, schedule="constant", average=0.999),
)
PRESETS = {"mnist-gan": Preset(_MNIST, "a DCGAN of digits (--conditional, --game hinge, --game wasserstein)")}


def load(config: Config) -> Splits:
    """Return the images and their classes."""
    splits = config.images.load()
    check_pixels(splits.train.spec)
    return splits


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for images like those of ``spec``."""
    shape, high = spec["inputs"].shape, spec["inputs"].high
    num_classes = len(spec["labels"].classes) if config.conditional else 0
    norms = {"none": None, "auto": "layer" if config.rules.penalty else "batch"}
    dtype, start = config.arithmetic.dtype, jax.nn.initializers.normal(0.02)  # DCGAN's
    generator = network(
        StridedDecoder,
        config.code + num_classes,
        shape,
        config.features[::-1],
        hidden=config.hidden[::-1],
        out_activation=jnp.tanh,
        kernel_init=start,
        dtype=dtype,
    )
    discriminator = network(
        StridedEncoder,
        (*shape[:2], shape[2] + num_classes),
        config.features,
        1,
        hidden=config.hidden,
        norm=norms.get(config.norm, config.norm),
        dropout=config.dropout,
        kernel_init=start,
        dtype=dtype,
    )
    num_steps = config.training.num_steps(spec.num_examples)
    rival = replace(config.optimizer, learning_rate=config.discriminator_rate * config.optimizer.learning_rate)
    return adversarial(
        generator,
        discriminator,
        config.code,
        make_optimizer(config.optimizer, num_steps),
        make_optimizer(rival, num_steps and num_steps * config.discriminator_steps),
        game=config.rules,
        target=lambda images: images / np.float32(high / 2) - 1,
        num_classes=num_classes,
        discriminator_steps=config.discriminator_steps,
    )


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with generated images."""
    return generated_images(spec, config.code, config.conditional)
