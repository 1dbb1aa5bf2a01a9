"""A diagnosis from a table: jaxnets train examples/diagnosis.py --folds 10, then evaluate RUN --clinical."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer

import jaxnets as jn
from jaxnets.data import Data, Spec, Splits, read_columns
from jaxnets.options import ClassMetrics, DataConfig, OptimizerConfig, TrainingConfig, optimizer_for


@dataclass(frozen=True)
class Patients(DataConfig):
    """Patients, or what was taken from them, a row each."""

    data: str = "breast-cancer"
    """breast-cancer (scikit-learn's), or a CSV file with a header"""
    label: str = "Class"
    """the column of the diagnosis"""
    groups: str | None = None
    """the column that says which rows are of one patient, which splits and folds keep together"""


@dataclass(frozen=True)
class Config:
    """Tell the diagnosis by measurements."""

    patients: Patients = Patients()
    """whose diagnosis"""
    hidden: tuple[int, ...] = (64,)
    """widths of the hidden layers"""
    dropout: float = 0.3
    """probability that a hidden unit is dropped in training"""
    metrics: ClassMetrics = ClassMetrics(("accuracy", "auroc", "calibration_error"))
    """what is measured"""
    training: TrainingConfig = TrainingConfig(duration="60ep", batch_size=32, evaluate_every="10ep")
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-3, weight_decay=1.0)
    """by which rule, at which rate"""


def load(config: Config) -> Splits:
    """Return the rows: 60% to train, 20% to choose by, 20% to test; columns of text as one column a value."""
    rest, test = _table(config.patients).split(0.2)
    train, validation = rest.split(0.25)
    return Splits(train, validation, test)


def _table(patients: Patients) -> Data:
    if patients.data == "breast-cancer":
        cancer: Any = load_breast_cancer()
        known = {"inputs": {"features": tuple(cancer.feature_names)}}
        return Data(inputs=cancer.data, labels=1 - cancer.target, classes=["benign", "malignant"], known=known)
    table = read_columns(Path(patients.data), patients.label)
    columns, more = {}, {}
    for name, column in table.features.items():
        if name == patients.groups:
            more["group"] = np.unique(column, return_inverse=True)[1]
        elif column.dtype.kind == "f":
            columns[name] = column
        else:
            columns |= {f"{name}={value}": column == value for value in np.unique(column)}
    if patients.groups and not more:
        raise jn.InputError(f"groups={patients.groups!r} is no column; there are {', '.join(table.features)}")
    known = {"inputs": {"features": tuple(columns)}}
    return Data(inputs=np.column_stack([*columns.values()]), labels=table.labels.astype(str), known=known, **more)


def build(config: Config, spec: Spec) -> jn.Learner:
    """Return the learner for data like those of ``spec``, which are those of the training split."""
    inputs, number = spec["inputs"], len(spec["labels"].classes)
    network = jn.network(jn.models.MLP, inputs.shape[0], config.hidden, number, dropout=config.dropout)
    network = jn.standardized(network, inputs.mean, inputs.std)
    metrics = config.metrics.of(number)
    return jn.supervised(network, jn.losses.softmax_cross_entropy, optimizer_for(config, spec), metrics)
