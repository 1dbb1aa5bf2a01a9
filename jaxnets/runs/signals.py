"""Signals that ask a run to stop, and how it says that it did."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818  (the name says what happened; nothing went wrong)
    """The run was asked to stop and has saved its state; ``status`` is what the program exits with."""

    def __init__(self, number: int, step: int):
        super().__init__(f"{signal.Signals(number).name} at step {step:,}")
        self.status = 128 + number


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Collect the first of ``SIGNALS`` in a list, for the run to end in good order; a second ends it at once.

    A signal that is ignored (as a shell has it for what runs in the background) stays ignored.
    """
    received: list[int] = []
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
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
