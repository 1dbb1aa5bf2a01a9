"""What a member of a population costs beside a run alone: python -m benchmarks.members.

The compiled loop that ``fit`` runs, of 4, 16 and 64 members that share nothing, one after the other ("map") and
together ("vmap"): seconds a step and member over those of a run alone, medians of five. Run nothing else meanwhile.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax

from jaxnets.bench import jax_peers
from jaxnets.bench.workloads import Workload, cnn, gpt, mlp, recurrent

SIZES = (4, 16, 64)
ROUNDS = 5
FAMILIES: dict[str, Callable[[int], Workload]] = {
    "MLP": partial(mlp, (64, 64, 64, 10), 32),
    "CNN": partial(cnn, (16, 32), 64, 16, 32),
    "LSTM": partial(recurrent, "LSTM", 64, 32, 16),
    "GPT": partial(gpt, 64, 32, 8),
}


def seconds(workload: Workload, how: Literal["map", "vmap"]) -> float:
    """Return the seconds of a step, of a member."""
    way = jax_peers.ours(workload, jax_peers.initial_params(workload), how)
    way()
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        way()
        took.append(time.perf_counter() - begun)
    return statistics.median(took) / workload.steps / workload.members


def main() -> None:
    """Measure every family, and print a table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    print(f"| network | a step alone | {' | '.join(f'{n}, map' for n in SIZES)} | ", end="")
    print(f"{' | '.join(f'{n}, vmap' for n in SIZES)} |\n|{'---|' * (2 + 2 * len(SIZES))}")
    for name, make in FAMILIES.items():
        steps = 200 if name == "MLP" else 20
        alone = seconds(make(steps), "map")
        cells = []
        for how in ("map", "vmap"):
            for size in SIZES:
                workload = make(max(2, steps // size))._replace(members=size)
                cells.append(f"{seconds(workload, how) / alone:.2f}")
        print(f"| {name} | {alone * 1e6:,.0f} µs | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
