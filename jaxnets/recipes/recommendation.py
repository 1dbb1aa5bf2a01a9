"""Recommend: what a user would give to items, or what comes next; MovieLens, or a user's own CSV file."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxnets import losses, metrics
from jaxnets.data import Spec, Splits, next_splits, rating_splits
from jaxnets.data.histories import HeldOut
from jaxnets.errors import FINITE, InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import bpr, next_item, rating, sampled_softmax, softmax_over_items, supervised
from jaxnets.models import HistoryFactors, HistoryTransformer, RatingFactors
from jaxnets.network import Key, Network, PyTree, network
from jaxnets.options import OptimizerConfig, RatingData, TrainingConfig, TransformerConfig, only, optimizer_for
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.recommendations import recommendations
from jaxnets.tasks.task import Task
from jaxnets.transforms import trimmed

_RATING, _NEXT = ("factors", "neural"), ("transformer", "fading")
_SIZES = TransformerConfig(num_layers=2, num_heads=4, model_dim=64)
_LENGTHS = (64, 160, 320)  # that batches of histories are cut to, beside the longest


@dataclass(frozen=True)
class Config:
    """A model of who likes what: of ratings, or of what comes next."""

    ratings: RatingData = RatingData()
    """who rated what, and when"""
    model: Literal["factors", "neural", "transformer", "fading"] = "factors"
    """what tells ratings: vectors of users and items (factors), and an MLP beside (neural); what tells what comes next:
    a transformer over the history (SASRec), or a vector of the user and a fading mean of those of the history"""
    held_out: HeldOut = only("usual", model=_RATING)
    """ratings for testing: those that usually are (else by time), the latest tenth of all by time, or each user's
    latest; what comes next is always each user's latest"""
    features: int = only(32, model=("factors", "neural", "fading"))
    """numbers of a user's and an item's vector"""
    dense: tuple[int, ...] = only((64, 32), model=("neural",))
    """widths of the MLP's hidden layers (neural)"""
    pooled: bool = only(True, model=_RATING)
    """what else the user rated adds to the user's vector"""
    ranges: tuple[float, ...] = only((60.0, 3600.0, 1e6), model=_RATING)
    """ranges of time, in seconds, within which a user's ratings tell of one another"""
    transformer: TransformerConfig = only(_SIZES, model=("transformer",))
    """how large a transformer"""
    loss: Literal["softmax", "sampled", "bpr"] = only("softmax", model=_NEXT)
    """what training minimises for what comes next: the cross-entropy over all items, or over some drawn ones (for very
    many items), or the order of two (BPR)"""
    negatives: int = only(128, loss=("sampled",))
    """items that are drawn for a step (sampled)"""
    dropout: float = 0.2
    """probability that a number of a vector is dropped in training"""
    hidden_share: float = only(0.0, model=_RATING)
    """the largest share of a user's ratings that is hidden in training from what the others are told from"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches of users"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("dropout", "hidden_share"):
            check_field(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        check_field(self, "features", 1 <= self.features < 2**20, "1 or more")
        check_field(self, "negatives", 1 <= self.negatives < 2**20, "1 or more")
        check_field(self, "dense", min(self.dense, default=1) >= 1, "widths of 1 or more")
        good = all(0 < span < FINITE for span in self.ranges)
        check_field(self, "ranges", good, "seconds, each a number greater than 0")
        if self.model == "neural" and not self.dense:
            raise InputError("dense=() leaves nothing of the MLP; use --model factors")

    @property
    def of_ratings(self) -> bool:
        """Whether ratings are told, or else what comes next."""
        return self.model in _RATING


_RATINGS = Config(
    features=64,
    ranges=(60.0, 3600.0, 86400.0, 1e6),
    dropout=0.5,
    hidden_share=0.8,
    training=TrainingConfig(duration="24ep", batch_size=32, evaluate_every="4ep"),
    optimizer=OptimizerConfig(optimizer="adam", learning_rate=1e-2, weight_decay=3e-4),
)
_FADING = Config(
    model="fading",
    features=64,
    loss="sampled",
    negatives=256,
    dropout=0.4,
    training=TrainingConfig(duration="40ep", batch_size=64, evaluate_every="4ep"),
    optimizer=OptimizerConfig(learning_rate=1e-2, weight_decay=0.3),
)
_SEQUENCES = replace(
    _FADING,
    model="transformer",
    features=32,
    ratings=RatingData(longest=200),
    dropout=0.3,
    optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.1),
)
PRESETS = {
    "movielens": Preset(_RATINGS, "what people give to films, by what else they gave: biased factorisation"),
    "movielens-next": Preset(_FADING, "which film comes next, by a fading mean of the history's"),
    "movielens-sasrec": Preset(_SEQUENCES, "the same by a transformer over the history (SASRec)"),
}


def load(config: Config) -> Splits:
    """Return a row for each user, with all ratings in the order of time."""
    source, ratings = config.ratings, config.ratings.load()
    if not config.of_ratings:
        return next_splits(ratings, validation=source.validate, longest=source.longest)
    if not ratings.rated:
        raise InputError(f"{source.data}: has no column of ratings; use --model transformer, for what comes next")
    return rating_splits(ratings, config.held_out, validation=source.validate, longest=source.longest)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner for the users, items and tags of ``spec``."""
    tx = optimizer_for(config, spec)
    counts = len(spec["user"].classes), len(spec["inputs"].classes)
    (length,) = spec["inputs"].shape
    lengths = [cut for cut in _LENGTHS if cut < length] or [length]
    options: dict[str, Any] = {"dropout": config.dropout}
    if config.of_ratings:
        options |= {"features": config.features, "pooled": config.pooled, "ranges": config.ranges}
        options["hidden_share"] = config.hidden_share
        options |= {"hidden": config.dense if config.model == "neural" else (), "mean": spec["labels"].mean[0]}
        model = network(RatingFactors, *counts, _tags(spec["tags"].classes), **options)
        told = {"rmse": metrics.rmse, "mae": metrics.mae}
        model = _within(model, spec["labels"].low, spec["labels"].high)
        learner = rating(supervised(model, losses.mse, tx, told))
        return trimmed(learner, 0, lengths, beside=("ratings", "labels"))
    options |= {"max_length": length}
    if config.model == "transformer":
        positions = {"positions": config.transformer.positions}
        model = network(HistoryTransformer, *counts, *config.transformer.sizes, **positions, **options)
    else:
        model = network(HistoryFactors, *counts, config.features, **options)
    loss = {"softmax": softmax_over_items, "sampled": sampled_softmax(config.negatives), "bpr": bpr}[config.loss]
    return trimmed(next_item(model, loss, tx), 0, lengths)


def _tags(sets: tuple[str, ...]) -> np.ndarray:
    """Return which tags each set of them holds, [sets, tags]; one that none has, where there are none."""
    held = [set(filter(None, text.split("|"))) for text in sets]
    names = sorted(set().union(*held)) or [""]
    return np.array([[name in some for name in names] for some in held], np.float32)


def _within(network: Network, low: float, high: float) -> Network:
    """Return the network whose outputs, but in training, are no lower and no higher than any rating."""

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        outputs, model_state = network.apply(params, model_state, inputs, train=train, key=key)
        return outputs if train else jnp.clip(outputs, low, high), model_state

    return network._replace(apply=apply)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with users."""
    return recommendations(spec, config.ratings, of_ratings=config.of_ratings)
