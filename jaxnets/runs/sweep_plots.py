"""The picture of a sweep: its curves, and the metric over the options that differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.runs.folder import Run
from jaxnets.runs.plots import figure
from jaxnets.runs.sweeps import Row, SweepConfig, curves, written_out

_MOST_LABELS = 5


def save_sweep(path: Path, folder: Path, sweep: SweepConfig, found: Sequence[Row]) -> None:
    """Save curves beside the metric over the options: a line of one, a heat map of two, parallel axes of more."""
    drawing = figure(figsize=(13, 4.8))
    left, right = drawing.subplots(1, 2)
    colours = _colours(len(found))
    for rank, (steps, values) in reversed(list(enumerate(curves(folder, sweep, found)))):
        label = _label(sweep, found[rank]) if rank < _MOST_LABELS else None
        left.plot(steps, values, color=colours[rank], linewidth=2.0 if rank == 0 else 1.0, label=label)
    scores = np.array([row.scores.mean() for row in found])
    if np.nanmin(scores) > 0 and np.nanmax(scores) > 20 * np.nanmin(scores):
        left.set_yscale("log")
    left.set(xlabel="step", title=f"{sweep.by}, {len(found)} trials")
    handles, labels = left.get_legend_handles_labels()
    left.legend(handles[::-1], labels[::-1], fontsize="small", title="the best, in their order", title_fontsize="small")
    left.grid(alpha=0.3)
    names = [name for name in sweep.names if len({str(row.values[name]) for row in found}) > 1]
    if sweep.competition and sweep.competition.by == "population":
        _values_over_time(right, folder, sweep, found)
    else:
        draw = {1: _line, 2: _heat_map}.get(len(names), _parallel)
        draw(drawing, right, sweep, found, names)
    drawing.savefig(path, dpi=120)


def _line(drawing: Any, axes: Any, sweep: SweepConfig, found: Sequence[Row], names: Sequence[str]) -> None:
    (name,) = names
    ticks, positions = _scale(axes, "x", name, found)
    spread = [row.scores.std(ddof=1) if len(row.scores) > 1 else 0.0 for row in found]
    order = np.argsort([positions[str(row.values[name])] for row in found])
    across = np.array([positions[str(row.values[name])] for row in found])[order]
    means, stds = np.array([row.scores.mean() for row in found])[order], np.array(spread)[order]
    axes.errorbar(across, means, stds, marker="o", capsize=3)
    axes.set(xlabel=name, title=f"{sweep.by} (mean ± std of {len(sweep.seeds)} seeds)" if stds.any() else sweep.by)
    if ticks:
        axes.set_xticks(range(len(ticks)), ticks)
    axes.grid(alpha=0.3)


def _values_over_time(axes: Any, folder: Path, sweep: SweepConfig, found: Sequence[Row]) -> None:
    """Draw how the first option's value moves, of every member: one that was replaced jumps."""
    name, colours, history = sweep.names[0], _colours(len(found)), Run(folder / "0").history()
    values = np.array([np.ravel(row[f"varied/{name}"]) for row in history], float)
    for rank in reversed(range(len(found))):
        line = values[:, found[rank].place]
        axes.plot([row["step"] for row in history], line, color=colours[rank], linewidth=2.0 if rank == 0 else 1.0)
    axes.set(xlabel="step", title=f"{name} of every member")
    if values.min() > 0:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)


def _heat_map(drawing: Any, axes: Any, sweep: SweepConfig, found: Sequence[Row], names: Sequence[str]) -> None:
    first, second = (_different(found, name) for name in names)
    table = np.full((len(first), len(second)), np.nan)
    for row in found:
        table[first.index(row.values[names[0]]), second.index(row.values[names[1]])] = row.scores.mean()
    if np.isnan(table).mean() > 0.5:  # drawn at random: a value a trial
        _parallel(drawing, axes, sweep, found, names)
        return
    image = axes.imshow(table, cmap="viridis" if sweep.better == "higher" else "viridis_r", aspect="auto")
    drawing.colorbar(image, ax=axes)
    for i, j in np.argwhere(~np.isnan(table)):
        shade = image.norm(table[i, j])
        dark = shade < 0.5 if sweep.better == "higher" else shade > 0.5
        axes.text(j, i, f"{table[i, j]:.3g}", ha="center", va="center", color="white" if dark else "black", fontsize=8)
    axes.set_yticks(range(len(first)), [written_out(value) for value in first])
    axes.set_xticks(range(len(second)), [written_out(value) for value in second])
    axes.set(ylabel=names[0], xlabel=names[1], title=sweep.by)


def _parallel(drawing: Any, axes: Any, sweep: SweepConfig, found: Sequence[Row], names: Sequence[str]) -> None:
    colours = _colours(len(found))
    heights = []
    for number, name in enumerate([*names, sweep.by]):
        values = [row.scores.mean() if name == sweep.by else row.values[name] for row in found]
        places, low, high = _places(values)
        heights.append(places)
        axes.axvline(number, color="0.7", linewidth=1)
        for height, text in ((-0.04, low), (1.02, high)):
            axes.text(number, height, text, ha="center", va="top" if height < 0 else "bottom", fontsize=8)
    for rank in reversed(range(len(found))):
        line = [places[rank] for places in heights]
        axes.plot(range(len(line)), line, color=colours[rank], linewidth=2.5 if rank == 0 else 1.0)
    axes.set_xticks(range(len(names) + 1), [*names, sweep.by])
    axes.set_ylim(-0.12, 1.12)
    axes.set_yticks([])
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_title("every trial, the best in yellow")


def _places(values: Sequence[Any]) -> tuple[np.ndarray, str, str]:
    """Return heights from 0 to 1 of values on an axis of their own, and what stands at its two ends."""
    if not all(isinstance(value, int | float) for value in values):
        different = sorted({str(value) for value in values})
        heights = [different.index(str(value)) / max(1, len(different) - 1) for value in values]
        return np.array(heights), different[0], different[-1]
    numbers = np.array(values, float)
    good = np.isfinite(numbers)
    if numbers[good].min() > 0 and numbers[good].max() > 20 * numbers[good].min():
        numbers = np.log(numbers)
        low, high = np.exp(numbers[good].min()), np.exp(numbers[good].max())
    else:
        low, high = numbers[good].min(), numbers[good].max()
    span = max(numbers[good].max() - numbers[good].min(), 1e-12)
    heights = np.where(good, (numbers - numbers[good].min()) / span, 1.0)
    return heights, written_out(float(low)), written_out(float(high))


def _scale(axes: Any, which: str, name: str, found: Sequence[Row]) -> tuple[list[str], dict[str, float]]:
    """Return the words at an axis, if it is one of words, and where each value stands on it."""
    different = _different(found, name)
    if not all(isinstance(value, int | float) for value in different):
        return [written_out(value) for value in different], {str(value): i for i, value in enumerate(different)}
    if min(different) > 0 and max(different) > 20 * min(different):
        axes.set(**{f"{which}scale": "log"})
    return [], {str(value): float(value) for value in different}


def _different(found: Sequence[Row], name: str) -> list[Any]:
    values = {str(row.values[name]): row.values[name] for row in found}
    numbers = all(isinstance(value, int | float) for value in values.values())
    return sorted(values.values(), key=None if numbers else str)


def _colours(number: int) -> Any:
    from matplotlib import colormaps  # noqa: PLC0415  (slow to import)

    return colormaps["viridis"](np.linspace(1.0, 0.1, number) ** 2 if number > 1 else np.ones(1))


def _label(sweep: SweepConfig, row: Row) -> str:
    return ", ".join(f"{name} {written_out(row.values[name])}" for name in sweep.names)
