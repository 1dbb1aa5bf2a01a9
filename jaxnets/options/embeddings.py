"""By what embeddings are learned: examples of one person lie close together, those of others apart."""

from dataclasses import dataclass
from typing import Any, Literal

import optax

from jaxnets.data import MakeOrder, Spec, Splits, classes_and_examples
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import EmbeddingLoss, arcface, contrastive, embedding, supervised_contrastive, triplet
from jaxnets.metrics import equal_error_rate, pair_auc, true_accept_rate
from jaxnets.network import Network
from jaxnets.options.conditions import only

_MARGINS = {"contrastive": 1.0, "triplet": 0.2, "arcface": 0.5}


@dataclass(frozen=True)
class EmbeddingConfig:
    """What an embedding is, and the loss that it is learned by."""

    loss: Literal["supervised-contrastive", "triplet", "contrastive", "arcface"] = "supervised-contrastive"
    """what is minimised"""
    margin: float | None = only(None, loss=tuple(_MARGINS))
    """by how much other people are to be farther away: in distance (contrastive; 1.0 if absent), in squared distance
    (triplet; 0.2) or in radians (arcface; 0.5)"""
    temperature: float = only(0.1, loss=("supervised-contrastive",))
    """by which cosines are divided (supervised-contrastive)"""
    margin_warmup: int = only(100, loss=("arcface",))
    """steps in which the margin rises from 0 (arcface)"""
    embedding: int = 64
    """numbers in an embedding"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "embedding", self.embedding >= 1, "1 or more")
        self.chosen_loss(2)

    def chosen_loss(self, num_classes: int) -> EmbeddingLoss:
        """Return the loss, for so many people."""
        margin = _MARGINS.get(self.loss, 0.0) if self.margin is None else self.margin
        match self.loss:
            case "contrastive":
                return contrastive(margin)
            case "triplet":
                return triplet(margin)
            case "arcface":
                return arcface(num_classes, self.embedding, margin, warmup=self.margin_warmup)
        return supervised_contrastive(self.temperature)

    def learner(
        self, model: Network, tx: optax.GradientTransformation, spec: Spec, block: int, at_once: int | None = None
    ) -> Learner:
        """Return the learner of a network's embeddings, measured on all pairs of ``block`` examples (``embedding``)."""
        metrics = {"auc": pair_auc(), "eer": equal_error_rate(), "tar_at_far_0.01": true_accept_rate(0.01)}
        loss = self.chosen_loss(int(spec["labels"].high) + 1)
        return embedding(model, loss, tx, metrics, block=block, at_once=at_once)


def check_each(config: Any, name: str) -> None:
    """Check that a batch holds two people or more, with as many examples each as the recipe's field ``name`` says.

    Raises:
        InputError: if it does not.
    """
    each, size = getattr(config, name), config.training.batch_size
    check_field(config, name, each >= 2, "2 or more: one alone makes no pair")
    if size % each or size // each < 2:
        raise InputError(f"batch_size={size} must be a multiple of {name}={each}, and of two people or more")


def people_and_examples(config: Any, name: str, splits: Splits) -> MakeOrder:
    """Return the order of batches of some people with as many examples each as the recipe's field ``name`` says.

    Raises:
        InputError: if fewer people are trained on than a batch is to hold.
    """
    each, size = getattr(config, name), config.training.batch_size
    people, known = size // each, len(set(splits.train["labels"].tolist()))
    if people > known:
        raise InputError(
            f"batch_size={size} is of {people:,} people with {each} {name} each, but {known} are trained "
            f"on; use {known * each} or less"
        )
    return classes_and_examples(people, each)
