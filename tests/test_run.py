"""A run's folder: what it holds, that it can be gone on with, and that signals lose nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_bits, fails, quick, small_learner

import jaxnets as jn
from jaxnets import cli
from jaxnets.data import Splits
from jaxnets.options.training import TrainingConfig
from jaxnets.runs import checkpoint
from jaxnets.runs.folder import Run, RunConfig
from jaxnets.runs.signals import Interrupted
from jaxnets.runs.training import spread, train
from jaxnets.training.plan import check
from jaxnets.training.progress import Display

TRAINING = TrainingConfig(duration="40", batch_size=16, evaluate_every="10")
LEARNER = small_learner(dropout=0.3)
QUIET = Display(quiet=True)
pytestmark = pytest.mark.usefixtures("heeded_signals")


@pytest.fixture(scope="module")
def splits(blobs):
    return Splits(*(blobs.take(slice(a, b)) for a, b in ((0, 90), (90, 120), (120, 150))))


def start(path, splits, seeds=(0,)):
    run = Run.unused(path, "blobs")
    run.create(RunConfig("blobs", {}, seeds), splits)
    return run


@pytest.fixture(scope="module")
def unbroken(splits, tmp_path_factory):
    run = start(tmp_path_factory.mktemp("run") / "a", splits)
    trained(run, LEARNER, splits, TRAINING, QUIET)
    return run


def trained(run, learner, splits, training, display, **options):
    plan = check(learner, splits.train, **training.options(), seed=run.config.seed, validation=splits.validation)
    return train(run, plan, splits.test, display, **options)


def without_time(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_what_the_folder_holds(unbroken, splits):
    assert {path.name for path in unbroken.path.iterdir()} == {
        "config.json",
        "spec.json",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
        "curves.png",
        "result.json",
    }
    environment = json.loads((unbroken.path / "environment.json").read_text())
    assert environment["jax"] == jax.__version__ and environment["devices"] == ["cpu"]
    assert environment["data"] == splits.fingerprint
    assert unbroken.spec == splits.train.spec
    assert unbroken.config == RunConfig("blobs", {}, (0,))
    lines = (unbroken.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10, 20, 30, 40]


def test_result(unbroken, splits):
    result = unbroken.result
    assert result["steps"] == 40 and result["stop_reason"] == "completed 40 steps"
    assert result["parameters"] == 4 * 16 + 16 + 16 * 3 + 3
    assert result["seconds"] >= result["compile_seconds"] > 0
    state = unbroken.train_state(LEARNER)
    accuracy = jn.evaluate(LEARNER, state, splits.test)["accuracy"]
    assert result["metrics"]["test/accuracy"] == {"mean": accuracy, "std": None, "values": [accuracy]}
    assert set(result["metrics"]) == {"validation/loss", "validation/accuracy", "test/loss", "test/accuracy"}


def test_several_seeds(splits, tmp_path):
    run = start(tmp_path / "a", splits, (3, 4, 5))
    result = trained(run, jn.population(LEARNER, 3), splits, TRAINING, QUIET)
    values = result["metrics"]["test/accuracy"]["values"]
    assert len(values) == 3
    assert result["metrics"]["test/accuracy"]["std"] == pytest.approx(np.std(values, ddof=1))
    assert result["parameters"] == 4 * 16 + 16 + 16 * 3 + 3
    alone = trained(start(tmp_path / "b", splits, (4,)), LEARNER, splits, TRAINING, QUIET)
    assert alone["metrics"]["test/accuracy"]["values"] == [values[1]]


def test_spread():
    assert spread(2.0) == {"mean": 2.0, "std": None, "values": [2.0]}
    assert spread([1.0, 3.0]) == {"mean": 2.0, "std": pytest.approx(2**0.5), "values": [1.0, 3.0]}


class Interrupting(Display):
    """Send this process a signal when the run reaches a step."""

    def __init__(self, step, number):
        super().__init__(quiet=True)
        self.step, self.number = step, number

    def show(self, event):
        if self.step is not None and event.step >= self.step and event.kind in ("chunk", "evaluation"):
            self.step, handler = None, signal.getsignal(self.number)
            os.kill(os.getpid(), self.number)
            while signal.getsignal(self.number) is handler:
                time.sleep(0.001)  # until Python has called it, and it has put back the one before


@pytest.mark.bits
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", quick([25, 1, 10, 40]))
def test_interrupted_and_resumed_equals_unbroken(number, step, splits, unbroken, tmp_path, monkeypatch):
    monkeypatch.setattr(train.__globals__["follow"].__globals__["_Loop"], "advance", one_step)
    run = start(tmp_path / "a", splits)
    with pytest.raises(Interrupted) as interrupted:
        trained(run, LEARNER, splits, TRAINING, Interrupting(step, number))
    assert interrupted.value.status == 128 + number
    assert run.result is None and checkpoint.steps(run.checkpoints) == [step]
    again = Run.open(run.path)
    result = trained(again, LEARNER, splits, TRAINING, QUIET, resume=True)
    assert_same_bits(again.train_state(LEARNER), unbroken.train_state(LEARNER))
    assert without_time(again.history()) == without_time(unbroken.history())
    assert result["metrics"] == unbroken.result["metrics"]
    assert result["seconds"] > again.history()[0]["seconds"]


def test_a_signal_that_is_ignored_stays_ignored(splits, unbroken, tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    class Watching(Display):
        def show(self, event):
            os.kill(os.getpid(), signal.SIGINT)

    run = start(tmp_path / "a", splits)
    assert trained(run, LEARNER, splits, TRAINING, Watching(quiet=True))["metrics"] == unbroken.result["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("patience", quick([2, None]))
def test_ended_but_without_a_result(patience, splits, tmp_path, monkeypatch):
    """Killed in the final evaluation: what is resumed trains no further, whichever weights were kept."""
    training = TrainingConfig(duration="40", batch_size=16, evaluate_every="10", patience=patience, min_delta=10.0)
    wanted = trained(start(tmp_path / "a", splits), LEARNER, splits, training, QUIET)
    run = start(tmp_path / "b", splits)
    with monkeypatch.context() as patch:
        patch.setitem(train.__globals__, "_result", lambda *_: (_ for _ in ()).throw(SystemExit(9)))
        with pytest.raises(SystemExit):
            trained(run, LEARNER, splits, training, QUIET)
    log = (run.path / "metrics.jsonl").read_text()
    result = trained(run, LEARNER, splits, training, QUIET, resume=True)
    assert (run.path / "metrics.jsonl").read_text() == log
    for name in ("metrics", "steps", "stop_reason"):
        assert result[name] == wanted[name]
    assert result["steps"] == (30 if patience else 40)


def test_times_are_of_the_whole_run(splits, tmp_path, monkeypatch):
    run = start(tmp_path / "a", splits)
    with pytest.raises(Interrupted):
        trained(run, LEARNER, splits, TRAINING, Interrupting(10, signal.SIGTERM))
    _, facts = checkpoint.read(run.checkpoints, run.num_steps)
    seconds, compile_seconds, _ = facts["elapsed"]
    result = trained(run, LEARNER, splits, TRAINING, QUIET, resume=True)
    assert result["seconds"] > seconds > compile_seconds > 0
    assert result["compile_seconds"] > compile_seconds


def test_a_run_from_before_there_were_meshes_has_not_changed(splits, tmp_path):
    run = start(tmp_path / "a", splits)
    facts = run.facts()
    asked = {name: value for name, value in facts["config"].items() if name not in ("mesh", "fully_sharded")}
    assert run.changes(facts | {"config": asked}) == run.changes({"spec": facts["spec"]}) == []
    (change,) = run.changes(facts | {"config": asked | {"mesh": "data=8"}})
    assert change == "config.mesh was 'data=8' and is None"


def one_step(self, until, advance=jn.events.__globals__["_Loop"].advance):
    self.num = 1
    return advance(self, until)


def test_nothing_is_saved_between_a_bad_step_and_the_evaluation_after_it(splits, tmp_path):
    run, state = start(tmp_path / "a", splits), jn.RunState(jn.TrainState(jnp.int32(10), {}, (), {}), {})
    happened = [
        jn.Event("skipped", state, 10, 40, reason="left out step 10"),
        jn.Event("evaluation", state, 10, 40, {"step": 10}),
    ]
    saved = []
    saver = SimpleNamespace(see=lambda event, last: saved.append(event.kind))
    with pytest.raises(Interrupted):
        train.__globals__["_follow"](run, iter(happened), QUIET, lambda state, step: None, [2], saver)
    assert saved == ["evaluation"] and [row["step"] for row in run.history()] == [10]


def test_killed_before_the_first_checkpoint(splits, unbroken, tmp_path):
    run = start(tmp_path / "a", splits)
    (run.path / "metrics.jsonl").write_text('{"step": 10, "train/loss": 99.0}\n')
    trained(run, LEARNER, splits, TRAINING, QUIET, resume=True)
    assert_same_bits(run.train_state(LEARNER), unbroken.train_state(LEARNER))
    assert without_time(run.history()) == without_time(unbroken.history())


def test_rows_after_the_checkpoint_are_written_again(splits, unbroken, tmp_path, monkeypatch):
    """After ``kill -9`` the log may be ahead of the checkpoint, and its last line cut off."""
    monkeypatch.setattr(train.__globals__["follow"].__globals__["_Loop"], "advance", one_step)
    run = start(tmp_path / "a", splits)
    with pytest.raises(Interrupted):
        trained(run, LEARNER, splits, TRAINING, Interrupting(15, signal.SIGTERM))
    with (run.path / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 20, "train/loss": 99.0}) + '\n{"step": 30, "tra')
    trained(run, LEARNER, splits, TRAINING, QUIET, resume=True)
    assert without_time(run.history()) == without_time(unbroken.history())


def test_handlers_are_put_back(splits, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    trained(start(tmp_path / "a", splits), LEARNER, splits, TRAINING, QUIET)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_trains_outside_the_main_thread(splits, tmp_path):
    run = start(tmp_path / "a", splits)
    thread = threading.Thread(target=trained, args=(run, LEARNER, splits, TRAINING, QUIET))
    thread.start()
    thread.join()
    assert run.result["steps"] == 40


def test_metrics_that_are_not_finite_are_null(splits, tmp_path):
    run = start(tmp_path / "a", splits)
    result = trained(run, small_learner(tx=optax.sgd(1e30)), splits, TRAINING, QUIET)
    assert "diverged" in result["stop_reason"]
    text = (run.path / "metrics.jsonl").read_text() + (run.path / "result.json").read_text()
    assert "NaN" not in text and "Infinity" not in text and "null" in text


class TestRefuses:
    def test_a_folder_that_holds_a_run(self, unbroken):
        with pytest.raises(jn.InputError, match="already holds a run; resume it"):
            Run.unused(unbroken.path, "blobs")

    def test_a_folder_that_holds_none(self, tmp_path):
        with pytest.raises(jn.InputError, match="holds no run"):
            Run.open(tmp_path)

    def test_other_data(self, unbroken, splits):
        unbroken.check_data(splits)
        other = replace(splits, test=splits.validation)
        with pytest.raises(jn.InputError, match="the test data are not those that the run began with"):
            unbroken.check_data(other)

    def test_a_folder_that_cannot_be_made(self, splits, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(jn.InputError, match="cannot be written"):
            start(tmp_path / "file" / "run", splits)

    def test_another_model(self, unbroken):
        other = jn.supervised(jn.network(jn.models.MLP, 4, (8,), 3), jn.losses.softmax_cross_entropy, optax.adam(1e-2))
        with pytest.raises(jn.InputError, match=r"params/hidden/0/layer/bias is float32\[16\], not float32\[8\]"):
            unbroken.train_state(other)


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize("number", [signal.SIGINT])
def test_a_process_that_is_stopped_says_how_to_go_on(number, tmp_path, capsys):
    """The same from outside: a real process, stopped in the middle and resumed, against one that was not."""
    arguments = ["train", "digits-mlp", "--duration", "4000", "--out"]
    with subprocess.Popen(
        [sys.executable, "-m", "jaxnets", *arguments, str(tmp_path / "a")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (log := tmp_path / "a" / "metrics.jsonl").exists() or not log.read_text():
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert f"interrupted by {signal.Signals(number).name} at step" in out and "Traceback" not in err
    *_, again = out.strip().splitlines()
    assert again.split() == ["jaxnets", "resume", str(tmp_path / "a")]
    assert cli.main(again.split()[1:]) == cli.main([*arguments, str(tmp_path / "b")]) == 0
    ends = [Run.open(tmp_path / name) for name in "ab"]
    assert ends[0].result["metrics"] == ends[1].result["metrics"]
    assert without_time(ends[0].history()) == without_time(ends[1].history())
    digests = {checkpoint.digest(checkpoint.read(run.checkpoints, 4000)[0]) for run in ends}
    assert len(digests) == 1


SERIES = ["--history", "12", "--horizon", "3", "--season", "6", "--batch-size", "16", "--duration", "20"]


@pytest.mark.slow
def test_data_that_were_here_are_found_from_elsewhere_and_moved_ones_by_their_new_name(tmp_path, monkeypatch, capsys):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir(), elsewhere.mkdir()
    values = np.random.default_rng(0).normal(size=300)
    (here / "series.csv").write_text("time,a\n" + "".join(f"{i},{value:.4f}\n" for i, value in enumerate(values)))
    monkeypatch.chdir(here)
    assert cli.main(["train", "forecast-linear", "--data", "series.csv", *SERIES, "--out", "run"]) == 0
    (here / "run" / "result.json").unlink()
    monkeypatch.chdir(elsewhere)
    assert cli.main(["resume", str(here / "run"), "--exact"]) == 0
    (here / "series.csv").rename(elsewhere / "moved.csv")
    (elsewhere / "other.csv").write_text((elsewhere / "moved.csv").read_text().replace("\n5,", "\n5,1"))
    for command in ("evaluate", "resume"):
        (here / "run" / "result.json").unlink(missing_ok=True)
        message = f"its data were {here}/series.csv, which is no longer there; say where: --data PATH"
        assert message in fails(capsys, command, here / "run")
        assert "are not those that the run began with" in fails(capsys, command, here / "run", "--data", "other.csv")
        exact = ["--exact"] * (command == "resume")
        assert cli.main([command, str(here / "run"), "--data", "moved.csv", *exact]) == 0
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", str(here / "run")]) == 0
