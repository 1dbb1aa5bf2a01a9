"""How time grows with the work: python -m benchmarks.growth --out FILE.png.

Of each series one size grows while all else stays; a slope of 1 on logarithmic axes is linear growth. What is fixed,
such as the latency of a step, makes a slope smaller; caches that overflow make it larger. On CPU the devices are
virtual, and share the cores: there the same batch should take the same time on any number of them. The data set is read
from a file, in random order, and the share of the time in which steps waited for it is told.
"""

import argparse
import json
import mmap
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnets as jn
from jaxnets.bench import jax_peers
from jaxnets.bench.workloads import Workload, gpt, mlp, recurrent
from jaxnets.training.chunk import no_metrics
from jaxnets.training.compiling import jit

Way = Callable[[], object]
Start = Callable[[], Way]  # to be timed: it compiles
ROW = 64 * 64 * 3  # numbers of an example that is read from a file
FILE_BATCH, FILE_STEPS = 128, 300


class Reading(NamedTuple):
    """Seconds of a run without its compilation, and the share of them in which steps waited for data."""

    seconds: float
    waiting: float


@contextmanager
def steps_of(make: Callable[..., Workload], *sizes: Any, how: Literal["map", "vmap"] = "vmap") -> Iterator[Start]:
    """Yield what takes the workload's steps."""
    workload = make(*sizes)
    yield partial(jax_peers.ours, workload, jax_peers.initial_params(workload), how)


def classifier(in_features: int, hidden: tuple[int, ...]) -> jn.Learner:
    """Return the learner of an MLP for ten classes of bytes."""
    network = jn.network(jn.models.MLP, in_features, hidden, 10)
    scaled = network._replace(apply=lambda p, s, inputs, **options: network.apply(p, s, inputs / 255, **options))
    return jn.supervised(scaled, jn.losses.softmax_cross_entropy, optax.adam(1e-3))


@contextmanager
def on_devices(number: int) -> Iterator[Start]:
    """Yield what takes steps on so many devices, each with its part of the batch."""
    mesh = jax.make_mesh((number,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:number])
    replicated, divided = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), (None, "batch")))
    learner = classifier(256, (512, 512))
    init_key, key = jax.device_put(jn.run_keys(0), replicated)
    random = np.random.default_rng(0)
    columns = {"inputs": random.normal(size=(8192, 256)).astype(np.float32), "labels": np.zeros(8192, np.int32)}
    columns = jax.device_put(columns, replicated)
    rows = jax.device_put(np.arange(8192, dtype=np.int32).reshape(4, 2048), divided)
    state = jax.jit(learner.init)(init_key)
    zeros = no_metrics(learner, state, columns, rows, key)

    def start() -> Way:
        loop = jit(jn.chunk(learner)).lower(state, zeros, columns, rows, 0, 0, key).compile()
        return lambda: float(loop(state, zeros, columns, rows, 0, len(rows), key)[1]["loss"].total.high)

    yield start


@contextmanager
def from_file(megabytes: int) -> Iterator[Start]:
    """Yield what trains on a file of this size, none of it in memory at first (on Linux), and tells what it took."""
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        number = megabytes * 10**6 // ROW
        images = np.lib.format.open_memmap(file.name, "w+", np.uint8, (number, ROW))
        block = np.random.default_rng(0).integers(0, 256, (2000, ROW), np.uint8)
        for start in range(0, number, len(block)):
            images[start : start + len(block)] = block[: number - start]
        images.flush()
        mapping: Any = images.base
        data = jn.Data(inputs=images, labels=np.arange(number, dtype=np.int32) % 10)
        learner = classifier(ROW, (256,))
        options: dict[str, Any] = {"batch_size": FILE_BATCH, "duration": FILE_STEPS, "evaluate_every": FILE_STEPS}

        def train() -> Reading:
            if sys.platform == "linux":
                mapping.madvise(mmap.MADV_DONTNEED)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            *_, last = jn.events(learner, data, on_device=False, **options)
            seconds = last.seconds - last.compile_seconds
            return Reading(seconds, last.wait_seconds / seconds)

        yield lambda: train


Series = Mapping[int, Callable[[], AbstractContextManager[Start]]]
DEVICES, DATA_SET = "devices (MLP)", "data set (MB)"
SERIES: Mapping[str, Series] = {
    "steps (MLP)": {n: partial(steps_of, mlp, (64, 64, 64, 10), 32, n) for n in (100, 1000)},
    "batch (MLP)": {n: partial(steps_of, mlp, (256, 256, 256, 10), n, 20) for n in (64, 256, 1024, 4096)},
    "width (MLP)": {n: partial(steps_of, mlp, (n, n, n, 10), 128, 20) for n in (128, 256, 512, 1024)},
    "depth (MLP)": {n: partial(steps_of, mlp, (128, *(128,) * n, 10), 128, 20) for n in (2, 8, 32)},
    "population (MLP)": {n: partial(steps_of, mlp, (64, 64, 64, 10), 32, 50, n) for n in (1, 4, 16, 64, 256)},
    "in turn (MLP)": {n: partial(steps_of, mlp, (64, 64, 64, 10), 32, 50, n, how="map") for n in (1, 4, 16, 64, 256)},
    "length (LSTM)": {n: partial(steps_of, recurrent, "LSTM", 64, n, 16, 4) for n in (32, 128, 512)},
    "length (GPT)": {n: partial(steps_of, gpt, 64, n, 4, 4) for n in (64, 128, 256, 512)},
    "depth (GPT)": {n: partial(steps_of, gpt, 64, 64, 8, 4, n) for n in (2, 4, 8, 16)},
    DEVICES: {n: partial(on_devices, n) for n in (1, 2, 4, 8)},
    DATA_SET: {n: partial(from_file, n) for n in (100, 1000, 10_000)},
}
# The most, where work itself grows faster than the size, or not at all; else 1.
EXPECTED = {"width (MLP)": 2.0, "length (GPT)": 1.5, DEVICES: 0.0, DATA_SET: 0.0}
ROUNDS = 5


def measure(name: str, files: Sequence[int]) -> list[dict[str, Any]]:
    """Return, for each size of a series, the seconds to the first result and of a measurement after that."""
    jax.config.update("jax_enable_compilation_cache", False)
    if name == DEVICES:
        jax.config.update("jax_num_cpu_devices", 8)
    series = {size: partial(from_file, size) for size in files} if name == DATA_SET else SERIES[name]
    if name == DEVICES:
        series = {size: make for size, make in series.items() if size <= len(jax.devices())}
    rows = []
    for size, make in series.items():
        with make() as start:
            begun = time.perf_counter()
            way = start()
            way()
            first = time.perf_counter() - begun
            took = [timed(way) for _ in range(ROUNDS)]
            seconds, waiting = (statistics.median(values) for values in zip(*took, strict=True))
            rows.append({"size": size, "seconds": seconds, "first_seconds": first, "waiting": waiting})
    return rows


def timed(way: Way) -> Reading:
    """Return how long a measurement takes; one that reads a file tells by itself."""
    begun = time.perf_counter()
    result = way()
    return result if isinstance(result, Reading) else Reading(time.perf_counter() - begun, 0.0)


def slope(rows: list[dict[str, Any]]) -> float:
    """Return the steepest rise between neighbouring sizes, on logarithmic axes."""
    sizes, seconds = (np.log([row[name] for row in rows]) for name in ("size", "seconds"))
    return float((np.diff(seconds) / np.diff(sizes)).max())


def draw(path: Path, found: Mapping[str, list[dict[str, Any]]]) -> None:
    """Draw all series, each relative to its first."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(13, 9), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(3, 4).flat, found.items(), strict=False):
        sizes = np.array([row["size"] for row in rows])
        axes.loglog(sizes, [row["seconds"] for row in rows], "o-", label="run")
        axes.loglog(sizes, [row["first_seconds"] for row in rows], "s:", label="first call")
        axes.loglog(sizes, rows[0]["seconds"] * sizes / sizes[0], "k--", linewidth=0.6, label="linear")
        axes.set_title(f"{name}: slope at most {slope(rows):.2f}", fontsize=9)
        axes.set_ylabel("seconds")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
        axes.set_xticks([], minor=True)
    for axes in figure.axes[len(found) :]:
        axes.set_axis_off()
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure all series, print their slopes, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--files", type=int, nargs="+", default=list(SERIES[DATA_SET]), help="their sizes in MB")
    parser.add_argument("--only", nargs="+", choices=SERIES, default=list(SERIES))
    options = parser.parse_args()
    if len(options.files) < 2:
        parser.error("--files needs two sizes or more: growth is between them")
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {platform.machine()}")
    found = {}
    for name in options.only:
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:  # as many devices and threads as the series needs
            found[name] = fresh.submit(measure, name, options.files).result()
        steepest, most = slope(found[name]), EXPECTED.get(name, 1.0)
        cells = "  ".join(f"{row['size']:,}: {row['seconds'] * 1e3:,.1f} ms" for row in found[name])
        compiling = "  ".join(f"{row['first_seconds']:.1f}" for row in found[name])
        beyond = "  BEYOND" if steepest > most + 0.1 else ""
        if name == DATA_SET:
            cells += "; waiting for data " + ", ".join(f"{row['waiting']:.0%}" for row in found[name])
        print(f"{name:<18}{cells}; first calls {compiling} s; steepest slope {steepest:.2f} (at most {most}){beyond}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    if options.out:
        draw(options.out, found)


if __name__ == "__main__":
    main()
