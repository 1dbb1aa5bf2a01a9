"""Transformations that take a learner and return a learner, as Optax chains, or a network and return a network."""

from jaxnets.transforms.accumulated import accumulated
from jaxnets.transforms.augmented import augmented, augmented_batches, augmented_pairs
from jaxnets.transforms.averaged import averaged
from jaxnets.transforms.features import features, on_features, part, with_head
from jaxnets.transforms.folded import folded
from jaxnets.transforms.frozen import frozen
from jaxnets.transforms.grouped import grouped
from jaxnets.transforms.lora import lora, merged
from jaxnets.transforms.meshes import make_mesh
from jaxnets.transforms.population import population
from jaxnets.transforms.probed import probed
from jaxnets.transforms.sharded import sharded
from jaxnets.transforms.trimmed import trimmed, windowed
from jaxnets.transforms.unfrozen import unfrozen
from jaxnets.transforms.varied import varied

__all__ = [
    "accumulated",
    "augmented",
    "augmented_batches",
    "augmented_pairs",
    "averaged",
    "features",
    "folded",
    "frozen",
    "grouped",
    "lora",
    "make_mesh",
    "merged",
    "on_features",
    "part",
    "population",
    "probed",
    "sharded",
    "trimmed",
    "unfrozen",
    "varied",
    "windowed",
    "with_head",
]
