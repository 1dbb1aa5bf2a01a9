"""Classify sentences: the sentiment of film reviews, or a user's own labels."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, augment, tokens
from jaxnets.data.names import spelled
from jaxnets.data.tokens import Sentences
from jaxnets.data.word_vectors import read_word_vectors
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Initial, Learner
from jaxnets.learners import supervised
from jaxnets.models import RNN, Transformer
from jaxnets.network import Network, network
from jaxnets.options import (
    ClassMetrics,
    OptimizerConfig,
    SentenceData,
    TokenRecurrentConfig,
    TrainingConfig,
    TransformerConfig,
    only,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset, Start
from jaxnets.tasks.classes import classes
from jaxnets.tasks.sentences import reading_sentences
from jaxnets.tasks.task import NoOptions, Task
from jaxnets.transforms import augmented


@dataclass(frozen=True)
class Config:
    """A classifier of sentences, trained from scratch on words."""

    sentences: SentenceData = SentenceData()
    """what is classified"""
    min_count: int = 2
    """words that the training data hold less often are unknown"""
    embeddings: Path | None = None
    """vectors of words to begin from: GloVe's .txt, a .vec, or an .npy with the words in a .txt beside; they learn,
    unless --freeze "embed/**" keeps them as they are"""
    max_words: int = 64
    """the longest sentence that is taken"""
    model: Literal["rnn", "transformer"] = "rnn"
    """the family: a recurrent network, or a transformer"""
    recurrent: TokenRecurrentConfig = only(TokenRecurrentConfig(), model=("rnn",))
    """how large a recurrent network (rnn)"""
    bidirectional: bool = only(True, model=("rnn",))
    """read each sentence in both directions (rnn)"""
    transformer: TransformerConfig = only(TransformerConfig(), model=("transformer",))
    """how large a transformer (transformer)"""
    pool: Literal["last", "max", "mean"] = "max"
    """what stands for a sentence: the last state (rnn), the largest outputs over time, or their mean"""
    dropout: float = 0.5
    """probability that a feature is dropped in training"""
    word_dropout: float = 0.0
    """augmentation: the share of words that are made unknown in training"""
    class_weights: Literal["alike", "balanced"] = "alike"
    """balanced: rare classes weigh more in training, so that all classes count as much; else all rows do"""
    metrics: ClassMetrics = ClassMetrics()
    """what is measured"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("dropout", "word_dropout"):
            check_field(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name in ("min_count", "max_words"):
            check_field(self, name, getattr(self, name) >= 1, "1 or more")
        if self.model == "transformer" and self.pool == "last":
            raise InputError("pool='last' is a recurrent network's last state; use --pool max or --pool mean")
        if self.embeddings is not None:  # a run may go on from elsewhere
            object.__setattr__(self, "embeddings", self.embeddings.absolute())


_SST2 = Config(
    word_dropout=0.15,
    training=TrainingConfig(duration="6ep", batch_size=50, evaluate_every="35", patience=100),
    optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2),
)
_SST2_TRANSFORMER = replace(_SST2, model="transformer", transformer=TransformerConfig(num_layers=2))
PRESETS = {
    "sentiment-gru": Preset(_SST2, "positive or negative: sentences of film reviews (SST-2)"),
    "sentiment-transformer": Preset(_SST2_TRANSFORMER, "the same by a transformer"),
}


def load(config: Config) -> Splits:
    """Return the sentences as words' numbers; vocabulary and classes are those of the training data."""
    parts = config.sentences.load()
    vocabulary = tokens.word_vocabulary(parts["train"].texts, config.min_count)
    if len(vocabulary) == len(tokens.word_vocabulary([])):
        raise InputError(f"min_count={config.min_count}: no word occurs so often; use less")
    names = tuple(sorted(set(map(spelled, parts["train"].labels))))

    def encoded(part: str, found: Sentences) -> Data:
        try:
            words = tokens.encode_words(found.texts, vocabulary, config.max_words)
        except InputError as error:
            raise InputError(f"{config.sentences.data}, {part}: {error}") from error
        return Data(inputs=words, labels=found.labels, classes=names, known={"inputs": {"classes": vocabulary}})

    found = {part: encoded(part, sentences) for part, sentences in parts.items()}
    splits = Splits(found["train"], found.get("validation"), found["test"])
    return splits.balanced() if config.class_weights == "balanced" else splits


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for sentences with the vocabulary and the classes of ``spec``."""
    num_classes = len(spec["labels"].classes)
    model = _model(config, len(spec["inputs"].classes), num_classes)
    metrics = config.metrics.of(num_classes)
    learner = supervised(model, losses.softmax_cross_entropy, optimizer_for(config, spec), metrics)
    if config.word_dropout:
        learner = augmented(learner, augment.token_dropout(config.word_dropout, tokens.UNKNOWN, tokens.PADDING))
    return learner


def start(config: Config, spec: Spec) -> Start | None:
    """Return the vectors of the vocabulary's words, if a file of some is named."""
    if config.embeddings is None:
        return None
    words = spec["inputs"].classes
    found = read_word_vectors(config.embeddings, words)
    recurrent = config.model == "rnn"
    name, width = (
        ("embedding", config.recurrent.embedding) if recurrent else ("model_dim", config.transformer.model_dim)
    )
    if (wide := found.table.shape[1]) != width:
        raise InputError(
            f"embeddings={config.embeddings}: vectors of {wide} numbers, but {name}={width}; use "
            f"--{name.replace('_', '-')} {wide}"
        )
    about = found.coverage(special=len(tokens.word_vocabulary([])))
    return Start(Initial({"embed": {"embedding": found.table}}), f"{config.embeddings}: {about}")


def _model(config: Config, num_words: int, num_classes: int) -> Network:
    """Return the network over a vocabulary of so many words."""
    options: dict[str, Any] = {"padding": tokens.PADDING, "pool": config.pool, "dropout": config.dropout}
    if config.model == "transformer":
        options |= {"max_length": config.max_words, "positions": config.transformer.positions, "tokens": True}
        return network(Transformer, num_words, *config.transformer.sizes, num_classes, **options)
    options |= {**config.recurrent.options(), "bidirectional": config.bidirectional}
    return network(RNN, num_words, config.recurrent.hidden, num_classes, **options)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with sentences and their classes."""
    return classes(spec, reading_sentences(spec["inputs"].classes, config.max_words), NoOptions())
