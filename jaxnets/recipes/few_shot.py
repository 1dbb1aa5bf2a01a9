"""Tell classes apart from few examples of each, which the model meets for the first time."""

from dataclasses import dataclass, replace
from typing import Literal

from jaxnets.data import Spec, Splits, episodes
from jaxnets.errors import FINITE, InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import Shape, maml, matching, prototypical, reptile
from jaxnets.models import CNN
from jaxnets.network import network, standardized
from jaxnets.options import (
    EpisodeData,
    LayerConfig,
    OptimizerConfig,
    TrainingConfig,
    ViewsConfig,
    only,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.episodes import few_examples
from jaxnets.tasks.task import Task
from jaxnets.transforms import augmented

_COMPARING, _ADAPTING = ("prototypical", "matching"), ("maml", "reptile")


@dataclass(frozen=True)
class Config:
    """A network that learns new classes from few examples of each."""

    episodes: EpisodeData = EpisodeData()
    """what is classified, and how many examples there are"""
    method: Literal["prototypical", "matching", "maml", "reptile"] = "prototypical"
    """how a new class is learned: by the mean of its embeddings, by its most alike examples, or by a few steps of
    descent from initial weights that are learned (maml, reptile)"""
    train_ways: int = only(20, method=_COMPARING)
    """classes of an episode of training (prototypical, matching), which may be more than those of the test"""
    train_queries: int = only(5, method=_COMPARING)
    """examples of each class to classify in an episode of training (prototypical, matching)"""
    inner_rate: float = only(0.1, method=_ADAPTING)
    """learning rate of the descent within an episode (maml, reptile)"""
    inner_steps: int = only(3, method=_ADAPTING)
    """steps of the descent within an episode of training (maml, reptile)"""
    test_steps: int = only(10, method=_ADAPTING)
    """steps of the descent within an episode of the test (maml, reptile)"""
    first_order: bool = only(False, method=("maml",))
    """leave out the second derivatives (maml)"""
    features: tuple[int | Literal["pool"], ...] = (32, "pool", 32, "pool", 64, "pool", 64, "pool")
    """channels of each convolution, and pool for a 2x2 max-pooling"""
    embedding: int = only(64, method=_COMPARING)
    """numbers in an embedding (prototypical, matching)"""
    layers: LayerConfig = LayerConfig(norm="batch")
    """what stands between layers"""
    views: ViewsConfig = ViewsConfig()
    """how training images are changed"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches: one episode or several"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "train_ways", 2 <= self.train_ways < 2**20, "2 or more")
        check_field(self, "train_queries", 1 <= self.train_queries < 2**20, "1 or more")
        check_field(self, "inner_rate", 0 < self.inner_rate < FINITE, "a number greater than 0")
        least = 2 if self.method == "reptile" else 1
        check_field(self, "inner_steps", least <= self.inner_steps < 2**20, f"{least} or more")
        check_field(self, "test_steps", 1 <= self.test_steps < 2**20, "1 or more")
        check_field(self, "embedding", self.embedding >= 1, "1 or more")
        widths = [width for width in self.features if width != "pool"]
        check_field(self, "features", min(widths, default=1) >= 1, "widths of 1 or more")
        size, rows = self.training.batch_size, self.train_shape.rows
        if size % rows:
            shape, flags = self.train_shape, ("ways", "shots", "queries")
            if self.method in _COMPARING:
                flags = "train_ways", "shots", "train_queries"
            told = ", ".join(f"{name}={number}" for name, number in zip(flags, shape[:3], strict=True))
            near = max(1, round(size / rows)) * rows
            raise InputError(
                f"batch_size={size} must be a multiple of {rows}, a training episode of {told}; use --batch-size {near}"
            )

    @property
    def test_shape(self) -> Shape:
        """The episodes of validation and test."""
        return Shape(self.episodes.ways, self.episodes.shots, self.episodes.queries)

    @property
    def train_shape(self) -> Shape:
        """The episodes of training."""
        if self.method not in _COMPARING:
            return self.test_shape
        return self.test_shape._replace(ways=self.train_ways, queries=self.train_queries)


_CHARACTERS = Config(
    views=ViewsConfig(shift=1, rotate=10, stretch=0.15, shear=0.15, bend=0.5),
    training=TrainingConfig(duration="3000", batch_size=120, evaluate_every="300"),
    optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=1e-3),
)
_COMPARED = replace(
    _CHARACTERS,
    method="matching",
    train_ways=60,
    train_queries=1,
    features=(32, "pool", 64, "pool", 128, "pool", 128),
    embedding=128,
)
_MAML = replace(
    _CHARACTERS,
    method="maml",
    inner_rate=0.2,
    optimizer=OptimizerConfig(learning_rate=2e-3),
)
PRESETS = {
    "omniglot-few-shot": Preset(_COMPARED, "matching networks on Omniglot's small sets, new characters from one"),
    "omniglot-maml": Preset(_MAML, "MAML on the same, exact to second order"),
}


def load(config: Config) -> Splits:
    """Return pictures to train on in episodes that are drawn anew for each step, and episodes to measure."""
    splits = config.episodes.load()
    return replace(splits, order=episodes(*config.train_shape))


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner of episodes, each picture of which is a view of its own in training."""
    return augmented(_episodic(config, spec), config.views.augment)


def _episodic(config: Config, spec: Spec) -> Learner:
    inputs, (train, test), tx = spec["inputs"], (config.train_shape, config.test_shape), optimizer_for(config, spec)
    outputs = config.embedding if config.method in _COMPARING else test.ways
    model = network(CNN, inputs.shape, config.features, (), outputs, **config.layers.options())
    model = standardized(model, inputs.mean, inputs.std)
    descent = {"rate": config.inner_rate, "steps": config.inner_steps, "test_steps": config.test_steps}
    match config.method:
        case "matching":
            return matching(model, tx, train, test)
        case "maml":
            return maml(model, tx, train, test, first_order=config.first_order, **descent)
        case "reptile":
            return reptile(model, tx, train, test, **descent)
    return prototypical(model, tx, train, test)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with episodes."""
    return few_examples(
        spec, config.test_shape, most_ways=None if config.method in _COMPARING else config.episodes.ways
    )
