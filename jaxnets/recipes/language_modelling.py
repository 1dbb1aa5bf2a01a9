"""Predict the next character of a text, and write more of it: Shakespeare, or a user's own file."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, augment, tokens
from jaxnets.errors import check_field
from jaxnets.learner import Learner
from jaxnets.learners import autoregressive, supervised
from jaxnets.models import RNN, Transformer
from jaxnets.network import Network, network
from jaxnets.options import (
    Arithmetic,
    OptimizerConfig,
    TextData,
    TokenRecurrentConfig,
    TrainingConfig,
    TransformerConfig,
    only,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.task import Task
from jaxnets.tasks.texts import texts
from jaxnets.transforms import augmented, windowed


@dataclass(frozen=True)
class Config:
    """A model of text, character by character."""

    text: TextData = TextData()
    """what is learned"""
    window: int = 128
    """characters that a training example predicts, and through which gradients run; the most that a transformer sees"""
    model: Literal["rnn", "transformer"] = "rnn"
    """the family: a recurrent network, or a causal transformer (GPT)"""
    recurrent: TokenRecurrentConfig = only(TokenRecurrentConfig("lstm", (256, 256), 64), model=("rnn",))
    """how large a recurrent network (rnn)"""
    transformer: TransformerConfig = only(TransformerConfig(), model=("transformer",))
    """how large a transformer (transformer)"""
    dropout: float = 0.1
    """probability that a feature is dropped in training"""
    arithmetic: Arithmetic = Arithmetic()
    """what the network computes with"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        check_field(self, "window", self.window >= 1, "1 or more")


_SHAKESPEARE = Config(
    window=64,
    training=TrainingConfig(duration="1500", batch_size=32, evaluate_every="500"),
    optimizer=OptimizerConfig("muon", learning_rate=1e-2, momentum=0.95, warmup=100, clip_norm=1.0),
)
_GPT = replace(
    _SHAKESPEARE,
    model="transformer",
    dropout=0.0,
    training=TrainingConfig(duration="2000", batch_size=12, evaluate_every="500"),
    optimizer=replace(_SHAKESPEARE.optimizer, learning_rate=2e-2, warmup=30, weight_decay=0.1),
)
PRESETS = {
    "shakespeare-lstm": Preset(_SHAKESPEARE, "characters of Shakespeare's plays (--cell gru, --cell rnn)"),
    "shakespeare-gpt": Preset(_GPT, "the same by a transformer, at nanoGPT's size for CPUs"),
}


def load(config: Config) -> Splits:
    """Return the text as stretches of characters; every character of its held-out end is predicted exactly once."""
    text = config.text.load()
    vocabulary = tokens.characters(text)
    encoded = tokens.encode_characters(text, vocabulary)
    cut = round(len(encoded) * (1 - config.text.validation))
    windows = tokens.windows(encoded[:cut], config.window)
    held_out, mask = tokens.contexts(encoded, cut, config.window)
    known = {"inputs": {"classes": vocabulary, "shape": (config.window,)}}
    train = Data(inputs=windows, known=known)
    return Splits(train, Data(inputs=held_out, mask=mask, known=known))


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for text with the vocabulary of ``spec``."""
    model = _model(config, len(spec["inputs"].classes))
    tx = optimizer_for(config, spec)
    learner = autoregressive(supervised(model, losses.softmax_cross_entropy, tx, {"accuracy": losses.accuracy}))
    if config.model == "transformer":  # it has no room for what stands before a window; a recurrent network reads it
        learner = windowed(learner, config.window + 1)
    return augmented(learner, augment.crop(config.window + 1))


def _model(config: Config, size: int) -> Network:
    """Return the network over a vocabulary of so many characters."""
    options: dict[str, Any] = {"dropout": config.dropout, "dtype": config.arithmetic.dtype}
    if config.model == "rnn":
        return network(RNN, size, config.recurrent.hidden, size, **options, **config.recurrent.options())
    options |= {"max_length": config.window, "positions": config.transformer.positions, "tied": True, "use_bias": False}
    return network(Transformer, size, *config.transformer.sizes, size, tokens=True, causal=True, **options)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with texts."""
    return texts(spec, config.window if config.model == "transformer" else None)
