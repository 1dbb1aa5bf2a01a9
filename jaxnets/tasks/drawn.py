"""Images that were drawn: as a picture of all, or as an array."""

from pathlib import Path

import numpy as np

from jaxnets.data import check_table
from jaxnets.options import GenerateOptions
from jaxnets.runs import plots
from jaxnets.tasks.task import Generated


def pictured(images: np.ndarray, options: GenerateOptions) -> Generated:
    """Return images that were drawn, [N, H, W, C], pixels 0 to 1, also written to ``options.out`` (.png)."""
    files = options.files(".png")
    for file in files:
        plots.save_image_grid(file, images)
    return Generated(f"{len(images)} images of {' x '.join(map(str, images.shape[1:]))}", files)


def check_images(path: Path) -> None:
    """Check that images can be kept there, as an array (.npy) or a picture.

    Raises:
        InputError: if the folder is not there, or the suffix is of neither.
    """
    (check_table if path.suffix == ".npy" else plots.check_picture)(path)


def save_images(path: Path, images: np.ndarray) -> None:
    """Keep images [N, H, W, C], pixels 0 to 1, as an array or as a picture of all."""
    if path.suffix == ".npy":
        np.save(path, images)
    else:
        plots.save_image_grid(path, images)
