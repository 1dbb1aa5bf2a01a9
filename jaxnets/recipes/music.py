"""Predict the next chord of a piece, and compose: Bach's chorales, or a user's own pieces."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, augment, datasets, music
from jaxnets.errors import InputError, check_field
from jaxnets.inference.generation import bernoulli
from jaxnets.inference.generation import generate as generated
from jaxnets.learner import Learner, TrainState
from jaxnets.learners.sequences import autoregressive
from jaxnets.learners.supervised import supervised
from jaxnets.models import RNN
from jaxnets.network import network
from jaxnets.options.choices import CELLS, CellName
from jaxnets.options.generation import GenerateOptions
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer
from jaxnets.options.training import TrainingConfig
from jaxnets.recipes.recipe import Finished, Generated, Outputs, Preset
from jaxnets.runs import plots
from jaxnets.transforms.augmented import augmented
from jaxnets.transforms.averaged import averaged


@dataclass(frozen=True)
class Config:
    """A model of music: the keys that sound next, given all that sounded before."""

    data: str = "chorales"
    """chorales, or the path of a JSON file: {"train": [[[pitch, ...], ...], ...], "valid": ..., "test": ...}"""
    data_dir: Path | None = None
    """where jsb-chorales-quarter.json is; else JAXNETS_DATA, else the cache folder, into which it is fetched"""
    cell: CellName = "gru"
    """the recurrent cell: rnn (Elman), lstm or gru"""
    hidden: tuple[int, ...] = (200,)
    """widths of the recurrent layers"""
    dropout: float = 0.5
    """probability that a feature is dropped in training"""
    transpose: int = 0
    """augmentation: move each piece up or down by up to so many semitones"""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """how long, in which batches"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        check_field(self, "hidden", min(self.hidden, default=0) >= 1, "widths of 1 or more")
        check_field(self, "transpose", 0 <= self.transpose <= 12, "0 to 12 semitones")


_CHORALES = Config(
    hidden=(400,),
    dropout=0.6,
    training=TrainingConfig(duration="60ep", batch_size=16, evaluate_every="2ep", patience=8),
    optimizer=OptimizerConfig(learning_rate=1e-2, weight_decay=0.1, clip_norm=1.0, average=0.98),
)
PRESETS = {"chorales-gru": Preset(_CHORALES, "Bach's chorales, chord by chord (--cell lstm, --cell rnn)")}


def load(config: Config) -> Splits:
    """Return the pieces as frames, each behind a silent one.

    In training the first chord is predicted too; in validation and testing, as in the literature, it is only given.
    """
    if config.data == "chorales":
        (path,) = datasets.located("jsb", datasets.CHORALES, config.data_dir).values()
    else:
        path = datasets.find_file(config.data, "a JSON file of pieces", ["chorales"])
    pieces = music.read_pieces(path)
    missing = [name for name in ("train", "valid", "test") if not pieces.get(name)]
    if missing:
        raise InputError(f"{path}: has no {' and no '.join(missing)} pieces; it has {', '.join(pieces)}")
    if short := [name for name in ("valid", "test") if all(len(piece) < 2 for piece in pieces[name])]:
        raise InputError(f"{path}: no {' and no '.join(short)} piece has a second chord to predict")
    length = 1 + max(len(piece) for name in ("train", "valid", "test") for piece in pieces[name])
    parts = []
    for name in ("train", "valid", "test"):
        frames, mask = music.padded(pieces[name], length)
        if name != "train":
            mask[:, 1] = 0
        parts.append(Data(inputs=frames, mask=mask))
    return Splits(*parts)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for pieces like those of ``spec``."""
    keys = spec["inputs"].shape[-1]
    model = network(RNN, keys, config.hidden, keys, cell=CELLS[config.cell], dropout=config.dropout)
    tx = make_optimizer(config.optimizer, config.training.num_steps(spec.num_examples))
    learner = autoregressive(supervised(model, losses.bernoulli_nll, tx, accumulate=config.optimizer.accumulate))
    if config.transpose:
        learner = augmented(learner, augment.transpose(config.transpose))
    return averaged(learner, config.optimizer.average) if config.optimizer.average else learner


def predict(config: Config, spec: Spec, given: Sequence[str], outputs: Outputs) -> list[dict[str, Any]]:
    """Return the keys that are likeliest to sound after each sequence of chords, with their probabilities."""
    rows = []
    for text in given:
        frames = np.concatenate([np.zeros((1, music.KEYS), np.uint8), music.read_chords(text)])
        probability = outputs(frames[None], link=jax.nn.sigmoid)[0, -1]
        best = np.argsort(probability)[::-1][:6]
        likely = ", ".join(f"{key + music.LOWEST} ({probability[key]:.0%})" for key in best)
        rows.append({"chords": text, "next": likely})
    return rows


def generate(config: Config, spec: Spec, learner: Learner, state: TrainState, options: GenerateOptions) -> Generated:
    """Return the chords of a piece, also written to ``options.out`` (.mid and .wav)."""
    options.check_no_tokens()
    piece, files = _composed(learner, state, options)
    chords = (" ".join(str(pitch + music.LOWEST) for pitch in np.flatnonzero(frame)) for frame in piece)
    return Generated(", ".join(chords), files)


def _composed(learner: Learner, state: TrainState, options: GenerateOptions) -> tuple[np.ndarray, tuple[Path, ...]]:
    """Return a piece, [T, 88], and the files that it was written to."""
    prompt = music.read_chords(options.prompt) if options.prompt else np.zeros((0, music.KEYS), np.uint8)
    frames = jnp.asarray(np.concatenate([np.zeros((1, music.KEYS), np.uint8), prompt]))[None]
    key, draw = jax.random.key(options.seed), bernoulli(options.temperature)
    (drawn,) = np.asarray(generated(learner, state, frames, options.length or 64, key, draw))
    piece = np.concatenate([prompt, drawn])
    files = options.files(".mid", ".wav")
    for file in files:
        (music.write_midi if file.suffix == ".mid" else music.write_wav)(file, piece)
    return piece, files


def finish(config: Config, splits: Splits, learner: Learner, states: Sequence[TrainState], folder: Path) -> Finished:
    """Write a sample (sample.mid, sample.wav) and its picture beside a piece of the test set (sample.png)."""
    composed, _ = _composed(learner, states[0], GenerateOptions(out=folder / "sample", length=64))
    assert splits.test is not None
    length = int(splits.test["mask"][0].sum()) + 1
    pieces = {"composed": composed, "from the test set": splits.test["inputs"][0, 1 : length + 1][:64]}
    plots.save_piano_rolls(folder / "sample.png", pieces, music.LOWEST)
    return Finished()
