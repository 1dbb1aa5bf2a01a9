"""Forecasts: the rows that follow a series' last, beside what simple methods say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data import Data, Series, Spec, Splits, read_series
from jaxnets.data.times import following
from jaxnets.errors import InputError
from jaxnets.options import SeriesData
from jaxnets.runs import plots
from jaxnets.tasks.task import Examples, Finished, Row, Task, Trained

_MOST_COLUMNS = 8  # that are drawn


class _Read(NamedTuple):
    """The series of each file, and their last windows, standardised [N, L, C]."""

    series: list[Series]
    windows: np.ndarray


def forecasts(spec: Spec, source: SeriesData, season: int) -> Task:
    """Return the task of windows [L, C] that continue as [H, C], standardised as ``spec`` says.

    Args:
        spec: of the training data.
        source: how files are read.
        season: rows after which the series repeats itself.
    """
    column = spec["inputs"]
    history, horizon = column.shape[0], spec["labels"].shape[0]
    mean, std = np.array(column.mean), np.array(column.std)

    def in_units(values: Any) -> np.ndarray:
        return np.asarray(values, np.float64) * std + mean

    def read(given: Sequence[str], options: object) -> Examples:
        """Read CSV files; other columns than those that the model was trained on are left aside."""
        if not given:
            raise InputError("nothing is given; give CSV files")
        found = []
        for file in given:
            series = read_series(Path(file), source.time, column.features, fill=source.fill, irregular=source.irregular)
            if len(series.values) < history:
                raise InputError(f"{file}: {len(series.values)} rows, but the model looks back on {history}; give more")
            if series.step and column.step and series.step != column.step:
                raise InputError(
                    f"{file}: its rows are {series.step} apart, those that the model was trained on {column.step}; "
                    "give it rows as far apart as those"
                )
            found.append(series)
        windows = np.stack([(series.values[-history:] - mean) / std for series in found]).astype(np.float32)
        return Examples([{"file": file} if len(given) > 1 else {} for file in given], _Read(found, windows))

    def predict(trained: Trained, examples: Examples) -> np.ndarray:
        return in_units(trained.mean(examples.inputs.windows))  # [N, H, C]

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        printed = []
        for name, series, forecast in zip(examples.names, examples.inputs.series, made.tolist(), strict=True):
            times = following(series.times, horizon, irregular=source.irregular)
            heading = f"{series.time} (UTC)" if series.utc else series.time
            for time, values in zip(times, forecast, strict=True):
                printed.append({**name, heading: time, **dict(zip(series.names, values, strict=True))})
        return printed

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Draw forecasts of test windows, and return the test errors of two baselines."""
        test = splits.test
        assert test is not None
        simple = {
            "seasonal_naive": seasonal_naive(test["inputs"], horizon, season),
            "linear": linear(splits.train, test["inputs"]),
        }
        baselines = {}
        for name, forecast in simple.items():
            error = forecast - test["labels"]
            baselines[f"test/mse_of_{name}"] = float(np.mean(error**2, dtype=np.float64))
            baselines[f"test/mae_of_{name}"] = float(np.mean(np.abs(error), dtype=np.float64))
        picked = np.linspace(0, test.num_examples - 1, 5).astype(int)[1:4]
        drawn = {
            "forecast": trained.learner.predict(trained.first, test["inputs"][picked]),
            "seasonal naive": simple["seasonal_naive"][picked],
        }
        save_forecasts(
            folder / "forecasts.png",
            in_units(test["inputs"][picked]),
            in_units(test["labels"][picked]),
            {name: in_units(values) for name, values in drawn.items()},
            column.features,
        )
        return Finished(baselines=baselines)

    return Task(read=read, predict=predict, rows=rows, finish=finish)


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


def save_forecasts(
    path: Path,
    history: np.ndarray,
    truth: np.ndarray,
    forecasts: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> None:
    """Save forecasts beside what came, a row of panels for each column (up to eight), a panel for each window.

    Args:
        path: of the picture.
        history: what was seen, [N, L, C].
        truth: what came, [N, H, C].
        forecasts: by name, [N, H, C].
        names: of the C columns.
    """
    rows, (windows, length) = min(len(names), _MOST_COLUMNS), history.shape[:2]
    figure = plots.figure(figsize=(5 * windows, 0.6 + 2.2 * rows))
    panels = figure.subplots(rows, windows, squeeze=False, sharex=True, sharey="row")
    past, ahead = np.arange(-length, 0), np.arange(truth.shape[1])
    for (column, window), axes in np.ndenumerate(panels):
        seen = history[window, :, column]
        axes.plot(past, seen, color="0.5", label="history")
        axes.plot([-1, *ahead], [seen[-1], *truth[window, :, column]], color="k", linewidth=1, label="truth")
        for name, values in forecasts.items():
            axes.plot(ahead, values[window, :, column], label=name, linewidth=1.8 if name == "forecast" else 1)
        axes.axvline(-0.5, color="0.8", linewidth=1)
        axes.set_title(names[column], fontsize="medium", loc="left")
        axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("rows from the first that is forecast")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
    figure.savefig(path, dpi=100)
