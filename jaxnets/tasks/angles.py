"""Angles: by how far something is turned, drawn as arrows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Spec, Splits
from jaxnets.runs import plots
from jaxnets.tasks.task import Examples, FileOptions, Finished, Row, Task, Trained, one_row_each, reading_files

_SHOWN = 24  # test images that are drawn


def unit_vectors(angles: Any) -> Any:
    """Return the cosine and the sine of angles in degrees, [...] -> [..., 2]."""
    radians = jnp.deg2rad(jnp.asarray(angles, jnp.float32))
    return jnp.stack([jnp.cos(radians), jnp.sin(radians)], -1)


def angle_error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the degrees between outputs, vectors of any length, and labels: [..., 2], [...] -> [...], 0 to 180."""
    found = jnp.rad2deg(jnp.arctan2(outputs[..., 1], outputs[..., 0]))
    return jnp.abs((found - labels + 180.0) % 360.0 - 180.0)


def angles(spec: Spec) -> Task:
    """Return the task of vectors, [N, 2], whose direction is an angle; of several seeds the mean vector's."""

    def predict(trained: Trained, examples: Examples) -> np.ndarray:
        vectors = trained.mean(examples.inputs, lambda made: made / np.linalg.norm(made, axis=-1, keepdims=True))
        return np.rad2deg(np.arctan2(vectors[:, 1], vectors[:, 0]))

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        return one_row_each(examples, [{"degrees": float(angle)} for angle in made])

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Draw test images with an arrow as they are turned, and one as the model says; measure always saying 0."""
        test = splits.test
        assert test is not None
        some = test.take(slice(_SHOWN))
        found = predict(trained, Examples([], some["inputs"]))
        pixels = some["inputs"] / spec["inputs"].high
        save_arrows(folder / "angles.png", pixels, {"true": some["labels"], "found": found})
        blind = float(np.abs(test["labels"] - splits.train["labels"].mean()).mean())
        return Finished(baselines={"test/angle_error_of_mean": blind}, about={"test/angle_error_of_mean": "degrees"})

    return Task(read=reading_files(spec), predict=predict, rows=rows, options=FileOptions(), finish=finish)


def save_arrows(path: Path, images: np.ndarray, directions: dict[str, np.ndarray]) -> None:
    """Save images [N, H, W, C], pixels 0 to 1, each with arrows: upwards at 0 degrees, to the left at 90."""
    columns = 8
    figure = plots.figure(figsize=(columns * 1.2, -(-len(images) // columns) * 1.35))
    panels = figure.subplots(-(-len(images) // columns), columns, squeeze=False).reshape(-1)
    for axes, image, *degrees in zip(panels, images, *directions.values(), strict=False):
        axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1)
        middle, length = (np.array(image.shape[1::-1]) - 1) / 2, 0.45 * image.shape[0]
        for colour, width, angle in zip(("C2", "C1"), (3.5, 1.5), np.deg2rad(degrees), strict=True):
            end = middle - length * np.array([np.sin(angle), np.cos(angle)])
            axes.annotate("", end, middle, arrowprops={"arrowstyle": "->", "color": colour, "linewidth": width})
        axes.set_title(f"{degrees[0]:.0f}°, {degrees[1]:.0f}°", fontsize="small")
    for axes in panels:
        axes.set_axis_off()
    figure.suptitle(f"{' (green), '.join(directions)} (orange)", fontsize="small")
    figure.savefig(path, dpi=120)
