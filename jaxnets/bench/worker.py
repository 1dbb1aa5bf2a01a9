"""The process that measures, in lines of JSON: python -m jaxnets.bench.worker CASES PEERS ROUNDS [one-core].

A process of its own may be held to one core, for the thread pools are made as it starts.
"""

import contextlib
import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def main(cases: str, peers: str, rounds: str, one_core: str = "") -> None:
    """Measure the cases, and print the environment and the limits, then a line for each row."""
    if one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax  # noqa: PLC0415  (after the process is held to its core)

    from jaxnets.bench import limits, measure  # noqa: PLC0415
    from jaxnets.runs.environment import environment  # noqa: PLC0415
    from jaxnets.training.compiling import use_compile_cache  # noqa: PLC0415

    try:
        backend = jax.default_backend()
    except RuntimeError as error:
        return _say(error=str(error).splitlines()[0])
    if one_core and backend != "cpu":
        return None  # an accelerator has no cores to be held to
    use_compile_cache()
    ceilings = limits.calibrate()
    _say(limits=ceilings._asdict(), environment=environment() | _others())
    for case in cases.split(","):
        _say(starting=case)
        for row in measure.rows(case, peers.split(","), ceilings, int(rounds)):
            _say(**row)
    return None


def _say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def _others() -> dict[str, str | None]:
    """Return the versions of the libraries that are compared with, and what is known of the processor."""
    found: dict[str, str | None] = {"glibc_tunables": os.environ.get("GLIBC_TUNABLES")}
    for library in ("torch", "keras"):
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = None
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    found["processor"] = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    return found


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # the command, which hears it too, says so
        main(*sys.argv[1:])
