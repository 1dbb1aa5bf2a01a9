"""Disks that are full or read-only, and folders that are removed or moved: with the real thing."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import fails

from jaxnets import cli
from jaxnets.runs import checkpoint

RUN = ["digits-mlp", "--hidden", "64", "--duration", "200", "--evaluate-every", "30"]


@pytest.fixture
def disk(tmp_path):
    """Return a folder that is a disk of its own, and what changes it."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True)

    try:
        mount("size=400k")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system")
    yield folder, lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "-l", str(folder)], check=True)


def digest(run: Path, capsys) -> str:
    capsys.readouterr()
    assert cli.main(["verify", str(run)]) == 0
    return capsys.readouterr().out.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.bits
def test_on_a_full_disk_a_run_ends_and_goes_on_exactly_once_there_is_room(disk, tmp_path, capsys):
    folder, remount = disk
    assert cli.main(["train", *RUN, "--out", str(tmp_path / "whole")]) == 0
    run = folder / "run"
    printed = fails(capsys, "train", *RUN, "--save-every", "20", "--keep", "20", "--out", run)
    assert "cannot be saved: " in printed and "No space left" in printed and "older checkpoints are unharmed" in printed
    newest = digest(run, capsys)
    assert 0 < checkpoint.steps(run / "checkpoints")[-1] < 200
    assert not list(run.glob("checkpoints/*/.*")) and not list(run.glob("checkpoints/.*"))
    remount("ro")
    assert "cannot be written: " in (printed := fails(capsys, "resume", run)) and "Read-only" in printed
    assert digest(run, capsys) == newest
    assert cli.main(["evaluate", str(run)]) == 0
    remount("rw,size=20m")
    assert cli.main(["resume", str(run), "--exact"]) == 0
    assert digest(run, capsys) == digest(tmp_path / "whole", capsys)


@pytest.mark.slow
def test_a_full_disk_at_any_byte_is_an_error_of_ours(disk, capsys):
    """Whatever is being written when there is no room: settings, rows, states, curves or results."""
    folder, _ = disk
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    filler = folder / "filler"
    for room in (0, 8192, 16384, 98304, 196608):
        filler.write_bytes(bytes(free - room))
        printed = fails(capsys, "train", *RUN[:-4], "--duration", "30", "--save-every", "10", "--out", folder / "run")
        assert "No space left" in printed and "cannot be " in printed
        shutil.rmtree(folder / "run", ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("moved", [False, True])
def test_a_folder_that_is_removed_or_moved_is_noticed_within_one_save(moved, tmp_path):
    run = tmp_path / "run"
    command = ["train", "digits-mlp", "--hidden", "8", "--duration", "10m", "--schedule", "constant"]
    command += ["--save-every", "0.5s", "--out", str(run)]
    with subprocess.Popen([sys.executable, "-m", "jaxnets", *command], stderr=subprocess.PIPE, text=True) as process:
        while not checkpoint.steps(run / "checkpoints"):
            assert process.poll() is None
            time.sleep(0.01)
        run.rename(tmp_path / "elsewhere")
        if not moved:
            shutil.rmtree(tmp_path / "elsewhere")
        _, printed = process.communicate(timeout=50)
    assert process.returncode == 2
    assert "is no longer there; was the run's folder removed, or moved?" in printed and "Traceback" not in printed
    assert not run.exists()
    if moved:
        assert cli.main(["verify", str(tmp_path / "elsewhere")]) == 0
        assert json.loads((tmp_path / "elsewhere" / "config.json").read_text())["recipe"] == "digits-mlp"
