"""The gate of CI: ratios within one run, with bounds that 1.5 times the work breaks: python -m benchmarks.guard.

Nothing here depends on how fast the machine is. ``--plant 1.5`` shows that the gates hold: our loop then takes half as
many steps again for the same count, and the exit status is 0 if every gate sees it.
"""

import argparse
import os
import sys

from jaxnets.bench import jax_peers, workloads
from jaxnets.bench.jax_peers import Way
from jaxnets.bench.timing import paired, ratio

# What the loop is measured by, and the least ratio of the peer's processor time to ours: of a small MLP the loop itself
# is what takes time, of a CNN what counts is that gradients of convolutions inside a loop stay as fast as outside.
GATES = {
    "MLP, beside a scan by hand": (workloads.mlp((64, 64, 64, 10), 32, 400), jax_peers.scan_by_hand, 0.75),
    "CNN, beside single steps": (workloads.cnn((16, 32), 64, 16, 32, 20), jax_peers.single_steps, 0.9),
}


def main() -> int:
    """Measure, print, and return 1 if a ratio is below its bound; planted, if one is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plant", type=float, default=1.0, help="how many times the work our loop is to do")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before JAX makes its threads: one core is disturbed least
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    seen = []
    for name, (workload, peer, least) in GATES.items():
        params = jax_peers.initial_params(workload)
        planted = workload._replace(steps=round(options.plant * workload.steps))
        ways: dict[str, Way] = {"ours": jax_peers.ours(planted, params), "peer": peer(workload, params)}
        for way in ways.values():
            way()  # to compile
        times = paired(ways, options.rounds)
        found = ratio(*([seconds.process for seconds in times[way]] for way in ("peer", "ours")))
        print(f"{name}: {found.median:.2f} ({found.low:.2f} to {found.high:.2f}), at least {least}")
        seen.append(found.median < least)
    return int(any(seen) if options.plant == 1 else not all(seen))


if __name__ == "__main__":
    sys.exit(main())
