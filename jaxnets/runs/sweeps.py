"""A sweep's folder: its trials, which of them are one program, what came of each, and its picture."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.errors import InputError
from jaxnets.metrics import Better
from jaxnets.runs.competition import Competition
from jaxnets.runs.folder import SWEEP, Run, RunConfig, written
from jaxnets.runs.json_files import from_dict, from_json
from jaxnets.runs.saving import Saving


@dataclass(frozen=True)
class Group:
    """Trials that are one compiled program.

    Attributes:
        alike: options that decide what is compiled, and which all of them share.
        trials: their numbers.
    """

    alike: Mapping[str, Any]
    trials: tuple[int, ...]


@dataclass(frozen=True)
class SweepConfig:
    """What a sweep was asked to do, in full: ``sweep.json``.

    Attributes:
        recipe: name of the preset, or of the user's file.
        config: every field of the recipe's Config, as it stands for all trials.
        names: the options in which trials differ.
        trials: the values of each.
        groups: which trials are one program.
        seeds: of each trial.
        population: how the members of a program are trained: "map" or "vmap".
        by: the metric that ranks them.
        better: which values of it are.
        saving: when states are saved.
        competition: how trials compete, if they do.
    """

    recipe: str
    config: Mapping[str, Any]
    names: tuple[str, ...]
    trials: tuple[Mapping[str, Any], ...]
    groups: tuple[Group, ...]
    seeds: tuple[int, ...]
    population: str
    by: str
    better: str
    saving: Saving = Saving()
    competition: Competition | None = None

    def run_config(self, group: Group, config: Mapping[str, Any]) -> RunConfig:
        """Return what the run of one program is asked to do; ``config`` is that of its recipe."""
        names = [name for name in self.names if name not in group.alike]
        each = len(self.seeds)
        values = {name: tuple(float(self.trials[i][name]) for i in group.trials for _ in range(each)) for name in names}
        seeds = self.seeds * len(group.trials)
        differing: Any = {"varied": values or None, "competition": self.competition}
        return RunConfig(self.recipe, config, seeds, self.population, self.saving, **differing)


def is_sweep(path: Path) -> bool:
    """Return whether a folder is a sweep's."""
    return (path / SWEEP).is_file()


def open_sweep(path: Path) -> SweepConfig:
    """Return what the sweep in a folder was asked to do.

    Raises:
        InputError: if its file is not what a sweep writes.
    """
    found = from_dict(SweepConfig, from_json(path / SWEEP))
    numbers = sorted(number for group in found.groups for number in group.trials)
    whole = all(set(trial) == set(found.names) for trial in found.trials) and found.names and found.seeds
    if not whole or numbers != list(range(len(found.trials))):
        raise InputError(f"{path / SWEEP}: names, trials, groups and seeds do not belong together; it was changed")
    return found


def file_of(path: Path) -> Path:
    """Return the file that says what a sweep was asked to do."""
    return path / SWEEP


def written_out(value: Any) -> str:
    """Return an option's value as people read it; a list's as words."""
    if isinstance(value, list | tuple):
        return " ".join(map(written_out, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Row(NamedTuple):
    """What came of a trial.

    Attributes:
        trial: its number.
        values: of the options in which trials differ; those that it ended with.
        scores: of the metric that ranks, one a seed.
        metrics: the means of all metrics.
        steps: that it took.
        seconds: its share of the time.
        group: number of the program that it was in.
        place: its position among that program's trials.
    """

    trial: int
    values: Mapping[str, Any]
    scores: np.ndarray
    metrics: Mapping[str, float]
    steps: int
    seconds: float
    group: int
    place: int


def rows(path: Path, sweep: SweepConfig) -> list[Row]:
    """Return what came of all trials, the best first by their mean score; of halving, those that went on longest."""
    found = [row for number in range(len(sweep.groups)) for row in _rows_of(path, sweep, number)]
    sign = -1.0 if sweep.better == "higher" else 1.0

    halved = sweep.competition is not None and sweep.competition.by == "halving"

    def order(row: Row) -> tuple[bool, int, float, int]:
        score = sign * float(row.scores.mean())
        lost = not math.isfinite(score)
        return lost, -row.steps if halved else 0, 0.0 if lost else score, row.trial

    return sorted(found, key=order)


def _rows_of(path: Path, sweep: SweepConfig, number: int) -> Iterator[Row]:
    run, group = Run(path / str(number)), sweep.groups[number]
    result, history = run.result, run.history()
    if result is None or not history:
        raise InputError(f"{run.path}: has not ended; go on with it: jaxnets resume {path}")
    each, size = len(sweep.seeds), len(sweep.seeds) * len(group.trials)
    last = {name: values["values"] for name, values in result["metrics"].items()}
    if "kept the weights of step" not in result["stop_reason"] or sweep.by.startswith("train/"):
        last |= {name: np.ravel(value).tolist() for name, value in history[-1].items() if name.startswith("train/")}
    steps = np.max([_steps(row, size) for row in history], 0)
    for place, trial in enumerate(group.trials):
        own = slice(place * each, (place + 1) * each)
        ended = {
            name.partition("/")[2]: float(np.ravel(value)[own][0])
            for name, value in history[-1].items()
            if name.startswith("varied/")
        }
        values = {
            **sweep.trials[trial],
            **(ended if sweep.competition and sweep.competition.by == "population" else {}),
        }
        metrics = {name: float(np.mean(np.array(value[own], np.float64))) for name, value in last.items()}
        if sweep.by not in last:
            raise InputError(f"by={sweep.by!r} is none of {', '.join(last)}")
        seconds = result["seconds"] * float(steps[own].sum() / steps.sum())
        scores = np.array(last[sweep.by][own], np.float64)
        yield Row(trial, values, scores, metrics, int(steps[own][0]), seconds, number, place)


def _steps(row: Mapping[str, Any], size: int) -> np.ndarray:
    """Return the steps that each member had taken at a row, 0 if it was trained no more."""
    losses = next((value for name, value in row.items() if name.startswith("train/")), [0.0] * size)
    return np.array([0 if value is None else row["step"] for value in np.ravel(np.array(losses, object))])


def save_table(path: Path, sweep: SweepConfig, found: Sequence[Row]) -> None:
    """Write the table of trials as CSV, the best first."""
    metrics = [name for name in found[0].metrics if name != sweep.by]
    with written(path.parent), path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "trial", *sweep.names, sweep.by, f"{sweep.by} std", *metrics, "steps", "seconds"])
        for rank, row in enumerate(found, start=1):
            std = f"{row.scores.std(ddof=1):.6g}" if len(row.scores) > 1 else ""
            numbers = [f"{row.metrics[name]:.6g}" for name in metrics]
            values = [row.values[name] for name in sweep.names]
            own = [written_out(value) if isinstance(value, list) else value for value in values]
            score = f"{row.scores.mean():.6g}"
            writer.writerow([rank, row.trial, *own, score, std, *numbers, row.steps, f"{row.seconds:.3f}"])


def curves(path: Path, sweep: SweepConfig, found: Sequence[Row]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return of each row's trial the steps, and the mean over its seeds of the metric that ranks."""
    histories = [Run(path / str(number)).history() for number in range(len(sweep.groups))]
    each, lines = len(sweep.seeds), []
    for row in found:
        having = [line for line in histories[row.group] if sweep.by in line and line["step"] <= row.steps]
        values = [np.ravel(np.array(line[sweep.by], np.float64)) for line in having]
        own = [value[row.place * each : (row.place + 1) * each].mean() for value in values]
        lines.append((np.array([line["step"] for line in having]), np.array(own)))
    return lines


def direction(better: Mapping[str, Better], by: str) -> str:
    """Return which values of a metric are better.

    Raises:
        InputError: if there is no such metric, or neither is.
    """
    if better.get(by) is None:
        known = ", ".join(name for name, which in better.items() if which is not None)
        raise InputError(f"by={by!r} ranks nothing; choose one of {known}")
    return str(better[by])
