"""Learners: how something learns, one kind a file."""

from jaxnets.learners.adaptation import maml, reptile
from jaxnets.learners.adversarial import adversarial
from jaxnets.learners.autoencoding import Autoencoded, reconstructing, variational
from jaxnets.learners.contrastive import (
    EmbeddingLoss,
    arcface,
    contrastive,
    embedding,
    mirrored,
    supervised_contrastive,
    triplet,
)
from jaxnets.learners.detection import detection, flipped
from jaxnets.learners.few_shot import Episode, Shape, matching, prototypical
from jaxnets.learners.masked import filled_in, masked_autoencoding
from jaxnets.learners.members import Members, ensembled, mean_output, mean_probability
from jaxnets.learners.recommending import bpr, next_item, rating, sampled_softmax, softmax_over_items
from jaxnets.learners.segmentation import segmenting
from jaxnets.learners.self_supervised import byol, vicreg
from jaxnets.learners.sequences import autoregressive, sequence_to_sequence
from jaxnets.learners.spans import pointing
from jaxnets.learners.supervised import supervised

__all__ = [
    "Autoencoded",
    "EmbeddingLoss",
    "Episode",
    "Members",
    "Shape",
    "adversarial",
    "arcface",
    "autoregressive",
    "bpr",
    "byol",
    "contrastive",
    "detection",
    "embedding",
    "ensembled",
    "filled_in",
    "flipped",
    "maml",
    "masked_autoencoding",
    "matching",
    "mean_output",
    "mean_probability",
    "mirrored",
    "next_item",
    "pointing",
    "prototypical",
    "rating",
    "reconstructing",
    "reptile",
    "sampled_softmax",
    "segmenting",
    "sequence_to_sequence",
    "softmax_over_items",
    "supervised",
    "supervised_contrastive",
    "triplet",
    "variational",
    "vicreg",
]
