"""Tell whether two recordings are of one speaker, never heard before: voices, or a user's own recordings."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from jaxnets.data import Spec, Splits
from jaxnets.data.speech import PADDING
from jaxnets.errors import check_field
from jaxnets.learner import Learner
from jaxnets.models import Listener, TimeConvs
from jaxnets.network import network
from jaxnets.options import (
    EmbeddingConfig,
    Hearing,
    OptimizerConfig,
    TrainingConfig,
    VoiceData,
    check_each,
    optimizer_for,
    people_and_examples,
)
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.task import Task
from jaxnets.tasks.voices import voices

_BLOCK, _AT_ONCE = 1024, 64  # recordings of which all pairs are evaluated, and of these, through the network at once


@dataclass(frozen=True)
class Config:
    """A network that embeds recordings so that those of one speaker are alike."""

    people: VoiceData = VoiceData()
    """whose recordings, and who is held out"""
    embeddings: EmbeddingConfig = EmbeddingConfig()
    """what is learned, by which loss"""
    recordings: int = 8
    """recordings of each voice in a batch, of batch_size / recordings voices"""
    hearing: Hearing = Hearing(speed=0.0)
    """what the network hears"""
    features: tuple[int | Literal["pool"], ...] = (24, "pool", 48, "pool", 64, "pool")
    """channels of each convolution over the spectrogram, and pool for a 2x2 max-pooling"""
    widths: tuple[int, ...] = (128, 128)
    """widths of the convolutions over time that follow"""
    dropout: float = 0.2
    """probability that a number of what is heard is dropped in training, before it becomes an embedding"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_each(self, "recordings")
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        for name in ("features", "widths"):
            widths = [width for width in getattr(self, name) if width != "pool"]
            check_field(self, name, min(widths, default=0) >= 1, "widths of 1 or more, one at least")


PRESETS = {
    "voices": Preset(
        Config(
            training=TrainingConfig(duration="200", batch_size=64, evaluate_every="50"),
            optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2),
        ),
        "the speakers of spoken digits: whether two recordings are of one, of speakers never heard, beside LDA",
    )
}


def load(config: Config) -> Splits:
    """Return the recordings, and who speaks; batches are of some voices with some recordings each."""
    splits = config.people.load()
    return replace(splits, order=people_and_examples(config, "recordings", splits))


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner of embeddings."""
    model = network(
        Listener,
        config.embeddings.embedding,
        config.people.rate,
        partial(TimeConvs, widths=config.widths),
        config.features,
        dropout=config.dropout,
        padding=PADDING,
        **config.hearing.options(),
    )
    learner = config.embeddings.learner(model, optimizer_for(config, spec), spec, _BLOCK, _AT_ONCE)
    return config.hearing.around(learner)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with embeddings."""
    return voices(spec, config.people.rate)
