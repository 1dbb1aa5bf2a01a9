"""Episodes: new classes, each told by a few examples, and what is taken for which of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from jaxnets.data import Data, Spec, Splits, read_inputs
from jaxnets.data.images import is_image
from jaxnets.errors import InputError
from jaxnets.learners import Episode, Shape
from jaxnets.learners.few_shot import as_episode
from jaxnets.runs import plots
from jaxnets.tasks.task import Examples, FileOptions, Finished, Row, Task, Trained, one_row_each, reading_files
from jaxnets.training.evaluation import predict as predict_outputs

_SHOWN = 3  # episodes in the picture


@dataclass(frozen=True)
class SupportOptions(FileOptions):
    """How files are read, and which few examples tell the classes."""

    support: Path | None = None
    """a folder of CLASS/IMAGE: a few examples of each class"""


def few_examples(spec: Spec, shape: Shape, most_ways: int | None) -> Task:
    """Return the task of logits for the classes of an episode, [E, Q, W]; of several seeds, the mean probability.

    Args:
        spec: of the training data.
        shape: of the test's episodes.
        most_ways: classes that the network has outputs for; None for any number.
    """
    read_queries = reading_files(spec)

    def read(given: Sequence[str], options: SupportOptions) -> Examples:
        if options.support is None:
            raise InputError("the model learns classes from a few examples: give --support FOLDER, of CLASS/IMAGE")
        files = _by_class(options.support)
        if most_ways is not None and len(files) > most_ways:
            raise InputError(
                f"support={str(options.support)!r} has {len(files)} classes, and the model adapts {most_ways} outputs; "
                f"give {most_ways} or fewer, or train with --ways {len(files)}"
            )
        column = spec["inputs"]
        support = [read_inputs(file, column, invert=options.invert) for of in files.values() for file in of]
        numbers = np.repeat(np.arange(len(files)), [len(of) for of in files.values()])
        targets = np.eye(most_ways or len(files), dtype=np.float32)[numbers]
        queries = read_queries(given, options)
        names = [name | {"classes": tuple(files)} for name in queries.names]
        return Examples(names, Episode(np.concatenate(support)[None], targets[None], queries.inputs[None]))

    def predict(trained: Trained, examples: Examples) -> np.ndarray:
        known = len(examples.names[0]["classes"])
        return trained.mean(examples.inputs, lambda logits: np.asarray(jax.nn.softmax(logits[..., :known])))[0]

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        names = [{key: value for key, value in name.items() if key != "classes"} for name in examples.names]
        classes = examples.names[0]["classes"]
        found = [{"class": classes[row.argmax()], "probability": float(row.max())} for row in made]
        return one_row_each(examples._replace(names=names), found)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Draw some of the test's episodes, and measure pixels' nearest neighbours on all of them."""
        test = splits.test
        assert test is not None
        some = test.take(slice(_SHOWN * shape.rows))
        episode = jax.tree.map(np.asarray, as_episode(some["inputs"], shape))
        found = np.asarray(predict_outputs(trained.learner, trained.first, episode)).argmax(-1)
        save_episodes(folder / "episodes.png", episode, found, shape, spec["inputs"].high)
        return Finished(
            baselines={"test/accuracy_of_pixels": _nearest_pixels(test, shape)},
            about={
                "test/accuracy_of_pixels": "the class of the example whose pixels are nearest",
                "test/interval_95": "half of the 95% interval of the mean accuracy over episodes",
            },
        )

    def example(spec: Spec) -> Episode:
        one = spec["inputs"].example
        support, queries = (
            jax.ShapeDtypeStruct((shape.ways * number, *one.shape), one.dtype)
            for number in (shape.shots, shape.queries)
        )
        targets = jax.ShapeDtypeStruct((shape.ways * shape.shots, shape.ways), np.dtype(np.float32))
        return Episode(support, targets, queries)

    return Task(read=read, predict=predict, rows=rows, options=SupportOptions(), example=example, finish=finish)


def _by_class(folder: Path) -> dict[str, list[Path]]:
    """Return the images of each class of a folder of CLASS/IMAGE."""
    if not folder.is_dir():
        raise InputError(f"support={str(folder)!r} is no folder; give one of CLASS/IMAGE")
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and is_image(file.relative_to(folder).parts)]
    if loose := next((file for file in files if file.parent == folder), None):
        raise InputError(f"{loose}: is in no class's folder; use {folder}/CLASS/{loose.name}")
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(str(file.relative_to(folder).parent), []).append(file)
    if len(found) < 2:
        raise InputError(f"support={str(folder)!r} has {len(found)} classes with images; give two or more, CLASS/IMAGE")
    return found


def _nearest_pixels(test: Data, shape: Shape) -> float:
    """Return the accuracy of the nearest example by squared differences of pixels."""
    right = []
    for episode in test["inputs"].reshape(-1, shape.rows, int(np.prod(test["inputs"].shape[1:]))):
        pixels = episode.astype(np.float32)
        support, queries = np.split(pixels, [shape.ways * shape.shots])
        squared = np.square(support).sum(1) - 2 * queries @ support.T  # but for what is the same for all
        labels = np.repeat(np.arange(shape.ways), shape.queries)
        right.append((squared.argmin(1) // shape.shots == labels).mean())
    return float(np.mean(right))


def save_episodes(path: Path, episode: Episode, found: np.ndarray, shape: Shape, high: float) -> None:
    """Save episodes side by side: a row for each class, its examples and its queries, framed red if they are missed.

    Args:
        path: of the picture.
        episode: E of them, images of pixels up to ``high``.
        found: the class that each query is taken for, [E, Q].
        shape: of the episodes.
        high: of the pixels.
    """
    number, columns = len(found), shape.shots + shape.queries
    figure = plots.figure(figsize=(0.42 * (columns + 1) * number, 0.5 * shape.ways + 0.5))
    panels = figure.subplots(shape.ways, (columns + 1) * number, squeeze=False)
    for axes in panels.reshape(-1):
        axes.set_axis_off()
    for i in range(number):
        support = episode.support[i].reshape(shape.ways, shape.shots, *episode.support.shape[2:])
        queries = episode.queries[i].reshape(shape.ways, shape.queries, *episode.queries.shape[2:])
        taken_for = found[i].reshape(shape.ways, shape.queries)
        for way in range(shape.ways):
            for j, image in enumerate([*support[way], *queries[way]]):
                axes, query = panels[way, i * (columns + 1) + j], j - shape.shots
                axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=high)
                if query >= 0:
                    right = taken_for[way, query] == way
                    axes.set_axis_on()
                    axes.set(xticks=[], yticks=[])
                    for side in axes.spines.values():
                        side.set(color="C2" if right else "C3", linewidth=1 if right else 2.5)
    figure.suptitle(
        f"{number} episodes: {shape.shots} a class to learn from, then {shape.queries} to classify (red: missed)",
        fontsize="small",
    )
    figure.savefig(path, dpi=120)
