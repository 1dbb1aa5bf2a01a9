"""Classify sentences: the sentiment of film reviews, or a user's own labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, augment, datasets, tokens
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners.supervised import supervised
from jaxnets.models import RNN, Transformer
from jaxnets.network import Network, network
from jaxnets.options.choices import CELLS, CellName
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer
from jaxnets.options.training import TrainingConfig
from jaxnets.options.transformer import TransformerConfig
from jaxnets.recipes.recipe import Outputs, Preset
from jaxnets.transforms.augmented import augmented
from jaxnets.transforms.averaged import averaged


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
    model: Literal["rnn", "transformer"] = "rnn"
    """the family: a recurrent network, or a transformer"""
    cell: CellName = "gru"
    """the recurrent cell: rnn (Elman), lstm or gru (rnn)"""
    hidden: tuple[int, ...] = (100,)
    """widths of the recurrent layers, of each direction (rnn)"""
    embedding: int = 100
    """width of a word's embedding (rnn)"""
    bidirectional: bool = True
    """read each sentence in both directions (rnn)"""
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """how large a transformer"""
    pool: Literal["last", "max", "mean"] = "max"
    """what stands for a sentence: the last state (rnn), the largest outputs over time, or their mean"""
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
            check_field(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name in ("min_count", "max_words", "embedding"):
            check_field(self, name, getattr(self, name) >= 1, "1 or more")
        check_field(self, "hidden", min(self.hidden, default=0) >= 1, "widths of 1 or more")
        if self.model == "transformer" and self.pool == "last":
            raise InputError("pool='last' is a recurrent network's last state; use --pool max or --pool mean")


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

_PARTS = ("train.tsv", "dev.tsv", "test.tsv")


def load(config: Config) -> Splits:
    """Return the sentences as words' numbers; the vocabulary is that of the training data."""
    names = None
    if config.data == "sst2":
        paths = datasets.located("sst2", datasets.SST2, config.data_dir)
        files, names = [paths[name] for name in _PARTS], ("negative", "positive")
    else:
        path = datasets.find_file(config.data, "a .tsv file or a folder of .tsv files", ["sst2"])
        files = [path / name for name in _PARTS] if path.is_dir() else [path]
    parts = [tokens.labelled_sentences(file) for file in files]
    if len(parts) == 1:
        parts = _split(config, *parts[0])
        files *= len(parts)
    vocabulary = tokens.word_vocabulary(parts[0][0], config.min_count)
    labels = sorted(set(parts[0][1]))
    classes = dict(zip(labels, names or labels, strict=True))
    splits = [_encoded(config, file, *part, vocabulary, classes) for file, part in zip(files, parts, strict=True)]
    return Splits(*splits) if len(splits) == 3 else Splits(splits[0], test=splits[1])


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for sentences with the vocabulary and the classes of ``spec``."""
    model = _model(config, len(spec["inputs"].classes), len(spec["labels"].classes))
    tx = make_optimizer(config.optimizer, config.training.num_steps(spec.num_examples))
    options = {"accumulate": config.optimizer.accumulate}
    learner = supervised(model, losses.softmax_cross_entropy, tx, {"accuracy": losses.accuracy}, **options)
    if config.word_dropout:
        learner = augmented(learner, augment.blank(config.word_dropout, tokens.UNKNOWN, tokens.PADDING))
    return averaged(learner, config.optimizer.average) if config.optimizer.average else learner


def _model(config: Config, num_words: int, num_classes: int) -> Network:
    """Return the network over a vocabulary of so many words."""
    options: dict[str, Any] = {"padding": tokens.PADDING, "pool": config.pool, "dropout": config.dropout}
    if config.model == "transformer":
        options |= {"max_length": config.max_words, "positions": config.transformer.positions, "tokens": True}
        return network(Transformer, num_words, *config.transformer.sizes, num_classes, **options)
    options |= {"cell": CELLS[config.cell], "embedding": config.embedding, "bidirectional": config.bidirectional}
    return network(RNN, num_words, config.hidden, num_classes, **options)


def predict(config: Config, spec: Spec, given: Sequence[str], outputs: Outputs) -> list[dict[str, Any]]:
    """Return class and probability of each sentence, and its words that the training data do not hold.

    What names a file stands for the file's lines.
    """
    sentences = [line for text in given for line in _lines(text)]
    vocabulary, classes = spec["inputs"].classes, spec["labels"].classes
    probabilities = outputs(tokens.encode_words(sentences, vocabulary, config.max_words), link=jax.nn.softmax)
    rows = []
    for sentence, p in zip(sentences, probabilities, strict=True):
        unknown = [word for word in tokens.split_words(sentence) if word not in vocabulary]
        best = {"class": classes[p.argmax()], "probability": float(p.max())}
        rows.append({"sentence": sentence, **best, "unknown words": " ".join(unknown)})
    return rows


def _lines(text: str) -> list[str]:
    """Return the lines of the file that the text names, or the text itself."""
    try:
        is_file = Path(text).is_file()
    except OSError:  # too long for a name
        is_file = False
    return [line for line in tokens.lines(Path(text)) if line.strip()] if is_file else [text]


def _split(config: Config, sentences: list[str], labels: list[str]) -> list[tuple[list[str], list[str]]]:
    """Return training, validation (if any) and test sentences and labels, by stratified draws."""
    if not config.validation and config.training.patience is not None:
        raise InputError("patience needs validation data; give --validation a fraction above 0, or --patience None")
    train, test = Data(inputs=np.arange(len(labels)), labels=np.array(labels)).split(0.2)
    train, validation = train.split(config.validation) if config.validation else (train, None)
    rows = [part["inputs"] for part in (train, validation, test) if part is not None]
    return [([sentences[row] for row in part], [labels[row] for row in part]) for part in rows]


def _encoded(
    config: Config,
    file: Path,
    sentences: list[str],
    labels: list[str],
    vocabulary: tuple[str, ...],
    classes: dict[str, str],
) -> Data:
    """Return sentences and labels as data; ``classes`` are the names of the labels."""
    try:
        words = tokens.encode_words(sentences, vocabulary, config.max_words)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    named = np.array([classes.get(label, label) for label in labels])
    return Data(inputs=words, labels=named, classes=tuple(classes.values()), known={"inputs": {"classes": vocabulary}})
