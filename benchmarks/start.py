"""What it costs to start: imports, and from the command to the first step: python -m benchmarks.start."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 15
IGNORED = ("PYTHONDONTWRITEBYTECODE", "JAX_COMPILATION_CACHE_DIR")  # byte code as an installed package has it
IMPORTS = ("import jax, flax, optax", "from jaxnets import *")  # a lazy package: the star loads it all
COMMAND = ("-m", "jaxnets", "train", "digits-cnn", "--duration", "1", "--validation", "0", "--out")


def import_seconds(statement: str, environment: dict[str, str]) -> float:
    """Return the seconds that a statement takes in a new Python process."""
    code = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout)


def first_step_seconds(out: str, environment: dict[str, str]) -> float:
    """Return the seconds from the command to the line that tells of its first step."""
    start = time.perf_counter()
    command = [sys.executable, *COMMAND, out]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as run:
        assert run.stdout is not None
        lines = []
        for line in run.stdout:
            lines.append(line)
            if line.startswith("step 1/1"):
                seconds = time.perf_counter() - start
                lines += run.communicate()[0].splitlines(keepends=True)
                if run.returncode == 0:
                    return seconds
    raise RuntimeError("the run failed:\n" + "".join(lines))


def main() -> None:
    """Measure, alternating where two things are compared, and print medians."""
    with tempfile.TemporaryDirectory() as folder:
        # Every cache begins empty, and the first round fills it.
        variables = {
            "JAXNETS_CACHE": f"{folder}/cache",
            "PYTHONPYCACHEPREFIX": f"{folder}/code",
            "PYTHONUNBUFFERED": "1",
        }
        environment = {name: value for name, value in os.environ.items() if name not in IGNORED}
        environment |= variables
        seconds: dict[str, list[float]] = {statement: [] for statement in IMPORTS}
        for number in range(ROUNDS + 1):
            for statement in IMPORTS[:: 1 if number % 2 else -1]:
                seconds[statement].append(import_seconds(statement, environment))
        libraries, ours = (times[1:] for times in seconds.values())
        added = [mine - theirs for mine, theirs in zip(ours, libraries, strict=True)]
        print(
            f"{IMPORTS[1]} {statistics.median(ours):.2f} s, {IMPORTS[0]} {statistics.median(libraries):.2f} s: ", end=""
        )
        print(f"{statistics.median(added):+.2f} s ({min(added):+.2f} to {max(added):+.2f})")

        times = [first_step_seconds(f"{folder}/{number}", environment) for number in range(ROUNDS + 1)]
        print(f"jaxnets train digits-cnn, to the first step: cold {times[0]:.1f} s, ", end="")
        print(f"warm {statistics.median(times[1:]):.1f} s ({min(times[1:]):.1f} to {max(times[1:]):.1f})")


if __name__ == "__main__":
    main()
