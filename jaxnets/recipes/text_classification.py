"""Classify sentences: the sentiment of film reviews, or a user's own labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxnets import losses
from jaxnets.choices import CELLS, CellName
from jaxnets.data import Data, Spec, Splits, augment, datasets, read_text, tokens
from jaxnets.errors import InputError, nearest
from jaxnets.learner import Learner, supervised
from jaxnets.models import RNN
from jaxnets.network import network
from jaxnets.optimizers import OptimizerConfig, make_optimizer
from jaxnets.options import TrainingConfig
from jaxnets.recipes import Preset
from jaxnets.transforms import augmented, averaged


@dataclass(frozen=True)
class Config:
    """A classifier of sentences, trained from scratch on words."""

    data: str = "sst2"
    """sst2, or a file of sentence<TAB>label lines, or a folder of train.tsv, dev.tsv and test.tsv"""
    data_dir: Path | None = None
    """where sst2's files are; else JAXNETS_DATA, else the cache folder, into which they are fetched"""
    validation: float = 0.1
    """fraction of the training data held out to choose by, where there is no dev.tsv"""
    min_count: int = 2
    """words that the training data hold less often are unknown"""
    max_words: int = 64
    """the longest sentence that is taken"""
    cell: CellName = "gru"
    """the recurrent cell: rnn (Elman), lstm or gru"""
    hidden: tuple[int, ...] = (100,)
    """widths of the recurrent layers, of each direction"""
    embedding: int = 100
    """width of a word's embedding"""
    bidirectional: bool = True
    """read each sentence in both directions"""
    pool: Literal["last", "max", "mean"] = "max"
    """what stands for a sentence: the last state, the largest outputs over time, or their mean"""
    dropout: float = 0.5
    """probability that a feature is dropped in training"""
    word_dropout: float = 0.0
    """augmentation: the share of words that are made unknown in training"""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """how long, in which batches"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("validation", "dropout", "word_dropout"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise InputError(f"{name}={value} must be in [0, 1)")
        for name in ("min_count", "max_words", "embedding"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"{name}={value} must be 1 or more")
        if not self.hidden or min(self.hidden) < 1:
            raise InputError(f"hidden={self.hidden} must be widths of 1 or more")


_SST2 = Config(
    word_dropout=0.15,
    training=TrainingConfig(duration="6ep", batch_size=50, evaluate_every="35", patience=100),
    optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2),
)
PRESETS = {"sentiment-gru": Preset(_SST2, "positive or negative: sentences of film reviews (SST-2)")}


def load(config: Config) -> Splits:
    """Return the sentences as words' numbers; the vocabulary is that of the training data."""
    names = None
    if config.data == "sst2":
        paths = datasets.located("sst2", datasets.SST2, config.data_dir)
        names = ("negative", "positive")
        parts = [tokens.labelled_sentences(paths[name]) for name in ("train.tsv", "dev.tsv", "test.tsv")]
    elif (folder := Path(config.data)).is_dir():
        parts = [tokens.labelled_sentences(folder / name) for name in ("train.tsv", "dev.tsv", "test.tsv")]
    elif folder.is_file():
        parts = [tokens.labelled_sentences(folder)]
    else:
        hint = nearest(config.data, ["sst2"])
        raise InputError(f"data={config.data!r} is not sst2, a .tsv file or a folder of .tsv files{hint}")
    vocabulary = tokens.word_vocabulary(parts[0][0], config.min_count)
    labels = sorted(set(parts[0][1]))
    classes = dict(zip(labels, names or labels, strict=True))
    splits = [_encoded(config, *part, vocabulary, classes) for part in parts]
    if len(splits) == 3:
        return Splits(*splits)
    train, test = splits[0].split(0.2)
    if not config.validation:
        return Splits(train, test=test)
    train, validation = train.split(config.validation)
    return Splits(train, validation, test)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for sentences with the vocabulary and the classes of ``spec``."""
    model = network(
        RNN,
        len(spec["inputs"].classes),
        config.hidden,
        len(spec["labels"].classes),
        cell=CELLS[config.cell],
        embedding=config.embedding,
        padding=tokens.PADDING,
        bidirectional=config.bidirectional,
        pool=config.pool,
        dropout=config.dropout,
    )
    tx = make_optimizer(config.optimizer, config.training.num_steps(spec.num_examples))
    options = {"accumulate": config.optimizer.accumulate}
    learner = supervised(model, losses.softmax_cross_entropy, tx, {"accuracy": losses.accuracy}, **options)
    if config.word_dropout:
        learner = augmented(learner, augment.blank(config.word_dropout, tokens.UNKNOWN, tokens.PADDING))
    return averaged(learner, config.optimizer.average) if config.optimizer.average else learner


def predict(
    config: Config, spec: Spec, given: Sequence[str], outputs: Callable[[np.ndarray], np.ndarray]
) -> list[dict[str, Any]]:
    """Return class and probability of each sentence, and its words that the training data do not hold.

    What names a file stands for the file's lines.
    """
    sentences = [line for text in given for line in _lines(text)]
    vocabulary, classes = spec["inputs"].classes, spec["labels"].classes
    probabilities = outputs(tokens.encode_words(sentences, vocabulary, config.max_words))
    rows = []
    for sentence, p in zip(sentences, probabilities, strict=True):
        unknown = [word for word in tokens.split_words(sentence) if word not in vocabulary]
        best = {"class": classes[p.argmax()], "probability": float(p.max())}
        rows.append({"sentence": sentence, **best, "unknown words": " ".join(unknown)})
    return rows


def _lines(text: str) -> list[str]:
    if len(text) < 256 and Path(text).is_file():
        return [line for line in read_text(Path(text)).splitlines() if line.strip()]
    return [text]


def _encoded(
    config: Config, sentences: list[str], labels: list[str], vocabulary: tuple[str, ...], classes: dict[str, str]
) -> Data:
    """Return sentences and labels as data; ``classes`` are the names of the labels."""
    words = tokens.encode_words(sentences, vocabulary, config.max_words)
    named = np.array([classes.get(label, label) for label in labels])
    return Data(inputs=words, labels=named, classes=tuple(classes.values()), known={"inputs": {"classes": vocabulary}})
