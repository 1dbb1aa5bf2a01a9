"""The process that measures, in lines of JSON: python -m jaxnets.bench.worker CASES PEERS ROUNDS [ONE_CORE].

A process of its own may be held to one core, for the thread pools are made as it starts.
"""

import json
import os
import sys


def main(cases: str, peers: str, rounds: str, one_core: str = "") -> None:
    """Measure the cases, and print the limits, then a line for each row."""
    if one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from jaxnets.bench import limits, measure  # noqa: PLC0415  (after the process is held to its core)
    from jaxnets.cache import use_compile_cache  # noqa: PLC0415

    use_compile_cache()
    ceilings = limits.calibrate()
    print(json.dumps({"limits": ceilings._asdict()}), flush=True)
    for case in cases.split(","):
        print(json.dumps({"starting": case}), flush=True)
        for row in measure.rows(case, peers.split(","), ceilings, int(rounds)):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
