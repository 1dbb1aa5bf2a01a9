"""Find what is unlike the normal: one autoencoder for each class that is normal, learned from that class alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, augment, check_pixels, labelled_images
from jaxnets.errors import InputError, check_field, nearest
from jaxnets.learner import Learner, TrainState
from jaxnets.learners.autoencoding import reconstructing
from jaxnets.models import MLP
from jaxnets.network import network, reshaped, standardized
from jaxnets.options.choices import ACTIVATIONS, ActivationName
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer
from jaxnets.options.training import TrainingConfig
from jaxnets.recipes.recipe import Finished, Outputs, Preset
from jaxnets.runs import plots
from jaxnets.training.evaluation import predict as predicted
from jaxnets.transforms.averaged import averaged
from jaxnets.transforms.grouped import grouped


@dataclass(frozen=True)
class Config:
    """Detectors of anomalies among images, one for each normal class, all trained at once."""

    data: str = "mnist"
    """digits, mnist, cifar10, or a folder or zip of images (train/CLASS/x.png), an npz file or a folder of IDX files"""
    data_dir: Path | None = None
    """where mnist's or cifar10's files are; else JAXNETS_DATA, else the cache folder, into which they are fetched"""
    image_size: tuple[int, int] | None = None
    """height and width to resize a folder's or zip's images to; they must all have one size without it"""
    normal: tuple[str, ...] = ()
    """the classes that are normal, each to a detector of its own; every class in turn if none are named"""
    validation: float = 0.05
    """fraction of the training data held out, if they have no validation part; 0 for none"""
    code: int = 16
    """numbers in a code: too few to hold what is unlike the normal"""
    hidden: tuple[int, ...] = (128,)
    """widths of the encoder's hidden layers, and, reversed, of the decoder's"""
    activation: ActivationName = "relu"
    """the non-linearity"""
    noise: float = 0.0
    """standard deviation of the noise that is added in training, pixels being 0 to 1"""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """how long, in which batches"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "validation", 0 <= self.validation < 1, "in [0, 1)")
        check_field(self, "noise", 0 <= self.noise < math.inf, "0 or more")
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
    splits = labelled_images(config.data, config.data_dir, config.image_size, config.validation)
    check_pixels(splits.train.spec)
    classes = splits.train.classes
    for name in config.normal:
        if name not in classes:
            raise InputError(f"normal={name!r} is no class{nearest(name, classes)}; there are {', '.join(classes)}")
    if len(set(config.normal)) < len(config.normal):
        raise InputError(f"normal={config.normal} names a class twice; name each once")
    numbers = np.array([classes.index(name) for name in config.normal or classes])
    known = {
        "inputs": {
            "shape": splits.train["inputs"].shape[1:],
            "high": splits.train.spec["inputs"].high,
            "classes": tuple(classes[number] for number in numbers),  # of which each detector is
        }
    }

    def side_by_side(part: Data | None) -> Data | None:
        if part is None:
            return None
        rows = [np.flatnonzero(part["labels"] == number) for number in numbers]
        if not all(map(len, rows)):
            raise InputError(f"the data hold no image of {classes[numbers[[not len(r) for r in rows]][0]]!r}")
        length = max(map(len, rows))
        mask = np.stack([np.arange(length) < len(of_class) for of_class in rows], 1).astype(np.uint8)
        filled = np.stack([np.resize(of_class, length) for of_class in rows], 1)  # [N, detectors]
        return Data(inputs=part["inputs"][filled], mask=mask, known=known)

    test = splits.test
    if test is not None:
        copies = np.broadcast_to(test["inputs"][:, None], (test.num_examples, len(numbers), *test["inputs"].shape[1:]))
        mask = (test["labels"][:, None] == numbers).astype(np.uint8)
        if lone := [classes[n] for n, of in zip(numbers, mask.T, strict=True) if of.all() or not of.any()]:
            raise InputError(
                f"the test data hold only normal images, or none, of {', '.join(lone)}: nothing to measure"
            )
        test = Data(inputs=copies, mask=mask, known=known)
    train = side_by_side(splits.train)
    assert train is not None
    return Splits(train, side_by_side(splits.validation), test)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner of all detectors."""
    shape, high = spec["inputs"].shape, spec["inputs"].high
    activation = ACTIVATIONS[config.activation]
    encoder = network(MLP, math.prod(shape), config.hidden, config.code, activation=activation)
    decoder = network(MLP, config.code, config.hidden[::-1], math.prod(shape), activation=activation)
    learner = reconstructing(
        standardized(encoder, (0.0,), (high,)),
        reshaped(decoder, shape),
        losses.sigmoid_cross_entropy,
        make_optimizer(config.optimizer, config.training.num_steps(spec.num_examples)),
        corrupt=augment.noise(config.noise * high, high=high) if config.noise else None,
        target=lambda images: images / np.float32(high),
        accumulate=config.optimizer.accumulate,
    )
    if config.optimizer.average:
        learner = averaged(learner, config.optimizer.average)
    return grouped(learner, len(spec["inputs"].classes))


def judge(config: Config, spec: Spec, inputs: np.ndarray, outputs: Outputs) -> list[dict[str, Any]]:
    """Return each image's anomaly score under each detector."""
    names = spec["inputs"].classes
    scores = outputs(inputs, link=lambda coded: anomaly_scores(inputs, coded.outputs, spec["inputs"].high))
    return [{f"unlike {name}": float(score) for name, score in zip(names, row, strict=True)} for row in scores]


def anomaly_scores(inputs: np.ndarray, made: np.ndarray, high: float) -> np.ndarray:
    """Return how unlike the normal images are, [N, detectors]: the squared error over the norm of each image's pixels.

    Without the norm, an image with little in it, such as a 1, would be like everything: there is little to get wrong.

    Args:
        inputs: images [N, H, W, C].
        made: the logits that each detector makes of them, [..., N, detectors, H, W, C].
        high: the pixels' highest value.
    """
    pixels = (inputs / np.float32(high))[:, None]
    errors = np.square(np.asarray(jax.nn.sigmoid(made)) - pixels).sum((-3, -2, -1))
    return errors / np.maximum(np.linalg.norm(pixels.reshape(len(inputs), 1, -1), axis=-1), 1.0)


def finish(config: Config, splits: Splits, learner: Learner, states: Sequence[TrainState], folder: Path) -> Finished:
    """Measure the area under the ROC curve, beside Isolation Forest's, and draw what was most unlike the normal."""
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415  (slow to import)

    train, test = splits.train, splits.test
    if test is None:
        return Finished()
    images, normal = test["inputs"][:, 0], test["mask"].astype(bool)
    of_seeds = []
    for state in states:
        made = [
            anomaly_scores(part, predicted(learner, state, part).outputs, train.spec["inputs"].high)
            for part in np.array_split(images, max(1, len(images) // 2000))  # the reconstructions are many times larger
        ]
        of_seeds.append(np.concatenate(made))
    areas = np.array([_areas(scores, normal) for scores in of_seeds])  # [seeds, detectors]
    forest = []
    for i, kept in enumerate(train["mask"].astype(bool).T):
        flat = train["inputs"][kept, i].reshape(kept.sum(), -1)
        forest.append(
            -IsolationForest(random_state=0, n_jobs=-1).fit(flat).score_samples(images.reshape(len(images), -1))
        )
    baseline = _areas(np.stack(forest, 1), normal)
    metrics = {"test/AUROC": areas.mean(1).tolist(), "test/AUROC of the worst class": areas.min(1).tolist()}
    rows = {}
    for i, name in enumerate(train.spec["inputs"].classes):
        order = np.argsort(np.where(normal[:, i], of_seeds[0][:, i], -np.inf))[::-1][: min(6, normal[:, i].sum())]
        missed = np.argsort(np.where(normal[:, i], np.inf, of_seeds[0][:, i]))[: min(6, (~normal[:, i]).sum())]
        title = (
            f"normal: {name} (AUROC {areas[0, i]:.3f}, Isolation Forest {baseline[i]:.3f}). Normal images that look "
        )
        rows[f"{title}odd ({len(order)}), others that look normal"] = (
            images[[*order, *missed]] / train.spec["inputs"].high
        )
    plots.save_image_rows(folder / "anomalies.png", rows)
    return Finished(metrics, {"test/AUROC of Isolation Forest": float(baseline.mean())})


def _areas(scores: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve of each detector, scores and normality [N, detectors]."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  (slow to import)

    return np.array([roc_auc_score(~of, score) for of, score in zip(normal.T, scores.T, strict=True)])
