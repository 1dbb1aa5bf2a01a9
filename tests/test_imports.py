"""The arrows of the design: who may import whom, and that importing stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnets

ROOT = Path(jaxnets.__file__).parent
# Each part, and the parts that it may import; "data" and "models" know nothing of training.
ARROWS = {
    "errors": set(),
    "cache": set(),
    "compiling": set(),
    "text": set(),
    "plots": {"errors"},
    "duration": {"errors"},
    "config": {"errors"},
    "nn": {"errors"},
    "models": {"errors", "nn"},
    "network": {"errors"},
    "losses": {"errors"},
    "choices": {"nn"},
    "generation": {"errors", "learner", "models", "network"},
    "metrics": {"errors"},
    "data": {"errors", "cache"},
    "optimizers": {"errors", "network"},
    "learner": {"errors", "losses", "metrics", "network"},
    "summary": {"learner", "network"},
    "transforms": {"errors", "learner", "network"},
    "adversarial": {"errors", "learner", "metrics", "network"},
    "autoencoding": {"errors", "learner", "losses", "metrics", "network", "transforms"},
    "seq2seq": {"errors", "learner", "models"},
    "checkpoint": {"errors"},
    "stopping": {"errors", "learner"},
    "evaluation": {"compiling", "data", "errors", "learner", "metrics"},
    "chunk": {"learner", "network"},
    "feed": {"data"},
    "plan": {"chunk", "data", "duration", "errors", "learner", "stopping"},
    "fit": {
        "cache", "chunk", "compiling", "data", "evaluation", "feed", "learner", "metrics", "plan", "progress",
        "stopping"
    },
    "progress": {"fit", "text"},
    "options": {"duration", "errors", "stopping"},
    "run": {
        "checkpoint", "chunk", "config", "data", "errors", "evaluation", "fit", "learner", "network", "options", "plan",
        "plots", "progress"
    },
    "lr_finder": {"data", "errors", "fit", "learner", "optimizers", "progress"},
    "recipes": {
        "adversarial", "autoencoding", "choices", "data", "duration", "errors", "evaluation", "fit", "generation",
        "learner", "losses", "metrics", "models", "network", "optimizers", "options", "plots", "recipes", "seq2seq",
        "transforms"
    },
    "report": {"data", "plan", "recipes", "run", "summary", "text"},
    "bench": {
        "adversarial", "cache", "chunk", "compiling", "data", "generation", "learner", "losses", "models", "network",
        "nn", "run", "text", "transforms"
    },
    "commands": {
        "autoencoding", "bench", "cache", "config", "data", "errors", "evaluation", "fit", "learner", "lr_finder",
        "options", "plan", "plots", "progress", "recipes", "report", "run", "summary", "transforms"
    },
    "cli": {"commands", "errors", "options", "recipes"},
}  # fmt: skip


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "jaxnets":
            names = [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
            found.update(names)
    return found - {part_of(path)} if part_of(path) != "recipes" else found


FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or not path.name.startswith("__"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_arrows(path):
    assert imported(path) <= ARROWS[part_of(path)]


def test_no_arrow_is_out_of_date():
    used = {}
    for path in FILES:
        used.setdefault(part_of(path), set()).update(imported(path))
    unused = {part: allowed - used[part] - {"errors"} for part, allowed in ARROWS.items()}
    assert {part: names for part, names in unused.items() if names} == {}


def test_files_stay_short():
    assert {path.name: n for path in FILES if (n := len(path.read_text().splitlines())) > 320} == {}


def test_importing_loads_nothing_that_only_some_need():
    heavy = {"sklearn", "matplotlib", "PIL", "scipy.stats", "pandas", "tyro"}
    code = "import sys, jaxnets; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert heavy & set(modules) == set()


def test_importing_touches_no_device():
    """A program may still choose its platform, or call ``jax.distributed``, after the import."""
    code = "import jaxnets, jax; from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
