"""The learning-rate range test (Smith, 2017): raise the rate step by step, and look where the loss stops falling."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data import Data
from jaxnets.learner import Learner, check_minimizes
from jaxnets.training.events import events
from jaxnets.training.progress import Display

WINDOW = 9  # steps over which the loss is averaged
EXPLODED = 4.0  # times the lowest loss: where the test ends


class RangeTest(NamedTuple):
    """What a range test saw: rates, averaged losses, and the rate to use (None if the loss never fell)."""

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float | None


def range_test(learner: Learner, train: Data, schedule: Callable[[int], Any], **options: Any) -> RangeTest:
    """Return the losses over the rates, up to where the loss explodes.

    Args:
        learner: whose learning rate rises by ``schedule``.
        train: the training data.
        schedule: the learning rate as a function of the step.
        **options: those of ``events``, with a row of metrics at each step.
    """
    check_minimizes(learner, "a range test")
    losses: list[float] = []
    lowest = np.inf
    with Display() as display:
        for event in events(learner, train, **options):
            if event.kind == "evaluation":
                losses.append(float(event.row["train/loss"]))
                recent = float(np.mean(losses[-WINDOW:]))
                lowest = min(lowest, recent)
                if not recent < EXPLODED * lowest:
                    break
            display.show(event)
    finite = losses[: int(np.argmin([*np.isfinite(losses), False]))]
    if len(finite) < WINDOW:
        return RangeTest(np.empty(0), np.empty(0), None)
    averaged = np.convolve(finite, np.ones(WINDOW) / WINDOW, mode="valid")  # each value at the middle of its window
    rates = np.array([np.asarray(schedule(step + WINDOW // 2), float) for step in range(len(averaged))])
    return RangeTest(rates, averaged, suggestion(rates, averaged))


def suggestion(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """Return a tenth of the rate at which the loss is lowest; None if it never falls by a tenth.

    At the lowest point the rate is already about to be too high; a tenth of it is the customary choice.
    """
    if not len(losses) or losses.min() > 0.9 * losses[0]:
        return None
    return float(rates[int(losses.argmin())]) / 10
