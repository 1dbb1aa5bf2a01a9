"""Predict the next chord of a piece, and compose: Bach's chorales, or a user's own pieces."""

from dataclasses import dataclass

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, augment, music
from jaxnets.errors import check_field
from jaxnets.learner import Learner
from jaxnets.learners import autoregressive, supervised
from jaxnets.models import RNN
from jaxnets.network import network
from jaxnets.options import OptimizerConfig, PieceData, RecurrentConfig, TrainingConfig, optimizer_for
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.music import pieces
from jaxnets.tasks.task import Task
from jaxnets.transforms import augmented


@dataclass(frozen=True)
class Config:
    """A model of music: the keys that sound next, given all that sounded before."""

    music: PieceData = PieceData()
    """what is learned"""
    recurrent: RecurrentConfig = RecurrentConfig(hidden=(200,))
    """how large a recurrent network"""
    dropout: float = 0.5
    """probability that a feature is dropped in training"""
    transpose: int = 0
    """augmentation: move each piece up or down by up to so many semitones"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        check_field(self, "transpose", 0 <= self.transpose <= 12, "0 to 12 semitones")


_CHORALES = Config(
    recurrent=RecurrentConfig(hidden=(400,)),
    dropout=0.6,
    training=TrainingConfig(duration="60ep", batch_size=16, evaluate_every="2ep", patience=8),
    optimizer=OptimizerConfig(learning_rate=1e-2, weight_decay=0.1, clip_norm=1.0, average=0.98),
)
PRESETS = {"chorales-gru": Preset(_CHORALES, "Bach's chorales, chord by chord (--cell lstm, --cell rnn)")}


def load(config: Config) -> Splits:
    """Return the pieces as frames, each behind a silent one.

    In training the first chord is predicted too; in validation and testing, as in the literature, it is only given.
    """
    found = config.music.load()
    splits = ("train", "valid", "test")
    length = 1 + max(len(piece) for name in splits for piece in found[name])
    parts = []
    for name in splits:
        frames, mask = music.padded(found[name], length)
        if name != "train":
            mask[:, 1] = 0
        parts.append(Data(inputs=frames, mask=mask))
    return Splits(*parts)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for pieces like those of ``spec``."""
    keys, recurrent = spec["inputs"].shape[-1], config.recurrent
    model = network(RNN, keys, recurrent.hidden, keys, dropout=config.dropout, **recurrent.options())
    learner = autoregressive(supervised(model, losses.bernoulli_nll, optimizer_for(config, spec)))
    return augmented(learner, augment.transpose(config.transpose)) if config.transpose else learner


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with pieces."""
    return pieces()
