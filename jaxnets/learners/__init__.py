"""Learners: how something learns, one kind a file."""

from jaxnets.learners.adversarial import adversarial
from jaxnets.learners.autoencoding import Autoencoded, reconstructing, variational
from jaxnets.learners.contrastive import (
    EmbeddingLoss,
    arcface,
    contrastive,
    embedding,
    supervised_contrastive,
    triplet,
)
from jaxnets.learners.sequences import autoregressive, sequence_to_sequence
from jaxnets.learners.supervised import supervised

__all__ = [
    "Autoencoded",
    "EmbeddingLoss",
    "adversarial",
    "arcface",
    "autoregressive",
    "contrastive",
    "embedding",
    "reconstructing",
    "sequence_to_sequence",
    "supervised",
    "supervised_contrastive",
    "triplet",
    "variational",
]
