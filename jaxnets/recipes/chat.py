"""Fine-tune a model that chats on conversations: what counts is its replies alone."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import optax

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits
from jaxnets.data.conversations import Template, chat_template
from jaxnets.data.dialogues import Dialogue, encode_dialogues
from jaxnets.data.telling import tell
from jaxnets.data.unpacking import parse_json
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import autoregressive, supervised
from jaxnets.metrics import perplexity
from jaxnets.network import Network
from jaxnets.options import (
    Arithmetic,
    ConversationData,
    OptimizerConfig,
    PretrainedConfig,
    TrainingConfig,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset, Start
from jaxnets.tasks.replies import replies
from jaxnets.tasks.task import Task
from jaxnets.transforms import frozen, lora, trimmed
from jaxnets.weights.hugging_face import from_config
from jaxnets.weights.layout import Layout
from jaxnets.weights.pretrained import written

_LEAST = 64  # tokens to which batches are cut


@dataclass(frozen=True)
class Config:
    """A model that chats, with pretrained weights and their chat template, which learns from conversations."""

    conversations: ConversationData = ConversationData()
    """what it learns from"""
    context: int = 512
    """the most tokens of a conversation; a longer one ends with the last reply that has room as a whole"""
    pretrained: PretrainedConfig = PretrainedConfig("smollm2-135m", lora=8)
    """which weights, and how much of them learns"""
    dropout: float = 0.0
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
        check_field(self, "context", 2 <= self.context < 2**24, "2 or more")
        self.pretrained.check_kind("text")
        if self.pretrained.frozen_features:
            raise InputError("frozen_features are for a new head, and a model that writes has none; use --lora")


_CHAT = Config(
    training=TrainingConfig(duration="3ep", batch_size=8, evaluate_every="1ep"),
    optimizer=OptimizerConfig(learning_rate=1e-3),
)
PRESETS = {"chat": Preset(_CHAT, "conversations of one's own: --data FILE.jsonl; SmolLM2 learns to reply as they do")}


def load(config: Config) -> Splits:
    """Return the conversations as tokens by the weights' chat template, and which tokens are of replies."""
    conversations = config.conversations.load()
    found = written(config.pretrained.pretrained, config.pretrained.weights)
    template = chat_template(found.template, found.tokenizer, _name(config))
    if config.context > (most := found.config["max_position_embeddings"]):
        raise InputError(f"context={config.context} exceeds that of {_name(config)}, {most}; use {most} or less")
    known = {"tokenizer": found.tokenizer, "template": found.template, "architecture": json.dumps(found.config)}
    parts = {part: encode_dialogues(dialogues, template, config.context) for part, dialogues in conversations.items()}
    if cut := {part: encoded.cut for part, encoded in parts.items() if encoded.cut}:
        told = ", ".join(f"{number:,} of {len(parts[part].lengths):,} in {part}" for part, number in cut.items())
        tell(f"conversations of more than {config.context:,} tokens are cut behind their last whole reply: {told}")
    longest = max(encoded.tokens.shape[1] for encoded in parts.values())
    data = {}
    for part, encoded in parts.items():
        missing = ((0, 0), (0, longest - encoded.tokens.shape[1]))
        data[part] = Data(
            inputs=np.pad(encoded.tokens, missing, constant_values=template.padding),
            mask=np.pad(encoded.counts, missing),
            lengths=encoded.lengths,
            known={"inputs": known},
        )
    return Splits(data["train"], data.get("validation"), data.get("test"))


def _name(config: Config) -> str:
    """Return what the weights are called in errors."""
    return str(config.pretrained.weights or config.pretrained.pretrained)


def _described(spec: Spec, **options: Any) -> tuple[Network, Layout]:
    """Return the network of the weights that a run began from, and their layout, as Hugging Face has it."""
    try:
        config = parse_json(spec["inputs"].architecture)
    except ValueError as error:
        raise InputError(f"the run's architecture is no JSON: {error}; it is that of other data") from error
    return from_config(config, **options)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for conversations in the tokens of ``spec``; all parameters but the adapters' rest."""
    length = spec["inputs"].shape[0]
    model, _ = _described(spec, max_length=length, dropout=config.dropout, dtype=config.arithmetic.dtype)
    tx, metrics = optimizer_for(config, spec), {"accuracy": losses.accuracy, "perplexity": perplexity}
    if config.pretrained.lora is not None:
        model = lora(model, config.pretrained.lora, config.pretrained.lora_patterns)
        tx = optax.masked(tx, {"base": False, "lora": True})  # it keeps nothing of what rests
    learner = autoregressive(supervised(model, losses.softmax_cross_entropy, tx, metrics))
    learner = learner if config.pretrained.lora is None else frozen(learner, ["base/**"])
    lengths = [part for part in (length // 4, length // 2) if part >= _LEAST]
    return trimmed(learner, _template(spec).padding, lengths) if lengths else learner


def start(config: Config, spec: Spec) -> Start:
    """Return the pretrained weights."""
    initial, about = config.pretrained.start()
    return Start(initial, about if config.pretrained.weights is None else f"weights of {_name(config)}")


def layout(config: Config, spec: Spec) -> Layout:
    """Return how PyTorch's model of the same kind names the weights: Hugging Face's Llama."""
    return _described(spec)[1]


def _template(spec: Spec) -> Template:
    """Return how conversations become the tokens of the data."""
    return chat_template(spec["inputs"].template, spec["inputs"].tokenizer, "the run's weights")


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with a model that chats."""

    def making(context: int) -> Network:
        return _described(spec, max_length=context, dtype=config.arithmetic.dtype)[0]

    def held_out() -> list[Dialogue]:
        parts = config.conversations.load()
        return parts.get("test") or parts.get("validation") or []

    return replies(_template(spec), making, config.context, held_out)
