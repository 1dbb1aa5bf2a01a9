"""Find what is unlike the normal: one autoencoder for each class that is normal, learned from that class alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, augment, check_pixels
from jaxnets.errors import FINITE, InputError, check_field, nearest
from jaxnets.learner import Learner
from jaxnets.learners import reconstructing
from jaxnets.models import MLP
from jaxnets.network import network, reshaped, standardized
from jaxnets.options import ImageData, LayerConfig, OptimizerConfig, TrainingConfig, optimizer_for
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.anomalies import anomalies
from jaxnets.tasks.task import Task
from jaxnets.transforms import grouped


@dataclass(frozen=True)
class Config:
    """Detectors of anomalies among images, one for each normal class, all trained at once."""

    images: ImageData = ImageData()
    """what is normal, and what is not"""
    normal: tuple[str, ...] = ()
    """the classes that are normal, each to a detector of its own; every class in turn if none are named"""
    code: int = 16
    """numbers in a code: too few to hold what is unlike the normal"""
    hidden: tuple[int, ...] = (128,)
    """widths of the encoder's hidden layers, and, reversed, of the decoder's"""
    layers: LayerConfig = LayerConfig()
    """what stands between layers"""
    noise: float = 0.0
    """standard deviation of the noise that is added in training, pixels being 0 to 1"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "noise", 0 <= self.noise < FINITE, "0 or more")
        check_field(self, "code", self.code >= 1, "1 or more")
        check_field(self, "hidden", min(self.hidden, default=1) >= 1, "widths of 1 or more")


PRESETS = {
    "anomaly": Preset(
        Config(training=TrainingConfig(duration="30ep", batch_size=128), optimizer=OptimizerConfig(learning_rate=2e-3)),
        "one-class MNIST by reconstruction, each digit in turn being the normal one, beside Isolation Forest",
    )
}


def load(config: Config) -> Splits:
    """Return the normal images of each detector side by side, [N, detectors, H, W, C], with a mask where one has fewer.

    All test images are every detector's; the mask tells the normal ones.
    """
    splits = config.images.load()
    check_pixels(splits.train.spec)
    numbers = _normal_classes(config.normal, splits.train.classes)
    known = {
        "inputs": {
            "shape": splits.train["inputs"].shape[1:],
            "high": splits.train.spec["inputs"].high,
            "white": splits.train.spec["inputs"].white,
            "classes": tuple(splits.train.classes[number] for number in numbers),  # of which each detector is
        }
    }
    train, validation = (part and _side_by_side(part, numbers, known) for part in (splits.train, splits.validation))
    assert train is not None
    return Splits(train, validation, splits.test and _for_all(splits.test, numbers, known))


def _normal_classes(normal: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return the numbers of the normal classes, by which the detectors are ordered."""
    for name in normal:
        if name not in classes:
            raise InputError(f"normal={name!r} is no class{nearest(name, classes)}; there are {', '.join(classes)}")
    if len(set(normal)) < len(normal):
        raise InputError(f"{normal=} names a class twice; name each once")
    return np.array([classes.index(name) for name in normal or classes])


def _side_by_side(part: Data, numbers: np.ndarray, known: dict[str, dict]) -> Data:
    """Return images of each normal class, [N, detectors, H, W, C], and which are not there twice."""
    rows = [np.flatnonzero(part["labels"] == number) for number in numbers]
    if not all(map(len, rows)):
        raise InputError(f"the data hold no image of {part.classes[numbers[[not len(r) for r in rows]][0]]!r}")
    length = max(map(len, rows))
    mask = np.stack([np.arange(length) < len(of_class) for of_class in rows], 1).astype(np.uint8)
    filled = np.stack([np.resize(of_class, length) for of_class in rows], 1)  # [N, detectors]
    return Data(inputs=part["inputs"][filled], mask=mask, known=known)


def _for_all(test: Data, numbers: np.ndarray, known: dict[str, dict]) -> Data:
    """Return every image to every detector, and which are normal to it."""
    copies = np.broadcast_to(test["inputs"][:, None], (test.num_examples, len(numbers), *test["inputs"].shape[1:]))
    mask = (test["labels"][:, None] == numbers).astype(np.uint8)
    if lone := [test.classes[n] for n, of in zip(numbers, mask.T, strict=True) if of.all() or not of.any()]:
        raise InputError(f"the test data hold only normal images, or none, of {', '.join(lone)}: nothing to measure")
    return Data(inputs=copies, mask=mask, known=known)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner of all detectors."""
    shape, high = spec["inputs"].shape, spec["inputs"].high
    options = config.layers.options()
    encoder = network(MLP, math.prod(shape), config.hidden, config.code, **options)
    decoder = network(MLP, config.code, config.hidden[::-1], math.prod(shape), **options)
    learner = reconstructing(
        standardized(encoder, (0.0,), (high,)),
        reshaped(decoder, shape),
        losses.sigmoid_cross_entropy,
        optimizer_for(config, spec),
        corrupt=augment.noise(config.noise * high, high=high) if config.noise else None,
        target=lambda images: images / np.float32(high),
    )
    return grouped(learner, len(spec["inputs"].classes))


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with anomalies."""
    return anomalies(spec)
