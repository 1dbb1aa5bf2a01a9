"""The arrows of the design: who may import whom, and that importing stays light."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import jaxnets

ROOT = Path(jaxnets.__file__).parent
# The files at the top that are the contract; each folder, and cli.py, is a part of its own.
CONTRACT = {"network", "linen", "modes", "learner", "losses", "metrics", "parameters", "summary"}
OPEN = {"errors", "hosts", "memory", "platform"}  # to all
# Each part, and the parts that it may import, downwards only.
ARROWS = {
    "nn": set(),
    "models": {"nn"},
    "data": set(),
    "contract": set(),
    "weights": {"contract", "data", "models", "transforms"},
    "learners": {"contract", "models"},
    "transforms": {"contract", "learners"},
    "training": {"contract", "data", "transforms"},
    "accelerators": {"contract", "training"},
    "inference": {"contract", "data", "models", "training", "weights"},
    "options": {"contract", "data", "learners", "nn", "training", "transforms", "weights"},
    "runs": {"contract", "data", "training"},
    "sklearn": {"contract", "data", "learners", "models", "options", "training"},
    "tasks": {"contract", "data", "inference", "learners", "models", "nn", "options", "runs", "training", "transforms"},
    "recipes": {"contract", "data", "learners", "models", "options", "tasks", "transforms", "weights"},
    "bench": {"contract", "data", "inference", "learners", "models", "nn", "runs", "training", "transforms"},
    "commands": {
        *(
            "accelerators",
            "bench",
            "contract",
            "data",
            "inference",
            "learners",
            "options",
            "recipes",
            "runs",
            "tasks",
            "training",
            "transforms",
        ),
        "weights",
    },
    "opened": {"commands", "contract", "data", "training"},
    "cli": {"commands", "options", "recipes"},  # and each command when it is asked for
}


def part_of(path: Path) -> str:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return "contract" if part in CONTRACT else part


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "jaxnets":
            names = [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
            found.update("contract" if name in CONTRACT else name for name in names)
    return found - {part_of(path), *OPEN}


FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or not path.name.startswith("__"))
FILES = [path for path in FILES if path.stem not in OPEN or path.parent != ROOT]


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_arrows(path):
    assert imported(path) <= ARROWS[part_of(path)]


def test_no_arrow_is_out_of_date():
    used = {}
    for path in FILES:
        used.setdefault(part_of(path), set()).update(imported(path))
    assert {part: allowed - used[part] for part, allowed in ARROWS.items() if allowed - used[part]} == {}


def test_no_circle():
    """The parts can be put in an order in which each imports only those before it."""
    list(TopologicalSorter(ARROWS).static_order())


def test_files_stay_short():
    assert {path.name: n for path in FILES if (n := len(path.read_text().splitlines())) > 320} == {}


EVERYTHING = "import jaxnets; [getattr(jaxnets, name) for name in jaxnets.__all__]"


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_loads_nothing_that_only_some_need():
    heavy = {"sklearn", "matplotlib", "PIL", "scipy.stats", "pandas", "tyro"}
    assert heavy & set(run_python(f"{EVERYTHING}; import sys; print(*sys.modules)").split()) == set()


def test_the_help_imports_nothing_of_jax():
    code = "import sys; from jaxnets import cli; cli.main(['--help']); cli.main(['ls']); print(*sys.modules)"
    *printed, modules = run_python(code).splitlines()
    assert any("train" in line for line in printed)
    assert {"jax", "flax", "optax", "numpy", "jaxnets.bench"} & set(modules.split()) == set()


def test_what_is_offered_is_there():
    """Each name of the stub, from its own home, whatever was imported before: ``jn.network`` is the function."""

    assert all(getattr(jaxnets, name) is not None for name in jaxnets.__all__)
    assert callable(jaxnets.network) and jaxnets.network.__module__ == "jaxnets.network"
    with pytest.raises(AttributeError):
        jaxnets.nothing  # noqa: B018


@pytest.mark.slow
def test_each_name_can_be_the_first():
    """Whatever is asked of ``jaxnets`` first, all that it needs is imported."""
    code = """
import sys, jaxnets
for name in jaxnets.__all__:
    for module in [module for module in sys.modules if module.split(".")[0] == "jaxnets"]:
        del sys.modules[module]
    import jaxnets
    assert getattr(jaxnets, name) is not None
print("done")
"""
    assert run_python(code).strip() == "done"


def test_importing_touches_no_device():
    """A program may still choose its platform, or call ``jax.distributed``, after the import."""
    code = f"{EVERYTHING}; from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    assert run_python(code).strip() == "False"
