"""A run's folder: what was asked for, what it ran on, what came of it, and all that is needed to go on."""

import json
import os
import platform
import resource
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets import checkpoint, plots
from jaxnets.chunk import run_keys
from jaxnets.config import from_dict, from_json, plain, to_json
from jaxnets.data import Spec, Splits
from jaxnets.errors import InputError
from jaxnets.evaluation import evaluate
from jaxnets.fit import Elapsed, Event, events
from jaxnets.learner import Learner, TrainState
from jaxnets.network import num_parameters
from jaxnets.options import TrainingConfig
from jaxnets.plan import check
from jaxnets.progress import Display

Finish = Callable[[TrainState], tuple[Mapping[str, Sequence[float]], Mapping[str, float]]]

SAVE_SECONDS = 60.0  # between two checkpoints, about: what kill -9 may cost


@dataclass(frozen=True)
class RunConfig:
    """What a run was asked to do, in full: ``config.json``.

    Attributes:
        recipe: name of the preset, or of the user's file.
        config: every field of the recipe's Config.
        seeds: one for each member that is trained.
        population: how several are trained: one after the other in each step ("map"), or together ("vmap").
    """

    recipe: str
    config: Mapping[str, Any]
    seeds: tuple[int, ...] = (0,)
    population: str = "map"

    @property
    def seed(self) -> int | tuple[int, ...]:
        """The seeds as ``fit`` takes them: a lone one is no population."""
        return self.seeds[0] if len(self.seeds) == 1 else self.seeds


class Interrupted(Exception):  # noqa: N818  (the name says what happened; nothing went wrong)
    """The run was asked to stop and has saved its state; ``status`` is what the program exits with."""

    def __init__(self, number: int, step: int):
        super().__init__(f"{signal.Signals(number).name} at step {step:,}")
        self.status = 128 + number


class Run:
    """One run's folder.

    It holds config.json, spec.json, environment.json, metrics.jsonl, checkpoints, curves.png and result.json.
    """

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"

    @staticmethod
    def unused(path: Path | None, recipe: str) -> "Run":
        """Return a run that is yet to be created, in a folder ``runs/<recipe>-<short id>`` by default.

        Raises:
            InputError: if the folder already holds a run.
        """
        run = Run(path or Path("runs") / f"{recipe}-{secrets.token_hex(3)}")
        if any((run.path / name).exists() for name in ("config.json", "metrics.jsonl", "checkpoints")):
            raise InputError(
                f"{run.path}: already holds a run; resume it (jaxnets resume {run.path}) or name another --out"
            )
        return run

    def create(self, config: RunConfig, splits: Splits) -> None:
        """Make the folder, and write down what the run is asked to do, on what.

        Raises:
            InputError: if it cannot be made.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            to_json(self.path / "spec.json", splits.train.spec)
            to_json(self.path / "environment.json", environment() | {"data": splits.fingerprint})
            to_json(self.path / "config.json", config)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be made: {error}") from error

    @staticmethod
    def open(path: Path) -> "Run":
        """Return the run that a folder holds.

        Raises:
            InputError: if it holds none.
        """
        if not (path / "config.json").is_file():
            raise InputError(f"{path}: holds no run (there is no config.json)")
        return Run(path)

    @property
    def config(self) -> RunConfig:
        """What it was asked to do."""
        return from_dict(RunConfig, from_json(self.path / "config.json"))

    @property
    def spec(self) -> Spec:
        """What its training data are like."""
        return from_dict(Spec, from_json(self.path / "spec.json"))

    @property
    def result(self) -> dict[str, Any] | None:
        """What came of it; None if it has not ended, or was stopped while it was measured."""
        path = self.path / "result.json"
        result = from_json(path) if path.exists() else {}
        return result if "baselines" in result else None

    def history(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl; a last line that was cut off is left out."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def check_data(self, splits: Splits) -> None:
        """Check that these are the data the run began with.

        Raises:
            InputError: if they are others.
        """
        began = from_json(self.path / "environment.json")["data"]
        changed = [name for name, digest in splits.fingerprint.items() if began.get(name) != digest]
        if changed:
            raise InputError(f"{self.path}: the {' and '.join(changed)} data are not those that the run began with")

    def train_state(self, learner: Learner) -> TrainState:
        """Return the newest state (once the run has ended, the one that was kept)."""
        init_key, _ = jax.eval_shape(run_keys, np.asarray(self.config.seed, np.int32))
        shape = jax.eval_shape(learner.init, init_key)
        return checkpoint.restore(self.checkpoints, shape, part="train")[0]

    def train(
        self,
        learner: Learner,
        splits: Splits,
        training: TrainingConfig,
        display: Display,
        watch: Callable[[TrainState, int], None] = lambda state, step: None,
        finish: Finish = lambda state: ({}, {}),
        *,
        resume: bool = False,
    ) -> dict[str, Any]:
        """Train, log every evaluation, save now and then and at the end, and return (and write) the result.

        Args:
            learner: a population where the run has several seeds.
            splits: the data.
            training: how long and in which batches.
            display: what shows the events.
            watch: what is made of the state (and step) at each evaluation.
            finish: what is made of the state that is kept; it returns metrics, of each seed, and those of baselines.
            resume: go on from the newest checkpoint; from the beginning, if there is none yet.

        Raises:
            Interrupted: after SIGINT or SIGTERM, once the state is saved.
        """
        options = training.options() | {"seed": self.config.seed, "validation": splits.validation}
        event = None
        if resume:
            step = 0
            if checkpoint.steps(self.checkpoints):
                plan = check(learner, splits.train, **options)
                state, facts = checkpoint.restore(self.checkpoints, plan.state)
                step, elapsed = facts["step"], Elapsed(*facts["elapsed"])
                options |= {"resume": state, "elapsed": elapsed}
                if facts["reason"]:
                    event = Event("end", state, step, plan.num_steps, {}, *elapsed, reason=facts["reason"])
            self._cut_history(step)
        with _signals() as received:
            event = event or self._follow(events(learner, splits.train, **options), display, watch, received)
        plots.save_curves(self.path / "curves.png", {self.config.recipe: self.history()})
        examples = event.step * training.batch_size * len(self.config.seeds)
        result = self._result(learner, splits, event, examples)
        to_json(self.path / "result.json", result)  # without baselines: what follows may take long, or fail
        metrics, result["baselines"] = finish(event.run_state.train)
        result["metrics"] |= {name: spread(values) for name, values in metrics.items()}
        to_json(self.path / "result.json", result)
        return result

    def _follow(
        self,
        events: Iterator[Event],
        display: Display,
        watch: Callable[[TrainState, int], None],
        received: Sequence[int],
    ) -> Event:
        """Show and log the events, save now and then and at the end, and return the last."""
        saved, event = time.monotonic(), None
        with (self.path / "metrics.jsonl").open("a") as log:
            for event in events:
                display.show(event)
                if event.kind == "evaluation":
                    log.write(json.dumps(plain(event.row)) + "\n")
                    log.flush()
                    watch(event.run_state.train, event.step)
                interrupted = received and event.kind != "compiling"
                if interrupted or event.kind == "end" or time.monotonic() - saved > SAVE_SECONDS:
                    elapsed = event.seconds, event.compile_seconds, event.wait_seconds
                    facts = {"elapsed": elapsed, "reason": event.reason}
                    checkpoint.save(self.checkpoints, event.step, event.run_state, facts)
                    saved = time.monotonic()
                if interrupted and event.kind != "end":
                    raise Interrupted(received[0], event.step)
        assert event is not None
        return event

    def _result(self, learner: Learner, splits: Splits, event: Event, examples: int) -> dict[str, Any]:
        """Evaluate the weights that were kept on everything that was held out."""
        state, metrics = event.run_state.train, {}
        for name, data in (("validation", splits.validation), ("test", splits.test)):
            if data is not None:
                metrics |= {f"{name}/{key}": spread(value) for key, value in evaluate(learner, state, data).items()}
        return {
            "metrics": metrics,
            "seconds": event.seconds,
            "compile_seconds": event.compile_seconds,
            "wait_seconds": event.wait_seconds,
            "examples_per_second": examples / max(event.seconds - event.compile_seconds, 1e-9),
            "steps": event.step,
            "parameters": num_parameters(state.params) // len(self.config.seeds),
            "seeds": list(self.config.seeds),
            "peak_memory_bytes": peak_memory(),
            "stop_reason": event.reason,
        }

    def _cut_history(self, step: int) -> None:
        """Leave out the rows after ``step``, which the resumed run writes again."""
        rows = [row for row in self.history() if row["step"] <= step]
        partial = self.path / ".metrics.jsonl.part"
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
        partial.replace(self.path / "metrics.jsonl")


def spread(value: Any) -> dict[str, Any]:
    """Return mean, sample standard deviation (None for a single value) and values of a metric over the seeds."""
    values = np.ravel(np.asarray(value, np.float64))
    std = float(values.std(ddof=1)) if values.size > 1 else None
    return {"mean": float(values.mean()), "std": std, "values": values.tolist()}


def peak_memory() -> int:
    """Return the most bytes that the device (on CPU, this process) has had in use so far."""
    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM in a list, for the run to end in good order; a second ends it at once.

    A signal that is ignored (as a shell has it for what runs in the background) stays ignored.
    """
    received: list[int] = []
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        for number in before:
            signal.signal(number, note)
    try:
        yield received
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def environment() -> dict[str, Any]:
    """Return the versions and the hardware that figures depend on."""
    packages = ("jaxnets", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "platform": platform.platform(),
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "command": sys.argv,
    }
