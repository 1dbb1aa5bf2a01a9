"""Prediction over images of any size: overlapping tiles of one size, joined without a seam, and the eight flips."""

import itertools
from collections.abc import Callable

import numpy as np

from jaxnets.errors import InputError, check_whole

Predict = Callable[[np.ndarray], np.ndarray]


def tiled(predict: Predict, image: np.ndarray, tile: int, overlap: int) -> np.ndarray:
    """Return what is predicted of each pixel of an image, [H, W, C] -> [H, W, D].

    Where tiles overlap it is a mean whose weights rise from a tile's edge to its middle, for at an edge a network sees
    least. Images smaller than a tile are filled up with their mirror image.

    Args:
        predict: ``predict(tiles)``, [N, tile, tile, C] -> [N, tile, tile, D].
        image: of any size.
        tile: height and width of a tile.
        overlap: pixels that neighbours share, at least; less than ``tile``.

    Raises:
        InputError: if ``tile`` or ``overlap`` is out of its range, or it is no image.
    """
    check_whole("tile", tile)
    if not 0 <= overlap < tile:
        raise InputError(f"{overlap=} must be from 0 to {tile - 1}, less than tile={tile}")
    if image.ndim != 3:
        raise InputError(f"an image of shape {image.shape}; give [H, W, C]")
    height, width = image.shape[:2]
    spare = [(0, max(0, tile - side)) for side in (height, width)]
    image = np.pad(image, [*spare, (0, 0)], mode="symmetric")
    corners = list(itertools.product(*(_starts(side, tile, overlap) for side in image.shape[:2])))
    made = predict(np.stack([image[y : y + tile, x : x + tile] for y, x in corners]))
    weights = _window(tile, overlap)
    total = np.zeros((*image.shape[:2], made.shape[-1]), np.float64)
    count = np.zeros((*image.shape[:2], 1), np.float64)
    for (y, x), values in zip(corners, made, strict=True):
        total[y : y + tile, x : x + tile] += weights * values
        count[y : y + tile, x : x + tile] += weights
    return (total / count)[:height, :width].astype(made.dtype)


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin, evenly, the first at the beginning and the last at the end."""
    number = 1 + -(-(side - tile) // (tile - overlap))
    return np.linspace(0, side - tile, number).round().astype(int).tolist()


def _window(tile: int, overlap: int) -> np.ndarray:
    """Return the weight of each pixel of a tile, [tile, tile, 1]: it rises over the overlap, as a squared sine does."""
    from_edge = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    rise = np.sin(np.pi / 2 * np.minimum(from_edge / max(overlap, 1), 1.0)) ** 2
    return (rise[:, None] * rise[None])[..., None]


def flipped(predict: Predict) -> Predict:
    """Return the mean of what is predicted of squares [N, S, S, C], turned and mirrored in all eight ways and back."""

    def mean(images: np.ndarray) -> np.ndarray:
        total = None
        for turns, mirrored in itertools.product(range(4), (False, True)):
            turned = np.rot90(images, turns, (1, 2))
            made = predict(np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned))
            made = np.rot90(made[:, :, ::-1] if mirrored else made, -turns, (1, 2))
            total = made.astype(np.float64) if total is None else total + made
        assert total is not None
        return (total / 8).astype(np.float32)

    return mean
