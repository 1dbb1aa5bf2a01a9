"""Tell whether two pictures show one person, whom the model has never seen: faces, or a user's own pictures."""

from dataclasses import dataclass, replace
from typing import Literal

from jaxnets.data import Spec, Splits
from jaxnets.errors import check_field
from jaxnets.learner import Learner
from jaxnets.learners import mirrored
from jaxnets.models import CNN
from jaxnets.network import network, standardized
from jaxnets.options import (
    EmbeddingConfig,
    LayerConfig,
    OptimizerConfig,
    PeopleData,
    TrainingConfig,
    ViewsConfig,
    check_each,
    optimizer_for,
    people_and_examples,
)
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.embeddings import embeddings
from jaxnets.tasks.task import Task
from jaxnets.transforms import augmented

_BLOCK = 256  # pictures that are evaluated together


@dataclass(frozen=True)
class Config:
    """A network that embeds pictures so that those of one person are alike."""

    people: PeopleData = PeopleData()
    """whose pictures, and who is held out"""
    embeddings: EmbeddingConfig = EmbeddingConfig()
    """what is learned, by which loss"""
    pictures: int = 4
    """pictures of each person in a batch, of batch_size / pictures people"""
    features: tuple[int | Literal["pool"], ...] = (32, "pool", 64, "pool", 96, "pool")
    """channels of each convolution, and pool for a 2x2 max-pooling"""
    layers: LayerConfig = LayerConfig(norm="batch")
    """what stands between layers"""
    mirrored: bool = True
    """add the embedding of a picture's mirror image to its own, but in training: better, and twice as slow"""
    views: ViewsConfig = ViewsConfig()
    """how training pictures are changed"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_each(self, "pictures")
        widths = [width for width in self.features if width != "pool"]
        check_field(self, "features", min(widths, default=1) >= 1, "widths of 1 or more")


PRESETS = {
    "faces": Preset(
        Config(
            views=ViewsConfig(shift=3, flip=True),
            training=TrainingConfig(duration="400", batch_size=40, evaluate_every="100"),
            optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2),
        ),
        "the ORL faces: whether two pictures show one person, of people never seen, beside Fisherfaces",
    )
}


def load(config: Config) -> Splits:
    """Return the pictures, and who is on them; batches are of some people with some pictures each."""
    splits = config.people.load()
    return replace(splits, order=people_and_examples(config, "pictures", splits))


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner of embeddings."""
    inputs = spec["inputs"]
    model = network(CNN, inputs.shape, config.features, (), config.embeddings.embedding, **config.layers.options())
    model = standardized(model, inputs.mean, inputs.std)
    model = mirrored(model) if config.mirrored else model
    learner = config.embeddings.learner(model, optimizer_for(config, spec), spec, _BLOCK)
    return augmented(learner, config.views.augment)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with embeddings."""
    return embeddings(spec)
