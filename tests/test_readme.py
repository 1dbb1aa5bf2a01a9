"""What the README shows is run: its example, its commands, and the scripts in ``examples``."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jaxnets import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line.startswith("jaxnets")
]
RESULTS = re.findall(r"^\|.*\| `(jaxnets train [^`]*)` \|", README, re.MULTILINE)


def run_python(*arguments: str, cwd: Path) -> str:
    options = ["-W", "error::DeprecationWarning", *arguments]
    done = subprocess.run([sys.executable, *options], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_has_at_most_twelve_lines_and_works():
    (example,) = [block for kind, block in BLOCKS if kind == "python"]
    assert len([line for line in example.splitlines() if line.strip()]) <= 12
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["logits"].shape == (360, 10)
    assert names["result"].history[-1]["validation/accuracy"] > 0.95


def test_the_commands_are_understood(tmp_path, monkeypatch, capsys):
    """Each command, in order, with training cut to an epoch."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    assert len(COMMANDS) > 10
    for command in COMMANDS:
        arguments = shlex.split(command)[1:]
        if arguments[0] == "train" and not {"--dry-run", "--overfit-one-batch"} & set(arguments):
            arguments += ["--duration", "1ep"]
        assert cli.main(arguments) == 0, command


@pytest.mark.slow
def test_the_commands_work_as_they_stand(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for command in COMMANDS:
        subprocess.run([sys.executable, "-m", *shlex.split(command)], cwd=tmp_path, check=True)


def test_the_results_name_commands_that_are_understood(tmp_path, monkeypatch, capsys, mnist_folder):
    monkeypatch.setenv("JAXNETS_DATA", str(mnist_folder.parent))
    monkeypatch.chdir(tmp_path)
    assert len(RESULTS) == 4
    for command in RESULTS:
        assert cli.main([*shlex.split(command)[1:], "--dry-run"]) == 0


def test_every_file_that_is_linked_or_named_is_there():
    for name in re.findall(r"`((?:examples|benchmarks|tests)/[\w/.]+)`|\]\((\w+\.md)\)", README):
        assert (ROOT / (name[0] or name[1])).exists(), name


@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_examples(example, tmp_path):
    path = ROOT / "examples" / example
    assert len(path.read_text().splitlines()) <= 80
    if example == "wine.py":  # a recipe
        arguments = ["-m", "jaxnets", "train", str(path), "--duration", "2ep", "--out", str(tmp_path / "run")]
        assert "test accuracy" in run_python(*arguments, cwd=tmp_path)
    else:
        assert run_python(str(path), cwd=tmp_path).count("\n") >= 3


@pytest.mark.slow
def test_benchmarks_run(tmp_path):
    """A round of each; what they measure is for people to read."""
    out = run_python(str(ROOT / "benchmarks" / "loop.py"), "--steps", "2", "--rounds", "1", cwd=tmp_path)
    assert out.count("times our loop's") == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "least"), [("digits-cnn", 0.99), ("digits-mlp", 0.97), ("mnist-mlp", 0.984), ("mnist-cnn", 0.994)]
)
def test_results(preset, least, tmp_path, request):
    """One seed of each result, with room for its spread; the README's figures are of five."""
    import json

    if preset.startswith("mnist"):
        request.getfixturevalue("mnist_folder")
    run_python("-m", "jaxnets", "train", preset, "--out", str(tmp_path / "run"), cwd=tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["metrics"]["test/accuracy"]["mean"] > least


def test_the_environment_variables_are_those_of_the_code():
    code = "\n".join(path.read_text() for path in (ROOT / "jaxnets").rglob("*.py"))
    assert set(re.findall(r"JAXNETS_[A-Z_]*[A-Z]", code)) == set(
        re.findall(r"^\| `(JAXNETS_\w+)`", README, re.MULTILINE)
    )
    assert os.environ["JAXNETS_CACHE"]
