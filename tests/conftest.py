"""What all tests share: a cache folder of their own, small data, and the data sets that a folder may hold."""

import os
import signal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Each worker has cores of its own, for the threads of several on the same ones wait for each other: with PyTorch's
# beside XLA's, tests took up to five times as long. XLA, PyTorch and what a test starts see these cores only.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    number, workers = int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[number % len(cores) :: workers])

# Compiling takes most of the suite's time: XLA's costly passes are left out, unless the environment asks for them, and
# with them its costlier way to fuse operations, which jax 0.12 has no flag for. CI runs all that is about bits and
# figures with both.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1" and version("jaxlib").startswith("0.10."):
    flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{flags} {os.environ.get('XLA_FLAGS', '')}"

import jaxnets as jn
from jaxnets.training.compiling import use_compile_cache


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let one run leave out what another has shown: for CI, which runs the quick part first, and then the rest."""
    parser.addoption("--passed", metavar="FILE", type=Path, help="write down the tests that pass")
    parser.addoption("--without", metavar="FILE", type=Path, help="leave out the tests that FILE says have passed")


def pytest_configure(config: pytest.Config) -> None:
    if (file := config.getoption("--passed")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Passed(file))


class _Passed:
    """Writes down the tests that pass."""

    def __init__(self, file: Path):
        self.file = file

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.passed:
            with self.file.open("a") as log:
                log.write(f"{report.nodeid}\n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    file = config.getoption("--without")
    passed = set(file.read_text().splitlines()) if file else set()
    again = [item for item in items if item.nodeid not in passed]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(again)])
    items[:] = again


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory):
    """Keep downloads and compiled programs away from the user's; shared by the tests, so that they compile once."""
    before = os.environ.get("JAXNETS_CACHE")
    os.environ.setdefault("JAXNETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    use_compile_cache()
    yield Path(os.environ["JAXNETS_CACHE"])
    if before is None:
        del os.environ["JAXNETS_CACHE"]


@pytest.fixture
def heeded_signals():
    """Take SIGINT and SIGTERM as a program in the foreground does, wherever the tests run."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def jaxnets_data() -> Path:
    """Return the folder of real data sets."""
    folder = Path(os.environ.get("JAXNETS_DATA", "/nowhere"))
    if not folder.is_dir():
        pytest.skip("needs real data: set JAXNETS_DATA to a folder with mnist/, jsb/, sst2/, ... in it")
    return folder


@pytest.fixture(scope="session")
def mnist_folder(jaxnets_data: Path) -> Path:
    """Return the folder of MNIST's files."""
    return jaxnets_data / "mnist"


@pytest.fixture(scope="session")
def blobs() -> jn.Data:
    """Return 150 points in four dimensions, from three classes that can be told apart, but not by a hair."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 50)
    centres = np.array([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])
    inputs = centres[labels] + random.normal(size=(150, 4))
    order = random.permutation(150)
    return jn.Data(inputs=inputs[order], labels=labels[order])
