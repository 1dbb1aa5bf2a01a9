"""Paired, alternating timing: the figure is a ratio within one run, never a time by itself."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 2000  # of the bootstrap


class Seconds(NamedTuple):
    """What one measurement took.

    Attributes:
        wall: by the clock.
        process: of processor time, all threads together.
    """

    wall: float
    process: float


class Ratio(NamedTuple):
    """A median, and the ends of its 95% interval."""

    median: float
    low: float
    high: float


def measured(function: Callable[[], object]) -> Seconds:
    """Return how long a call takes."""
    wall, process = time.perf_counter(), time.process_time()
    function()
    return Seconds(time.perf_counter() - wall, time.process_time() - process)


def paired(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Seconds]]:
    """Return the times of each way in each round; every other round goes backwards (A B B A)."""
    times: dict[str, list[Seconds]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            times[name].append(measured(ways[name]))
    return times


def ratio(peer: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Return the peer's times over ours, round by round: the median, and its bootstrap interval of 95%."""
    ratios = np.divide(peer, ours)
    resampled = np.random.default_rng(0).choice(ratios, (NUM_RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(resampled, axis=1), [0.025, 0.975])
    return Ratio(float(np.median(ratios)), float(low), float(high))
