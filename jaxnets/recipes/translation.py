"""Translate sentences: Multi30k's image captions, or a user's own parallel files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, subwords
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import sequence_to_sequence, supervised
from jaxnets.models import EncoderDecoder
from jaxnets.network import network
from jaxnets.options import (
    Arithmetic,
    OptimizerConfig,
    TrainingConfig,
    TransformerConfig,
    TranslationData,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.task import Task
from jaxnets.tasks.translations import bleu, translations
from jaxnets.transforms import trimmed

_LENGTHS = (12, 16, 20, 24, 32, 44)  # of batches, for each of which a step is compiled


_MOST = 1_000_000  # tokens and beams, for which a library asks for memory at once


@dataclass(frozen=True)
class Config:
    """A translator of sentences, trained from scratch on parts of words."""

    pairs: TranslationData = TranslationData()
    """what is translated"""
    vocabulary: int = 6000
    """parts of words, of both languages together"""
    max_tokens: int = 72
    """the longest sentence that is taken, in parts of words, its ends included"""
    transformer: TransformerConfig = TransformerConfig(num_layers=3, model_dim=192, positions="sinusoidal")
    """how large encoder and decoder are"""
    dropout: float = 0.3
    """probability that a number is dropped in training"""
    label_smoothing: float = 0.1
    """part of each label that is spread over all parts of words, in the losses reported as well"""
    num_beams: int = 4
    """translations that are followed up at once in search of the best"""
    length_penalty: float = 1.5
    """how much longer translations are preferred; 0 is not at all"""
    arithmetic: Arithmetic = Arithmetic()
    """what the network computes with"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("dropout", "label_smoothing"):
            check_field(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name, least in {"vocabulary": 300, "max_tokens": 3, "num_beams": 1}.items():
            check_field(self, name, least <= getattr(self, name) <= _MOST, f"{least} to {_MOST:,}")
        check_field(self, "length_penalty", 0 <= self.length_penalty < float("inf"), "0 or more")

    @property
    def lengths(self) -> list[int]:
        """Lengths that batches are cut to, rising, but for the longest."""
        return [length for length in _LENGTHS if length < self.max_tokens]


_MULTI30K = Config(
    training=TrainingConfig(duration="20ep", batch_size=128),
    optimizer=OptimizerConfig("muon", learning_rate=1e-2, adam_rate=2e-3, momentum=0.95, warmup=300, average=0.999),
)
PRESETS = {"translate": Preset(_MULTI30K, "English to German: captions of pictures (--source de --target en)")}


def load(config: Config) -> Splits:
    """Return pairs of sentences as parts of words, which are those of the training data."""
    bleu([""], [""])  # to know before the training that it can be measured
    parts = config.pairs.load()
    tokenizer = subwords.learn_subwords((line for side in parts["train"] for line in side), config.vocabulary)
    train, validation, test = (
        _encoded(config, part, parts[part], tokenizer) for part in ("train", "validation", "test")
    )
    return Splits(train, validation.take(np.argsort(validation["lengths"], kind="stable")), test)


def _encoded(config: Config, part: str, sides: Sequence[Sequence[str]], tokenizer: str) -> Data:
    """Return pairs of sentences as data; their lengths are what batches are made by."""
    arrays = {}
    languages = (config.pairs.source, config.pairs.target)
    for name, language, lines in zip(("inputs", "targets"), languages, sides, strict=True):
        try:
            arrays[name] = subwords.encode_subwords(lines, tokenizer, config.max_tokens, start=name == "targets")
        except InputError as error:
            raise InputError(f"{config.pairs.data}, {part}.{language}: {error}; use a larger --max-tokens") from error
    lengths = np.maximum(*((array != subwords.PADDING).sum(1) for array in arrays.values()))
    return Data(**arrays, lengths=lengths, known={"inputs": {"tokenizer": tokenizer}})


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for sentences that the tokenizer of ``spec`` cuts."""
    model = network(
        EncoderDecoder,
        subwords.num_subwords(spec["inputs"].tokenizer),
        *config.transformer.sizes,
        max_length=config.max_tokens,
        padding=subwords.PADDING,
        positions=config.transformer.positions,
        dropout=config.dropout,
        kernel_init=jax.nn.initializers.normal(config.transformer.model_dim**-0.5),
        dtype=config.arithmetic.dtype,
    )
    loss = partial(losses.softmax_cross_entropy, label_smoothing=config.label_smoothing)
    learner = supervised(model, loss, optimizer_for(config, spec), {"accuracy": losses.accuracy})
    learner = sequence_to_sequence(learner, subwords.PADDING)
    return trimmed(learner, subwords.PADDING, config.lengths or [config.max_tokens])


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with translations."""
    return translations(
        spec,
        search={"num_beams": config.num_beams, "length_penalty": config.length_penalty},
        lengths=[*config.lengths, config.max_tokens],
        languages=(config.pairs.source, config.pairs.target),
        captions=config.pairs.data == "multi30k",
        test=lambda: config.pairs.load()["test"],
    )
