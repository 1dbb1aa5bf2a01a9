"""Tables from the command line: train, predict a user's own file, and what is refused."""

import csv
import json
import re

import numpy as np
import pytest
from helpers import fails

from jaxnets import cli
from jaxnets.data import Data, Splits, fit_encoder
from jaxnets.data.raw import Raw
from jaxnets.inference import clinical
from jaxnets.tasks import table_baselines, table_choice
from jaxnets.tasks.table_classes import _cost

RANDOM = np.random.default_rng(0)
ROWS = 400
SMALL = [
    "--batch-size",
    "32",
    "--hidden",
    "8",
    "--members",
    "2",
    "--embedding",
    "4",
    "--learning-rate",
    "0.02",
    "--duration",
    "8ep",
]


def make_table():
    """Return rows of which "size" and "home" tell the label, and "noise" nothing."""
    size, home = RANDOM.normal(size=ROWS), RANDOM.choice(["own", "rent", "boat"], ROWS)
    score = 2 * size + np.where(home == "own", 2.0, -1.0) + 0.3 * RANDOM.normal(size=ROWS)
    texts = [f"{x:.3f}" if i % 10 else "" for i, x in enumerate(size)]
    columns = {"key": range(ROWS), "size": texts, "home": home, "noise": RANDOM.integers(0, 9, ROWS)}
    return columns | {"late": np.where(score > 0, "yes", "no"), "amount": [f"{100 + 10 * x:.2f}" for x in score]}


def write(path, columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    columns = make_table()
    write(folder / "late.csv", {name: values for name, values in columns.items() if name != "amount"})
    write(folder / "amount.csv", {name: values for name, values in columns.items() if name != "late"})
    write(folder / "new.csv", {name: columns[name][:5] for name in ("noise", "home", "size")})
    return folder


@pytest.mark.slow
def test_classes_from_training_to_a_file_of_ones_own(folder, capsys, monkeypatch):
    run = folder / "run"
    flags = ["--data", str(folder / "late.csv"), "--label", "late", "--costs", "5", "1", "--positive", "yes"]
    assert cli.main(["train", "table", *flags, *SMALL, "--out", str(run)]) == 0
    printed = capsys.readouterr()
    assert "left out: key (identifier: rows are numbered)" in printed.err
    chosen = json.loads((run / "config.json").read_text())["config"]["settings"]
    losses = {name: float(loss) for name, loss in re.findall(r"(as-told|strong-decay|linear) (\d+\.\d+)", printed.err)}
    assert len(losses) == 3 and chosen == min(losses, key=lambda name: losses[name]) and "over 5 folds" in printed.err
    result = json.loads((run / "result.json").read_text())
    assert result["metrics"]["test/auroc"]["mean"] > 0.9
    names = ("logistic_regression", "boosting")
    assert all(0.9 < result["baselines"][f"test/auroc_of_{name}"] < 1.001 for name in names)
    assert result["metrics"]["test/mean_cost"]["mean"] < 0.6  # of saying "yes" always; of "no" more than 2
    ranked = [row["column"] for row in csv.DictReader((run / "importance.csv").read_text().splitlines())]
    assert ranked[-1] == "noise" and (run / "table.png").stat().st_size > 10_000
    monkeypatch.setattr(table_choice, "fit", None)  # what was chosen is the run's, wherever it is read
    assert cli.main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test/auroc"] == result["metrics"]["test/auroc"]
    assert cli.main(["predict", str(run), str(folder / "new.csv"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in rows] == [0, 1, 2, 3, 4] and {row["class"] for row in rows} <= {"yes", "no"}
    lacking = write(folder / "lacking.csv", {"noise": [1], "home": ["own"]})
    assert "lacks size" in fails(capsys, "predict", str(run), str(lacking))
    text = write(folder / "text.csv", {"noise": [1], "home": ["own"], "size": ["large"]})
    assert "column 'size', row 2: 'large' is not a number" in fails(capsys, "predict", str(run), str(text))
    assert "nothing is given; give CSV or Parquet files" in fails(capsys, "predict", str(run))


@pytest.mark.slow
def test_values_and_their_quantiles(folder, capsys):
    run = folder / "values"
    flags = [
        "--data",
        str(folder / "amount.csv"),
        "--label",
        "amount",
        "--quantiles",
        "0.1",
        "0.9",
        *("--settings", "as-told"),
    ]
    assert cli.main(["train", "table", *flags, *SMALL, "--duration", "30ep", "--linear", "--out", str(run)]) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["metrics"]["test/r2"]["mean"] > 0.7 and 0.5 < result["metrics"]["test/coverage"]["mean"] < 1
    assert result["baselines"]["test/r2_of_ridge"] > 0.7 and "test/pinball_of_boosting" in result["baselines"]
    capsys.readouterr()
    assert cli.main(["predict", str(run), str(folder / "new.csv"), "--json"]) == 0
    for row in json.loads(capsys.readouterr().out):
        assert row["quantile 0.1"] < row["quantile 0.9"] and 20 < row["value"] < 180


@pytest.mark.slow
def test_what_is_of_another_kind_of_labels_is_refused(folder, capsys):
    late = ["train", "table", "--data", str(folder / "late.csv"), "--label", "late", "--dry-run"]
    assert "are of values, and the labels are classes" in fails(capsys, *late, "--quantiles", "0.5")
    assert "positive='maybe' is no class" in fails(capsys, *late, "--positive", "maybe")
    assert "label=None: name the column" in fails(capsys, *late[:4], "--dry-run")
    amount = ["train", "table", "--data", str(folder / "amount.csv"), "--label", "amount", "--dry-run"]
    assert "is of two classes, and the labels are values" in fails(capsys, *amount, "--positive", "yes")


def splits_of(values, labels):
    raw = {name: Raw(name, column) for name, column in values.items()}
    encoder = fit_encoder(raw, dict.fromkeys(raw, "number"), np.arange(200))
    inputs = encoder.encode(raw)
    parts = [Data(inputs=inputs[rows], labels=labels[rows]) for rows in (slice(200), slice(200, 300), slice(300, None))]
    return encoder, Splits(parts[0], parts[1], parts[2])


def test_what_stands_beside_is_chosen_on_the_validation_rows():
    from sklearn.linear_model import Ridge

    values = {"a": RANDOM.normal(size=ROWS), "b": RANDOM.normal(size=ROWS)}
    labels = values["a"] + RANDOM.normal(size=ROWS)
    encoder, splits = splits_of(values, labels)
    say = table_baselines.fitted_values(encoder, splits, ())
    rows = {name: data["inputs"][:, :2].astype(np.float64) for name, data in splits.parts.items()}
    fits = [Ridge(alpha=alpha).fit(rows["train"], splits.train["labels"]) for alpha in (1.0, 10.0, 100.0)]
    errors = [np.square(fit.predict(rows["validation"]) - splits.validation["labels"]).mean() for fit in fits]
    want = fits[int(np.argmin(errors))].predict(rows["test"])
    np.testing.assert_allclose(say["ridge"](splits.test["inputs"])[:, 0], want, rtol=1e-6)
    assert set(say) == {"ridge", "boosting"}


def test_the_threshold_that_costs_least_is_of_the_validation_rows():
    scores, chosen = (RANDOM.random((50, 2)) for _ in range(2))
    test, choose = (Data(inputs=np.zeros((50, 1)), labels=RANDOM.integers(0, 2, 50)) for _ in range(2))

    def cost(found, data, threshold):
        said, true = found[:, 1] >= threshold, data["labels"] == 1
        return (3 * (true & ~said) + 1 * (~true & said)).mean()

    tried = [cost(chosen, choose, threshold) for threshold in [np.inf, *chosen[:, 1]]]
    best = [np.inf, *chosen[:, 1]][int(np.argmin(tried))]
    assert abs(_cost(scores, chosen, test, choose, 1, (3.0, 1.0)) - cost(scores, test, best)) < 1e-9
    assert clinical.decisions(chosen[:, 1], choose["labels"] == 1).thresholds[0] == np.inf
