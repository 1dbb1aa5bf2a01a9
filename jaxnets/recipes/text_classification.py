"""Classify sentences: the sentiment of film reviews, or a user's own labels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, augment, subwords, tokens
from jaxnets.data.labelled_texts import label_names, label_rows
from jaxnets.data.names import spelled
from jaxnets.data.tokens import Sentences
from jaxnets.data.word_vectors import read_word_vectors
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Initial, Learner
from jaxnets.learners import supervised
from jaxnets.metrics import binary_accuracy
from jaxnets.metrics.labels import exact_match, label_f1
from jaxnets.models import RNN, Transformer
from jaxnets.network import Network, network
from jaxnets.options import (
    ClassMetrics,
    OptimizerConfig,
    PretrainedConfig,
    SentenceData,
    TokenRecurrentConfig,
    TrainingConfig,
    TransformerConfig,
    only,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset, Start
from jaxnets.tasks.classes import classes
from jaxnets.tasks.sentences import explained, reading_sentences, reading_tokens
from jaxnets.tasks.several import several_labels
from jaxnets.tasks.task import NoOptions, Task
from jaxnets.transforms import augmented, trimmed
from jaxnets.weights.layout import Layout
from jaxnets.weights.pretrained import layout_of


@dataclass(frozen=True)
class Config:
    """A classifier of sentences, trained from scratch on words."""

    sentences: SentenceData = SentenceData()
    """what is classified"""
    min_count: int = only(2, model=("rnn", "transformer"))
    """words that the training data hold less often are unknown"""
    embeddings: Path | None = only(None, model=("rnn", "transformer"))
    """vectors of words to begin from: GloVe's .txt, a .vec, or an .npy with the words in a .txt beside; they learn,
    unless --freeze "embed/**" keeps them as they are"""
    max_words: int = 64
    """the longest sentence that is taken; of pretrained weights, the tokens after which it is cut"""
    model: Literal["rnn", "transformer", "pretrained"] = "rnn"
    """the family: a recurrent network, a transformer, or a transformer with pretrained weights and their tokens"""
    pretrained: PretrainedConfig = only(PretrainedConfig(), model=("pretrained",))
    """which weights, and how much of them learns (pretrained)"""
    recurrent: TokenRecurrentConfig = only(TokenRecurrentConfig(), model=("rnn",))
    """how large a recurrent network (rnn)"""
    bidirectional: bool = only(True, model=("rnn",))
    """read each sentence in both directions (rnn)"""
    transformer: TransformerConfig = only(TransformerConfig(), model=("transformer",))
    """how large a transformer (transformer)"""
    pool: Literal["last", "max", "mean"] = only("max", model=("rnn", "transformer"))
    """what stands for a sentence: the last state (rnn), the largest outputs over time, or their mean"""
    dropout: float = 0.5
    """probability that a feature is dropped in training"""
    word_dropout: float = only(0.0, model=("rnn", "transformer"))
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
        if self.model == "pretrained":
            self.pretrained.check_kind("sentences")
            most = self.pretrained.card.config["max_position_embeddings"]
            check_field(self, "max_words", 3 <= self.max_words <= most, f"3 to {most}, the ends of a sentence included")
        if self.model == "transformer" and self.pool == "last":
            raise InputError("pool='last' is a recurrent network's last state; use --pool max or --pool mean")
        if self.sentences.several is not None:
            for name, usual in (("class_weights", "alike"), ("metrics", ClassMetrics())):
                if getattr(self, name) != usual:
                    raise InputError(f"{name} are of classes, and with --several a text has labels; leave {name} out")
        if self.embeddings is not None:  # a run may go on from elsewhere
            object.__setattr__(self, "embeddings", self.embeddings.absolute())


_SST2 = Config(
    word_dropout=0.15,
    training=TrainingConfig(duration="6ep", batch_size=50, evaluate_every="35", patience=100),
    optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2),
)
_SST2_TRANSFORMER = replace(_SST2, model="transformer", transformer=TransformerConfig(num_layers=2))
_MINILM = Config(
    model="pretrained",
    dropout=0.1,
    max_words=64,
    training=TrainingConfig(duration="3ep", batch_size=32, evaluate_every="100"),
    optimizer=OptimizerConfig(learning_rate=1.5e-4, weight_decay=1e-2, warmup=50, average=0.99),
)
_TEXT = replace(_SST2, max_words=256)
PRESETS = {
    "sentiment-gru": Preset(_SST2, "positive or negative: sentences of film reviews (SST-2)"),
    "sentiment-transformer": Preset(_SST2_TRANSFORMER, "the same by a transformer"),
    "sentiment-minilm": Preset(_MINILM, "the same by pretrained weights, MiniLM's, fine-tuned"),
    "text": Preset(_TEXT, "texts of one's own: --data FILE|FOLDER, .csv, .tsv, .jsonl or CLASS/x.txt"),
}


def load(config: Config) -> Splits:
    """Return the sentences as numbers; vocabulary and classes are those of the training data, or of the weights."""
    parts = config.sentences.load()
    if config.sentences.several is None:
        names = tuple(sorted(set(map(spelled, parts["train"].labels))))
    else:
        names = label_names(parts["train"].labels, config.sentences.several)
    found = _in_tokens(config, parts, names) if config.model == "pretrained" else _in_words(config, parts, names)
    splits = Splits(found["train"], found.get("validation"), found["test"])
    return splits.balanced() if config.class_weights == "balanced" else splits


def _in_words(config: Config, parts: Mapping[str, Sentences], names: tuple[str, ...]) -> dict[str, Data]:
    vocabulary = tokens.word_vocabulary(parts["train"].texts, config.min_count)
    if len(vocabulary) == len(tokens.word_vocabulary([])):
        raise InputError(f"min_count={config.min_count}: no word occurs so often; use less")

    def encoded(part: str, found: Sentences) -> Data:
        try:
            words = tokens.encode_words(found.texts, vocabulary, config.max_words)
        except InputError as error:
            raise InputError(f"{config.sentences.data}, {part}: {error}") from error
        return _labelled(config, found, names, {"classes": vocabulary}, inputs=words)

    return {part: encoded(part, sentences) for part, sentences in parts.items()}


def _in_tokens(config: Config, parts: Mapping[str, Sentences], names: tuple[str, ...]) -> dict[str, Data]:
    tokenizer = config.pretrained.tokenizer()

    def encoded(found: Sentences) -> Data:
        rows = subwords.encode_sentences(found.texts, tokenizer, config.max_words)
        rows = np.pad(rows, ((0, 0), (0, config.max_words - rows.shape[1])))
        lengths = (rows != subwords.PADDING).sum(1)
        return _labelled(config, found, names, {"tokenizer": tokenizer}, inputs=rows, lengths=lengths)

    data = {part: encoded(sentences) for part, sentences in parts.items()}
    if not config.pretrained.frozen_features:
        return data
    model = config.pretrained.read()
    return {part: config.pretrained.featured(model, found) for part, found in data.items()}


def _labelled(config: Config, found: Sentences, names: tuple[str, ...], known: dict[str, Any], **arrays: Any) -> Data:
    """Return texts, as arrays, with the class of each, or with 0 and 1 for the labels that it has, [N, labels]."""
    several = config.sentences.several
    if several is None:
        return Data(labels=found.labels, classes=names, known={"inputs": known}, **arrays)
    labels = label_rows(found.labels, several, names)
    return Data(labels=labels, known={"inputs": known, "labels": {"features": names}}, **arrays)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for sentences with the vocabulary and the classes, or labels, of ``spec``."""
    num_classes = len(_names(spec))
    several = config.sentences.several is not None
    loss = losses.sigmoid_cross_entropy if several else losses.softmax_cross_entropy
    of_labels = {"binary_accuracy": binary_accuracy, "f1": label_f1(), "exact_match": exact_match}
    metrics = of_labels if several else config.metrics.of(num_classes)

    def learning(model: Network) -> Learner:
        return supervised(model, loss, optimizer_for(config, spec), metrics)

    if config.model == "pretrained":
        learner = config.pretrained.learner(learning, out_features=num_classes, dropout=config.dropout)
        return learner if config.pretrained.frozen_features else trimmed(learner, subwords.PADDING, _lengths(config))
    learner = learning(_model(config, len(spec["inputs"].classes), num_classes))
    if config.word_dropout:
        learner = augmented(learner, augment.token_dropout(config.word_dropout, tokens.UNKNOWN, tokens.PADDING))
    return learner


def start(config: Config, spec: Spec) -> Start | None:
    """Return pretrained weights, or the vectors of the vocabulary's words, if a file of some is named."""
    if config.model == "pretrained":
        return Start(*config.pretrained.start(out_features=len(_names(spec))))
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


def layout(config: Config, spec: Spec) -> Layout | None:
    """Return how PyTorch's model names the weights, where it has the same."""
    if config.model != "pretrained":
        return None
    found = layout_of(config.pretrained.pretrained, out_features=len(_names(spec)))
    return found._replace(note="the head takes the mean over the tokens' last states: there is no pooler")


def _lengths(config: Config) -> list[int]:
    """Return the lengths that batches of tokens are cut to, beside the longest."""
    return [length for length in (16, 32) if length < config.max_words] or [config.max_words]


def _names(spec: Spec) -> tuple[str, ...]:
    """Return the names of the classes, or of the labels of which a text may have several."""
    return spec["labels"].classes or spec["labels"].features


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with sentences and their classes, or labels."""
    if config.model == "pretrained":
        read = reading_tokens(spec["inputs"].tokenizer, config.max_words)
    else:
        read = reading_sentences(spec["inputs"].classes, config.max_words)
    several = config.sentences.several is not None
    return explained(several_labels(spec, read) if several else classes(spec, read, NoOptions()))
