"""Tell by which angle an image is turned: handwritten digits, or a user's own images."""

from dataclasses import dataclass

import jax
import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits
from jaxnets.errors import check_field
from jaxnets.learner import Learner
from jaxnets.learners import supervised
from jaxnets.memory import check_fits
from jaxnets.metrics import per_example
from jaxnets.models import CNN
from jaxnets.network import network, standardized
from jaxnets.options import ImageData, LayerConfig, OptimizerConfig, TrainingConfig, optimizer_for
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.angles import angle_error, angles, unit_vectors
from jaxnets.tasks.task import Task


@dataclass(frozen=True)
class Config:
    """A network that finds the angle by which an image is turned."""

    images: ImageData = ImageData("digits")
    """what is turned; upright images"""
    most: float = 90.0
    """images are turned by up to so many degrees, to the left (above 0) or the right"""
    copies: int = 8
    """how often each training image is turned, every time by another angle"""
    features: tuple[int, ...] = (32, 64)
    """channels of the convolutions"""
    hidden: tuple[int, ...] = (128,)
    """widths of the dense hidden layers"""
    layers: LayerConfig = LayerConfig()
    """what stands between layers"""
    dropout: float = 0.0
    """probability that a unit of a dense hidden layer is dropped in training"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "most", 0 < self.most <= 180, "in (0, 180] degrees")
        check_field(self, "copies", self.copies >= 1, "1 or more")
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        for name in ("features", "hidden"):
            check_field(self, name, min(getattr(self, name), default=1) >= 1, "widths of 1 or more")


_DIGITS = Config(
    dropout=0.2,
    training=TrainingConfig(duration="20ep", batch_size=64, evaluate_every="2ep"),
    optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2),
)
PRESETS = {"digits-rotation": Preset(_DIGITS, "the angle by which a digit is turned, drawn as arrows")}


def load(config: Config) -> Splits:
    """Return images that were turned, and the angles in degrees, drawn once and for all."""
    splits = config.images.load()
    return Splits(
        _turned(splits.train, config.most, config.copies, seed=0),
        splits.validation and _turned(splits.validation, config.most, 1, seed=1),
        splits.test and _turned(splits.test, config.most, 1, seed=2),
    )


def _turned(part: Data, most: float, copies: int, seed: int) -> Data:
    """Return each image so many times, every time turned by an angle of its own."""
    from scipy.ndimage import rotate  # noqa: PLC0415  (slow to import)

    check_fits(f"copies={copies} of {part.num_examples:,} images", 5 * copies * part["inputs"].size, "use fewer copies")
    images = np.repeat(part["inputs"], copies, axis=0)
    degrees = np.random.default_rng(seed).uniform(-most, most, len(images)).astype(np.float32)
    rule = {"reshape": False, "order": 1, "mode": "grid-constant"}  # bilinear, up to the very edge
    pixels = images.astype(np.float32)
    turned = np.stack([rotate(image, angle, **rule) for image, angle in zip(pixels, degrees, strict=True)])
    if np.issubdtype(images.dtype, np.integer):
        turned = np.rint(turned).astype(images.dtype)
    return Data(inputs=turned, labels=degrees, known={"inputs": part.known.get("inputs", {})})


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner: outputs are vectors, whose distance from the angle's unit vector is minimised."""
    inputs = spec["inputs"]
    options = {**config.layers.options(), "dropout": config.dropout}
    model = network(CNN, inputs.shape, config.features, config.hidden, 2, **options)

    def loss(outputs: jax.Array, degrees: jax.Array) -> jax.Array:
        return losses.mse(outputs, unit_vectors(degrees)).sum(-1)

    metrics = {"angle_error": per_example(angle_error, "lower")}
    return supervised(standardized(model, inputs.mean, inputs.std), loss, optimizer_for(config, spec), metrics)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with angles."""
    return angles(spec)
