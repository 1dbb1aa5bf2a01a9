"""Training in a run's folder: every evaluation logged, states saved, the result measured and written."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data import Data
from jaxnets.errors import InputError
from jaxnets.hosts import by_writer, check_alike, for_writer, is_writer, most
from jaxnets.learner import TrainState
from jaxnets.network import num_parameters
from jaxnets.runs import checkpoint, plots
from jaxnets.runs.console import warn
from jaxnets.runs.environment import peak_memory
from jaxnets.runs.folder import Run
from jaxnets.runs.json_files import plain, to_json
from jaxnets.runs.lock import written
from jaxnets.runs.saving import Saver
from jaxnets.runs.signals import Interrupted, noted_signals
from jaxnets.training.evaluation import evaluate
from jaxnets.training.events import Elapsed, Event, follow
from jaxnets.training.plan import Plan
from jaxnets.training.progress import Display

Watch = Callable[[TrainState, int], None]
Made = tuple[Mapping[str, Sequence[float]], Mapping[str, float], Mapping[str, str]]
Finish = Callable[[TrainState], Made]


def train(
    run: Run,
    plan: Plan,
    test: Data | None,
    display: Display,
    watch: Watch | None = None,
    finish: Finish = lambda state: ({}, {}, {}),
    *,
    resume: bool = False,
    exact: bool = False,
) -> dict[str, Any]:
    """Train, log every evaluation, save now and then and at the end, and return (and write) the result.

    Args:
        run: the run's folder.
        plan: the run, checked; of a population where it has several seeds.
        test: the test data, if there are any.
        display: what shows the events.
        watch: what is made of the state (and step) at each evaluation.
        finish: what is made of the state that is kept, unless it diverged; it returns metrics, of each seed, those of
            baselines, and what their names cannot say.
        resume: go on from the newest checkpoint; from the beginning, if there is none yet.
        exact: refuse to go on where the bits may be others than an unbroken run's.

    Raises:
        Interrupted: after SIGINT, SIGTERM or SIGHUP, once the state is saved.
        InputError: if nothing can be saved, or ``exact`` cannot be held.
    """
    event, given, facts = None, {}, None
    if resume:
        step = 0
        if checkpoint.steps(run.checkpoints):
            state, found = run.restored(plan)
            facts, step, elapsed = found, found["step"], Elapsed(*found["elapsed"])
            check_alike("saved states", f"{step:06x}")
            by_writer(lambda: _tell_changes(run, found, exact=exact))
            given = {"resume": state, "elapsed": elapsed}
            if facts["reason"]:
                event = Event("end", state, step, plan.num_steps, {}, *elapsed, reason=facts["reason"])
        by_writer(lambda: run.cut_history(step))
    with noted_signals() as received:
        if event is None:
            saver = Saver(run.checkpoints, run.config.saving, plan, run.facts(), facts)
            with saver:
                event = _follow(run, follow(plan, **given, stops=saver.stops), display, watch, received, saver)
    result = _result(plan, test, event)
    kept = for_writer(event.run_state.train)
    by_writer(lambda: _finished(run, result, lambda: finish(kept)))
    return result


def _finished(run: Run, result: dict[str, Any], finish: Callable[[], Made]) -> None:
    """Draw the curves, and add to the result, and write it, with what is made of the weights unless they diverged."""
    with written(run.path):
        plots.save_curves(run.path / "curves.png", {run.config.recipe: run.history()})
        to_json(run.path / "result.json", result)  # without baselines: what follows may take long, or fail
        metrics, result["baselines"], result["about"] = ({}, {}, {}) if diverged(result) else finish()
        result["metrics"] |= {name: spread(values) for name, values in metrics.items()}
        to_json(run.path / "result.json", result)


def diverged(result: Mapping[str, Any]) -> bool:
    """Return whether a run ended because it went wrong."""
    return result["stop_reason"].startswith("diverged")


def _tell_changes(run: Run, facts: Mapping[str, Any], *, exact: bool) -> None:
    """Say what has changed since a checkpoint was saved; the bits may be others than an unbroken run's."""
    changes = run.changes(facts)
    if changes and exact:
        raise InputError(f"{run.path}: cannot go on exactly: {'; '.join(changes)}; undo that, or leave --exact out")
    for change in changes:
        warn(f"{change}: the bits may be others than an unbroken run's")


def _follow(
    run: Run,
    events: Iterator[Event],
    display: Display,
    watch: Watch | None,
    received: Sequence[int],
    saver: Saver,
) -> Event:
    """Show and log the events, have their states saved, and return the last."""
    event = None
    path = run.path / "metrics.jsonl" if is_writer() else Path(os.devnull)
    with written(run.path), path.open("a") as log:
        for event in events:
            display.show(event)
            if event.kind == "evaluation":
                log.write(json.dumps(plain(event.row)) + "\n")
                log.flush()
                if watch is not None:
                    by_writer(partial(watch, for_writer(event.run_state.train), event.step))
            if event.kind in ("compiling", "skipped"):  # an evaluation may be due at the step that it stands at
                continue
            interrupted = most(received[0] if received else 0)
            saver.see(event, last=bool(interrupted) or event.kind == "end")
            if interrupted and event.kind != "end":
                raise Interrupted(interrupted, event.step)
    assert event is not None
    return event


def _result(plan: Plan, test: Data | None, event: Event) -> dict[str, Any]:
    """Evaluate the weights that were kept on everything that was held out."""
    state, metrics = event.run_state.train, {}
    for name, data in (("validation", plan.validation), ("test", test)):
        if data is not None:
            metrics |= {f"{name}/{key}": spread(value) for key, value in evaluate(plan.learner, state, data).items()}
    seeds = np.ravel(plan.seeds)
    examples = event.step * plan.batch_size * len(seeds)
    return {
        "metrics": metrics,
        "seconds": event.seconds,
        "compile_seconds": event.compile_seconds,
        "wait_seconds": event.wait_seconds,
        "examples_per_second": examples / max(event.seconds - event.compile_seconds, 1e-9),
        "steps": event.step,
        "parameters": num_parameters(state.params) // len(seeds),
        "seeds": seeds.tolist(),
        "peak_memory_bytes": peak_memory(),
        "stop_reason": event.reason,
    }


def spread(value: Any) -> dict[str, Any]:
    """Return mean, sample standard deviation (None for a single value) and values of a metric over the seeds."""
    values = np.ravel(np.asarray(value, np.float64))
    std = float(values.std(ddof=1)) if values.size > 1 else None
    return {"mean": float(values.mean()), "std": std, "values": values.tolist()}
