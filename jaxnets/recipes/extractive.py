"""Point at the answer to a question in a text: files in SQuAD's format, or a user's own texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxnets.data import Data, Spec, Splits, subwords
from jaxnets.data.span_windows import SEPARATOR, encode_windows, label_windows, special_token
from jaxnets.data.spans import Asked, whose
from jaxnets.data.telling import tell
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import pointing
from jaxnets.models import bert
from jaxnets.network import Network, network
from jaxnets.options import (
    OptimizerConfig,
    PretrainedConfig,
    SpanData,
    TrainingConfig,
    TransformerConfig,
    only,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset, Start
from jaxnets.tasks.spans import NO_ANSWER, spans
from jaxnets.tasks.task import Task
from jaxnets.transforms import trimmed
from jaxnets.weights.layout import Layout
from jaxnets.weights.transformers import question_answering_layout

_HEAD: dict[str, Any] = {"out_features": 2, "pool": None, "pooler": False}  # logits of the first and the last token
_LISTED = 3  # names of questions that a message lists


@dataclass(frozen=True)
class Config:
    """BERT, which points at the first and the last token of an answer (Devlin et al., 2019)."""

    questions: SpanData = SpanData()
    """what is asked"""
    model: Literal["pretrained", "transformer"] = "pretrained"
    """pretrained: a BERT with weights and their tokens; transformer: the same, trained from scratch"""
    pretrained: PretrainedConfig = only(PretrainedConfig(), model=("pretrained",))
    """which weights, and how much of them learns (pretrained)"""
    transformer: TransformerConfig = only(TransformerConfig(), model=("transformer",))
    """how large a transformer (transformer)"""
    vocabulary: int = only(8000, model=("transformer",))
    """parts of words, at most: characters, and the most frequent words of the training texts (transformer)"""
    max_tokens: int = 384
    """tokens of a question and a stretch of its text; longer texts are read in windows"""
    overlap: int = 128
    """tokens that neighbouring windows of a text share"""
    max_answer: int = 30
    """tokens of an answer, at most"""
    dropout: float = 0.1
    """probability that a feature is dropped in training"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        most = 2**20
        if self.model == "pretrained":
            self.pretrained.check_kind("sentences")
            most = self.pretrained.card.config["max_position_embeddings"]
            if self.pretrained.frozen_features:
                raise InputError(
                    "frozen_features are one vector a text, and a span needs one of each token; use --lora"
                )
        check_field(self, "max_tokens", 8 <= self.max_tokens <= most, f"8 to {most:,}")
        check_field(self, "overlap", 0 <= self.overlap < self.max_tokens, f"less than max_tokens={self.max_tokens}")
        check_field(self, "max_answer", 1 <= self.max_answer < 2**20, "1 or more")
        check_field(self, "vocabulary", 5 <= self.vocabulary < 2**31, "5 or more")


_MINILM = Config(
    training=TrainingConfig(duration="2ep", batch_size=16, evaluate_every="100"),
    optimizer=OptimizerConfig(learning_rate=2e-4, weight_decay=1e-2, warmup=20),
)
_SCRATCH = Config(
    model="transformer",
    transformer=TransformerConfig(num_layers=2, positions="learned"),
    training=TrainingConfig(duration="10ep", batch_size=32, evaluate_every="1ep"),
    optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=1e-2, warmup=20),
)
PRESETS = {
    "extractive-scratch": Preset(_SCRATCH, "point at answers in stories (bAbI), a small BERT from scratch"),
    "extractive": Preset(_MINILM, "point at answers in texts, MiniLM fine-tuned: --data FILE.json in SQuAD's format"),
}


def load(config: Config) -> Splits:
    """Return questions and windows of their texts as tokens, with the positions of the answers."""
    parts = config.questions.load()
    if config.model == "pretrained":
        tokenizer = config.pretrained.tokenizer()
    else:
        texts = dict.fromkeys(text for one in parts["train"] for text in (one.text, one.context))
        tokenizer = subwords.learn_wordpieces(texts, config.vocabulary)
    first = "0" if all(one.answers for one in parts["train"]) else NO_ANSWER
    names = (first, *map(str, range(1, config.max_tokens)))
    splits = {part: _encoded(config, part, asked, tokenizer, names) for part, asked in parts.items()}
    return Splits(splits["train"], splits.get("validation"), splits["test"])


def _encoded(config: Config, part: str, asked: Sequence[Asked], tokenizer: str, names: tuple[str, ...]) -> Data:
    source = f"{config.questions.data}, {part}"
    try:
        windows = encode_windows(asked, tokenizer, config.max_tokens, config.overlap)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    found = label_windows(asked, windows)
    for what, left_out in (
        ("has an answer that does not stand at its answer_start", found.misplaced),
        ("has an answer that is whole in no window (a larger --overlap has it)", found.cut),
    ):
        if left_out:
            told = f"{len(left_out):,} of {len(asked):,} questions left out, each {what}: {_some(left_out)}"
            if part == "test":
                told += "; they are asked in the end"
            tell(f"{source}: {told}")
    if found.within:
        tell(f"{source}: {len(found.within):,} answers begin or end within a token, taken whole: {_some(found.within)}")
    kept = found.labels[:, 0] >= 0
    if not kept.any():
        raise InputError(f"{source}: no question is left; answer_start is the character that an answer begins with")
    rows = windows.tokens[kept]
    return Data(
        inputs=rows,
        labels=found.labels[kept],
        lengths=(rows != subwords.PADDING).sum(1),
        group=whose(asked)[windows.question[kept]],
        classes=names,
        known={"inputs": {"tokenizer": tokenizer}},
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for rows of tokens by the tokenizer of ``spec``."""
    tokenizer = spec["inputs"].tokenizer
    separator = special_token(SEPARATOR, tokenizer)

    def learning(model: Network) -> Learner:
        return pointing(model, separator, optimizer_for(config, spec))

    if config.model == "pretrained":
        learner = config.pretrained.learner(learning, dropout=config.dropout, **_HEAD)
    else:
        sizes = config.transformer
        options = {"positions": sizes.positions, "max_length": config.max_tokens, "padding": subwords.PADDING}
        options |= {"dropout": config.dropout, **_HEAD}
        learner = learning(network(bert, subwords.num_subwords(tokenizer), *sizes.sizes, **options))
    lengths = _lengths(config)
    return trimmed(learner, subwords.PADDING, lengths) if lengths else learner


def _lengths(config: Config) -> list[int]:
    """Return the lengths that batches are cut to, beside the longest."""
    return [length for length in (96, 192) if length < config.max_tokens]


def start(config: Config, spec: Spec) -> Start | None:
    """Return pretrained weights, if they are asked for."""
    return Start(*config.pretrained.start(**_HEAD)) if config.model == "pretrained" else None


def layout(config: Config, spec: Spec) -> Layout | None:
    """Return how Hugging Face's ``BertForQuestionAnswering`` names the weights, which has the same."""
    if config.model == "pretrained":
        return question_answering_layout(config.pretrained.card.config["num_hidden_layers"])
    return (
        question_answering_layout(config.transformer.num_layers) if config.transformer.positions == "learned" else None
    )


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with questions about texts."""
    return spans(spec, config.max_tokens, config.overlap, config.max_answer, _lengths(config), config.questions.load)
