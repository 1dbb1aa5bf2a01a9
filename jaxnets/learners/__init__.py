"""Learners: how something learns, one kind a file."""

from jaxnets.learners.adversarial import adversarial
from jaxnets.learners.autoencoding import Autoencoded, reconstructing, variational
from jaxnets.learners.detection import detection, flipped
from jaxnets.learners.segmentation import segmenting
from jaxnets.learners.sequences import autoregressive, sequence_to_sequence
from jaxnets.learners.supervised import supervised

__all__ = [
    "Autoencoded",
    "adversarial",
    "autoregressive",
    "detection",
    "flipped",
    "reconstructing",
    "segmenting",
    "sequence_to_sequence",
    "supervised",
    "variational",
]
