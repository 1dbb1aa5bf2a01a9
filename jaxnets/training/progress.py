"""What a person sees while a run goes on: a notice of compiling, a bar where there is a terminal, lines where not."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from jaxnets.training import readable
from jaxnets.training.events import Event

Shown = Callable[[Mapping[str, Any]], Mapping[str, Any]]

LINE_SECONDS = 2.0  # between two lines of metrics, at least
MOST_NOTES = 5  # of bad steps
QUIET_SECONDS = 10.0  # without a line, at most, where there is no terminal to draw a bar in


class Display:
    """Show a run's events, on standard error.

    Args:
        quiet: show nothing.
        console: where to; standard error if absent.
        of: what is shown of a row of metrics; all of it if absent.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None, of: Shown = lambda row: row):
        self._of = of
        self.console = console or Console(stderr=True, quiet=quiet, highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[metrics]}", table_column=Column(ratio=1, no_wrap=True)),  # what room is left
            expand=True,
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal or quiet,
        )
        self._task = self._progress.add_task("compiling", total=None, metrics="")
        self._last_line = -LINE_SECONDS
        self._skipped = 0

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Show what the event says."""
        match event.kind:
            case "compiling":
                self.console.print("compiling ...")
            case "compiled":
                cached = " (cached)" if event.cached else ""
                self.console.print(f"compiled in {readable.seconds(event.compile_seconds)}{cached}")
                self._progress.update(self._task, description="step", total=event.num_steps, completed=event.step)
            case "chunk" | "evaluation":
                metrics, rate = readable.metrics(self._of(event.row)), f"{event.examples_per_second:,.0f} examples/s"
                self._progress.update(self._task, completed=event.step, metrics=f"{rate}  {metrics}")
                silence = time.monotonic() - self._last_line
                due = event.kind == "evaluation" and (silence >= LINE_SECONDS or event.step == event.num_steps)
                if due or (silence >= QUIET_SECONDS and not self.console.is_terminal):
                    self._last_line = time.monotonic()
                    of = f"/{event.num_steps:,}" if event.num_steps else ""
                    self.console.print(f"step {event.step:,}{of}  {metrics}  {rate}", soft_wrap=True)
            case "skipped":
                self._skipped += 1
                if self._skipped <= MOST_NOTES:
                    more = "; of more, the number is told at the end" if self._skipped == MOST_NOTES else ""
                    self.console.print(f"{event.reason}{more}", soft_wrap=True)
            case "end":
                self.console.print(event.reason, soft_wrap=True)
