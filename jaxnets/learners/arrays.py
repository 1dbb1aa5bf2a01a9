"""Which arrays of a data set a learner reads, and what may stand in those that say how much rows count."""

from collections.abc import Collection, Mapping

import numpy as np

from jaxnets.errors import InputError, nearest

COUNTING = ("mask", "weights")  # how much rows count
_ORDER = ("lengths", "group")  # read by the order of rows, and by what parts them


def check_names(arrays: Mapping[str, np.ndarray], needed: Collection[str], optional: Collection[str] = ()) -> None:
    """Check that the data hold what is needed, and nothing that nobody reads.

    Args:
        arrays: the data.
        needed: names of arrays without which the learner cannot be.
        optional: names of what it reads where it is there, beside what the order of rows reads.

    Raises:
        InputError: if an array is missing, or no part of the learner reads it.
    """
    if missing := sorted(set(needed) - set(arrays)):
        raise InputError(f"the data have {sorted(arrays)} but no {' or '.join(missing)}; name the arrays so")
    read = {*needed, *optional, *_ORDER}
    if unread := sorted(set(arrays) - read):
        raise InputError(
            f"the data hold {', '.join(unread)}, which no part of the learner reads{nearest(unread[0], read)}; it "
            f"reads {', '.join(sorted(read))}: leave the rest out"
        )


def check_counting(arrays: Mapping[str, np.ndarray]) -> None:
    """Check that a "mask" is of 0 and 1, and that "weights" can be weights, one for each row of "labels".

    Raises:
        InputError: if they are not.
    """
    of = arrays["labels"].shape
    if "mask" in arrays:
        mask = np.asarray(arrays["mask"])
        if mask.shape != of[: mask.ndim] or not mask.ndim or not ((mask == 0) | (mask == 1)).all():
            raise InputError(
                f"a mask of shape {mask.shape} from {mask.min():g} to {mask.max():g} for labels of shape {of}; it says "
                "which rows count, [N], by 0 and 1: how much they count is for weights="
            )
    if "weights" in arrays:
        weights = np.asarray(arrays["weights"])
        good = weights.shape == of[: weights.ndim] and weights.ndim and np.isfinite(weights).all()
        if not good or weights.min() < 0 or not weights.any():
            raise InputError(
                f"weights of shape {weights.shape} from {weights.min()} to {weights.max()} for labels of shape {of}; "
                "give one for each row, [N], 0 or more and not all 0"
            )


def counted(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the labels that count, [rows, ...]: all but those whose mask or weight is 0."""
    labels, counts = arrays["labels"], None
    for name in COUNTING:
        if name in arrays:
            given = np.asarray(arrays[name]) != 0
            counts = given if counts is None else _both(counts, given)
    return labels if counts is None or counts.all() else labels[counts]


def _both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    axes = max(a.ndim, b.ndim)
    a, b = (x.reshape(x.shape + (1,) * (axes - x.ndim)) for x in (a, b))
    return a & b
