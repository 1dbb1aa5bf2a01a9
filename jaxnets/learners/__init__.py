"""Learners: how something learns, one kind a file."""

from jaxnets.learners.adaptation import maml, reptile
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
from jaxnets.learners.detection import detection, flipped
from jaxnets.learners.few_shot import Episode, Shape, matching, prototypical
from jaxnets.learners.segmentation import segmenting
from jaxnets.learners.sequences import autoregressive, sequence_to_sequence
from jaxnets.learners.supervised import supervised

__all__ = [
    "Autoencoded",
    "EmbeddingLoss",
    "Episode",
    "Shape",
    "adversarial",
    "arcface",
    "autoregressive",
    "contrastive",
    "detection",
    "embedding",
    "flipped",
    "maml",
    "matching",
    "prototypical",
    "reconstructing",
    "reptile",
    "segmenting",
    "sequence_to_sequence",
    "supervised",
    "supervised_contrastive",
    "triplet",
    "variational",
]
