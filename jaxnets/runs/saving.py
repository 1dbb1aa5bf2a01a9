"""When a run's state is saved, which saved states are kept, and the thread that writes them beside the training."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from jaxnets.errors import InputError, check_field, nearest
from jaxnets.hosts import first, is_writer, on_host
from jaxnets.runs import checkpoint
from jaxnets.training.duration import Duration
from jaxnets.training.events import Event
from jaxnets.training.plan import Plan


@dataclass(frozen=True)
class Saving:
    """When a run's state is saved, and which saved states are kept."""

    save_every: str = "1m"
    """steps, epochs or time between two saves: what kill -9 may cost"""
    keep: int = checkpoint.KEEP
    """how many of the newest saved states to keep"""
    keep_every: str | None = None
    """save and keep the states at multiples of so many steps or epochs, too"""
    keep_best: str | None = None
    """save and keep the state where this metric was best, too, such as validation/accuracy"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "keep", self.keep >= 1, "1 or more: a run goes on from the newest saved state")
        Duration.parse(self.save_every)
        kept = None if self.keep_every is None else Duration.parse(self.keep_every)
        check_field(self, "keep_every", kept is None or kept.unit != "seconds", "in steps or epochs, such as 5ep")

    def check(self, plan: Plan) -> None:
        """Check that a run has the metric by which the best state is told.

        Raises:
            InputError: if it has not, or it is not known which values of it are better.
        """
        name = self.keep_best
        if name is not None and plan.better.get(name) is None:
            known = [metric for metric, better in plan.better.items() if better]
            raise InputError(f"keep_best={name!r} is none of {', '.join(known)}{nearest(name, known)}")


class Saver:
    """Saves the states of a run, in a thread of its own: one save at a time, from a copy in the host's memory.

    A context: whoever leaves it waits for the save that is under way.

    Args:
        folder: of the checkpoints.
        saving: what is saved when, and kept.
        plan: the run.
        facts: JSON values that each checkpoint keeps.
        before: the facts of the checkpoint from which the run goes on.
    """

    def __init__(
        self, folder: Path, saving: Saving, plan: Plan, facts: Mapping[str, Any], before: Mapping[str, Any] | None
    ):
        self._folder, self._facts, self._keep = folder, dict(facts), saving.keep
        self._metric, self._better = saving.keep_best, plan.better.get(saving.keep_best or "")
        self._best: Mapping[str, Any] = (before or {}).get("best") or {}
        often = Duration.parse(saving.save_every)
        self._seconds = often.amount if often.unit == "seconds" else None
        self._every = _steps(saving.save_every, plan)
        self._keep_every = _steps(saving.keep_every, plan)
        self._saved, self._saved_step = time.monotonic(), (before or {}).get("step", 0)
        self._thread = ThreadPoolExecutor(1, "saving")
        self._under_way: Future[Path] | None = None

    def __enter__(self) -> Self:
        """Return the saver itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the save that is under way; its error is raised where there is no other."""
        self._thread.shutdown()
        if kind is None:
            self.wait()

    @property
    def stops(self) -> tuple[int, ...]:
        """Steps at whose multiples the state must be there to be saved."""
        return tuple(every for every in (self._every, self._keep_every) if every is not None)

    def see(self, event: Event, *, last: bool = False) -> None:
        """Save the event's state where it is time, and at the last event at once.

        Raises:
            InputError: if this save, or the one that was under way, has failed.
        """
        if self._under_way is not None and self._under_way.done():
            self.wait()
        better = event.kind == "evaluation" and self._is_better(event)
        if better:
            assert self._metric is not None
            self._best = {"metric": self._metric, "value": _mean(event.row[self._metric]), "step": event.step}
        if last or better or self._due(event.step):
            self._save(event)
        if last:
            self.wait()

    def wait(self) -> None:
        """Wait for the save that is under way, if one is, and raise its error, if it has failed."""
        saving, self._under_way = self._under_way, None
        if saving is not None:
            saving.result()

    def _due(self, step: int) -> bool:
        if any(step // every > self._saved_step // every for every in self.stops):
            return True
        if self._seconds is None:
            return False
        return bool(first(time.monotonic() - self._saved > self._seconds and self._under_way is None))

    def _is_better(self, event: Event) -> bool:
        if self._metric is None:
            return False
        value, best = _mean(event.row[self._metric]), self._best.get("value")
        if self._best.get("metric") != self._metric or best is None:
            return bool(np.isfinite(value))
        return value > best if self._better == "higher" else value < best

    def _save(self, event: Event) -> None:
        self.wait()
        elapsed = event.seconds, event.compile_seconds, event.wait_seconds
        facts = {**self._facts, "elapsed": elapsed, "reason": event.reason, "best": dict(self._best)}
        # A copy: the device writes over its own in the next steps.
        state = on_host(event.run_state, everywhere=False)
        self._saved, self._saved_step = time.monotonic(), event.step
        if not is_writer():
            return
        best, every = self._best.get("step"), self._keep_every

        def also(steps: Iterable[int]) -> list[int]:
            return [step for step in steps if step == best or (every is not None and step and step % every == 0)]

        self._under_way = self._thread.submit(
            checkpoint.save, self._folder, event.step, state, facts, keep=self._keep, also=also
        )


def _steps(text: str | None, plan: Plan) -> int | None:
    return None if text is None else Duration.parse(text).steps(plan.train.num_examples, plan.batch_size)


def _mean(value: Any) -> float:
    """Return a metric's value, or the mean of its values for the members of a population."""
    return float(np.mean(np.asarray(value, np.float64)))
