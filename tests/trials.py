"""Trials of what is promised of runs, with counts: real processes, small models, a moment drawn by chance.

    python -m tests.trials kill 200 [FAMILY...]    killed (SIGKILL), resumed until they end
    python -m tests.trials stop 50 [FAMILY...]     asked to stop (SIGINT, SIGTERM or SIGHUP), resumed until they end

A kill falls before the first save, while a state is written, between two saves, or after the last one. In the end the
digest of the state (as ``jaxnets verify`` prints it) and the rows of metrics must be those of an unbroken run. Exits
with 1 where one is not.
"""

import collections
import contextlib
import glob
import io
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets import cli
from jaxnets.runs import checkpoint
from jaxnets.runs.folder import Run

FAMILIES = {
    "mlp": "digits-mlp --hidden 16 --dropout 0.2 --duration 90 --evaluate-every 25",
    "cnn": "digits-cnn --features 4 pool --hidden 8 --norm batch --duration 60 --evaluate-every 25",
    "lstm": "shakespeare-lstm --data {data}/text.txt --window 16 --hidden 8 --warmup 5"
    " --duration 60 --evaluate-every 25",
    "gpt": "shakespeare-gpt --data {data}/text.txt --window 16 --num-layers 1 --model-dim 16 --num-heads 2"
    " --duration 60 --evaluate-every 25",
    "translation": "translate --data {data} --num-layers 1 --model-dim 16 --num-heads 2 --vocabulary 300"
    " --max-tokens 24 --num-beams 1 --batch-size 16 --warmup 5 --duration 40 --evaluate-every 15",
    "vae": "mnist-vae --data digits --hidden 16 --code 4 --importance-samples 2 --duration 60 --evaluate-every 25",
    "gan": "mnist-gan --data digits --features 4 8 --hidden 16 --duration 40 --evaluate-every 15",
    "forecasting": "forecast-gru --data {data}/series.csv --history 24 --horizon 6 --season 12 --hidden 8"
    " --batch-size 32 --duration 60 --evaluate-every 25",
    "anomaly": "anomaly --data digits --hidden 8 --code 4 --duration 60 --evaluate-every 25",
    "population": "digits-mlp --seeds 3 --hidden 8 --learning-rate 0.03 --patience 2 --duration 300 --evaluate-every 9",
}
SAVES = ["--save-every", "3", "--keep-every", "20"]  # often, and mid-epoch
WAIT = 300.0  # seconds that no process needs
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PARTS = ("checkpoints/*/.*.part", "checkpoints/.*.removed")  # what a save or a removal leaves when it is killed

HERE = Path(__file__).parent

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["trials_process"])


class Unbroken(NamedTuple):
    """What a run comes to that nothing has happened to, and when its process did what, in seconds from its start."""

    digest: str
    rows: list[Any]
    first_save: float
    last_save: float
    end: float


class Trial(NamedTuple):
    """What has happened to one run, and whether it ended as an unbroken one."""

    moments: list[str]
    exact: bool


def write_data(folder: Path) -> None:
    """Write small files of every kind that the families read."""
    draw = np.random.default_rng(0)
    (folder / "text.txt").write_text("".join(draw.choice(list("abcdefgh \n"), 5000)))
    words = ["".join(draw.choice(list("abcdefghij"), 5)) for _ in range(400)]
    for part, number in (("train", 200), ("val", 40), ("test", 20)):
        lines = [" ".join(draw.choice(words, draw.integers(1, 4))) for _ in range(number)]
        for language, side in (("en", lines), ("de", lines[::-1])):
            (folder / f"{part}.{language}").write_text("\n".join(side) + "\n")
    rows = [f"{i},{a:.4f},{b:.4f}" for i, (a, b) in enumerate(draw.normal(size=(500, 2)))]
    (folder / "series.csv").write_text("time,a,b\n" + "\n".join(rows) + "\n")


class Family:
    """One kind of run: how it is started, and what comes of it unbroken."""

    def __init__(self, name: str, folder: Path):
        self.name, self.folder = name, folder
        self.command = [*FAMILIES[name].format(data=folder / "data").split(), *SAVES]
        self.log = folder / f"{name}.log"
        self._run("warm")  # so that programs are in the cache
        self.unbroken = self._run("whole")

    def start(self, run: Path) -> Any:
        """Start, or go on with, a run in a process of its own."""
        begun = (run / "config.json").exists()
        argv = ["resume", str(run), "--exact"] if begun else ["train", *self.command, "--out", str(run)]
        process = _PROCESSES.Process(target=_call, args=(argv, str(self.log)))
        process.start()
        return process

    def _run(self, name: str) -> Unbroken:
        run, began = self.folder / f"{self.name}-{name}", time.monotonic()
        process = self.start(run)
        first = last = 0.0
        steps: list[int] = []
        while process.is_alive():
            if (found := checkpoint.steps(run / "checkpoints")) != steps:
                steps, last = found, time.monotonic() - began
                first = first or last
            time.sleep(0.005)
        assert process.exitcode == 0, self.log.read_text()[-3000:]
        return Unbroken(digest_of(run), rows_of(run), first, last, time.monotonic() - began)

    def is_exact(self, run: Path) -> bool:
        """Return whether a run that has ended has come to what the unbroken one came to."""
        return digest_of(run) == self.unbroken.digest and rows_of(run) == self.unbroken.rows


def _call(argv: Sequence[str], log: str) -> None:
    sys.path.insert(0, str(HERE))
    from trials_process import call

    call(argv, log)


def digest_of(run: Path) -> str:
    """Return the line of ``jaxnets verify`` that names the newest step and its digest."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main(["verify", str(run)]) == 0
    return printed.getvalue().splitlines()[-1]


def rows_of(run: Path) -> list[Any]:
    """Return a run's rows of metrics, without times."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in Run(run).history()]


def parts_of(run: Path) -> list[str]:
    """Return what a save that is under way, or was killed, has written; it may be gone meanwhile."""
    return [path for pattern in PARTS for path in glob.glob(pattern, root_dir=run)]  # noqa: PTH207  (pathlib's raises)


def kill(family: Family, run: Path, draw: random.Random) -> Trial:
    """Kill a run once or twice, and let it go on to its end."""
    moments: list[str] = []
    for _ in range(draw.choice([1, 1, 2])):
        process = family.start(run)
        _wait(family.unbroken, process, run, draw)
        ended = process.exitcode is not None
        process.kill()
        process.join(WAIT)
        if ended:
            assert process.exitcode == 0, family.log.read_text()[-3000:]
            break
        moments.append(_where(run))
    return Trial(moments, _ends(family, run))


def stop(family: Family, run: Path, draw: random.Random) -> Trial:
    """Ask a run to stop at some moment of its training, and let it go on to its end; it must have saved its state."""
    number, process = draw.choice(STOPS), family.start(run)
    moment = draw.uniform(0, family.unbroken.last_save - family.unbroken.first_save)
    while process.is_alive() and not checkpoint.steps(run / "checkpoints"):
        time.sleep(0.002)
    process.join(moment)
    with contextlib.suppress(ProcessLookupError):  # it has just ended: too late
        os.kill(process.pid, number)
    process.join(WAIT)
    printed = family.log.read_text().rpartition("interrupted by ")[2]
    if process.exitcode != 128 + number or not printed.startswith(number.name):
        late = (run / "checkpoints").is_dir() and family.is_exact(run)  # the last state was saved
        return Trial([f"{number.name}, too late"] if late else [f"{number.name}, lost"], late and _ends(family, run))
    step = int(printed.partition(" at step ")[2].partition(";")[0].replace(",", ""))
    saved = step in checkpoint.steps(run / "checkpoints")
    return Trial([number.name], saved and _ends(family, run))


def _wait(whole: Unbroken, process: Any, run: Path, draw: random.Random) -> None:
    """Wait for a moment that is drawn: while a state is written, while programs are compiled, or any other."""
    kind = draw.choice(["any", "early", "save", "save"])
    if kind == "save":
        left, seen = draw.randrange(12), [False]
        while process.is_alive():
            seen = [seen[-1], bool(parts_of(run))]
            left -= seen == [False, True]
            if left < 0 and seen[-1]:
                return
            time.sleep(0.0005)
    else:
        process.join(draw.uniform(0, whole.first_save if kind == "early" else whole.end))


def _where(run: Path) -> str:
    steps = checkpoint.steps(run / "checkpoints")
    if parts_of(run):
        return "in a save"
    if not steps:
        return "before the first"
    return "after the last" if checkpoint.read(run / "checkpoints", steps[-1])[1]["reason"] else "between"


def _ends(family: Family, run: Path) -> bool:
    """Let a run go on to its end, and return whether it has come to what an unbroken one comes to."""
    process = family.start(run)
    process.join(WAIT)
    assert process.exitcode == 0, family.log.read_text()[-3000:]
    return family.is_exact(run)


TRIALS: dict[str, tuple[Callable[[Family, Path, random.Random], Trial], Sequence[str]]] = {
    "kill": (kill, ["before the first", "in a save", "between", "after the last"]),
    "stop": (stop, [*(number.name for number in STOPS), *(f"{number.name}, too late" for number in STOPS)]),
}


def tried(what: str, number: int, name: str, folder: Path) -> bool:
    """Try runs of a family until so much has happened to them; print counts, and return whether all were exact."""
    (attempt, moments), family = TRIALS[what], Family(name, folder)
    counts, exact, runs = collections.Counter[str](), 0, 0
    while counts.total() < number:
        trial = attempt(family, folder / f"{name}-{runs}", random.Random(f"{name} {runs}"))
        counts.update(trial.moments)
        exact, runs = exact + trial.exact, runs + 1
        if not trial.exact:
            print(f"{name}-{runs - 1}: {', '.join(trial.moments)}: not what an unbroken run comes to", flush=True)
    cells = [name, *(counts[moment] for moment in moments), counts.total(), runs, exact]
    print(" | ".join(map(str, cells)), flush=True)
    return exact == runs


def main(what: str, number: str, *names: str) -> int:
    """Try every family so often, print a table, and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="trials-") as temporary:
        folder = Path(temporary)
        os.environ.setdefault("JAXNETS_CACHE", str(folder / "cache"))
        # Where the fork server, which starts with the first process, finds what it loads.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        (folder / "data").mkdir()
        write_data(folder / "data")
        print(" | ".join(["family", *TRIALS[what][1], "all", "runs", "exact"]), flush=True)
        with ThreadPoolExecutor(2) as pool:
            return 1 - all(pool.map(lambda name: tried(what, int(number), name, folder), names or FAMILIES))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
