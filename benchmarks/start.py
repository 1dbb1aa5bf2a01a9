"""What it costs to start: imports, and from the command to the first step: python -m benchmarks.start."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 5
IMPORTS = {"jax, flax, optax": "import jax, flax, optax", "jaxnets": "import jaxnets"}


def run(code: str, *arguments: str, cache: str) -> float:
    """Return the seconds that a new Python process takes."""
    start = time.perf_counter()
    environment = os.environ | {"JAXNETS_CACHE": cache}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def main() -> None:
    """Measure, alternating where two things are compared, and print medians."""
    with tempfile.TemporaryDirectory() as cache:
        seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
        for number in range(ROUNDS + 1):
            for name in list(IMPORTS)[:: 1 if number % 2 else -1]:
                seconds[name].append(run(IMPORTS[name], cache=cache))
        libraries, ours = (statistics.median(times[1:]) for times in seconds.values())
        print(f"import jaxnets {ours:.2f} s, its libraries alone {libraries:.2f} s: {ours - libraries:+.2f} s")

        command = "import sys; from jaxnets.cli import main; sys.exit(main(sys.argv[1:]))"
        first_step = ("train", "digits-cnn", "--duration", "1", "--validation", "0", "--out")
        times = [run(command, *first_step, f"{cache}/{number}", cache=cache) for number in range(ROUNDS + 1)]
        print(f"jaxnets train digits-cnn, one step, evaluation and picture included: cold {times[0]:.1f} s, ", end="")
        print(f"warm {statistics.median(times[1:]):.1f} s")


if __name__ == "__main__":
    main()
