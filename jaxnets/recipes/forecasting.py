"""Forecast what follows the last rows of a series: ETTh1's hourly measurements, or a user's own CSV file."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from jaxnets import losses
from jaxnets.data import Spec, Splits, split_series
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner
from jaxnets.learners import supervised
from jaxnets.models import MLP, RNN, Forecaster, Transformer
from jaxnets.network import network
from jaxnets.options import (
    Arithmetic,
    OptimizerConfig,
    RecurrentConfig,
    SeriesData,
    TrainingConfig,
    TransformerConfig,
    only,
    optimizer_for,
)
from jaxnets.recipes.recipe import Preset
from jaxnets.tasks.forecasts import forecasts
from jaxnets.tasks.task import Task

LOSSES = {"mse": losses.mse, "mae": losses.mae, "huber": losses.huber}

_MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class Config:
    """A model that forecasts the next rows of a series from the last, each column from its own past."""

    series: SeriesData = SeriesData()
    """what is forecast"""
    history: int = 96
    """rows that are seen"""
    horizon: int = 96
    """rows that are forecast"""
    season: int = 24
    """rows after which the series repeats itself, for the seasonal-naive baseline"""
    model: Literal["rnn", "mlp", "transformer"] = "rnn"
    """what is shared by the columns: a recurrent network or a transformer over patches, with a linear path beside it,
    or dense layers"""
    recurrent: RecurrentConfig = only(RecurrentConfig(hidden=(64,)), model=("rnn",))
    """how large a recurrent network (rnn)"""
    transformer: TransformerConfig = only(TransformerConfig(), model=("transformer",))
    """how large a transformer (transformer)"""
    dense: tuple[int, ...] = only((), model=("mlp",))
    """widths of the hidden layers; without any, the forecast is linear (mlp)"""
    patch: int = only(12, model=("rnn", "transformer"))
    """rows of one step of the recurrent network or transformer; divides the history"""
    dropout: float = 0.1
    """probability that a feature is dropped in training"""
    loss: Literal["mse", "mae", "huber"] = "huber"
    """what training minimises, of standardised values; mse and mae are reported in any case"""
    arithmetic: Arithmetic = Arithmetic()
    """what the network computes with"""
    training: TrainingConfig = TrainingConfig()
    """how long, in which batches"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        for name in ("history", "horizon", "season", "patch"):
            check_field(self, name, 1 <= getattr(self, name) <= _MOST_ROWS, f"1 to {_MOST_ROWS:,} rows")
        check_field(self, "dense", min(self.dense, default=1) >= 1, "widths of 1 or more")
        if self.history % self.patch:
            fitting = [n for n in range(1, self.history + 1) if self.history % n == 0]
            raise InputError(
                f"patch={self.patch} does not divide history={self.history}; "
                f"use --patch {min(fitting, key=lambda n: abs(n - self.patch))}, or another --history"
            )
        if self.season > self.history:
            raise InputError(f"season={self.season} exceeds history={self.history}; use a smaller --season")

    def unread(self) -> dict[str, str]:
        """Return what is not read as the rest is, and why."""
        return {"dropout": "a linear forecast drops nothing"} if self.model == "mlp" and not self.dense else {}


_ETTH1_GRU = Config(training=TrainingConfig(duration="10ep", patience=5), optimizer=OptimizerConfig(learning_rate=2e-3))
_ETTH1_TRANSFORMER = replace(
    _ETTH1_GRU,
    model="transformer",
    transformer=TransformerConfig(num_layers=2, model_dim=64),
    training=TrainingConfig(duration="3ep", patience=5),
)
PRESETS = {
    "forecast-gru": Preset(_ETTH1_GRU, "ETTh1, or your own CSV file: a GRU over patches, shared by the columns"),
    "forecast-transformer": Preset(
        _ETTH1_TRANSFORMER, "the same by a transformer over patches (--history 336 sees more)"
    ),
    "forecast-linear": Preset(
        replace(_ETTH1_GRU, model="mlp", dropout=0.0), "the same with one dense layer (with --dense 64, two)"
    ),
}


def load(config: Config) -> Splits:
    """Return windows of the series, standardised by its training rows, in the order of time."""
    series = config.series.load()
    assert series.split is not None
    return split_series(series, config.history, config.horizon, series.split)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner; the errors are those of standardised values."""

    def backbone(num_patches: int, patch: int, horizon: int, **options: Any) -> RNN | MLP | Transformer:
        options |= {"dropout": config.dropout}
        if config.model == "mlp":
            return MLP(num_patches * patch, config.dense, horizon, **options)
        if config.model == "transformer":
            options |= {"max_length": num_patches, "positions": config.transformer.positions, "pool": "all"}
            return Transformer(patch, *config.transformer.sizes, horizon, **options)
        return RNN(patch, config.recurrent.hidden, horizon, pool="last", **options, **config.recurrent.options())

    options = {"linear": config.model != "mlp", "patch": config.patch, "dtype": config.arithmetic.dtype}
    model = network(Forecaster, config.history, config.horizon, backbone, **options)
    metrics = {"mse": losses.mse, "mae": losses.mae}
    return supervised(model, LOSSES[config.loss], optimizer_for(config, spec), metrics)


def task(config: Config, spec: Spec) -> Task:
    """Return what is done with series."""
    return forecasts(spec, config.series, config.season)
