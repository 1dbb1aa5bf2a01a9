"""The forecasting recipe from the outside: a CSV file in, forecasts in its own units out, beside two baselines."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers import fails

from jaxnets import cli
from jaxnets.data import Data
from jaxnets.tasks import forecasts

SHAPE = ["--history", "24", "--horizon", "12", "--season", "12"]
COMMON = [*SHAPE, "--batch-size", "16", "--learning-rate", "1e-2"]
SMALL = [*COMMON, "--dropout", "0", "--patch", "6", "--hidden", "8"]


def write(path: Path, months: int = 180, last: str = "") -> Path:
    """Write a yearly wave on a trend (thousands), and its mirror image (hundredths)."""
    n = np.arange(months)
    wave = 100 + n / 4 + 20 * np.sin(2 * np.pi * n / 12) + np.random.default_rng(0).normal(size=months)
    times = np.datetime64("1990-01") + n
    rows = [f"{time},{value * 1000:.1f},{-value / 100:.5f}" for time, value in zip(times, wave, strict=True)]
    path.write_text("\n".join(["month,passengers,debt", *rows]) + "\n" + last)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with a series and a run of two seeds on it."""
    folder = tmp_path_factory.mktemp("forecasting")
    flags = ["--data", str(write(folder / "a.csv")), "--duration", "30ep", "--seeds", "2"]
    assert cli.main(["train", "forecast-gru", *flags, *SMALL, "--out", str(folder / "run")]) == 0
    return folder


def predicted(capsys, *arguments: object) -> list[dict]:
    capsys.readouterr()
    assert cli.main(["predict", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_errors_stand_beside_those_of_baselines(folder):
    result = json.loads((folder / "run" / "result.json").read_text())
    baselines = {f"test/{metric}_of_{name}" for metric in ("mse", "mae") for name in ("seasonal_naive", "linear")}
    assert set(result["baselines"]) == baselines
    assert result["metrics"]["test/mse"]["mean"] < 0.5 * result["baselines"]["test/mse_of_seasonal_naive"]
    assert result["baselines"]["test/mse_of_linear"] < 0.2 * result["baselines"]["test/mse_of_seasonal_naive"]
    assert (folder / "run" / "forecasts.png").stat().st_size > 20_000
    column = json.loads((folder / "run" / "spec.json").read_text())["columns"]["inputs"]
    assert column["features"] == ["passengers", "debt"] and 90e3 < column["mean"][0] < 140e3


def test_predictions_are_the_rows_that_follow(folder, capsys):
    rows = predicted(capsys, folder / "run", folder / "a.csv")
    assert [row["month"] for row in rows] == [f"2005-{month:02d}" for month in range(1, 13)]
    n = np.arange(180, 192)
    wave = 100 + n / 4 + 20 * np.sin(2 * np.pi * n / 12)
    np.testing.assert_allclose([row["passengers"] for row in rows], wave * 1000, rtol=0.06)
    np.testing.assert_allclose([row["debt"] for row in rows], -wave / 100, rtol=0.06)
    both = predicted(capsys, folder / "run", folder / "a.csv", folder / "a.csv")
    assert len(both) == 24 and both[0] == {"file": str(folder / "a.csv"), **rows[0]}


def test_columns_are_taken_by_name(folder, capsys):
    """In another order, with one more, and no more rows than are looked back on."""
    lines = [line.split(",") for line in (folder / "a.csv").read_text().splitlines()]
    other = [",".join([month, "x", debt, passengers]) for month, passengers, debt in [lines[0], *lines[-24:]]]
    (folder / "b.csv").write_text("\n".join(other))
    assert predicted(capsys, folder / "run", folder / "b.csv") == predicted(capsys, folder / "run", folder / "a.csv")
    (folder / "b.csv").write_text("\n".join(other[:-1]))
    assert "23 rows, but the model looks back on 24" in fails(capsys, "predict", folder / "run", folder / "b.csv")
    (folder / "b.csv").write_text("\n".join(other).replace("debt", "dept"))
    error = fails(capsys, "predict", folder / "run", folder / "b.csv")
    assert "no column 'debt' (did you mean 'dept'?)" in error


def test_the_data_that_a_forecast_starts_from_are_checked(folder, capsys):
    path = write(folder / "c.csv", last="2004-12,1,2\n")
    error = fails(capsys, "predict", folder / "run", path)
    assert "row 182: 2004-12 is the same as row 181's 2004-12" in error
    path = write(folder / "c.csv", last="2005-01,,2\n")
    assert "column 'passengers' misses 1 of 181 values" in fails(capsys, "train", "forecast-gru", "--data", path)


def test_rows_that_are_not_as_far_apart_as_those_trained_on_are_refused(folder, capsys):
    days = "".join(f"2020-01-{day:02d},{day},{day}\n" for day in range(1, 31))
    (folder / "days.csv").write_text(f"month,passengers,debt\n{days}")
    error = fails(capsys, "predict", folder / "run", folder / "days.csv")
    assert "days.csv: its rows are 1 D apart, those that the model was trained on 1 months" in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--history", "100"], "patch=12 does not divide history=100; use --patch 10, or another --history"),
        (["--horizon", "0"], "horizon=0 must be 1 to 1,000,000 rows"),
        (["--patch", "-1"], "patch=-1 must be 1 to"),
        (["--season", "97"], "season=97 exceeds history=96; use a smaller --season"),
        (["--dropout", "1"], "dropout=1.0 must be in [0, 1)"),
        (["--hidden", "0"], "hidden=(0,) must be widths of 1 or more"),
        (
            ["--data", "etth2"],
            "data='etth2' is not etth1, a CSV file, here or in JAXNETS_DATA (did you mean 'etth1'?)",
        ),
        (["--data", "a.csv"], "a.csv' is not etth1, a CSV file"),
    ],
)
def test_flags_that_are_refused(flags, message, capsys):
    assert message in fails(capsys, "train", "forecast-gru", *flags)


@pytest.mark.parametrize(
    "flags",
    [
        ["--model", "mlp", "--dense", "4", "--loss", "mse"],
        ["--cell", "lstm", "--hidden", "8", "--precision", "bfloat16"],
    ],
)
def test_every_model_builds(folder, flags, capsys):
    options = ["--data", str(folder / "a.csv"), "--average", "0.9", "--dry-run"]
    assert cli.main(["train", "forecast-gru", *options, *COMMON, *flags]) == 0


def test_baselines():
    """A line goes on for the linear map, whatever its slope; what repeats itself does for the seasonal-naive one."""
    slopes = np.random.default_rng(0).normal(size=(50, 1, 2))
    lines = 3 + slopes * np.arange(8)[:, None]
    train = Data(inputs=lines[:40, :5], labels=lines[:40, 5:])
    np.testing.assert_allclose(forecasts.linear(train, lines[40:, :5], 1e-12), lines[40:, 5:], atol=1e-5)
    window = np.array([9, 1, 2, 3.0])[None, :, None]
    assert forecasts.seasonal_naive(window, 5, 3).ravel().tolist() == [1, 2, 3, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "most"),
    [pytest.param("forecast-gru", 0.384, marks=pytest.mark.release), ("forecast-linear", 0.395)],
)
def test_results(preset, most, tmp_path):
    """One seed of each result on ETTh1, with room for its spread; the README's figures are of five."""
    if not (Path(os.environ.get("JAXNETS_DATA", "/nowhere")) / "ett").is_dir():
        pytest.skip("needs ETTh1: set JAXNETS_DATA to a folder with ett/ETTh1.csv in it")
    assert cli.main(["train", preset, "--out", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["metrics"]["test/mse"]["mean"] < most
    assert result["baselines"]["test/mse_of_linear"] == pytest.approx(0.3833, abs=1e-3)
    assert result["baselines"]["test/mse_of_seasonal_naive"] == pytest.approx(0.5122, abs=1e-3)
