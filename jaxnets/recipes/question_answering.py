"""Answer questions about stories: bAbI's twenty tasks together, or a user's own in its format."""

from dataclasses import dataclass
from typing import Literal

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, tokens
from jaxnets.data.stories import Question, encode_stories, story_vocabulary
from jaxnets.errors import check_field
from jaxnets.learner import Learner
from jaxnets.learners import supervised
from jaxnets.models import MemoryNetwork
from jaxnets.network import network
from jaxnets.options import ClassMetrics, OptimizerConfig, StoryData, TrainingConfig, optimizer_for
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.answers import UNSEEN, answers
from jaxnets.tasks.task import Task
from jaxnets.transforms import trimmed


@dataclass(frozen=True)
class Config:
    """A network that looks into a story's facts for a question's answer."""

    stories: StoryData = StoryData()
    """what is asked"""
    max_facts: int = 60
    """the newest facts of a story, which are kept"""
    max_words: int = 12
    """the longest sentence that is taken"""
    model: Literal["memory", "transformer"] = "memory"
    """memory: the question looks into the facts; transformer: facts look at each other, too, before each look"""
    model_dim: int = 64
    """width of a sentence's vector"""
    num_heads: int = 4
    """heads of the attention, which share the width"""
    num_hops: int = 3
    """how often the question looks"""
    tied: bool = True
    """every look has the same weights; else its own"""
    noise: float = 0.1
    """augmentation: probability of an empty fact behind each, so that ages vary"""
    dropout: float = 0.1
    """probability that a feature is dropped in training"""
    metrics: ClassMetrics = ClassMetrics()
    """what is measured"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("noise", "dropout"):
            check_field(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name, most in {"max_facts": 2**20, "max_words": 2**20, "model_dim": 2**31, "num_hops": 1000}.items():
            check_field(self, name, 1 <= getattr(self, name) <= most, f"1 to {most:,}")
        divides = self.num_heads >= 1 and self.model_dim % self.num_heads == 0
        check_field(self, "num_heads", divides, f"a divisor of model_dim={self.model_dim}")


_BABI = Config(
    training=TrainingConfig(duration="60ep", batch_size=64, evaluate_every="5ep"),
    optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2, clip_norm=1.0),
)
PRESETS = {"babi": Preset(_BABI, "questions about stories, bAbI's twenty tasks together, 1,000 questions each")}


def load(config: Config) -> Splits:
    """Return stories as numbers; words and answers are those of the training questions."""
    parts = config.stories.load()
    train = parts["train"]
    vocabulary = story_vocabulary(train)
    names = (UNSEEN, *sorted({question.answer for question in train}))
    splits = {part: _encoded(config, found, vocabulary, names) for part, found in parts.items()}
    return Splits(splits["train"], splits.get("validation"), splits["test"])


def _encoded(config: Config, found: list[Question], vocabulary: tuple[str, ...], names: tuple[str, ...]) -> Data:
    inputs, lengths = encode_stories(found, vocabulary, config.max_facts, config.max_words)
    numbers = {name: number for number, name in enumerate(names)}
    stories = {(question.task, question.story): number for number, question in enumerate(found)}
    return Data(
        inputs=inputs,
        labels=[numbers.get(question.answer, 0) for question in found],
        lengths=lengths,
        group=[stories[question.task, question.story] for question in found],
        classes=names,
        known={"inputs": {"classes": vocabulary}},
    )


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for stories with the vocabulary and the answers of ``spec``."""
    num_words, num_classes = len(spec["inputs"].classes), len(spec["labels"].classes)
    model = network(
        MemoryNetwork,
        num_words,
        config.model_dim,
        config.num_hops,
        config.num_heads,
        num_classes,
        max_facts=config.max_facts,
        max_words=config.max_words,
        padding=tokens.PADDING,
        tied=config.tied,
        mixing=config.model == "transformer",
        noise=config.noise,
        dropout=config.dropout,
    )
    metrics = config.metrics.of(num_classes)
    learner = supervised(model, losses.softmax_cross_entropy, optimizer_for(config, spec), metrics)
    lengths = [config.max_words * (1 + facts) for facts in _FACTS if facts < config.max_facts]
    return trimmed(learner, tokens.PADDING, lengths) if lengths else learner


_FACTS = (4, 9, 13, 31)  # to which batches are cut, beside the most


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with questions."""
    return answers(spec, config.max_facts, config.max_words, lambda: config.stories.load()["test"])
