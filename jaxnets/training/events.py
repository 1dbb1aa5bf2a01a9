"""Training as a stream of events: the compiled loop, evaluation and early stopping, for whoever watches."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Data, MakeOrder, usual
from jaxnets.errors import InputError, check_kind
from jaxnets.hosts import first, on_host
from jaxnets.learner import Initial, Learner, started
from jaxnets.metrics import add_up, compute, values_of
from jaxnets.training.chunk import chunk, run_keys
from jaxnets.training.compiling import compiled, use_compile_cache
from jaxnets.training.evaluation import in_turn, placed_groups
from jaxnets.training.feed import Buffer, Feed
from jaxnets.training.guard import Guard, given_up, told
from jaxnets.training.plan import Plan, RunState, Selection, Skipped, check, copied, everywhere, no_sums
from jaxnets.training.stopping import EarlyStopping, first_best, select, updated_best
from jaxnets.transforms.varied import VARIED

CHUNK_SECONDS = 0.25  # how often, about, the host hears from the device; of large states up to ten times more rarely
GUARDED = 25  # times as long as the guard's look takes, at least, from one to the next
FEW = 4  # slow steps that are taken together, in up to ten times as long, for every call asks for all its memory anew


@dataclass(frozen=True)
class Event:
    """What a run tells whoever watches. Its ``run_state`` is valid until the next event is asked for.

    Attributes:
        kind: "compiling" and "compiled" come first; then, about four times a second (of large states and slow steps
            more rarely), "chunk",
            or "evaluation" where there is a new row of metrics; "skipped" before these, for a bad step that was left
            out; "end" at last.
        run_state: everything needed to go on from here.
        step: steps taken.
        num_steps: steps of the whole run; None for a duration in time.
        row: metrics so far ("chunk"), or of an evaluation, with its step, epoch and seconds.
        seconds: time since the start, compilation included.
        compile_seconds: the part of it that went into compiling.
        wait_seconds: the part of it in which the device waited for data.
        examples_per_second: of the last chunk, over all members of a population.
        cached: whether the compiled loop came from the cache.
        reason: why the run ended, or a step was left out.
    """

    kind: Literal["compiling", "compiled", "chunk", "evaluation", "skipped", "end"]
    run_state: RunState
    step: int
    num_steps: int | None
    row: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    compile_seconds: float = 0.0
    wait_seconds: float = 0.0
    examples_per_second: float = 0.0
    cached: bool = False
    reason: str = ""


class Elapsed(NamedTuple):
    """The seconds that a run took before it was interrupted, as its events had them."""

    seconds: float = 0.0
    compile_seconds: float = 0.0
    wait_seconds: float = 0.0


def events(
    learner: Learner,
    train: Data,
    *,
    duration: str | int = "10ep",
    batch_size: int = 32,
    seed: int | Sequence[int] = 0,
    validation: Data | None = None,
    evaluate_every: str | int = "1ep",
    early_stopping: EarlyStopping | None = None,
    order: MakeOrder = usual,
    initial: Initial | None = None,
    selection: Selection | None = None,
    resume: RunState | None = None,
    elapsed: Elapsed = Elapsed(),
    on_device: bool | None = None,
) -> Iterator[Event]:
    """Train, and yield an event for everything worth showing, logging or saving; to stop, stop asking.

    Args:
        learner: what is trained.
        train: the training data.
        duration: the run's length: steps (500), epochs ("5ep") or time ("30m", compilation not counted).
        batch_size: examples of a step.
        seed: of initial values, the order of the rows, and all that is random in a step; for a population, one each.
        validation: evaluated as often as ``evaluate_every`` says, each example exactly once.
        evaluate_every: steps or epochs between two rows of metrics.
        early_stopping: when to stop before ``duration``.
        order: makes the order of the training rows: ``data.shuffled``, ``data.by_length``, ``data.balanced``, ... By
            default by length, where the data have "lengths", else shuffled.
        initial: weights to begin from, in part or whole; the rest is drawn.
        selection: how the members of a population compete: ``Halving``, ``PopulationBased``.
        resume: the ``run_state`` to go on from, of a run with the same arguments.
        elapsed: how long the run took before.
        on_device: keep the training data on the device, or send rows as they are needed. By default as fits.

    Yields:
        Events; after the last, ``run_state.train`` is the final state, or the best with early stopping.

    Raises:
        InputError: if an argument or the data do not suit, before anything compiles.
    """
    if resume is not None:
        check_kind("resume", resume, RunState, "give the run_state of an event")
    check_kind("elapsed", elapsed, Elapsed, "give Elapsed(seconds, compile_seconds, wait_seconds)")
    if on_device not in (None, True, False):
        raise InputError(f"{on_device=} must be True, False or None")
    plan = check(
        learner,
        train,
        duration=duration,
        batch_size=batch_size,
        seed=seed,
        validation=validation,
        evaluate_every=evaluate_every,
        early_stopping=early_stopping,
        order=order,
        initial=initial,
        selection=selection,
    )
    yield from follow(plan, resume=resume, elapsed=elapsed, on_device=on_device)


def follow(
    plan: Plan,
    *,
    resume: RunState | None = None,
    elapsed: Elapsed = Elapsed(),
    on_device: bool | None = None,
    stops: Sequence[int] = (),
) -> Iterator[Event]:
    """Train as planned, and yield events as ``events`` does.

    Args:
        plan: the run, checked.
        resume: the ``run_state`` to go on from.
        elapsed: how long the run took before.
        on_device: as in ``events``.
        stops: there is an event at each multiple of so many steps, too.
    """
    use_compile_cache()
    placement = plan.learner.placement
    feed = Feed(plan.train, plan.seeds, plan.batch_size, plan.num_steps, on_device, plan.order, placement)
    loop = _Loop(feed, plan, resume, elapsed)
    yield loop.event("compiling")
    loop.compile()
    yield loop.event("compiled")
    reason = loop.stop_reason()
    while not reason:
        until = min(loop.step - loop.step % every + every for every in (plan.every, *stops))
        for note in loop.advance(until if plan.num_steps is None else min(until, plan.num_steps)):
            yield loop.event("skipped", reason=note)
        row = loop.metrics(values_of(on_host(loop.run.sums)), "train/")
        reason = loop.stop_reason()
        if not reason and loop.step % plan.every:
            yield loop.event("chunk", row)
            continue
        times = {"epoch": loop.step * plan.batch_size / plan.train.num_examples, "seconds": loop.seconds}
        row = loop.evaluate({"step": loop.step, **times, **row})
        reason = reason or loop.stop_reason()
        yield loop.event("evaluation", row)
    yield loop.end(reason)


class _Loop:
    """The host's side of a run: its programs, where it stands, and how long it took."""

    def __init__(self, feed: Feed, plan: Plan, resume: RunState | None, elapsed: Elapsed):
        self.start = time.perf_counter() - elapsed.seconds
        _, self.compile_seconds, self.wait_seconds = elapsed
        self.cached = False
        self.learner, self.feed, self.plan = plan.learner, feed, plan
        self.step = 0 if resume is None else int(np.ravel(resume.train.step)[0])
        feed.begin(self.step)  # while programs are compiled
        init_key, self.key = everywhere(run_keys(plan.seeds), self.learner.placement)
        if resume is None:
            given = init_key, everywhere(plan.initial, self.learner.placement)
            state = self._compiled(partial(started, self.learner), *given)(*given)
            sums = no_sums(plan.state, self.learner.placement)
            best = first_best(state, plan.early_stopping) if plan.early_stopping else None
            dropped = None if plan.selection is None else np.zeros(plan.seeds.shape, bool)
            self.run = RunState(state, sums, best, Skipped.none(plan.seeds.shape), dropped)
        else:
            self.run = copied(resume, self.learner.placement)
        self.num, self.step_seconds = 1, 0.0
        self.row: dict[str, Any] = {}

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self.start

    def event(self, kind: Any, row: Mapping[str, Any] | None = None, reason: str = "") -> Event:
        """Return an event about where the run stands."""
        rate = self.feed.examples_a_step / self.step_seconds if self.step_seconds else 0.0
        times = self.seconds, self.compile_seconds, self.wait_seconds, rate
        return Event(kind, self.run, self.step, self.plan.num_steps, row or {}, *times, self.cached, reason)

    def compile(self) -> None:
        """Compile the two programs, one for evaluation and one for all steps, and wait for the first rows."""
        if (held_out := self.plan.validation) is not None:
            group = next(placed_groups(self.learner, held_out))
            whole = self.learner.placement and self.learner.placement.of_rest  # so that each process has the sums
            self.evaluation = self._compiled(in_turn(self.learner), self.run.train, *group, out_shardings=whole)
        span = np.int32(0), self.counted(self.run, 0)
        columns, rows = self.feed.shapes()
        args = self.run.train, self.run.sums, columns, rows, *span, self.key
        # On a mesh the state stays where it lies, whatever the compiler would choose.
        where = {"out_shardings": jax.tree.map(lambda a: a.sharding, args[:2])} if self.learner.placement else {}
        self.program = self._compiled(chunk(self.learner), *args, donate_argnums=(0, 1), **where)
        began = time.perf_counter()
        self.guard = Guard(self.run, self.feed.rows, self.plan.seeds)
        self.compile_seconds += time.perf_counter() - began
        rarely = max(CHUNK_SECONDS, min(GUARDED * first(self.guard.seconds), 10 * CHUNK_SECONDS))
        self.chunk_seconds = CHUNK_SECONDS if self.plan.limit is not None else rarely
        loading = time.perf_counter()
        self.buffer = self.feed.load(self.step)
        self.wait_seconds += time.perf_counter() - loading

    def take(self, buffer: Buffer, run: RunState, step: int, num: int) -> RunState:
        """Return the state after ``num`` steps from ``step`` on; the state that is given is used up."""
        start, columns, rows = buffer
        span = np.int32(step - start), self.counted(run, num)
        state, sums = self.program(run.train, run.sums, columns, rows, *span, self.key)
        if run.dropped is not None:  # who is trained no more is as far as the others, too
            taken = np.full(run.dropped.shape, step + num, np.int32)
            state = state.replace(step=jax.device_put(taken, state.step.sharding))
        return run.replace(train=state, sums=sums)

    def counted(self, run: RunState, num: int) -> np.ndarray:
        """Return the steps that each member takes, where some may take none; else those of all."""
        return np.asarray(num, np.int32) if run.dropped is None else np.where(run.dropped, 0, num).astype(np.int32)

    def advance(self, until: int) -> list[str]:
        """Take the steps of one chunk, up to step ``until`` at most, and return what is to be said of bad ones."""
        start, take = self.buffer.start, partial(self.take, self.buffer)
        num = min(self.num, until - self.step, start + self.feed.capacity - self.step)
        begin, began = self.step, time.perf_counter()
        self.guard.begin(self.run)
        self.run = take(self.run, begin, num)
        self.step += num
        waited = 0.0
        if self.step == start + self.feed.capacity and self.step != self.plan.num_steps:
            loading = time.perf_counter()
            self.buffer = self.feed.load(self.step)  # while the device is at work on the last of these rows
            waited = max(0.0, time.perf_counter() - loading - num * self.step_seconds)
        self.run = self.guard.checked(self.run, begin, num, take)
        self.step = int(np.ravel(on_host(self.run.train.step))[0])  # fewer, where all members were given up
        self.wait_seconds += waited
        self.step_seconds = first((time.perf_counter() - began - waited) / num)
        fast, slow = (int(seconds / self.step_seconds) for seconds in (self.chunk_seconds, 10 * CHUNK_SECONDS))
        few = FEW if self.plan.limit is None else 1  # a limit in time is kept to the step
        self.num = max(1, min(8 * num, max(fast, min(slow, few)))) if not self.guard.notes else 1
        return self.guard.notes

    def evaluate(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row with validation metrics; training metrics start anew, and the best weights are noted."""
        if (held_out := self.plan.validation) is not None:
            given = placed_groups(self.learner, held_out)
            parts = [jax.device_get(self.evaluation(self.run.train, *group)) for group in given]
            row |= self.metrics(add_up(parts), "validation/")
        self.row = row
        self.run = self.run.replace(sums=jax.tree.map(jnp.zeros_like, self.run.sums))
        if self.plan.early_stopping and self.run.best:
            self.run = self.run.replace(best=updated_best(self.run.best, self.run.train, row, self.plan.early_stopping))
        if self.plan.selection:
            values = self.run.train.extra.get(VARIED, {})
            row |= {f"{VARIED}/{name}": np.asarray(value) for name, value in values.items()}
            self.run = self.plan.selection.select(self.run, row, self.plan)
        return row

    def metrics(self, sums: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """Return what is computed of sums on the host."""
        return compute(self.learner.metrics, sums, prefix, self.plan.seeds.ndim)

    def stop_reason(self) -> str:
        """Return why the run is over, or an empty string."""
        at = f"at step {self.step:,}"
        if given_up(self.run).all():
            return f"gave up {at}"
        if self.step == self.plan.num_steps:
            return f"completed {self.step:,} steps"
        if (limit := self.plan.limit) is not None and self.step and first(self.seconds - self.compile_seconds) >= limit:
            return f"reached the time limit of {limit:g} s {at}"
        rule, best = self.plan.early_stopping, self.run.best
        if rule and best and (best.waited >= rule.patience).all():
            least = f" by more than {rule.min_delta}" if rule.min_delta else ""
            return f"stopped early {at}: no better {rule.monitor}{least} in {rule.patience} evaluations"
        return ""

    def end(self, reason: str) -> Event:
        """Return the last event, with the weights that are kept."""
        if (best := self.run.best) is not None and self.plan.early_stopping is not None:
            never = ~np.isfinite(best.value)
            self.run = self.run.replace(train=select(never, self.run.train, best.state))
            steps = ", ".join(f"{step:,}" for step in np.ravel(np.where(never, self.step, best.step)))
            reason += f"; kept the weights of step {steps}, where {self.plan.early_stopping.monitor} was best"
            reason += " or, if it never was a number, the last" if never.any() else ""
        return self.event("end", reason=told(self.run, self.step, reason, self.plan.seeds, self.row))

    def _compiled(self, function: Callable[..., Any], *args: Any, **options: Any) -> Callable[..., Any]:
        """Compile for arguments like ``args``; with others the program raises an error rather than compile again."""
        began = time.perf_counter()
        program, self.cached = compiled(function, *args, **options)
        self.compile_seconds += time.perf_counter() - began
        return program
