"""Learn from tables: who earns more, who pays back, who falls ill, or a number, from a user's own columns."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxnets import losses, metrics
from jaxnets.data import Spec, Splits
from jaxnets.data.telling import tell
from jaxnets.errors import FINITE, InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import ensembled, mean_output, mean_probability, supervised
from jaxnets.metrics import Metric
from jaxnets.models import Columns, FTTransformer, TableEnsemble, TableMLP, TableResNet, Tabular
from jaxnets.models.tabular import Body
from jaxnets.network import Key, Network, PyTree, network
from jaxnets.options import (
    ClassMetrics,
    OptimizerConfig,
    TableData,
    TableEncoding,
    TrainingConfig,
    only,
    optimizer_for,
)
from jaxnets.options.tables import Rows, described
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.table_choice import chosen
from jaxnets.tasks.table_classes import table_classes
from jaxnets.tasks.table_rows import encoder_of
from jaxnets.tasks.table_values import table_values
from jaxnets.tasks.task import Task

_DENSE = ("ensemble", "mlp", "resnet")


@dataclass(frozen=True)
class Config:
    """A network of a table's rows: classes, or values with quantiles."""

    table: TableData = TableData()
    """what is learned from"""
    encoding: TableEncoding = TableEncoding()
    """how columns become numbers"""
    model: Literal["ensemble", "mlp", "resnet", "transformer"] = "ensemble"
    """the family: an ensemble whose members share weights (TabM), dense layers, residual ones, or a transformer over
    columns (FT-Transformer)"""
    embedding: int = 16
    """numbers in a column's embedding"""
    hidden: tuple[int, ...] = only((128, 128), model=_DENSE)
    """widths of the hidden layers; of a resnet's blocks inside, and the first of the path beside them"""
    members: int = only(16, model=("ensemble",))
    """members of the ensemble"""
    num_layers: int = only(3, model=("transformer",))
    """blocks of the transformer"""
    num_heads: int = only(4, model=("transformer",))
    """heads of the transformer's attention, which share the embedding's numbers"""
    linear: bool = False
    """add a path on which each column acts by itself"""
    settings: Literal["chosen", "as-told", "strong-decay", "linear"] = "chosen"
    """as-told; strong-decay (ten times the decay, more dropout, half the embedding, no exact values); linear; or
    chosen: when a run begins, that of the three with the least held-out loss in a short training"""
    dropout: float = 0.1
    """probability that a hidden unit is dropped in training"""
    class_weights: Literal["alike", "balanced"] = "alike"
    """balanced: rare classes weigh more in training, so that all classes count as much; else all rows do"""
    quantiles: tuple[float, ...] = ()
    """of values: quantiles that are foretold beside the mean, such as 0.05 0.5 0.95"""
    positive: str | None = None
    """of two classes: the one that is to be found, such as bad; the rarer one if absent"""
    costs: tuple[float, float] = (1.0, 1.0)
    """of two classes: what a missed positive costs, and a false alarm; the threshold is chosen by them"""
    metrics: ClassMetrics = ClassMetrics(("accuracy", "auroc", "average_precision", "calibration_error"))
    """what is measured of classes"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        for name in ("embedding", "members", "num_layers", "num_heads"):
            check_field(self, name, 1 <= getattr(self, name) < 2**20, "1 or more")
        least = 1 if self.model == "resnet" else 0
        good = len(self.hidden) >= least and all(1 <= width < 2**20 for width in self.hidden)
        check_field(self, "hidden", good, "widths of 1 or more")
        if self.model == "transformer":
            good = self.embedding % self.num_heads == 0
            check_field(self, "num_heads", good, f"a divisor of embedding={self.embedding}")
        rising = list(self.quantiles) == sorted(set(self.quantiles)) and all(0 < q < 1 for q in self.quantiles)
        check_field(self, "quantiles", rising, "rising numbers in (0, 1), such as 0.05 0.5 0.95")
        check_field(self, "costs", min(self.costs, default=0) > 0 and max(self.costs) < FINITE, "two costs above 0")
        check_field(self, "costs", len(self.costs) == 2, "two costs above 0")


_TABLE = Config(
    training=TrainingConfig(duration="40ep", batch_size=64, patience=12),
    optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=1e-1),
)
_ADULT = replace(
    _TABLE,
    table=TableData("adult", validation=0.1),
    encoding=TableEncoding(exact_count=5),
    settings="as-told",
    training=TrainingConfig(duration="6ep", batch_size=256),
    optimizer=OptimizerConfig(learning_rate=8e-3, weight_decay=2e-2),
)
_CREDIT = replace(_TABLE, table=TableData("credit"), positive="bad")
PRESETS = {
    "table": Preset(_TABLE, "any table: --data FILE --label COLUMN; as it stands, scikit-learn's tumours"),
    "adult": Preset(_ADULT, "the census: who earns more than 50,000 dollars"),
    "credit": Preset(_CREDIT, "credit scoring: good and bad risks, with missing values"),
}


def load(config: Config) -> Splits:
    """Return the rows as numbers, and say what each column was taken for."""
    table = config.table.load()
    for line in described(table):
        tell(line)
    return _encoded(_as_set(config), table)


def settled(config: Config) -> Config:
    """Return the config with the settings of the least held-out loss in short trainings, where they are to be chosen.

    Few rows are tried in folds, for a validation part of some dozens says little; where there are none to choose by,
    all is as told.
    """
    if config.settings != "chosen":
        return config
    table = config.table.load()
    candidates = {}
    for name, change in _SETTINGS.items():
        one = change(config)
        splits = _encoded(one, table)
        steps = min(_TRIED, config.training.num_steps(splits.train.num_examples) or _TRIED)
        short = replace(one.training, duration=f"{steps}", evaluate_every=f"{max(1, steps // 10)}")
        candidates[name] = (replace(one, training=short), splits)
    return replace(config, settings=chosen(candidates, _learner, in_order=config.table.time_column is not None))


def _encoded(config: Config, table: Rows) -> Splits:
    """Return the parts of a table as numbers, with the weights of classes, if they have some."""
    parts = config.encoding.encoded(table)
    splits = Splits(parts["train"], parts.get("validation"), parts["test"])
    if config.class_weights == "alike":
        return splits
    if not splits.train.classes:
        raise InputError("class_weights='balanced' is for classes, and the labels are values; leave it out")
    return splits.balanced()


def _stronger(config: Config) -> Config:
    """Return the config with stronger decay, more dropout and half the embedding, without exact values."""
    optimizer = replace(config.optimizer, weight_decay=10 * config.optimizer.weight_decay)
    encoding = replace(config.encoding, exact_count=0)
    dropout, embedding = (1 + 2 * config.dropout) / 3, max(1, config.embedding // 2)
    if config.model == "transformer":
        embedding = config.embedding  # which its heads share
    return replace(config, encoding=encoding, dropout=dropout, embedding=embedding, optimizer=optimizer)


def _linear(config: Config) -> Config:
    """Return the config of a linear model: no hidden layers, numbers as they are."""
    encoding = replace(config.encoding, exact_count=0, num_bins=1)
    return replace(config, encoding=encoding, model="mlp", hidden=(), dropout=0.0)


_TRIED = 300  # steps in which each of the settings is tried
_SETTINGS: dict[str, Callable[[Config], Config]] = {
    "as-told": lambda config: config,
    "strong-decay": _stronger,
    "linear": _linear,
}


def _as_set(config: Config) -> Config:
    """Return the config with what its settings change; where they were not chosen, all is as told."""
    return config if config.settings == "chosen" else _SETTINGS[config.settings](config)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner of rows like those of ``spec``."""
    return _learner(_as_set(config), spec)


def _learner(config: Config, spec: Spec) -> Learner:
    classes, encoder = spec["labels"].classes, encoder_of(spec)
    _check_outcome(config, classes)
    outputs = len(classes) or 1 + len(config.quantiles)
    columns = Columns(encoder.bins, encoder.sizes)
    model = network(Tabular, columns, config.embedding, _body(config), outputs, linear=config.linear)
    if classes:
        loss, combine, measured = losses.softmax_cross_entropy, mean_probability, config.metrics.of(len(classes))
    else:
        mean, std = spec["labels"].mean[0], spec["labels"].std[0] or 1.0
        model, combine, measured = _in_units(model, mean, std), mean_output, _OF_VALUES
        loss = partial(_value_loss, quantiles=config.quantiles, std=std)
    tx = optimizer_for(config, spec)
    if config.model == "ensemble":
        return ensembled(model, loss, tx, measured, combine=combine)
    return supervised(model, loss, tx, measured)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with classes, or values."""
    classes = spec["labels"].classes
    _check_outcome(config, classes)
    if classes:
        return table_classes(spec, config.metrics.of(len(classes)), config.positive, config.costs)
    return table_values(spec, config.quantiles)


def _check_outcome(config: Config, classes: tuple[str, ...]) -> None:
    """Check that what is told of classes, or of values, is not told of the other kind."""
    if classes and config.quantiles:
        raise InputError(f"quantiles={config.quantiles} are of values, and the labels are classes; --outcome values")
    told = {"positive": (config.positive, None), "costs": (config.costs, (1.0, 1.0))}
    if not classes and (idle := [name for name, (value, usual) in told.items() if value != usual]):
        raise InputError(f"{idle[0]}={told[idle[0]][0]!r} is of two classes, and the labels are values; leave it out")


def _body(config: Config) -> Body:
    """Return what maps the columns' vectors to outputs."""
    match config.model:
        case "ensemble":
            return partial(TableEnsemble, hidden=config.hidden, members=config.members, dropout=config.dropout)
        case "mlp":
            return partial(TableMLP, hidden=config.hidden, dropout=config.dropout)
        case "resnet":
            return partial(TableResNet, hidden=config.hidden, dropout=config.dropout)
    layers = {"num_layers": config.num_layers, "num_heads": config.num_heads}
    return partial(FTTransformer, **layers, dropout=config.dropout)


def _in_units(network: Network, mean: float, std: float) -> Network:
    """Return the network with outputs in the labels' units: it itself learns standardised ones."""

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        outputs, model_state = network.apply(params, model_state, inputs, train=train, key=key)
        return outputs * std + mean, model_state

    return network._replace(apply=apply)


def _value_loss(outputs: jax.Array, labels: jax.Array, *, quantiles: tuple[float, ...], std: float) -> jax.Array:
    """Return the squared error of the first output over the labels' variance, and the pinball loss of the others."""
    error = losses.mse(outputs[..., 0], labels) / std**2
    return error + losses.pinball(outputs[..., 1:], labels, quantiles) / std if quantiles else error


def _of_first(metric: Metric) -> Metric:
    """Return the metric of the first output, the mean that is foretold."""

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> Any:
        return metric.measure(outputs[..., 0], jnp.asarray(labels, outputs.dtype), weights)

    return metric._replace(measure=measure, check=lambda outputs, labels: None)


_OF_VALUES = {name: _of_first(metric) for name, metric in (("mae", metrics.mae), ("r2", metrics.r2))}
