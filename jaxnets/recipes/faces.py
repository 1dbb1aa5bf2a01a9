"""Tell whether two pictures show one person, whom the model has never seen: faces, or a user's own pictures."""

from dataclasses import dataclass, replace
from typing import Literal

from jaxnets.data import Spec, Splits, classes_and_examples
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import EmbeddingLoss, arcface, contrastive, embedding, supervised_contrastive, triplet
from jaxnets.metrics import equal_error_rate, pair_auc, true_accept_rate
from jaxnets.models import CNN
from jaxnets.network import network, standardized
from jaxnets.options import (
    LayerConfig,
    OptimizerConfig,
    PeopleData,
    TrainingConfig,
    ViewsConfig,
    only,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.embeddings import embeddings
from jaxnets.tasks.task import Task
from jaxnets.transforms import augmented

_MARGINS = {"contrastive": 1.0, "triplet": 0.2, "arcface": 0.5}
_BLOCK = 256  # pictures that are evaluated together


@dataclass(frozen=True)
class Config:
    """A network that embeds pictures so that those of one person are alike."""

    people: PeopleData = PeopleData()
    """whose pictures, and who is held out"""
    loss: Literal["supervised-contrastive", "triplet", "contrastive", "arcface"] = "supervised-contrastive"
    """what is minimised"""
    pictures: int = 4
    """pictures of each person in a batch, of batch_size / pictures people"""
    margin: float | None = only(None, loss=tuple(_MARGINS))
    """by how much other people are to be farther away: in distance (contrastive; 1.0 if absent), in squared distance
    (triplet; 0.2) or in radians (arcface; 0.5)"""
    temperature: float = only(0.1, loss=("supervised-contrastive",))
    """by which cosines are divided (supervised-contrastive)"""
    margin_warmup: int = only(100, loss=("arcface",))
    """steps in which the margin rises from 0 (arcface)"""
    features: tuple[int | Literal["pool"], ...] = (32, "pool", 64, "pool", 96, "pool")
    """channels of each convolution, and pool for a 2x2 max-pooling"""
    embedding: int = 64
    """numbers in an embedding"""
    layers: LayerConfig = LayerConfig(norm="batch")
    """what stands between layers"""
    views: ViewsConfig = ViewsConfig()
    """how training pictures are changed"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "pictures", self.pictures >= 2, "2 or more: a picture alone makes no pair")
        check_field(self, "embedding", self.embedding >= 1, "1 or more")
        size = self.training.batch_size
        if size % self.pictures or size // self.pictures < 2:
            raise InputError(
                f"batch_size={size} must be a multiple of pictures={self.pictures}, and of two people or more"
            )
        widths = [width for width in self.features if width != "pool"]
        check_field(self, "features", min(widths, default=1) >= 1, "widths of 1 or more")
        self.chosen_loss(2)

    def chosen_loss(self, num_classes: int) -> EmbeddingLoss:
        """Return the loss, for so many people."""
        margin = _MARGINS.get(self.loss, 0.0) if self.margin is None else self.margin
        match self.loss:
            case "contrastive":
                return contrastive(margin)
            case "triplet":
                return triplet(margin)
            case "arcface":
                return arcface(num_classes, self.embedding, margin, warmup=self.margin_warmup)
        return supervised_contrastive(self.temperature)


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
    size, known = config.training.batch_size, int(splits.train["labels"].max()) + 1
    people = size // config.pictures
    if people > known:
        raise InputError(
            f"batch_size={size} is of {people:,} people with {config.pictures} pictures each, but {known} are trained "
            f"on; use {known * config.pictures} or less"
        )
    return replace(splits, order=classes_and_examples(people, config.pictures))


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner of embeddings."""
    inputs = spec["inputs"]
    model = network(CNN, inputs.shape, config.features, (), config.embedding, **config.layers.options())
    loss = config.chosen_loss(int(spec["labels"].high) + 1)
    metrics = {"auc": pair_auc(), "eer": equal_error_rate(), "tar_at_far_0.01": true_accept_rate(0.01)}
    model = standardized(model, inputs.mean, inputs.std)
    learner = embedding(model, loss, optimizer_for(config, spec), metrics, block=_BLOCK)
    return augmented(learner, config.views.augment)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with embeddings."""
    return embeddings(spec)
