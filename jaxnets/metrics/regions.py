"""Measures of whole masks that no sum over pixels gives: distances of borders, and objects that merge or split."""

from typing import NamedTuple

import numpy as np

from jaxnets.errors import InputError


def hausdorff95(predicted: np.ndarray, true: np.ndarray) -> float:
    """Return the 95th percentile of the Hausdorff distance between two masks' borders, in pixels.

    Of each border's pixels the distance to the other border; of these the 95th percentile (with linear interpolation);
    of both ways the larger. Pixels at the picture's edge are a border. NaN where one of the masks is empty.

    Args:
        predicted: which pixels are of the object, bool [H, W] or of any number of axes.
        true: likewise.

    Raises:
        InputError: if they are no booleans of one shape.
    """
    from scipy.ndimage import distance_transform_edt  # noqa: PLC0415  (slow to import)

    _check("hausdorff95", predicted, true, np.bool_)
    if not predicted.any() or not true.any():
        return float("nan")
    borders = [_border(mask) for mask in (predicted, true)]
    there, back = (
        np.percentile(np.asarray(distance_transform_edt(~other))[one], 95) for one, other in (borders, borders[::-1])
    )
    return float(max(there, back))


def _border(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion  # noqa: PLC0415

    return mask & ~binary_erosion(mask)


def instances(mask: np.ndarray) -> np.ndarray:
    """Return the number of each pixel's connected component from 1 on, 0 outside of the mask, int32 of its shape.

    Pixels are connected across their sides, not across corners.
    """
    from scipy.ndimage import label  # noqa: PLC0415

    numbers, _ = label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    return np.asarray(numbers, np.int32)


class RandError(NamedTuple):
    """How two ways to part pixels into objects differ.

    Attributes:
        error: 1 less the harmonic mean of precision and recall.
        precision: the share of the pairs of pixels in one predicted object that are in one true object; lower where
            objects were merged.
        recall: the share of the pairs in one true object that are in one predicted object; lower where they were split.
    """

    error: float
    precision: float
    recall: float


def rand_error(predicted: np.ndarray, true: np.ndarray) -> RandError:
    """Return the adapted Rand error (Arganda-Carreras et al., 2015), over the pixels of true objects.

    Args:
        predicted: the object of each pixel, whole numbers of any shape; each pixel of 0, a border, is an object alone.
        true: likewise; pixels of 0 are left out.

    Raises:
        InputError: if they are no whole numbers of one shape, or there is no true object.
    """
    _check("rand_error", predicted, true, np.integer)
    if not (true > 0).any():
        raise InputError("rand_error: no pixel is of a true object, all are 0; leave the picture out")
    predicted, true = predicted[true > 0].astype(np.int64), true[true > 0].astype(np.int64)
    inside = predicted > 0
    table = np.unique(true[inside] * (predicted.max(initial=0) + 1) + predicted[inside], return_counts=True)[1]
    both, of_predicted, of_true = (
        _pairs(counts) for counts in (table, np.bincount(predicted[inside]), np.bincount(true))
    )
    precision, recall = (both / whole if whole else 1.0 for whole in (of_predicted, of_true))
    mean = 2 * precision * recall / (precision + recall) if both else 0.0
    return RandError(1 - mean, precision, recall)


def _pairs(counts: np.ndarray) -> float:
    counts = counts.astype(np.float64)
    return float((counts * (counts - 1)).sum())


def _check(name: str, predicted: np.ndarray, true: np.ndarray, kind: type) -> None:
    if predicted.shape != true.shape or not all(np.issubdtype(array.dtype, kind) for array in (predicted, true)):
        raise InputError(
            f"{name}: {predicted.dtype}{list(predicted.shape)} and {true.dtype}{list(true.shape)}; give two arrays of "
            f"{'booleans' if kind is np.bool_ else 'whole numbers'} of one shape"
        )
