"""Recognise speech: one word a recording, or strings of words (CTC): spoken digits, or a user's own recordings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits
from jaxnets.data.speech import PADDING, Recordings, filled_up
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import supervised
from jaxnets.metrics import ctc_tokens, token_error_rate
from jaxnets.models import BothWays, Conformer, Listener, TimeConvs
from jaxnets.network import network
from jaxnets.options import (
    Arithmetic,
    ConformerConfig,
    Hearing,
    OptimizerConfig,
    RecurrentConfig,
    SpeechData,
    StringConfig,
    TrainingConfig,
    only,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.speech import BREAK, spoken_words, transcripts
from jaxnets.tasks.task import Task
from jaxnets.transforms import trimmed

BLANK = "<blank>"
_SHARES = (0.35, 0.6)  # of the longest recording, to which batches are cut; a step is compiled for each
_SEQUENCES = ("strings", "text")


@dataclass(frozen=True)
class Config:
    """A small recogniser of speech."""

    speech: SpeechData = SpeechData()
    """what is listened to"""
    output: Literal["word", "strings", "text"] = "word"
    """word: each recording is of one word, strings: such recordings are joined to strings, text: each recording is of
    several words"""
    strings: StringConfig = only(StringConfig(), output=("strings",))
    """how recordings are joined (strings)"""
    units: Literal["words", "characters"] = only("words", output=_SEQUENCES)
    """what is written one after another (strings, text)"""
    hearing: Hearing = Hearing()
    """what the network hears"""
    features: tuple[int | Literal["pool"], ...] = (24, "pool", 48, "pool")
    """channels of each convolution over the spectrogram, and pool for a 2x2 max-pooling"""
    model: Literal["cnn", "gru", "conformer"] = "cnn"
    """what follows over time: convolutions, recurrent layers in both directions, or a Conformer"""
    widths: tuple[int, ...] = only((128, 128), model=("cnn",))
    """widths of the convolutions over time (cnn)"""
    recurrent: RecurrentConfig = only(RecurrentConfig(), model=("gru",))
    """what the recurrent layers are made of (gru)"""
    conformer: ConformerConfig = only(ConformerConfig(), model=("conformer",))
    """how large a Conformer (conformer)"""
    dropout: float = 0.2
    """probability that a number is dropped in training: of the encoder's outputs, and inside a Conformer"""
    num_beams: int = only(8, output=_SEQUENCES)
    """sequences that are followed up at once in search of the likeliest (strings, text)"""
    arithmetic: Arithmetic = Arithmetic()
    """what the network computes with"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        check_field(self, "num_beams", 1 <= self.num_beams <= 1000, "1 to 1000")
        for name in ("features", "widths"):
            widths = [width for width in getattr(self, name) if width != "pool"]
            check_field(self, name, min(widths, default=0) >= 1, "widths of 1 or more, one at least")

    @property
    def stride(self) -> int:
        """Frames of the spectrogram in one of the network's outputs."""
        return 2 ** self.features.count("pool")

    def encoder(self) -> Callable[..., Any]:
        """Return what makes the module over time."""
        match self.model:
            case "gru":
                return partial(BothWays, widths=self.recurrent.hidden, **self.recurrent.options())
            case "conformer":
                width, layers, heads = self.conformer.sizes
                sizes = {"model_dim": width, "num_layers": layers, "num_heads": heads}
                return partial(Conformer, dropout=self.dropout, **sizes)
        return partial(TimeConvs, widths=self.widths)


_WORDS = Config(
    hearing=Hearing(dynamic_range=40.0),
    features=(24, "pool", 48, "pool", 64, "pool"),
    training=TrainingConfig(duration="30ep", batch_size=64, evaluate_every="2ep"),
    optimizer=OptimizerConfig(learning_rate=3e-3, weight_decay=1e-2, warmup=50, average=0.99),
)
_STRINGS = replace(
    _WORDS,
    output="strings",
    hearing=Hearing(),
    features=(24, "pool", 48, "pool"),
    model="gru",
    training=TrainingConfig(duration="8ep", batch_size=32, evaluate_every="1ep"),
)
PRESETS = {
    "spoken-digits": Preset(_WORDS, "which digit is said: recordings of six speakers (--hold-out theo: never heard)"),
    "digit-strings": Preset(_STRINGS, "which digits are said, and when: strings of 3 to 7 of these recordings"),
}


def load(config: Config) -> Splits:
    """Return recordings as samples, and what is said in them as numbers."""
    parts = config.speech.load()
    if config.output == "word":
        names = sorted(set(parts["train"].texts))
        return _splits(parts, lambda found: {"labels": found.texts}, names)
    if config.output == "strings":
        parts = config.strings.joined(parts, config.speech.rate)
    names = [BLANK, *sorted({unit for text in parts["train"].texts for unit in _units(config, text)})]
    tokens = {part: [_tokens(config, names, part, text) for text in found.texts] for part, found in parts.items()}
    for part, found in parts.items():
        for name, samples, row in zip(found.names, found.samples, tokens[part], strict=True):
            _check_frames(config, name, len(samples), row)
    most = max(len(row) for rows in tokens.values() for row in rows)
    labels = {id(parts[part]): filled_rows(rows, most) for part, rows in tokens.items()}
    return _splits(parts, lambda found: {"labels": labels[id(found)]}, names)


def _splits(
    parts: Mapping[str, Recordings], labelled: Callable[[Recordings], dict[str, Any]], names: Sequence[str]
) -> Splits:
    """Return the parts as data, held-out ones from short to long: batches of like lengths are cut to them."""
    longest = max(len(samples) for found in parts.values() for samples in found.samples)
    known = {"inputs": {"mean": (0.0,), "std": (1.0,)}}
    data = {}
    for part, found in parts.items():
        lengths = np.array([len(samples) for samples in found.samples])
        rows = filled_up(found.samples, longest)
        data[part] = Data(inputs=rows, lengths=lengths, classes=names, known=known, **labelled(found))
        if part != "train":
            data[part] = data[part].take(np.argsort(lengths, kind="stable"))
    return Splits(data["train"], data.get("validation"), data.get("test"))


def filled_rows(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """Return tokens as rows of one length, [N, length] int32, with blanks behind."""
    filled = np.zeros((len(rows), length), np.int32)
    for row, tokens in zip(filled, rows, strict=True):
        row[: len(tokens)] = tokens
    return filled


def _units(config: Config, text: str) -> Sequence[str]:
    return text.split() if config.units == "words" else text.replace(" ", BREAK)


def _tokens(config: Config, names: Sequence[str], part: str, text: str) -> list[int]:
    try:
        return [names.index(unit, 1) for unit in _units(config, text)]
    except ValueError:
        unknown = next(unit for unit in _units(config, text) if unit not in names[1:])
        remedy = "; use --units characters" if config.units == "words" else ""
        raise InputError(
            f"{config.speech.data}, {part}: {unknown!r} of {text!r} is in no transcript that is trained on{remedy}"
        ) from None


def _check_frames(config: Config, name: str, length: int, tokens: Sequence[int]) -> None:
    """Check that a recording has frames enough for CTC to say all that it says."""
    needed = losses.ctc_frames(tokens)
    there = config.hearing.frames(length, config.speech.rate, config.stride)
    if there < needed:
        raise InputError(
            f"{name}: {len(tokens)} {config.units} (and blanks between repeats: {needed}) are more than the {there} "
            f"frames of {1000 * config.hearing.hop * config.stride:g} ms that its {length / config.speech.rate:.2f} s "
            "have at the greatest --speed; correct the transcript, or use a shorter --hop or fewer poolings"
        )


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for recordings like those of ``spec``."""
    framewise = config.output != "word"
    model = network(
        Listener,
        len(spec["labels"].classes),
        config.speech.rate,
        config.encoder(),
        config.features,
        framewise=framewise,
        dropout=config.dropout,
        padding=PADDING,
        dtype=config.arithmetic.dtype,
        **config.hearing.options(),
    )
    if framewise:
        name = "wer" if config.units == "words" else "cer"
        learner = supervised(model, losses.ctc, optimizer_for(config, spec), {name: token_error_rate(ctc_tokens)})
    else:
        metrics = {"accuracy": losses.accuracy}
        learner = supervised(model, losses.softmax_cross_entropy, optimizer_for(config, spec), metrics)
    longest = spec["inputs"].shape[0]
    least = round(config.hearing.hop * config.speech.rate) * config.stride  # samples of one frame of the output
    return trimmed(config.hearing.around(learner), PADDING, sorted({max(least, int(s * longest)) for s in _SHARES}))


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with words, or with their probabilities in each frame."""
    if config.output == "word":
        return spoken_words(spec, config.speech.rate)
    frame = config.hearing.hop * config.stride
    return transcripts(spec, config.speech.rate, frame, config.units == "characters", config.num_beams)
