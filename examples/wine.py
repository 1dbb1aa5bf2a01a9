"""A recipe of one's own: jaxnets train examples/wine.py --hidden 64 64 --seeds 5."""

from dataclasses import dataclass
from typing import Any

from sklearn.datasets import load_wine

import jaxnets as jn
from jaxnets.data import Spec, Splits
from jaxnets.options import ClassMetrics, OptimizerConfig, TrainingConfig, optimizer_for


@dataclass(frozen=True)
class Config:
    """Tell three kinds of wine apart by 13 measurements."""

    hidden: tuple[int, ...] = (32,)
    """widths of the hidden layers"""
    dropout: float = 0.2
    """probability that a hidden unit is dropped in training"""
    metrics: ClassMetrics = ClassMetrics()
    """what is measured"""
    training: TrainingConfig = TrainingConfig(duration="50ep", batch_size=16, evaluate_every="5ep")
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-3)
    """by which rule, at which rate"""


def load(config: Config) -> Splits:
    """Return the data: 60% to train, 20% to choose by, 20% to test."""
    wine: Any = load_wine()
    known = {"inputs": {"features": tuple(wine.feature_names)}}
    rest, test = jn.Data(inputs=wine.data, labels=wine.target, known=known).split(0.2)
    train, validation = rest.split(0.25)
    return Splits(train, validation, test)


def build(config: Config, spec: Spec) -> jn.Learner:
    """Return the learner for data like those of ``spec``, which are those of the training split."""
    inputs = spec["inputs"]
    network = jn.network(jn.models.MLP, 13, config.hidden, 3, dropout=config.dropout)
    network = jn.standardized(network, inputs.mean, inputs.std)
    tx = optimizer_for(config, spec)
    return jn.supervised(network, jn.losses.softmax_cross_entropy, tx, config.metrics.of(3))
