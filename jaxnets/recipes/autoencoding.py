"""Compress, denoise and generate images with autoencoders: MNIST, or a user's own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, augment, check_pixels, labelled_images
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner, TrainState
from jaxnets.learners.autoencoding import Autoencoded, reconstructing, variational
from jaxnets.models import MLP, StridedDecoder, StridedEncoder
from jaxnets.network import Coded, Network, network, reshaped, standardized
from jaxnets.options.choices import ACTIVATIONS, DTYPES, ActivationName, Precision
from jaxnets.options.generation import GenerateOptions
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer
from jaxnets.options.training import TrainingConfig
from jaxnets.recipes.recipe import Finished, Generated, Outputs, Preset, pictured
from jaxnets.runs import plots
from jaxnets.training.evaluation import evaluate
from jaxnets.training.evaluation import predict as predicted
from jaxnets.transforms.augmented import augmented
from jaxnets.transforms.averaged import averaged


@dataclass(frozen=True)
class Config:
    """An autoencoder of images: plain, denoising or variational."""

    data: str = "mnist"
    """digits, mnist, cifar10, or a folder or zip of images (train/CLASS/x.png), an npz file or a folder of IDX files"""
    data_dir: Path | None = None
    """where mnist's or cifar10's files are; else JAXNETS_DATA, else the cache folder, into which they are fetched"""
    image_size: tuple[int, int] | None = None
    """height and width to resize a folder's or zip's images to; they must all have one size without it"""
    validation: float = 0.05
    """fraction of the training data held out to choose by, if they have no validation part; 0 for none"""
    kind: Literal["plain", "denoising", "variational"] = "plain"
    """what is learned: to reconstruct images, to clean noisy ones, or the distribution of binary ones"""
    model: Literal["dense", "conv"] = "dense"
    """the family of encoder and decoder"""
    code: int = 32
    """numbers in a code"""
    hidden: tuple[int, ...] = (512, 512)
    """widths of the encoder's hidden layers, and, reversed, of the decoder's (dense)"""
    features: tuple[int, ...] = (32, 64)
    """channels of the encoder's convolutions, and, reversed, of the decoder's; each halves the image (conv)"""
    activation: ActivationName = "relu"
    """the non-linearity"""
    norm: Literal["none", "batch", "layer"] = "none"
    """normalisation after each hidden layer"""
    noise: float = 0.5
    """standard deviation of the noise that is added, pixels being 0 to 1 (denoising)"""
    importance_samples: int = 100
    """codes drawn for each test image to estimate its likelihood at the end (variational)"""
    precision: Precision = "float32"
    """dtype of the networks' arithmetic; weights and losses are float32 in both"""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """how long, in which batches"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "validation", 0 <= self.validation < 1, "in [0, 1)")
        check_field(self, "noise", 0 < self.noise < math.inf, "greater than 0")
        for name in ("code", "importance_samples"):
            check_field(self, name, getattr(self, name) >= 1, "1 or more")
        for name in ("hidden", "features"):
            check_field(self, name, min(getattr(self, name), default=1) >= 1, "widths of 1 or more")


_PLAIN = Config(
    activation="gelu",
    training=TrainingConfig(duration="40ep", batch_size=128),
    optimizer=OptimizerConfig(learning_rate=4e-3),
)
_DENOISING = replace(
    _PLAIN,
    kind="denoising",
    model="conv",
    code=128,
    norm="batch",
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
    splits = labelled_images(config.data, config.data_dir, config.image_size, config.validation)
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
    tx = make_optimizer(config.optimizer, config.training.num_steps(spec.num_examples))
    options = {"target": lambda images: images / np.float32(high), "accumulate": config.optimizer.accumulate}
    if config.kind == "variational":
        learner = variational(encoder, decoder, tx, importance_samples=importance_samples, **options)
        learner = augmented(learner, _corruption(config, high))
    else:
        corrupt = _corruption(config, high) if config.kind == "denoising" else None
        metrics = {"mse": lambda logits, targets: losses.mse(jax.nn.sigmoid(logits), targets)}
        learner = reconstructing(
            encoder, decoder, losses.sigmoid_cross_entropy, tx, metrics, corrupt=corrupt, **options
        )
    return averaged(learner, config.optimizer.average) if config.optimizer.average else learner


def _networks(config: Config, spec: Spec) -> tuple[Network, Network]:
    """Return the encoder, raw pixels to codes (of a variational one, their moments), and the decoder."""
    shape = spec["inputs"].shape
    width = 2 * config.code if config.kind == "variational" else config.code
    options: dict[str, Any] = {
        "activation": ACTIVATIONS[config.activation],
        "norm": None if config.norm == "none" else config.norm,
        "dtype": DTYPES[config.precision],
    }
    if config.model == "conv":
        encoder = network(StridedEncoder, shape, config.features, width, **options)
        decoder = network(StridedDecoder, config.code, shape, config.features[::-1], **options)
    else:
        encoder = network(MLP, math.prod(shape), config.hidden, width, **options)
        decoder = reshaped(network(MLP, config.code, config.hidden[::-1], math.prod(shape), **options), shape)
    return standardized(encoder, (0.0,), (spec["inputs"].high,)), decoder


def _corruption(config: Config, high: float) -> augment.Augment:
    return augment.noise(config.noise * high, high=high) if config.kind == "denoising" else augment.binarize(high)


def judge(config: Config, spec: Spec, inputs: np.ndarray, outputs: Outputs) -> list[dict[str, Any]]:
    """Return the mean squared error of each image's reconstruction, pixels being 0 to 1."""
    pixels = inputs / np.float32(spec["inputs"].high)
    errors = outputs(inputs, link=lambda coded: np.square(_images(coded) - pixels).mean((-3, -2, -1)))
    return [{"mse": float(error)} for error in errors]


def reconstruct(config: Config, spec: Spec, inputs: np.ndarray, outputs: Outputs) -> np.ndarray:
    """Return what is made of the images: of noisy ones, by a denoising autoencoder, the clean ones."""
    return outputs(inputs, link=_images)


def _images(coded: Autoencoded) -> Any:
    """Return the images that are predicted, pixels 0 to 1."""
    return np.asarray(jax.nn.sigmoid(coded.outputs))


def generate(config: Config, spec: Spec, learner: Learner, state: TrainState, options: GenerateOptions) -> Generated:
    """Draw images from a variational autoencoder, a picture of all (.png)."""
    options.check_no_tokens()
    if config.kind != "variational":
        raise InputError(f"kind={config.kind!r} learns no distribution to draw from; train with --kind variational")
    if options.prompt:
        raise InputError(f"prompt={options.prompt!r}: images of no class are drawn; leave it out")
    number = options.length or 64
    key = jax.random.key(options.seed)
    codes = options.temperature * np.asarray(jax.random.normal(key, (number, config.code)))
    images = _images(predicted(learner, state, Coded(codes)))
    return pictured(images, options)


def finish(config: Config, splits: Splits, learner: Learner, states: Sequence[TrainState], folder: Path) -> Finished:
    """Draw reconstructions, a walk between codes and a map of them; measure what stands beside the losses."""
    train, test = splits.train, splits.test
    assert test is not None
    metrics: dict[str, list[float]] = {}
    baselines: dict[str, float] = {}
    high = np.float32(train.spec["inputs"].high)
    clean = test.get("clean", test["inputs"]) / high
    if config.kind == "variational":
        measured = _learner(config, train.spec, config.importance_samples)
        name = f"test/nll from {config.importance_samples} codes"
        metrics[name] = [float(evaluate(measured, state, test)["nll"]) for state in states]
    elif config.code < min(train.num_examples, math.prod(clean.shape[1:])):  # else PCA leaves nothing out
        own = [float(evaluate(learner, state, test)["mse"]) for state in states]
        made = principal_components(train["inputs"] / high, test["inputs"] / high, config.code)
        baselines[f"test/mse of PCA with {config.code} components"] = pca = float(np.square(made - clean).mean())
        metrics["test/mse over PCA's"] = [mse / pca for mse in own]
    if config.kind == "denoising":
        baselines["test/mse of the noisy images"] = float(np.square(test["inputs"] / high - clean).mean())
    _draw(config, test, float(high), learner, states[0], folder)
    return Finished(metrics, baselines)


def _draw(config: Config, test: Data, high: float, learner: Learner, state: TrainState, folder: Path) -> None:
    """Write reconstructions.png, walk.png, codes.png and, of a variational autoencoder, samples.png."""
    some = test["inputs"][:12]
    rows = {"given": some / high, "made of it": _images(predicted(learner, state, some))}
    if "clean" in test:
        rows["what it was"] = test["clean"][:12] / high
    plots.save_image_rows(folder / "reconstructions.png", rows)
    coded = predicted(learner, state, test["inputs"][:1000])
    half = min(6, len(coded.codes) // 2)
    share = np.linspace(0.0, 1.0, 12, dtype=np.float32)[:, None]
    walks = {
        f"from the code of image {i + 1} to that of image {i + half + 1}": _images(
            predicted(learner, state, Coded((1 - share) * coded.codes[i] + share * coded.codes[i + half]))
        )
        for i in range(half)
    }
    if walks:
        plots.save_image_rows(folder / "walk.png", walks)
    if len(coded.codes) >= 10:  # of fewer there is no map
        plots.save_map(folder / "codes.png", coded.codes, test["labels"][:1000], test.classes)
    if config.kind == "variational":
        generate(config, test.spec, learner, state, GenerateOptions(out=folder / "samples", length=100))


def principal_components(train: np.ndarray, inputs: np.ndarray, number: int) -> np.ndarray:
    """Return the inputs [N, ...] as a principal component analysis of the training data reconstructs them."""
    from sklearn.decomposition import PCA  # noqa: PLC0415  (slow to import)

    method = PCA(number, random_state=0).fit(train.reshape(len(train), -1))
    codes = method.transform(inputs.reshape(len(inputs), -1))
    return method.inverse_transform(codes).reshape(inputs.shape)
