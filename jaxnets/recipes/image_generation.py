"""Generate images with an adversarial network: MNIST, or a user's own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, check_pixels, labelled_images
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner, TrainState
from jaxnets.learners.adversarial import HINGE, NON_SATURATING, WASSERSTEIN, Game, adversarial
from jaxnets.learners.supervised import supervised
from jaxnets.metrics import frechet_distance
from jaxnets.models import CNN, StridedDecoder, StridedEncoder
from jaxnets.network import Coded, Network, network, standardized
from jaxnets.options.choices import DTYPES, Precision
from jaxnets.options.generation import GenerateOptions
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer
from jaxnets.options.training import TrainingConfig
from jaxnets.recipes.recipe import Finished, Generated, Outputs, Preset, pictured
from jaxnets.runs import plots
from jaxnets.training.duration import Duration
from jaxnets.training.evaluation import predict as predicted
from jaxnets.training.fit import fit
from jaxnets.transforms.averaged import averaged

GAMES = {"non-saturating": NON_SATURATING, "hinge": HINGE, "wasserstein": WASSERSTEIN}
NUM_MEASURED = 10_000  # generated images that are measured
NUM_WATCHED = 12  # codes whose images are drawn at each evaluation


@dataclass(frozen=True)
class Config:
    """A generative adversarial network of DCGAN's kind."""

    data: str = "mnist"
    """digits, mnist, cifar10, or a folder or zip of images (train/CLASS/x.png), an npz file or a folder of IDX files"""
    data_dir: Path | None = None
    """where mnist's or cifar10's files are; else JAXNETS_DATA, else the cache folder, into which they are fetched"""
    image_size: tuple[int, int] | None = None
    """height and width to resize a folder's or zip's images to; they must all have one size without it"""
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
    precision: Precision = "float32"
    """dtype of the networks' arithmetic; weights and losses are float32 in both"""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """how long, in which batches"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """by which rule, at which rate, both networks"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "penalty", self.penalty is None or 0 <= self.penalty < math.inf, "0 or more")
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        check_field(self, "discriminator_rate", 0 < self.discriminator_rate < math.inf, "greater than 0")
        check_field(self, "features", min(self.features, default=0) >= 1, "widths of 1 or more, at least one")
        check_field(self, "hidden", min(self.hidden, default=1) >= 1, "widths of 1 or more")
        for name in ("code", "discriminator_steps"):
            check_field(self, name, getattr(self, name) >= 1, "1 or more")
        if self.norm == "batch" and self.rules.penalty:
            raise InputError(
                f"norm='batch' mixes the images that the gradient penalty of {self.rules.penalty:g} looks at singly; "
                "use --norm layer, or --penalty 0"
            )
        if self.optimizer.accumulate != 1:
            raise InputError("accumulate is not for games of two players; use a smaller --batch-size")

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
    splits = labelled_images(config.data, config.data_dir, config.image_size)
    check_pixels(splits.train.spec)
    return splits


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for images like those of ``spec``."""
    shape, high = spec["inputs"].shape, spec["inputs"].high
    num_classes = len(spec["labels"].classes) if config.conditional else 0
    norms = {"none": None, "auto": "layer" if config.rules.penalty else "batch"}
    dtype, start = DTYPES[config.precision], jax.nn.initializers.normal(0.02)  # DCGAN's
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
    learner = adversarial(
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
    return averaged(learner, config.optimizer.average) if config.optimizer.average else learner


def judge(config: Config, spec: Spec, inputs: np.ndarray, outputs: Outputs) -> list[dict[str, Any]]:
    """Return the discriminator's score of each image: the higher, the more it holds the image for real."""
    return [{"score": float(score)} for score in outputs(inputs)]


def generate(config: Config, spec: Spec, learner: Learner, state: TrainState, options: GenerateOptions) -> Generated:
    """Draw images, of the class that the prompt names if the network is conditional; a picture of all (.png)."""
    options.check_no_tokens()
    classes, number = spec["labels"].classes, options.length or 64
    if options.prompt and not config.conditional:
        raise InputError(f"prompt={options.prompt!r}: the network knows no classes; train with --conditional")
    if options.prompt and options.prompt not in classes:
        raise InputError(f"prompt={options.prompt!r} is no class; use one of {', '.join(classes)}")
    labels = np.full(number, classes.index(options.prompt)) if options.prompt else np.arange(number) % len(classes)
    images = _drawn(config, spec, learner, state, labels, options.seed, options.temperature)
    return pictured(images, options)


def _drawn(
    config: Config,
    spec: Spec,
    learner: Learner,
    state: TrainState,
    labels: np.ndarray,
    seed: int,
    temperature: float = 1.0,
) -> np.ndarray:
    """Return images [N, H, W, C], pixels 0 to 1, of these classes if the network is conditional."""
    codes = temperature * np.asarray(jax.random.normal(jax.random.key(seed), (len(labels), config.code)))
    if config.conditional:
        codes = np.concatenate([codes, np.eye(len(spec["labels"].classes), dtype=np.float32)[labels]], 1)
    return (predicted(learner, state, Coded(codes)) + 1) / 2


def watch(config: Config, splits: Splits, learner: Learner, state: TrainState, step: int, folder: Path) -> None:
    """Keep images of the same few codes."""
    labels = np.arange(NUM_WATCHED) % len(splits.train.classes)
    images = _drawn(config, splits.train.spec, learner, state, labels, seed=1)
    (folder / "samples").mkdir(exist_ok=True)
    np.save(folder / "samples" / f"{step:08d}.npy", images.astype(np.float16))


def finish(config: Config, splits: Splits, learner: Learner, states: Sequence[TrainState], folder: Path) -> Finished:
    """Draw samples, and measure by a classifier trained here what classes they have and how far from real they are."""
    train, test = splits.train, splits.test
    assert test is not None
    steps = {f"step {int(path.stem):,}": np.load(path) for path in sorted((folder / "samples").glob("*.npy"))}
    plots.save_image_rows(folder / "samples-by-step.png", {name: steps[name] for name in _spread(list(steps), 12)})
    generate(config, train.spec, learner, states[0], GenerateOptions(out=folder / "samples", length=100))

    judged_by = _train_judge(train)
    labels = np.arange(NUM_MEASURED) % len(train.classes)
    high = np.float32(train.spec["inputs"].high)
    real = judged_by(test["inputs"] / high)
    number = min(
        NUM_MEASURED, test.num_examples, train.num_examples
    )  # generated or real alike: of fewer, distances are larger
    fid = f"test/fid of {number:,}"

    def distance(judged: _Judged) -> float:
        return frechet_distance(judged.features[:number], real.features)

    metrics: dict[str, list[float]] = {}
    for state in states:
        judged = judged_by(_drawn(config, train.spec, learner, state, labels, seed=2))
        shares = np.bincount(judged.classes, minlength=len(train.classes)) / len(labels)
        values = {
            fid: distance(judged),
            "test/smallest class share": float(shares.min()),
            "test/largest class share": float(shares.max()),
            "test/share of clear images": judged.clear,
        }
        if config.conditional:
            values["test/share of the class asked for"] = float((judged.classes == labels).mean())
        for name, value in values.items():
            metrics.setdefault(name, []).append(value)
    untrained = judged_by(_drawn(config, train.spec, learner, learner.init(jax.random.key(0)), labels, seed=2))
    rows = np.random.default_rng(0).choice(train.num_examples, number, replace=False)  # data may be in order
    others = judged_by(train["inputs"][rows] / high)
    baselines = {
        "test/accuracy of the classifier that judges": float((real.classes == test["labels"]).mean()),
        f"{fid} real images": distance(others),
        f"{fid} of an untrained generator": distance(untrained),
        "test/share of clear real images": real.clear,
    }
    return Finished(metrics, baselines)


class _Judged(NamedTuple):
    """What the classifier makes of images: features [N, D], classes [N], and the share that it is 95% sure of."""

    features: np.ndarray
    classes: np.ndarray
    clear: float


def _train_judge(train: Data) -> Callable[[np.ndarray], _Judged]:
    """Return a function that judges images, pixels 0 to 1, by a small CNN that is trained here.

    It is trained for three epochs, or 500 steps if these are more.
    """
    column, num_classes, width = train.spec["inputs"], len(train.classes), 128

    def classifier(out_features: int, dropout: float = 0.0) -> Network:
        layers = (16, "pool", 32, "pool"), (width,), out_features
        return standardized(network(CNN, column.shape, *layers, dropout=dropout), column.mean, column.std)

    batch_size = min(128, train.num_examples)
    optimizer = OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2)
    num_steps = max(500, Duration.parse("3ep").steps(train.num_examples, batch_size) or 0)
    tx = make_optimizer(optimizer, num_steps)
    learner = supervised(classifier(num_classes, dropout=0.4), losses.softmax_cross_entropy, tx)
    state = fit(learner, train, duration=num_steps, batch_size=batch_size, progress=False).state
    # With the identity in place of its last layer, the network returns what stands before it.
    head = {**state.params["head"], "out": {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}}
    before_last = state.replace(params={**state.params, "head": head})
    features_of = supervised(classifier(width), losses.mse, tx)

    def judge(images: np.ndarray) -> _Judged:
        raw = (images * column.high).astype(np.float32)
        logits = predicted(learner, state, raw)
        clear = np.asarray(jax.nn.softmax(logits)).max(-1) > 0.95
        return _Judged(predicted(features_of, before_last, raw), logits.argmax(-1), float(clear.mean()))

    return judge


def _spread(names: list[str], most: int) -> list[str]:
    """Return names from the first to the last, as evenly as they fall, at most so many."""
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))]
