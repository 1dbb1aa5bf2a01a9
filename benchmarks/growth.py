"""How time grows with the work: python -m benchmarks.growth --out FILE.png.

Of each series one size grows while all else stays; a slope of 1 on logarithmic axes is linear growth. What is fixed,
such as the latency of a step, makes a slope smaller; caches that overflow make it larger.
"""

import argparse
import json
import platform
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets.bench import jax_peers
from jaxnets.bench.timing import measured
from jaxnets.bench.workloads import Workload, gpt, mlp, recurrent

Series = Mapping[int, Callable[[], Workload]]
SERIES: Mapping[str, Series] = {
    "steps (MLP)": {n: partial(mlp, (64, 64, 64, 10), 32, n) for n in (100, 1000, 10_000)},
    "batch (MLP)": {n: partial(mlp, (256, 256, 256, 10), n, 20) for n in (64, 256, 1024, 4096)},
    "width (MLP)": {n: partial(mlp, (n, n, n, 10), 128, 20) for n in (128, 256, 512, 1024)},
    "depth (MLP)": {n: partial(mlp, (128, *(128,) * n, 10), 128, 20) for n in (2, 8, 32)},
    "population (MLP)": {n: partial(mlp, (64, 64, 64, 10), 32, 50, n) for n in (4, 16, 64, 256)},
    "length (LSTM)": {n: partial(recurrent, "LSTM", 64, n, 16, 4) for n in (32, 128, 512)},
    "length (GPT)": {n: partial(gpt, 64, n, 4, 4) for n in (64, 128, 256, 512)},
    "depth (GPT)": {n: partial(gpt, 64, 64, 8, 4, n) for n in (2, 4, 8, 16)},
}
EXPECTED = {"width (MLP)": 2.0, "length (GPT)": 1.5}  # the most, where work itself grows faster than the size; else 1
ROUNDS = 5


def measure(series: Series) -> list[dict[str, Any]]:
    """Return, for each size, the seconds to the first result and of a measurement after that."""
    rows = []
    for size, make in series.items():
        workload = make()
        params = jax_peers.initial_params(workload)
        made: list[jax_peers.Way] = []

        def start(workload: Workload = workload, params: Any = params, made: list[jax_peers.Way] = made) -> None:
            made.append(jax_peers.ours(workload, params))
            made[0]()

        first = measured(start).wall
        seconds = statistics.median(measured(made[0]).wall for _ in range(ROUNDS))
        rows.append({"size": size, "seconds": seconds, "first_seconds": first})
    return rows


def slope(rows: list[dict[str, Any]]) -> float:
    """Return the steepest rise between neighbouring sizes, on logarithmic axes."""
    sizes, seconds = (np.log([row[name] for row in rows]) for name in ("size", "seconds"))
    return float((np.diff(seconds) / np.diff(sizes)).max())


def draw(path: Path, found: Mapping[str, list[dict[str, Any]]]) -> None:
    """Draw all series, each relative to its first."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(12, 6), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(2, 4).flat, found.items(), strict=False):
        sizes = np.array([row["size"] for row in rows])
        axes.loglog(sizes, [row["seconds"] for row in rows], "o-", label="run")
        axes.loglog(sizes, [row["first_seconds"] for row in rows], "s:", label="first call")
        axes.loglog(sizes, rows[0]["seconds"] * sizes / sizes[0], "k--", linewidth=0.6, label="linear")
        axes.set_title(f"{name}: slope at most {slope(rows):.2f}", fontsize=9)
        axes.set_ylabel("seconds")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure all series, print their slopes, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", choices=SERIES, default=list(SERIES))
    options = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {platform.machine()}")
    found = {}
    for name in options.only:
        found[name] = measure(SERIES[name])
        steepest, most = slope(found[name]), EXPECTED.get(name, 1.0)
        cells = "  ".join(f"{row['size']:,}: {row['seconds'] * 1e3:,.1f} ms" for row in found[name])
        compiling = "  ".join(f"{row['first_seconds']:.1f}" for row in found[name])
        beyond = "  SUPER-LINEAR" if steepest > 1.1 * most else ""
        print(f"{name:<18}{cells}; first calls {compiling} s; steepest slope {steepest:.2f} (at most {most}){beyond}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    if options.out:
        draw(options.out, found)


if __name__ == "__main__":
    main()
