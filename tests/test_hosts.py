"""Several processes that train one run together, over gloo on one machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnets as jn
from jaxnets.commands.joining import Hosts, join
from jaxnets.hosts import by_writer, check_alike, first, is_writer, most, on_host
from jaxnets.runs import checkpoint
from jaxnets.runs.folder import Run

ROOT = Path(__file__).parent.parent
LIMIT = 300  # seconds, for a machine that is busy


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


class Processes:
    """So many processes of one command, given ``arguments(process)``."""

    def __init__(self, number, arguments, folder, devices=1):
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": folder}
        options["env"] = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
        self.all = [subprocess.Popen([sys.executable, *arguments(i)], **options) for i in range(number)]

    def ended(self):
        """Return the exit status of each, and what it printed."""
        try:
            outputs = [process.communicate(timeout=LIMIT) for process in self.all]
        finally:
            for process in self.all:
                process.kill()
        return [process.returncode for process in self.all], [out + err for out, err in outputs]


def command(number, words, folder, extra=lambda process: [], devices=1):
    port = free_port()

    def arguments(process):
        several = ["--coordinator", f"localhost:{port}", "--process", str(process), "--processes", str(number)]
        return ["-m", "jaxnets", *words, *extra(process), *(several if number > 1 else [])]

    return Processes(number, arguments, folder, devices)


def digest(folder):
    arrays, _ = checkpoint.read(Run(folder / "run").checkpoints, 450)
    return checkpoint.digest(arrays)


def wait_for_checkpoint(folder, step):
    """Wait until ``step`` is saved: a row of metrics is written before the checkpoint of its step."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        if Run(folder / "run").num_steps >= step:
            return
        time.sleep(0.1)
    raise AssertionError("no checkpoint in time")


TRAIN = ["train", "digits-mlp", "--out", "run", "--duration", "450", "--evaluate-every", "30", "--save-every", "60"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, pytest.param(4, marks=pytest.mark.release)])
def test_the_losses_are_those_of_one_process_and_each_reads_its_share(number, tmp_path):
    script, port = str(Path(__file__).with_name("hosts_process.py")), free_port()
    several = Processes(number, lambda i: [script, str(port), str(i), str(number)], tmp_path)
    alone = Processes(1, lambda i: [script, "0", "0", "1"], tmp_path, devices=number)
    statuses, outputs = several.ended()
    (status,), (expected,) = alone.ended()
    assert statuses == [0] * number and status == 0, outputs
    found = [json.loads(next(line for line in out.splitlines() if line.startswith("{"))) for out in outputs]
    one = json.loads(next(line for line in expected.splitlines() if line.startswith("{")))
    assert len({result["digest"] for result in found}) == 1
    assert "bad steps were left out" in one["reason"]
    for result in found:
        assert result["reason"] == one["reason"]
        assert result["rows"] * number == one["rows"]
        for row, wanted in zip(result["history"], one["history"], strict=True):
            for name, value in wanted.items():
                np.testing.assert_allclose(row[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a run of two processes that nothing broke."""
    folder = tmp_path_factory.mktemp("whole")
    statuses, outputs = command(2, TRAIN, folder).ended()
    assert statuses == [0, 0], outputs
    assert "to resume: jaxnets resume run with --distributed" in outputs[0] and "accuracy" not in outputs[1]
    return folder


def assert_goes_on_as(whole, broken):
    """Assert that a run goes on, in two processes, to the state and the rows of one that nothing broke."""
    assert Run(broken / "run").num_steps < 450
    statuses, outputs = command(2, ["resume", "run", "--exact"], broken).ended()
    assert statuses == [0, 0], outputs
    assert digest(broken) == digest(whole)
    rows = [[{**row, "seconds": 0} for row in Run(folder / "run").history()] for folder in (broken, whole)]
    assert rows[0] == rows[1]  # one writer: no row twice


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_the_run_goes_on_exactly(whole, tmp_path):
    processes = command(2, TRAIN, tmp_path)
    wait_for_checkpoint(tmp_path, 60)
    processes.all[1].send_signal(signal.SIGTERM)
    statuses, outputs = processes.ended()
    assert statuses == [128 + signal.SIGTERM] * 2, outputs
    assert "everything is saved" in outputs[0]
    assert_goes_on_as(whole, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("which", [1, pytest.param(0, marks=pytest.mark.release)])
def test_when_one_is_killed_the_others_end_and_the_run_goes_on_exactly(whole, which, tmp_path):
    processes = command(2, TRAIN, tmp_path)
    wait_for_checkpoint(tmp_path, 60)
    processes.all[which].kill()
    began = time.monotonic()
    statuses, outputs = processes.ended()
    assert time.monotonic() - began < 120
    assert all(statuses), outputs
    assert Run(tmp_path / "run").num_steps >= 60
    assert_goes_on_as(whole, tmp_path)
    statuses, outputs = command(1, ["resume", "run", "--mesh", "data=1", "--duration", "480"], tmp_path).ended()
    assert statuses == [0], outputs
    assert Run(tmp_path / "run").num_steps == 480  # and in one process


@pytest.mark.slow
def test_other_options_in_one_process_are_told_in_all(tmp_path):
    rate = ["--learning-rate"]
    statuses, outputs = command(2, TRAIN, tmp_path, lambda process: [*rate, f"{1e-3 * (1 + process)}"]).ended()
    assert statuses == [2, 2], outputs
    assert all("process 1 of 2 has other options than process 0" in output for output in outputs)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_the_writer_alone_finds_is_told_in_all(tmp_path):
    (tmp_path / "file").touch()
    words = ["train", "digits-mlp", "--out", "file/run", "--duration", "10"]
    statuses, outputs = command(2, words, tmp_path).ended()
    assert statuses == [2, 2], outputs
    assert "cannot be written" in outputs[0] and "process 0 could not go on" in outputs[1]


BY_HAND = {"coordinator": "localhost:1234", "process": 1, "processes": 2}
WRONG = {
    "processes must be given, too": {"coordinator": "localhost:1234", "process": 0},
    "coordinator must be given, too": {"process": 0, "processes": 2},
    "process=2 must be a whole number from 0 to 1": {**BY_HAND, "process": 2},
    "processes=0 must be a whole number of 1 or more": {**BY_HAND, "processes": 0},
    "coordinator='localhost' must be HOST:PORT": {**BY_HAND, "coordinator": "localhost"},
    "coordinator='localhost:99999' must be HOST:PORT": {**BY_HAND, "coordinator": "localhost:99999"},
    "join_timeout=0 must be": {**BY_HAND, "join_timeout": 0},
    "join_timeout=5 changes nothing": {"join_timeout": 5},
}


@pytest.mark.parametrize("said", WRONG)
def test_wrong_options_are_told(said):
    with pytest.raises(jn.InputError, match=said):
        join(Hosts(**WRONG[said]))


def test_a_coordinator_that_does_not_answer_is_told():
    port = free_port()
    with pytest.raises(jn.InputError, match=f"localhost:{port} did not answer in 1 s .*is process 0 running there"):
        join(Hosts(coordinator=f"localhost:{port}", process=1, processes=2, join_timeout=1))


@pytest.mark.slow
def test_no_cluster_is_told(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("SLURM", "OMPI", "KUBERNETES", "JAX_COORD"))]:
        monkeypatch.delenv(name)
    statuses, (said,) = command(1, ["train", "digits-mlp", "--distributed", "--duration", "1"], tmp_path).ended()
    assert statuses == [2]
    assert "neither SLURM, Open MPI, Kubernetes nor a TPU pod has started this process" in said


def test_a_process_that_has_computed_cannot_join():
    jax.devices()
    with pytest.raises(jn.InputError, match="has computed something before it could join the others, as finetune"):
        join(Hosts(coordinator=f"localhost:{free_port()}", process=0, processes=1))


def test_alone_nothing_is_shared():
    assert is_writer() and first(0.1) == 0.1 and most(3) == 3
    check_alike("options", "abc")
    calls = []
    by_writer(lambda: calls.append(1))
    assert calls == [1]
    array = np.arange(3)
    copy = on_host({"a": array})["a"]
    copy[0] = 7
    assert array[0] == 0
