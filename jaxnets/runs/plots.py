"""Pictures: training curves as PNG and drawn in the terminal."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.errors import InputError

MARKS = "·•x+o*#%"
_MOST_NUMBERS = 30  # classes of a confusion matrix whose counts are written
PICTURES = (".png", ".pdf", ".svg", ".jpg")

Rows = Sequence[Mapping[str, Any]]


def check_picture(path: Path) -> None:
    """Check that a picture can be saved there.

    Raises:
        InputError: if the folder is not there, or the suffix is not one of a picture.
    """
    if path.suffix.lower() not in PICTURES:
        raise InputError(f"out={path}: its suffix must be one of {', '.join(PICTURES)}")
    if not path.parent.is_dir():
        raise InputError(f"out={path}: there is no folder {path.parent}")


def save_curves(path: Path, runs: Mapping[str, Rows]) -> None:
    """Save the training (dashed) and validation curves of one or several runs as a PNG, one panel a metric.

    Of a run with several seeds the mean is drawn, with a band of one standard deviation.

    Args:
        path: of the picture.
        runs: rows of metrics by the run's name.
    """
    names = _metric_names(runs)
    drawing = figure(figsize=(5.5 * len(names), 4))
    for axes, metric in zip(drawing.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for number, (run, rows) in enumerate(runs.items()):
            for split, style in (("train", "--"), ("validation", "-")):
                steps, values = _curve(rows, f"{split}/{metric}")
                if not len(steps):
                    continue
                mean, std = values.mean(1), values.std(1, ddof=1) if values.shape[1] > 1 else None
                colour = f"C{number}"
                label = split if len(runs) == 1 else f"{run} {split}"
                axes.plot(steps, mean, style, color=colour, marker="." if len(steps) == 1 else None, label=label)
                if std is not None:
                    axes.fill_between(steps, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
        axes.set(xlabel="step", title=metric)
        if metric == "loss" and all(value > 0 for value in axes.dataLim.intervaly):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    drawing.savefig(path, dpi=120)


def save_range_test(path: Path, rates: np.ndarray, losses: np.ndarray, suggestion: float | None) -> None:
    """Save the picture of a learning-rate range test: loss over learning rate, and the suggestion."""
    drawing = figure(figsize=(6, 4))
    axes = drawing.subplots()
    axes.plot(rates, losses)
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    if suggestion is not None:
        axes.axvline(suggestion, color="C1", linestyle="--", label=f"suggestion: {suggestion:.1e}")
        axes.legend()
    axes.grid(alpha=0.3)
    drawing.savefig(path, dpi=120)


def save_reliability(path: Path, diagrams: Mapping[str, Any]) -> None:
    """Save reliability diagrams, by name: accuracy over confidence, and below it how many examples are how sure."""
    drawing = figure(figsize=(5, 6))
    upper, lower = drawing.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="as sure as right")
    for number, (name, found) in enumerate(diagrams.items()):
        upper.plot(found.confidence, found.accuracy, marker="o", markersize=4, color=f"C{number}", label=name)
        edges = np.linspace(0, 1, len(found.share) + 1)
        lower.stairs(found.share, edges, color=f"C{number}", fill=not number, alpha=1.0 if number else 0.4)
    upper.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(fontsize="small")
    lower.set(xlabel="probability of the predicted class", ylabel="share", yscale="log")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    drawing.savefig(path, dpi=120)


def save_confusion(path: Path, counts: np.ndarray, classes: Sequence[str]) -> None:
    """Save a confusion matrix: how many examples of each class [row] were taken for each [column], shaded by row."""
    number = len(classes)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(3.0 + 0.45 * number, 16.0)
    drawing = figure(figsize=(side + 0.8, side))
    axes = drawing.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    rotation = 90 if max(map(len, classes)) > 2 else 0
    axes.set_xticks(range(number), classes, rotation=rotation)
    axes.set_yticks(range(number), classes)
    right, all_of_them = counts.trace(), counts.sum()
    axes.set(xlabel="predicted class", ylabel="true class", title=f"{right:,.6g} of {all_of_them:,.6g} are right")
    if number <= _MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{count:,.4g}", ha="center", va="center", color=colour, fontsize="small")
    drawing.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    drawing.savefig(path, dpi=120)


def save_image_rows(path: Path, rows: Mapping[str, np.ndarray]) -> None:
    """Save rows of images [N, H, W, C], pixels 0 to 1, below one another, each under its title."""
    number = max(map(len, rows.values()))
    drawing = figure(figsize=(0.8 * number, 1.05 * len(rows)))
    for axes, (title, images) in zip(drawing.subplots(len(rows), 1, squeeze=False)[:, 0], rows.items(), strict=True):
        _show(axes, _tiled(images, number))
        axes.set_title(title, fontsize="small", loc="left")
    drawing.savefig(path, dpi=120)


def save_image_grid(path: Path, images: np.ndarray) -> None:
    """Save images [N, H, W, C], pixels 0 to 1, as a square grid, two picture elements a pixel or more."""
    side = math.ceil(math.sqrt(len(images)))
    grid = _tiled(images, side)
    drawing = figure(figsize=(6, 6 * grid.shape[0] / grid.shape[1]))
    _show(drawing.subplots(), grid)
    drawing.savefig(path, dpi=max(120, 2 * grid.shape[1] // 6))


def save_map(path: Path, codes: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Save codes [N, D] as a map of two dimensions (t-SNE, van der Maaten and Hinton, 2008), coloured by class [N]."""
    from sklearn.manifold import TSNE  # noqa: PLC0415  (slow to import)
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    points = codes
    if codes.shape[1] > 2:
        method = TSNE(init="pca", perplexity=min(30.0, (len(codes) - 1) / 3), max_iter=500, random_state=0)
        with threadpool_limits(1):  # threads that wait for each other take many times as long beside other work
            points = method.fit_transform(codes)
    drawing = figure(figsize=(7, 6))
    axes = drawing.subplots()
    for number, name in enumerate(classes):
        of_class = points[labels == number]
        axes.scatter(of_class[:, 0], of_class[:, -1], s=6, label=name, color=f"C{number % 10}")
    axes.set(xticks=[], yticks=[], title=f"codes of {len(codes):,} test examples")
    axes.legend(
        fontsize="small", markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(classes) // 25
    )
    drawing.savefig(path, dpi=120)


def _tiled(images: np.ndarray, columns: int) -> np.ndarray:
    """Return images [N, H, W, C] as one, so many in a row, a pixel apart."""
    images = np.pad(
        np.clip(images, 0.0, 1.0), ((0, -len(images) % columns), (0, 1), (0, 1), (0, 0)), constant_values=1.0
    )
    count, height, width, channels = images.shape
    grid = images.reshape(count // columns, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(count // columns * height, columns * width, channels)


def _show(axes: Any, image: np.ndarray) -> None:
    axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()


def sketch(runs: Mapping[str, Rows], metric: str = "loss", width: int = 72, height: int = 14) -> str:
    """Return the training and validation curves of a metric, drawn with characters; of several seeds the mean."""
    curves = {}
    for run, rows in runs.items():
        for split in ("train", "validation"):
            steps, values = _curve(rows, f"{split}/{metric}")
            points = steps[np.isfinite(values).all(1)], values[np.isfinite(values).all(1)].mean(1)
            if len(points[0]):
                curves[split if len(runs) == 1 else f"{run} {split}"] = points
    if not curves:
        return f"no finite {metric} to draw"
    every_step, every_value = (np.concatenate(parts) for parts in zip(*curves.values(), strict=True))
    low, high, last = every_value.min(), every_value.max(), every_step.max()
    canvas = np.full((height, width), " ")
    for mark, (steps, values) in zip(itertools.cycle(MARKS), curves.values(), strict=False):
        columns = np.arange(int(steps.min() / last * (width - 1)), width)  # of the interpolated curve
        heights = (np.interp(columns / (width - 1) * last, steps, values) - low) / ((high - low) or 1.0)
        canvas[np.round((1 - heights) * (height - 1)).astype(int), columns] = mark
    lines = [f"{'':>10} │{''.join(row)}" for row in canvas]
    lines[0], lines[-1] = (f"{value:>10.4g} │{line[12:]}" for value, line in ((high, lines[0]), (low, lines[-1])))
    legend = "   ".join(f"{mark} {name}" for mark, name in zip(itertools.cycle(MARKS), curves, strict=False))
    axis = [f"{'':>10} └{'─' * width}", f"{'':>12}step 0 {last:>{width - 7},}"]
    return "\n".join([f"{metric}: {legend}", *lines, *axis])


def _metric_names(runs: Mapping[str, Rows]) -> list[str]:
    names = {
        name.split("/", 1)[1]
        for rows in runs.values()
        for row in rows
        for name in row
        if name.startswith(("train/", "validation/"))
    }
    return sorted(names, key=lambda name: (name != "loss", name))


def _curve(rows: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps, and the values [steps, members], of the rows that have the metric."""
    having = [row for row in rows if name in row]
    values = np.array([np.ravel(row[name]) for row in having], np.float64).reshape(len(having), -1 if having else 1)
    return np.array([row["step"] for row in having], int), values


def figure(figsize: tuple[float, float]) -> Any:
    """Return an empty figure that needs no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  (slow to import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    empty = Figure(figsize=figsize, layout="constrained")
    FigureCanvasAgg(empty)
    return empty
