"""The compiled loop against single jitted steps and a scan by hand, as ratios in one run: python benchmarks/loop.py.

Order alternates (A B C, C B A); the figure is the median over rounds of the paired ratio, with the middle half of them.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import jaxnets as jn
from jaxnets.feed import Feed
from jaxnets.models import CNN, MLP

IMAGE = (28, 28, 1)
CASES: dict[str, tuple[jn.Network, tuple[int, ...], int]] = {
    "digits-cnn, 8x8, batch 64": (
        jn.network(CNN, (8, 8, 1), (32, 64, "pool"), (128,), 10, dropout=0.4),
        (8, 8, 1),
        64,
    ),
    "mnist-cnn, 28x28, batch 128": (
        jn.network(CNN, IMAGE, (16, "pool", 32, "pool", 48, 48, "pool"), (128,), 10, norm="batch", dropout=0.4),
        IMAGE,
        128,
    ),
    "MLP 64-64-64-10, batch 32": (jn.network(MLP, 64, (64, 64), 10), (64,), 32),
}


def runners(network: jn.Network, shape: tuple[int, ...], batch_size: int, steps: int) -> dict[str, Callable[[], Any]]:
    """Return the same ``steps`` steps in three ways, each a function that returns the final state."""
    random = np.random.default_rng(0)
    data = jn.Data(inputs=random.normal(size=(1280, *shape)), labels=random.integers(0, 10, 1280))
    learner = jn.supervised(
        network, jn.losses.softmax_cross_entropy, optax.adam(1e-3), {"accuracy": jn.losses.accuracy}
    )
    init_key, key = jn.run_keys(0)
    _, columns, rows = Feed(data, np.asarray(0, np.int32), batch_size, steps).load(0)
    state = learner.init(init_key)
    sums = jn.no_metrics(learner, state, columns, rows, key)

    def one_step(state: jn.TrainState, columns: Any, rows: jax.Array, key: jax.Array) -> jn.TrainState:
        batch = {name: column[rows] for name, column in columns.items()}
        return learner.step(state, batch, jn.step_key(key, state.step))[0]

    loop = jax.jit(jn.chunk(learner))
    single = jax.jit(one_step)
    scan = jax.jit(lambda s, c, r, k: jax.lax.scan(lambda s, row: (one_step(s, c, row, k), None), s, r)[0])

    def steps_one_by_one() -> jn.TrainState:
        stepped = state
        for row in rows:
            stepped = single(stepped, columns, row, key)
        return stepped

    return {
        "loop": lambda: loop(state, sums, columns, rows, 0, steps, key)[0],
        "scan by hand": lambda: scan(state, columns, rows, key),
        "single steps": steps_one_by_one,
    }


def measure(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way in each round, after two to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            jax.block_until_ready(ways[name]())
            if number >= 2:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure every case, and print (and save) the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {platform.machine()}; {options.steps} steps a call")
    rows = []
    for case, (network, shape, batch_size) in CASES.items():
        seconds = measure(runners(network, shape, batch_size, options.steps), options.rounds)
        for peer in ("scan by hand", "single steps"):
            ratios = np.divide(seconds[peer], seconds["loop"])
            low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
            step = np.median(seconds["loop"]) / options.steps
            ratio = f"{median:6.2f} ({low:.2f} to {high:.2f})"
            print(f"{case:<32}{peer:<14}{ratio} times our loop's {step * 1e6:,.0f} µs a step")
            rows.append({"case": case, "peer": peer, "ratio": median, "low": low, "high": high, "ours_seconds": step})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
