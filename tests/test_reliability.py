"""Faults that befall a run's folder: flipped bits, cuts, kills at any moment of a save, a second process, edits."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_same_bits, fails
from saved import STATES, saved, saver

from jaxnets import InputError, cli
from jaxnets.runs import checkpoint
from jaxnets.runs.folder import Run
from jaxnets.training.events import Event

SHORT = ["--duration", "60", "--evaluate-every", "20", "--hidden", "8"]


class Killed(BaseException):
    """What a kill is to the process: nothing more is done."""


def loaded(folder: Path, step: int) -> dict:
    arrays, facts = checkpoint.read(folder, step)
    assert facts["step"] == step and facts["reason"] == ""
    return {"a": arrays["a"], "b": {"c": arrays["b/c"]}}


@pytest.mark.parametrize("file", ["manifest.json", "state-*.safetensors"])
@pytest.mark.parametrize("number", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_no_flip_or_cut_goes_unseen(file, number, tmp_path):
    """Each is found, and the state before it is used; or, in the manifest's white space, it changed nothing."""
    saved(tmp_path, 3, 6)
    (path,) = (tmp_path / f"{6:010d}").glob(file)
    whole, random, found = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(number):
        place = int(random.integers(len(whole)))
        bad = bytearray(whole)
        bad[place] ^= 1 << int(random.integers(8))
        path.write_bytes(whole[:place] if random.random() < 0.2 else bytes(bad))
        try:
            assert_same_bits(loaded(tmp_path, 6), STATES[6])
        except InputError:
            found += 1
    assert found == number


def test_the_newest_sound_state_is_used_and_that_is_said(tmp_path, capsys):
    saved(tmp_path, 3, 6)
    (path,) = (tmp_path / f"{6:010d}").glob("state-*")
    path.write_bytes(path.read_bytes()[:-1])
    template = STATES[3]
    state, facts = checkpoint.restore(tmp_path, template)
    assert facts["step"] == 3
    assert_same_bits(state, STATES[3])
    assert "is not what was saved" in capsys.readouterr().err
    (tmp_path / f"{3:010d}" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"no checkpoint is sound: .*0000000006.*0000000003.*cannot be read"):
        checkpoint.restore(tmp_path, template)


def at_once(folder: Path, step: int) -> None:
    checkpoint.save(folder, step, STATES[9], {"reason": ""})


def in_a_thread(folder: Path, step: int) -> None:
    with saver(folder, save_every="1") as beside:
        beside.see(Event("chunk", STATES[9], step, None))


NAMES = ["mkdir", "replace", "rename", "open", "fsync", "unlink", "rmdir"]


@pytest.mark.parametrize("save", [at_once, in_a_thread])
@pytest.mark.parametrize("again", [False, True], ids=["a new step", "the same step"])
def test_killed_at_any_moment_of_a_save_the_newest_or_the_one_before_is_there(again, save, tmp_path, monkeypatch):
    """The calls of the system that a save makes are counted, and it is killed before each of them in turn."""
    step, moments = 6 if again else 9, 0
    while True:
        folder = saved(tmp_path / str(moments), 3, 6)
        left = [moments]

        def dying(name, left=left):
            real = getattr(os, name)

            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in NAMES:
                patch.setattr(os, name, dying(name))
            try:
                save(folder, step)
                ended = True
            except Killed:
                ended = False
        newest = checkpoint.steps(folder)[-1]
        assert newest in ((9,) if ended and not again else (6, 9))
        state = loaded(folder, newest)
        assert_same_bits(state, STATES[9] if state["a"][0] == 9 else STATES[6])
        for listed in checkpoint.steps(folder)[:-1]:
            loaded(folder, listed)
        checkpoint.save(folder, 9, STATES[9], {"reason": ""})
        assert_same_bits(loaded(folder, 9), STATES[9])
        assert sorted(path.name for path in folder.iterdir()) == [f"{6:010d}", f"{9:010d}"]
        if ended:
            break
        moments += 1
    assert moments > 8


def test_checkpoints_of_before_there_were_checksums_are_read(tmp_path):
    target = saved(tmp_path, 3) / f"{3:010d}"
    next(target.glob("state-*")).rename(target / "state.safetensors")
    (target / "manifest.json").write_text(json.dumps({"step": 3, "reason": ""}))
    assert_same_bits(loaded(tmp_path, 3), STATES[3])


# A checkpoint as the first schema with checksums wrote it, byte by byte: later versions read it.
ARRAYS = b'8\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  \0\0\0\0\0\0\x80?'
MANIFEST = (
    '{"body": {"schema": 1, "step": 3, "state": "state-0d6c9f036e2d9944.safetensors", "sha256": '
    '"0d6c9f036e2d9944cb0687f646b029c5e97639832b1469dc481d9da549527a7f", "facts": {"reason": ""}}, "sha256": '
    '"5c0ddf1bd0fdbde7f896067e2f156c9c8f8e09e1849c2ed05fb2941425c45141"}'
)


def test_checkpoints_of_the_first_schema_are_read(tmp_path):
    target = tmp_path / f"{3:010d}"
    target.mkdir()
    (target / "state-0d6c9f036e2d9944.safetensors").write_bytes(ARRAYS)
    (target / "manifest.json").write_text(MANIFEST)
    arrays, facts = checkpoint.read(tmp_path, 3)
    assert_same_bits(arrays, {"a": np.arange(2, dtype=np.float32)})
    assert facts == {"reason": "", "step": 3}


def test_a_checkpoint_of_a_newer_version_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SCHEMA", 2)
    saved(tmp_path, 3)
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"saved by a newer jaxnets \(schema 2, this one has 1\)"):
        checkpoint.restore(tmp_path, STATES[3])


def test_digests_are_equal_for_equal_states_alone():
    one, other = {"a": np.zeros(3), "b": np.ones(2)}, {"b": np.ones(2), "a": np.zeros(3)}
    assert checkpoint.digest(one) == checkpoint.digest(other)
    others = [{"a": np.zeros((3, 1))}, {"a": np.zeros(3, np.float32)}, {"a": np.full(3, -0.0)}, {"c": np.zeros(3)}]
    for changed in others:
        assert checkpoint.digest(one) != checkpoint.digest(one | changed)


HOLD = """
import sys, time
from pathlib import Path
from jaxnets.runs.folder import Run
from jaxnets.training.events import Event
with Run(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_a_dead_ones_folder_is_free(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        message = f"process {process.pid} on .* trains in it; wait until it has ended"
        with pytest.raises(InputError, match=message), Run(tmp_path).held():
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with Run(tmp_path).held():
        pass


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    kept = ["--save-every", "20", "--keep", "1", "--keep-every", "20", "--keep-best", "validation/accuracy"]
    assert cli.main(["train", "digits-mlp", *SHORT, *kept, "--out", str(folder)]) == 0
    return folder


def copy_of(run: Path, folder: Path) -> Path:
    """Return a copy of a run that has not ended: its result is not there."""
    subprocess.run(["cp", "-r", run, folder], check=True)
    (folder / "result.json").unlink()
    return folder


def test_verify(unbroken, tmp_path, capsys):
    capsys.readouterr()
    assert cli.main(["verify", str(unbroken)]) == 0
    printed = capsys.readouterr().out
    assert [f"step {step}: sound" in printed for step in (20, 40, 60)] == [True] * 3
    digest = printed.split()[-1]
    assert len(digest) == 64
    assert cli.main(["verify", str(unbroken / "checkpoints" / f"{40:010d}")]) == 0
    printed = capsys.readouterr().out
    assert "step 20" not in printed and printed.split()[-1] != digest
    again = copy_of(unbroken, tmp_path / "a")
    (state,) = (again / "checkpoints" / f"{60:010d}").glob("state-*")
    state.write_bytes(b"nothing")
    assert cli.main(["verify", str(again)]) in (1, 2)
    assert "step 60: damaged" in capsys.readouterr().out


def test_a_state_that_is_removed_meanwhile_is_not_damaged(unbroken, tmp_path, monkeypatch, capsys):
    run = copy_of(unbroken, tmp_path / "a")
    read = checkpoint.read

    def late(folder, step):
        if step == 20:
            shutil.rmtree(folder / f"{step:010d}")
        return read(folder, step)

    monkeypatch.setattr(checkpoint, "read", late)
    assert cli.main(["verify", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "step 20" not in printed and "step 40: sound" in printed


@pytest.mark.slow
def test_a_saved_state_that_is_not_the_newest_can_be_used(unbroken, capsys):
    losses = {}
    for name in ("checkpoints/0000000020", "checkpoints/0000000060", ""):
        capsys.readouterr()
        assert cli.main(["evaluate", str(unbroken / name), "--json"]) == 0
        losses[name] = json.loads(capsys.readouterr().out)["validation/loss"]["mean"]
    at_20, at_60, newest = losses.values()
    assert newest == at_60 != at_20
    rows = {row["step"]: row["validation/loss"] for row in Run.open(unbroken).history()}
    assert [rows[20], rows[60]] == [at_20, at_60]
    assert "a run goes on from its newest" in fails(capsys, "resume", unbroken / "checkpoints" / f"{20:010d}")
    assert "holds no run" in fails(capsys, "evaluate", unbroken / "checkpoints" / f"{30:010d}")


def test_resume_tells_what_has_changed_and_exact_refuses(unbroken, tmp_path, capsys):
    run = copy_of(unbroken, tmp_path / "a")
    config = json.loads((run / "config.json").read_text())
    assert config["config"]["training"]["batch_size"] == 64
    config["config"]["training"]["batch_size"] = 32
    (run / "config.json").write_text(json.dumps(config))
    printed = fails(capsys, "resume", run, "--exact")
    assert "cannot go on exactly: config.config.training.batch_size was 64 and is 32; undo that" in printed
    assert cli.main(["resume", str(run)]) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "warning: config.config.training.batch_size was 64 and is 32: the bits may be others" in printed
    same = copy_of(unbroken, tmp_path / "b")
    assert cli.main(["resume", str(same), "--exact"]) == 0


@pytest.mark.slow
def test_a_folder_that_a_killed_start_left_behind_can_be_used(tmp_path, capsys):
    (tmp_path / "a" / "checkpoints").mkdir(parents=True)
    (tmp_path / "a" / "spec.json").write_text("{}")
    assert cli.main(["train", "digits-mlp", *SHORT, "--duration", "2", "--out", str(tmp_path / "a")]) == 0
    assert "already holds a run" in fails(capsys, "train", "digits-mlp", *SHORT, "--out", tmp_path / "a")


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize("delay", [0.0, 1.0])
def test_hung_up_a_run_saves_and_goes_on_exactly(delay, tmp_path, capsys):
    flags = ["--duration", "4000", "--evaluate-every", "1000", "--hidden", "8"]
    assert cli.main(["train", "digits-mlp", *flags, "--out", str(tmp_path / "whole")]) == 0
    command = [sys.executable, "-m", "jaxnets", "train", "digits-mlp", *flags, "--out", str(tmp_path / "a")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        while "compiled in" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(delay)
        process.send_signal(signal.SIGHUP)
        # Late, it has ended: what is measured and drawn then is no longer guarded, and is made again.
        assert process.wait() in (0, 128 + signal.SIGHUP, -signal.SIGHUP)
    assert cli.main(["resume", str(tmp_path / "a"), "--exact"]) == 0
    capsys.readouterr()
    digests = []
    for name in ("whole", "a"):
        assert cli.main(["verify", str(tmp_path / name)]) == 0
        digests.append(capsys.readouterr().out.split()[-1])
    assert digests[0] == digests[1]


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_and_harms_nothing(tmp_path, monkeypatch):
    saved(tmp_path, 3)

    def full(*args, **kwargs):
        with Path("/dev/full").open("wb", buffering=0) as device:
            device.write(b"x")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(InputError, match=r"cannot be saved: .*No space left.*older checkpoints are unharmed"):
        checkpoint.save(tmp_path, 6, STATES[6], {"reason": ""})
    assert_same_bits(loaded(tmp_path, 3), STATES[3])
    assert checkpoint.steps(tmp_path) == [3]
