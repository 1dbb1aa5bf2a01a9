"""A diagnosis from 30 measurements: jaxnets train examples/breast_cancer.py, then evaluate RUN --clinical."""

from dataclasses import dataclass
from typing import Any

from sklearn.datasets import load_breast_cancer

import jaxnets as jn
from jaxnets.data import Spec, Splits
from jaxnets.options import ClassMetrics, OptimizerConfig, TrainingConfig, optimizer_for


@dataclass(frozen=True)
class Config:
    """Tell malignant tumours from benign ones by measurements of cells under a microscope."""

    hidden: tuple[int, ...] = (64, 64)
    """widths of the hidden layers"""
    dropout: float = 0.3
    """probability that a hidden unit is dropped in training"""
    metrics: ClassMetrics = ClassMetrics(("accuracy", "auroc", "calibration_error"))
    """what is measured"""
    training: TrainingConfig = TrainingConfig(duration="60ep", batch_size=32, evaluate_every="10ep")
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-3, weight_decay=0.05)
    """by which rule, at which rate"""


def load(config: Config) -> Splits:
    """Return the data: 60% to train, 20% to choose by, 20% to test; "malignant" is the second class."""
    cancer: Any = load_breast_cancer()
    known = {"inputs": {"features": tuple(cancer.feature_names)}}
    data = jn.Data(inputs=cancer.data, labels=1 - cancer.target, classes=["benign", "malignant"], known=known)
    rest, test = data.split(0.2)
    train, validation = rest.split(0.25)
    return Splits(train, validation, test)


def build(config: Config, spec: Spec) -> jn.Learner:
    """Return the learner for data like those of ``spec``, which are those of the training split."""
    inputs = spec["inputs"]
    network = jn.network(jn.models.MLP, 30, config.hidden, 2, dropout=config.dropout)
    network = jn.standardized(network, inputs.mean, inputs.std)
    return jn.supervised(network, jn.losses.softmax_cross_entropy, optimizer_for(config, spec), config.metrics.of(2))
