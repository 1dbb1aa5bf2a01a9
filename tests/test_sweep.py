"""The command that trains many trials as few programs."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import fails

import jaxnets as jn
from jaxnets import cli
from jaxnets.options.varying import drawn, read_grid, value_of, with_fields, with_traced
from jaxnets.recipes.recipe import find
from jaxnets.runs import sweep_plots, sweeps
from jaxnets.runs.competition import Competition

MLP = ("sweep", "digits-cnn", "--model", "mlp", "--hidden", "8", "--evaluate-every", "10", "--duration", "20")
RATES = ("--grid", "learning_rate=1e-4:1e-1:log4")


def rows_of(folder):
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "s"
    grids = (*RATES, "--grid", "weight_decay=0,0.1")
    assert cli.main([*MLP, *grids, "--seeds", "2", "--out", str(out)]) == 0
    return out


def test_a_table_ranks_all_trials(swept):
    rows = rows_of(swept)
    assert [row["rank"] for row in rows] == [str(i) for i in range(1, 9)]
    scores = [float(row["validation/loss"]) for row in rows]
    assert scores == sorted(scores) and all(float(row["validation/loss std"]) >= 0 for row in rows)
    assert {(row["learning_rate"], row["weight_decay"]) for row in rows} == {
        (rate, decay) for rate in ("0.0001", "0.001", "0.01", "0.1") for decay in ("0.0", "0.1")
    }
    assert len(sweeps.open_sweep(swept).groups) == 1  # one program
    assert (swept / "sweep.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_trial_is_the_run_alone(swept, tmp_path):
    row = rows_of(swept)[0]
    rate, decay = row["learning_rate"], row["weight_decay"]
    flags = ("--learning-rate", rate, "--weight-decay", decay, "--seeds", "2", "--out", str(tmp_path / "a"))
    assert cli.main(["train", *MLP[1:], *flags]) == 0
    alone = json.loads((tmp_path / "a" / "result.json").read_text())["metrics"]
    best = json.loads((swept / "best" / "result.json").read_text())["metrics"]
    assert alone.keys() == best.keys()
    for name, values in alone.items():
        np.testing.assert_allclose(best[name]["values"], values["values"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(float(row["validation/loss"]), alone["validation/loss"]["mean"], rtol=1e-4)


def test_the_best_trial_is_a_run_like_any_other(swept, capsys):
    best = swept / "best"
    assert cli.main(["evaluate", str(best), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(
        metrics["validation/loss"]["mean"], float(rows_of(swept)[0]["validation/loss"]), rtol=1e-4
    )
    opened = jn.open_run(best)
    assert opened.predict(np.zeros((3, 8, 8, 1), np.uint8)).shape == (2, 3, 10)
    assert [row["step"] for row in map(json.loads, (best / "metrics.jsonl").read_text().splitlines())] == [10, 20]
    assert cli.main(["resume", str(best), "--duration", "30"]) == 0


def test_a_sweep_that_has_ended_is_not_trained_again(swept, capsys):
    before = (swept / "0" / "result.json").stat().st_mtime_ns
    assert cli.main(["resume", str(swept)]) == 0
    assert (swept / "0" / "result.json").stat().st_mtime_ns == before
    assert "validation/loss" in capsys.readouterr().out


@pytest.mark.slow
def test_what_decides_the_program_is_several_in_one_table(tmp_path):
    out = tmp_path / "s"
    grids = ("--grid", "hidden=8,8 8", "--grid", "validation=0.1,0.2", "--grid", "learning_rate=1e-3,1e-2")
    assert cli.main([*MLP, *grids, "--out", str(out)]) == 0
    sweep = sweeps.open_sweep(out)
    assert [group.alike for group in sweep.groups] == [
        {"hidden": list(hidden), "validation": part} for hidden in ((8,), (8, 8)) for part in (0.1, 0.2)
    ]
    assert [group.trials for group in sweep.groups] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert len(rows_of(out)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("how", ["halving", "pbt"])
def test_trials_that_compete(how, tmp_path):
    out, flags = tmp_path / "s", {"halving": ("--halving", "3"), "pbt": ("--pbt",)}[how]
    ranges = ("--grid", "learning_rate=1e-4:1:log", "--grid", "dropout=0,0.1", "--random", "9")
    small = [*MLP[:-4], "--evaluate-every", "2", "--duration", "20"]
    assert cli.main([*small, *ranges, *flags, "--out", str(out)]) == 0
    steps = [int(row["steps"]) for row in rows_of(out)]
    assert steps == ([20, 6, 6, *[2] * 6] if how == "halving" else [20] * 9)
    assert (out / "best" / "result.json").exists() and (out / "sweep.png").exists()


@pytest.mark.slow
@pytest.mark.bits
def test_a_sweep_that_was_killed_goes_on_with_its_bits(swept, tmp_path):
    killed = tmp_path / "s"
    grids = (*RATES, "--grid", "weight_decay=0,0.1", "--grid", "hidden=8,16")
    flags = [*MLP[:-2], "--duration", "400", *grids, "--seeds", "2", "--save-every", "50"]
    whole = tmp_path / "whole"
    assert cli.main([*flags, "--out", str(whole)]) == 0
    for number in ("0", "1"):
        process = subprocess.Popen([sys.executable, "-m", "jaxnets", *flags, "--out", str(killed)] if number == "0" else
                                   [sys.executable, "-m", "jaxnets", "resume", str(killed)])  # fmt: skip
        while process.poll() is None and not list((killed / number / "checkpoints").glob("*/manifest.json")):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert cli.main(["resume", str(killed)]) == 0
    times = ("seconds",)
    for a, b in zip(rows_of(killed), rows_of(whole), strict=True):
        assert {k: v for k, v in a.items() if k not in times} == {k: v for k, v in b.items() if k not in times}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "a sweep needs --grid"),
        (("--grid", "learning_rat=1,2"), "no option of this recipe (did you mean 'learning_rate'?)"),
        (("--grid", "learning_rate"), "must be NAME=VALUE"),
        (("--grid", "learning_rate=1e-3,x"), "learning_rate='x' is no value of --learning-rate"),
        (("--grid", "learning_rate=0.1,-1"), "learning_rate=-1.0 must be a number greater than 0"),
        (("--grid", "learning_rate=1:0.1:log3"), "the low end first"),
        (("--grid", "learning_rate=0:1:log3"), "ends above 0"),
        (("--grid", "learning_rate=0.1:1:log"), "say how many values, log8, or --random N"),
        (("--grid", "learning_rate=0.1:1:log1"), "must be a whole number from 2"),
        (("--grid", "learning_rate=1e-5:1:log200", "--grid", "dropout=0:0.9:lin200"), "40,000 trials are more"),
        (("--grid", "dropout=0,1"), "dropout=1.0 must be in [0, 1)"),
        (("--grid", "width=8,16"), "width=8 changes nothing with model='mlp'"),
        (("--grid", "learning_rate=1,2", "--grid", "learning-rate=3,4"), "name each once"),
        ((*RATES, "--by", "validation/acc"), "by='validation/acc' ranks nothing; choose one of"),
        ((*RATES, "--halving", "1"), "halving=1 must be a whole number of 2 or more"),
        ((*RATES, "--halving", "3", "--pbt"), "two ways to compete"),
        ((*RATES, "--pbt", "--seeds", "2"), "each member is a trial"),
        (("--grid", "hidden=8,16", "--halving", "2"), "hidden decides what is compiled"),
        ((*RATES, "--seeds", "0"), "seeds=0"),
        ((*RATES, "--random", "0"), "random=0"),
        (("--grid", "label_smoothing=0,0.1"), "label_smoothing changes what validation/loss measures"),
        (("--grid", "flip=ture,false"), "flip='ture' must be true or false"),
        (("--grid", "batch_size=64.4,32"), "batch_size='64.4' is no value of --batch-size"),
        (("--grid", "hidden=8,"), "hidden: a value is empty"),
        ((*RATES, "--halving", "2", "--duration", "2s", "--schedule", "constant"), "not in time"),
    ],
)
def test_what_is_no_sweep(capsys, tmp_path, flags, message):
    assert message in fails(capsys, *MLP, *flags, "--out", str(tmp_path / "s"))
    assert not (tmp_path / "s").exists()


def test_a_folder_that_holds_a_sweep_is_not_another_s(swept, capsys):
    assert "already holds a sweep; resume it" in fails(capsys, *MLP, *RATES, "--out", swept)
    assert "its best trial is a run" in fails(capsys, "evaluate", swept)
    assert "goes on as it was" in fails(capsys, "resume", swept, "--duration", "40")


def test_a_changed_sweep_is_told(swept, tmp_path, capsys):
    told = json.loads((swept / "sweep.json").read_text())
    for change in ({"trials": told["trials"][:3]}, {"names": ["learning_rate"]}, {"seeds": []}):
        (tmp_path / "sweep.json").write_text(json.dumps(told | change))
        assert "do not belong together" in fails(capsys, "resume", tmp_path)


def test_values_are_read_as_flags_are():
    config = find("digits-cnn").config
    assert read_grid("learning-rate=1e-4:1e-1:log4").values == ("0.0001", "0.001", "0.01", "0.1")
    assert read_grid("dropout=0:0.5:lin3").values == ("0", "0.25", "0.5")
    assert (
        value_of(config, "hidden", "64 32") == (64, 32) and value_of(config, "batch_size", "31.7", rounded=True) == 32
    )
    assert value_of(config, "flip", "true") is True and value_of(config, "optimizer", "adam") == "adam"
    changed = with_fields(config, {"learning_rate": 0.5, "dropout": 0.1})
    assert changed.optimizer.learning_rate == 0.5 and changed.dropout == 0.1
    assert with_traced(config, {"learning_rate": -1.0}).optimizer.learning_rate == -1.0


def test_what_is_drawn_lies_in_its_range():
    random = np.random.default_rng(0)
    values = [float(drawn(read_grid("a=1e-4:1:log"), random)) for _ in range(500)]
    assert min(values) >= 1e-4 and max(values) <= 1 and 0.005 < np.median(values) < 0.02
    assert {drawn(read_grid("a=1,2"), random) for _ in range(50)} == {"1", "2"}


def test_pictures_of_words_and_of_many_options(tmp_path, swept):
    sweep = sweeps.open_sweep(swept)
    found = sweeps.rows(swept, sweep)
    names = ("optimizer", "learning_rate", "dropout")
    rows = [row._replace(values=dict(zip(names, ("adam", 0.1, 0.0), strict=True))) for row in found]
    rows[0] = rows[0]._replace(values=dict(zip(names, ("sgd", 0.2, 0.5), strict=True)))
    for kept in (names, names[:1]):
        path = tmp_path / f"{len(kept)}.png"
        sweep_plots.save_sweep(path, swept, sweep.__class__(**{**vars(sweep), "names": kept}), rows)
        assert path.stat().st_size > 10_000


def test_trials_are_ranked_by_score_and_what_is_no_number_comes_last(swept, monkeypatch):
    """Of unlike batches an epoch has unlike numbers of steps; of halving, those that went on are the better ones."""
    row = sweeps.rows(swept, sweeps.open_sweep(swept))[0]
    scores, steps = [np.nan, 0.4, 0.3, 0.5, np.inf], [90, 10, 20, 30, 5]
    made = [row._replace(trial=i, scores=np.array([scores[i]]), steps=steps[i]) for i in range(5)]
    monkeypatch.setattr(sweeps, "_rows_of", lambda path, sweep, number: iter(made))

    def ranked(**changes):
        return [row.trial for row in sweeps.rows(swept, dataclasses.replace(sweeps.open_sweep(swept), **changes))]

    assert ranked() == [2, 1, 3, 0, 4]
    assert ranked(better="higher") == [3, 1, 2, 0, 4]
    assert ranked(competition=Competition("halving", "validation/loss")) == [3, 2, 1, 0, 4]
    assert ranked(competition=Competition("population", "validation/loss")) == [2, 1, 3, 0, 4]


@pytest.mark.slow
def test_a_trial_that_breaks_spoils_no_other(tmp_path):
    out, short = tmp_path / "s", [*MLP[:-4], "--duration", "2ep", "--optimizer", "sgd"]
    assert cli.main([*short, "--grid", "learning_rate=0.02,1e30", "--out", str(out)]) == 0
    assert [row["learning_rate"] for row in rows_of(out)] == ["0.02", "1e+30"]
    assert json.loads((out / "best" / "result.json").read_text())["stop_reason"].startswith("ended at step")


@pytest.mark.slow
def test_a_value_that_leaves_a_part_of_the_optimizer_out_is_a_program_of_its_own(tmp_path):
    out = tmp_path / "s"
    flags = ("--grid", "weight_decay=0,10", "--optimizer", "sgd", "--learning-rate", "0.01")
    assert cli.main([*MLP, *flags, "--out", str(out)]) == 0
    assert len(sweeps.open_sweep(out).groups) == 2 and (out / "best" / "result.json").exists()


@pytest.mark.slow
def test_values_stay_in_their_ranges_where_they_move(tmp_path):
    out = tmp_path / "s"
    small = [*MLP[:-4], "--evaluate-every", "2", "--duration", "20", "--optimizer", "momentum"]
    assert cli.main([*small, "--grid", "momentum=0.8,0.9,0.95,0.99", "--pbt", "--out", str(out)]) == 0
    values = [float(row["momentum"]) for row in rows_of(out)]
    assert max(values) < 1 and (out / "best" / "result.json").exists()
