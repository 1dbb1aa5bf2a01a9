"""Forecast what follows the last rows of a series: ETTh1's hourly measurements, or a user's own CSV file."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits, datasets, read_series, split_series
from jaxnets.data.series import Fill, following
from jaxnets.errors import InputError, check_field
from jaxnets.learner import Learner, TrainState
from jaxnets.learners.supervised import supervised
from jaxnets.models import MLP, RNN, Forecaster, Transformer
from jaxnets.network import network
from jaxnets.options.choices import CELLS, DTYPES, CellName, Precision
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer
from jaxnets.options.training import TrainingConfig
from jaxnets.options.transformer import TransformerConfig
from jaxnets.recipes.recipe import Finished, Outputs, Preset
from jaxnets.runs import plots
from jaxnets.transforms.averaged import averaged

LOSSES = {"mse": losses.mse, "mae": losses.mae, "huber": losses.huber}
ETTH1_SPLIT = (8640.0, 2880.0, 2880.0)  # hours of 12, 4 and 4 months of 30 days, as everyone splits it


@dataclass(frozen=True)
class Config:
    """A model that forecasts the next rows of a series from the last, each column from its own past."""

    data: str = "etth1"
    """etth1, or the path of a CSV file with a header and a column of times, gzipped or not"""
    data_dir: Path | None = None
    """where etth1's ETTh1.csv is; else JAXNETS_DATA, else the cache folder, into which it is fetched"""
    time: str | None = None
    """the column of times (numbers or ISO 8601, rising in even steps); the first if absent"""
    columns: tuple[str, ...] = ()
    """the columns to forecast; all others if there are none"""
    fill: Fill = "error"
    """what becomes of missing values: an error, or the previous value of their column"""
    irregular: bool = False
    """take the rows as equally far apart, whatever their times, such as trading days"""
    history: int = 96
    """rows that are seen"""
    horizon: int = 96
    """rows that are forecast"""
    season: int = 24
    """rows after which the series repeats itself, for the seasonal-naive baseline"""
    split: tuple[float, float, float] | None = None
    """training, validation and test rows, in the order of time: fractions, or counts; 0.7 0.1 0.2 if absent, and for
    etth1 the usual 8640 2880 2880"""
    model: Literal["rnn", "mlp", "transformer"] = "rnn"
    """what is shared by the columns: a recurrent network or a transformer over patches, with a linear path beside it,
    or dense layers"""
    cell: CellName = "gru"
    """the recurrent cell: rnn (Elman), lstm or gru"""
    hidden: tuple[int, ...] = (64,)
    """widths of the recurrent or dense hidden layers"""
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """how large a transformer"""
    patch: int = 12
    """rows of one step of the recurrent network or transformer; divides the history"""
    dropout: float = 0.1
    """probability that a feature is dropped in training"""
    loss: Literal["mse", "mae", "huber"] = "huber"
    """what training minimises, of standardised values; mse and mae are reported in any case"""
    precision: Precision = "float32"
    """dtype of the network's arithmetic; weights, normalisation and losses are float32 in both"""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """how long, in which batches"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """by which rule, at which rate"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "dropout", 0 <= self.dropout < 1, "in [0, 1)")
        for name in ("history", "horizon", "season", "patch"):
            check_field(self, name, getattr(self, name) >= 1, "1 row or more")
        if self.history % self.patch:
            fitting = [n for n in range(1, self.history + 1) if self.history % n == 0]
            raise InputError(
                f"patch={self.patch} does not divide history={self.history}; "
                f"use --patch {min(fitting, key=lambda n: abs(n - self.patch))}, or another --history"
            )
        if self.season > self.history:
            raise InputError(f"season={self.season} exceeds history={self.history}; use a smaller --season")
        if min(self.hidden, default=1) < 1 or (self.model == "rnn" and not self.hidden):
            raise InputError(f"hidden={self.hidden}: widths must be 1 or more, and an rnn has at least one layer")


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
        replace(_ETTH1_GRU, model="mlp", hidden=(), dropout=0.0),
        "the same with one dense layer (with --hidden 64, two)",
    ),
}


def load(config: Config) -> Splits:
    """Return windows of the series, standardised by its training rows, in the order of time."""
    split = config.split or (ETTH1_SPLIT if config.data == "etth1" else (0.7, 0.1, 0.2))
    if config.data == "etth1":
        (path,) = datasets.located("ett", datasets.ETTH1, config.data_dir).values()
    else:
        path = datasets.find_file(config.data, "a CSV file", ["etth1"])
    series = read_series(path, config.time, config.columns, fill=config.fill, irregular=config.irregular)
    return split_series(series, config.history, config.horizon, split)


def build(config: Config, spec: Spec) -> Learner:
    """Return the learner; the errors are those of standardised values."""

    def backbone(num_patches: int, patch: int, horizon: int, **options: Any) -> RNN | MLP | Transformer:
        options |= {"dropout": config.dropout}
        if config.model == "mlp":
            return MLP(num_patches * patch, config.hidden, horizon, **options)
        if config.model == "transformer":
            options |= {"max_length": num_patches, "positions": config.transformer.positions, "pool": "all"}
            return Transformer(patch, *config.transformer.sizes, horizon, **options)
        return RNN(patch, config.hidden, horizon, cell=CELLS[config.cell], pool="last", **options)

    options = {"linear": config.model != "mlp", "patch": config.patch, "dtype": DTYPES[config.precision]}
    model = network(Forecaster, config.history, config.horizon, backbone, **options)
    tx = make_optimizer(config.optimizer, config.training.num_steps(spec.num_examples))
    metrics = {"mse": losses.mse, "mae": losses.mae}
    learner = supervised(model, LOSSES[config.loss], tx, metrics, accumulate=config.optimizer.accumulate)
    return averaged(learner, config.optimizer.average) if config.optimizer.average else learner


def predict(config: Config, spec: Spec, given: Sequence[str], outputs: Outputs) -> list[dict[str, Any]]:
    """Return the rows that follow each CSV file's last: their times, and each column in its own unit.

    Other columns than those that the model was trained on are left aside.
    """
    column, rows = spec["inputs"], []
    mean, std = np.array(column.mean), np.array(column.std)
    for file in given:
        series = read_series(Path(file), config.time, column.features, fill=config.fill, irregular=config.irregular)
        if len(series.values) < config.history:
            raise InputError(
                f"{file}: {len(series.values)} rows, but the model looks back on {config.history}; give more"
            )
        window = ((series.values[-config.history :] - mean) / std).astype(np.float32)
        forecast = outputs(window[None])[0] * std + mean  # [H, C]
        times = following(series.times, config.horizon, irregular=config.irregular)
        which = {"file": file} if len(given) > 1 else {}
        for time, values in zip(times, forecast.tolist(), strict=True):
            rows.append({**which, series.time: time, **dict(zip(series.names, values, strict=True))})
    return rows


def finish(config: Config, splits: Splits, learner: Learner, states: Sequence[TrainState], folder: Path) -> Finished:
    """Draw forecasts of test windows, and return the test errors of two baselines."""
    test = splits.test
    assert test is not None
    forecasts = {
        "seasonal naive": seasonal_naive(test["inputs"], config.horizon, config.season),
        "linear": linear(splits.train, test["inputs"]),
    }
    metrics = {}
    for name, forecast in forecasts.items():
        error = forecast - test["labels"]
        metrics[f"test/mse of {name}"] = float(np.mean(error**2, dtype=np.float64))
        metrics[f"test/mae of {name}"] = float(np.mean(np.abs(error), dtype=np.float64))
    picked = np.linspace(0, test.num_examples - 1, 5).astype(int)[1:4]
    column = test.spec["inputs"]

    def in_units(values: Any) -> np.ndarray:
        return np.asarray(values, np.float64) * np.array(column.std) + np.array(column.mean)

    drawn = {
        "forecast": learner.predict(states[0], test["inputs"][picked]),
        "seasonal naive": forecasts["seasonal naive"][picked],
    }
    plots.save_forecasts(
        folder / "forecasts.png",
        in_units(test["inputs"][picked]),
        in_units(test["labels"][picked]),
        {name: in_units(values) for name, values in drawn.items()},
        column.features,
    )
    return Finished(baselines=metrics)


def seasonal_naive(inputs: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """Return the last ``season`` rows over and over, [N, L, C] -> [N, H, C]."""
    return inputs[:, -season:][:, np.arange(horizon) % season]


def linear(train: Data, inputs: np.ndarray, ridge: float = 1e-4) -> np.ndarray:
    """Return the forecasts of one linear map shared by the columns, [N, L, C] -> [N, H, C].

    It maps a window less its last value to what follows less that value (NLinear of Zeng et al., 2023), and is the
    least-squares solution in float64, with a penalty of ``ridge`` times the mean square of a window's values.
    """

    def centred(window: np.ndarray, column: int) -> np.ndarray:
        x = (window[:, :, column] - window[:, -1:, column]).astype(np.float64)
        x[:, -1] = 1.0  # the last value is 0 now: its place is the intercept's
        return x

    gram, product = 0.0, 0.0
    for column in range(inputs.shape[-1]):
        x = centred(train["inputs"], column)
        y = train["labels"][:, :, column] - train["inputs"][:, -1:, column]
        gram, product = gram + x.T @ x, product + x.T @ y
    gram = np.asarray(gram)
    weights = np.linalg.solve(gram + ridge * np.diag(gram).mean() * np.eye(len(gram)), product)  # [L, H]
    columns = [centred(inputs, column) @ weights + inputs[:, -1:, column] for column in range(inputs.shape[-1])]
    return np.stack(columns, -1)
