"""Predict the next character of a text, and write more of it: Shakespeare, or a user's own file."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, augment, datasets, read_text, tokens
from jaxnets.errors import InputError, check_field
from jaxnets.inference.generation import categorical
from jaxnets.inference.generation import generate as generated
from jaxnets.learner import Learner, TrainState
from jaxnets.learners.sequences import autoregressive
from jaxnets.learners.supervised import supervised
from jaxnets.models import RNN, Transformer
from jaxnets.network import Network, network
from jaxnets.options.choices import CELLS, DTYPES, CellName, Precision
from jaxnets.options.generation import GenerateOptions
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer
from jaxnets.options.training import TrainingConfig
from jaxnets.options.transformer import TransformerConfig
from jaxnets.recipes.recipe import Finished, Generated, Outputs, Preset
from jaxnets.transforms.augmented import augmented
from jaxnets.transforms.averaged import averaged
from jaxnets.transforms.trimmed import windowed


@dataclass(frozen=True)
class Config:
    """A model of text, character by character."""

    data: str = "shakespeare"
    """shakespeare, or the path of a UTF-8 text file, gzipped or not"""
    data_dir: Path | None = None
    """where shakespeare's input.txt is; else JAXNETS_DATA, else the cache folder, into which it is fetched"""
    validation: float = 0.1
    """fraction of the text, its end, that is held out"""
    window: int = 128
    """characters that a training example predicts, and through which gradients run; the most that a transformer sees"""
    model: Literal["rnn", "transformer"] = "rnn"
    """the family: a recurrent network, or a causal transformer (GPT)"""
    cell: CellName = "lstm"
    """the recurrent cell: rnn (Elman), lstm or gru (rnn)"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the recurrent layers (rnn)"""
    embedding: int = 64
    """width of a character's embedding (rnn)"""
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """how large a transformer"""
    dropout: float = 0.1
    """probability that a feature is dropped in training"""
    precision: Precision = "float32"
    """dtype of the network's arithmetic; weights, states and losses are float32 in both"""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """how long, in which batches"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        check_field(self, "validation", 0 < self.validation < 1, "in (0, 1): the end of the text is held out")
        for name in ("window", "embedding"):
            check_field(self, name, getattr(self, name) >= 1, "1 or more")
        check_field(self, "hidden", min(self.hidden, default=0) >= 1, "widths of 1 or more")


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
    "shakespeare-gpt": Preset(_GPT, "the same by a transformer, at nanoGPT's size for CPUs"),
    "shakespeare-lstm": Preset(_SHAKESPEARE, "characters of Shakespeare's plays (--cell gru, --cell rnn)"),
}


def load(config: Config) -> Splits:
    """Return the text as stretches of characters; every character of its held-out end is predicted exactly once."""
    if config.data == "shakespeare":
        (path,) = datasets.located("tinyshakespeare", datasets.SHAKESPEARE, config.data_dir).values()
    else:
        path = datasets.find_file(config.data, "a text file", ["shakespeare"])
    text = read_text(path)
    vocabulary = tokens.characters(text)
    encoded = tokens.encode_characters(text, vocabulary)
    cut = round(len(encoded) * (1 - config.validation))
    held_out, mask = tokens.contexts(encoded, cut, config.window)
    known = {"inputs": {"classes": vocabulary, "shape": (config.window,)}}
    train = Data(inputs=tokens.windows(encoded[:cut], config.window), known=known)
    return Splits(train, Data(inputs=held_out, mask=mask, known=known))


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for text with the vocabulary of ``spec``."""
    model = _model(config, len(spec["inputs"].classes))
    tx = make_optimizer(config.optimizer, config.training.num_steps(spec.num_examples))
    options = {"accumulate": config.optimizer.accumulate}
    learner = supervised(model, losses.softmax_cross_entropy, tx, {"accuracy": losses.accuracy}, **options)
    learner = autoregressive(learner)
    if config.model == "transformer":  # it has no room for what stands before a window; a recurrent network reads it
        learner = windowed(learner, config.window + 1)
    learner = augmented(learner, augment.crop(config.window + 1))
    return averaged(learner, config.optimizer.average) if config.optimizer.average else learner


def _model(config: Config, size: int) -> Network:
    """Return the network over a vocabulary of so many characters."""
    options: dict[str, Any] = {"dropout": config.dropout, "dtype": DTYPES[config.precision]}
    if config.model == "rnn":
        options |= {"cell": CELLS[config.cell], "embedding": config.embedding}
        return network(RNN, size, config.hidden, size, **options)
    options |= {"max_length": config.window, "positions": config.transformer.positions, "tied": True, "use_bias": False}
    return network(Transformer, size, *config.transformer.sizes, size, tokens=True, causal=True, **options)


def predict(config: Config, spec: Spec, given: Sequence[str], outputs: Outputs) -> list[dict[str, Any]]:
    """Return how likely the model finds each text: nats a character, and the perplexity.

    A transformer reads it window by window, as in validation: each character from those of its own window.
    """
    rows = []
    for text in given:
        encoded = tokens.encode_characters(text, spec["inputs"].classes)
        if len(encoded) < 2:
            raise InputError(f"{text!r} is too short to judge: give two characters or more")
        length = config.window if config.model == "transformer" else len(encoded)
        logs = []
        for start in range(0, len(encoded) - 1, length):
            part = encoded[start : start + length + 1]
            (probability,) = outputs(part[None, :-1], link=jax.nn.softmax)
            logs.append(np.log(probability[np.arange(len(part) - 1), part[1:]]))
        loss = -float(np.concatenate(logs).mean())
        rows.append({"text": text, "loss": loss, "perplexity": float(np.exp(loss))})
    return rows


def generate(config: Config, spec: Spec, learner: Learner, state: TrainState, options: GenerateOptions) -> Generated:
    """Return the prompt and what the model makes follow it, also written to ``options.out`` (.txt)."""
    vocabulary = spec["inputs"].classes
    prompt = options.prompt or ("\n" if "\n" in vocabulary else vocabulary[0])
    encoded = jnp.asarray(tokens.encode_characters(prompt, vocabulary))[None]
    key, draw = jax.random.key(options.seed), categorical(options.temperature, top_k=options.top_k, top_p=options.top_p)
    (drawn,) = np.asarray(generated(learner, state, encoded, options.length or 500, key, draw))
    text = options.prompt + "".join(vocabulary[token] for token in drawn)
    files = options.files(".txt")
    for file in files:
        file.write_text(text, encoding="utf-8")
    return Generated(text, files)


def finish(config: Config, splits: Splits, learner: Learner, states: Sequence[TrainState], folder: Path) -> Finished:
    """Write samples at three temperatures to the run's folder."""
    samples = []
    for temperature in (0.5, 0.8, 1.0):
        options = GenerateOptions(temperature=temperature, length=1000)
        drawn = generate(config, splits.train.spec, learner, states[0], options)
        samples.append(f"--- temperature {temperature}\n{drawn.text}\n\n")
    (folder / "samples.txt").write_text("".join(samples), encoding="utf-8")
    return Finished()
