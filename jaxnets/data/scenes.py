"""Scenes that are made of other images, with boxes of what was put where."""

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.boxes import ABSENT, CORNERS
from jaxnets.data.decoding import resized
from jaxnets.errors import check_whole

SIDE = 64  # pixels of a canvas
_SIZES = (14, 29)  # pixels of a digit's frame, from and below
_MOST = 5  # digits of a canvas
_ATTEMPTS = 20  # to find room for one
_OVERLAP = 0.15  # share of the smaller frame that may be covered


def scattered(data: Data, number: int, seed: int) -> Data:
    """Return canvases over which images of ``data`` are scattered, and the boxes of their inks.

    Each has one to five, of sizes and at positions of their own, drawn from the seed; they overlap by little.

    Args:
        data: images [N, H, W, 1] uint8, white on black, with classes.
        number: of canvases.
        seed: of all that is drawn.

    Returns:
        "inputs" uint8 [number, 64, 64, 1], and "labels" as ``box_splits`` has them.

    Raises:
        InputError: if the number is less than 1.
    """
    check_whole("number", number)
    random = np.random.default_rng(seed)
    canvases = np.zeros((number, SIDE, SIDE, 1), np.uint8)
    labels = np.zeros((number, _MOST, 5), np.float32)
    labels[..., 4] = ABSENT
    for canvas, rows in zip(canvases, labels, strict=True):
        frames: list[np.ndarray] = []
        for _ in range(random.integers(1, _MOST + 1)):
            frame = _room(random, frames)
            if frame is not None:
                at = random.integers(data.num_examples)
                rows[len(frames)] = _drawn(canvas, data["inputs"][at], frame, int(data["labels"][at]))
                frames.append(frame)
    known = {"inputs": {"low": 0, "high": 255}, "labels": {"classes": data.classes, "features": CORNERS}}
    return Data(inputs=canvases, labels=labels, known=known)


def _room(random: np.random.Generator, frames: list[np.ndarray]) -> np.ndarray | None:
    """Return a frame (left, top, right, bottom) that hardly covers another, if one is found."""
    for _ in range(_ATTEMPTS):
        size = random.integers(*_SIZES)
        left, top = random.integers(0, SIDE - size + 1, 2)
        frame = np.array([left, top, left + size, top + size])
        if all(_shared(frame, other) <= _OVERLAP for other in frames):
            return frame
    return None


def _shared(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of the smaller of two frames that the other covers."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(np.prod(np.maximum(sides, 0)) / min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])))


def _drawn(canvas: np.ndarray, image: np.ndarray, frame: np.ndarray, label: int) -> list[float]:
    """Draw an image into its frame, and return the box of its ink, with its class."""
    left, top, right, bottom = frame.tolist()
    small = resized(image, (bottom - top, right - left))
    canvas[top:bottom, left:right] = np.maximum(canvas[top:bottom, left:right], small)
    ink = small[..., 0] > 64
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return [left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1, label]
