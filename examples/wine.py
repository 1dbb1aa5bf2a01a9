"""A recipe of one's own: jaxnets train examples/wine.py --hidden 64 64 --seeds 5."""

from dataclasses import dataclass, field

from sklearn.datasets import load_wine

import jaxnets as jn
from jaxnets.data import Spec, Splits
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer
from jaxnets.options.training import TrainingConfig


@dataclass(frozen=True)
class Config:
    """Tell three kinds of wine apart by 13 measurements."""

    hidden: tuple[int, ...] = (32,)
    """widths of the hidden layers"""
    dropout: float = 0.2
    """probability that a hidden unit is dropped in training"""
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(duration="50ep", batch_size=16, evaluate_every="5ep")
    )
    """how long, in which batches"""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=5e-3))
    """by which rule, at which rate"""


def load(config: Config) -> Splits:
    """Return the data: 60% to train, 20% to choose by, 20% to test."""
    inputs, labels = load_wine(return_X_y=True)
    rest, test = jn.Data(inputs=inputs, labels=labels).split(0.2)
    train, validation = rest.split(0.25)
    return Splits(train, validation, test)


def build(config: Config, spec: Spec) -> jn.Learner:
    """Return the learner for data like those of ``spec``, which are those of the training split."""
    inputs = spec["inputs"]
    network = jn.network(jn.models.MLP, 13, config.hidden, 3, dropout=config.dropout)
    tx = make_optimizer(config.optimizer, config.training.num_steps(spec.num_examples))
    metrics = {"accuracy": jn.losses.accuracy}
    return jn.supervised(
        jn.standardized(network, inputs.mean, inputs.std), jn.losses.softmax_cross_entropy, tx, metrics
    )
