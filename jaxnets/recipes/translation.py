"""Translate sentences: Multi30k's image captions, or a user's own parallel files."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, datasets, subwords, tokens
from jaxnets.errors import InputError, check_field
from jaxnets.inference.generation import beam_search
from jaxnets.learner import Learner, TrainState
from jaxnets.learners.sequences import sequence_to_sequence
from jaxnets.learners.supervised import supervised
from jaxnets.models import EncoderDecoder, SourceTarget
from jaxnets.network import network
from jaxnets.options.choices import DTYPES, Precision
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer
from jaxnets.options.training import TrainingConfig
from jaxnets.options.transformer import TransformerConfig
from jaxnets.recipes.recipe import Finished, Outputs, Preset
from jaxnets.transforms.averaged import averaged
from jaxnets.transforms.trimmed import trimmed

_PARTS = ("train", "val", "test_2016_flickr")
_LENGTHS = (12, 16, 20, 24, 32, 44)  # of batches, for each of which a step is compiled
_TOGETHER = 50  # sentences that are translated at once
_CLITIC = {"en": r"'\w+|", "fr": r"\w+'|"}  # what Multi30k splits off with its apostrophe, by language
_SIGNS = str.maketrans("\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019\u2013\u2014", '"""""\'\'--')  # to keyboards' own


@dataclass(frozen=True)
class Config:
    """A translator of sentences, trained from scratch on parts of words."""

    data: str = "multi30k"
    """multi30k, or a folder of train.SOURCE, train.TARGET, val.* and test.*, a sentence a line"""
    data_dir: Path | None = None
    """where multi30k's files are; else JAXNETS_DATA, else the cache folder, into which they are fetched"""
    source: str = "en"
    """the language that is read: the suffix of its files"""
    target: str = "de"
    """the language that is written"""
    vocabulary: int = 6000
    """parts of words, of both languages together"""
    max_tokens: int = 72
    """the longest sentence that is taken, in parts of words, its ends included"""
    transformer: TransformerConfig = field(
        default_factory=lambda: TransformerConfig(num_layers=3, model_dim=192, positions="sinusoidal")
    )
    """how large encoder and decoder are"""
    dropout: float = 0.3
    """probability that a number is dropped in training"""
    label_smoothing: float = 0.1
    """part of each label that is spread over all parts of words, in the losses reported as well"""
    num_beams: int = 4
    """translations that are followed up at once in search of the best"""
    length_penalty: float = 1.5
    """how much longer translations are preferred; 0 is not at all"""
    precision: Precision = "float32"
    """dtype of the network's arithmetic; weights and losses are float32 in both"""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """how long, in which batches"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("dropout", "label_smoothing"):
            check_field(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name, least in {"vocabulary": 300, "max_tokens": 3, "num_beams": 1}.items():
            check_field(self, name, getattr(self, name) >= least, f"{least} or more")
        check_field(self, "target", self.target != self.source, "another language than the source's")
        check_field(self, "length_penalty", 0 <= self.length_penalty < float("inf"), "0 or more")


_MULTI30K = Config(
    training=TrainingConfig(duration="20ep", batch_size=128),
    optimizer=OptimizerConfig("muon", learning_rate=1e-2, adam_rate=2e-3, momentum=0.95, warmup=300, average=0.999),
)
PRESETS = {"translate": Preset(_MULTI30K, "English to German: captions of pictures (--source de --target en)")}


def load(config: Config) -> Splits:
    """Return pairs of sentences as parts of words, which are those of the training data."""
    _bleu([""], [""])  # to know before the training that it can be measured
    parts = _files(config)
    texts = [tokens.parallel_lines(*paths) for paths in parts]
    tokenizer = subwords.learn_subwords((line for side in texts[0] for line in side), config.vocabulary)
    train, validation, test = (
        _encoded(config, paths, sides, tokenizer) for paths, sides in zip(parts, texts, strict=True)
    )
    return Splits(train, validation.take(np.argsort(validation["lengths"], kind="stable")), test)


def _files(config: Config) -> list[list[Path]]:
    """Return the files of both languages: for training, validation and test."""
    sides = (config.source, config.target)
    if config.data == "multi30k":
        files = {f"{part}.{side}": datasets.MULTI30K.get(f"{part}.{side}") for part in _PARTS for side in sides}
        unknown = [name for name, remote in files.items() if remote is None]
        if unknown:
            raise InputError(f"multi30k has no {', '.join(unknown)}; its languages are en, de and fr")
        paths = datasets.located("multi30k", {name: datasets.MULTI30K[name] for name in files}, config.data_dir)
        parts = [[paths[f"{part}.{side}"] for side in sides] for part in _PARTS]
    else:
        folder = datasets.find_file(config.data, "a folder of parallel files", ["multi30k"])
        parts = [[folder / f"{part}.{side}" for side in sides] for part in ("train", "val", "test")]
    return parts


def example(spec: Spec) -> SourceTarget:
    """Return shapes and dtypes of one pair: of the target, all tokens but the last are given."""
    source: Any = spec["inputs"].example
    target: Any = jax.ShapeDtypeStruct((spec["targets"].shape[0] - 1,), np.int32)
    return SourceTarget(source, target)


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
        dtype=DTYPES[config.precision],
    )
    tx = make_optimizer(config.optimizer, config.training.num_steps(spec.num_examples))
    loss = partial(losses.softmax_cross_entropy, label_smoothing=config.label_smoothing)
    options = {"accumulate": config.optimizer.accumulate}
    learner = supervised(model, loss, tx, {"accuracy": losses.accuracy}, **options)
    lengths = [length for length in _LENGTHS if length < config.max_tokens] or [config.max_tokens]
    learner = trimmed(sequence_to_sequence(learner, subwords.PADDING), subwords.PADDING, lengths)
    return averaged(learner, config.optimizer.average) if config.optimizer.average else learner


def predict(config: Config, spec: Spec, given: Sequence[str], outputs: Outputs) -> list[dict[str, Any]]:
    """Return the translation of each sentence, by the first seed."""
    learner, state = outputs.first
    captions, tokenizer = config.data == "multi30k", spec["inputs"].tokenizer
    split = [_split(text, config.source) if captions else " ".join(text.split()) for text in given]
    rows = []
    for text, words, found in zip(given, split, _translations(config, spec, learner, state, split), strict=True):
        unknown = subwords.unknown_characters(words, tokenizer)
        translation = html.unescape(found) if captions else found
        rows.append({"sentence": text, "translation": translation, "unknown characters": unknown})
    return rows


def _split(sentence: str, language: str) -> str:
    """Return a sentence as Multi30k's are written: lower-cased, punctuation apart, quotation marks by their names."""
    word = rf"{_CLITIC.get(language, '')}\d+(?:[.,]\d+)+|(?:[^\W\d_]\.){{2,}}|\w+(?:-\w+)*|[^\w\s]"
    words = re.findall(word, sentence.lower().translate(_SIGNS))
    return " ".join(html.escape(word).replace("&#x27;", "&apos;") for word in words)


def finish(config: Config, splits: Splits, learner: Learner, states: Sequence[TrainState], folder: Path) -> Finished:
    """Translate the test sentences, and score them by BLEU (sacrebleu, on the tokens as they are)."""
    spec = splits.train.spec
    sources, wanted = tokens.parallel_lines(*_files(config)[2])
    scores = []
    for number, state in enumerate(states):
        translated = _translations(config, spec, learner, state, sources)
        scores.append(_bleu(translated, wanted))
        if number == 0:
            rows = zip(sources, translated, wanted, strict=True)
            text = "".join(f"{config.source}  {a}\n{config.target}  {b}\nreal  {c}\n\n" for a, b, c in rows)
            (folder / "translations.txt").write_text(text, encoding="utf-8")
    return Finished({"test/BLEU": scores})


def _bleu(translated: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the BLEU of sentences of words with spaces between them."""
    try:
        from sacrebleu import corpus_bleu  # noqa: PLC0415  (an extra)
    except ImportError:
        raise InputError("BLEU needs the sacrebleu library: pip install 'jaxnets[translation]'") from None
    return corpus_bleu(list(translated), [list(wanted)], tokenize="none", force=True).score


def _translations(
    config: Config, spec: Spec, learner: Learner, state: TrainState, sentences: Sequence[str]
) -> list[str]:
    """Return the translations that a beam search finds, of sentences of words with spaces between them."""
    tokenizer = spec["inputs"].tokenizer
    sources = subwords.encode_subwords(sentences, tokenizer, config.max_tokens, start=False)
    counts = (sources != subwords.PADDING).sum(1)
    order = np.argsort(counts, kind="stable")
    translated = np.full((len(sentences), config.max_tokens - 1), subwords.END, np.int32)
    lengths = np.array([*(length for length in _LENGTHS if length < config.max_tokens), config.max_tokens])
    for start in range(0, len(order), _TOGETHER):
        rows = order[start : start + _TOGETHER]
        length = int(lengths[np.searchsorted(lengths, counts[rows].max())])  # few lengths: few compilations
        padded = np.resize(rows, min(_TOGETHER, len(order)))  # the last few, over again
        starts = jnp.full((len(padded), 1), subwords.START, jnp.int32)
        prompt = SourceTarget(jnp.asarray(sources[padded, :length]), starts)
        options = {"num_beams": config.num_beams, "length_penalty": config.length_penalty}
        found = beam_search(learner, state, prompt, config.max_tokens - 1, end=subwords.END, **options)
        translated[rows] = np.asarray(found.tokens[: len(rows), 0])
    return subwords.decode_subwords(translated, tokenizer)


def _encoded(config: Config, paths: Sequence[Path], sides: Sequence[Sequence[str]], tokenizer: str) -> Data:
    """Return pairs of sentences as data; their lengths are what batches are made by."""
    arrays = {}
    for name, path, lines in zip(("inputs", "targets"), paths, sides, strict=True):
        try:
            arrays[name] = subwords.encode_subwords(lines, tokenizer, config.max_tokens, start=name == "targets")
        except InputError as error:
            raise InputError(f"{path}: {error}; use a larger --max-tokens") from error
    lengths = np.maximum(*((array != subwords.PADDING).sum(1) for array in arrays.values()))
    return Data(**arrays, lengths=lengths, known={"inputs": {"tokenizer": tokenizer}})
