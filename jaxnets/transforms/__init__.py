"""Transformations that take a learner and return a learner, as Optax chains."""

from jaxnets.transforms.augmented import augmented
from jaxnets.transforms.averaged import averaged
from jaxnets.transforms.grouped import grouped
from jaxnets.transforms.population import population
from jaxnets.transforms.trimmed import trimmed, windowed

__all__ = ["augmented", "averaged", "grouped", "population", "trimmed", "windowed"]
