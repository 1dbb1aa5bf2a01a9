"""Average precision of boxes, as COCO measures it: 101 recalls, ten IoUs, three sizes, at most 100 boxes an image.

Detections are [B, K, 6]: left, top, right, bottom, score and class, which is -1 where there is none. Labels are
[B, M, 5]: the same without a score.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.errors import InputError, check_kind, check_number
from jaxnets.metrics.boxes import box_areas, box_iou
from jaxnets.metrics.metric import Metric, spread_over

IOUS = np.linspace(0.5, 0.95, 10)  # at which a box counts as found
RECALLS = np.linspace(0.0, 1.0, 101)  # at which precisions are looked at
SIZES = (32.0, 96.0)  # COCO's: the sides of squares, below and above which boxes are small and large
_MOST_NAMED = 20  # classes that have a number of their own
_BINS, _LEAST_BINS = 8192, 256  # of scores: all classes share them, but each has so many
_LARGEST = 6.0  # log-odds of a score; those beyond are tied


class Matches(NamedTuple):
    """Which detections find a box, for each range of sizes (all, small, medium, large) and each IoU.

    Attributes:
        hits: [B, K, 4, 10], those that do.
        misses: those that do not; neither are those that find a box of another size, or have another size themselves.
        positives: the boxes to be found, [B, M, 4].
    """

    hits: jax.Array
    misses: jax.Array
    positives: jax.Array


class _Sums(NamedTuple):
    """Counts that add up: of detections by class and score, and of boxes by class.

    Attributes:
        hits: [4, 10, C, bins].
        misses: [4, 10, C, bins].
        positives: [4, C].
    """

    hits: Any
    misses: Any
    positives: Any


def match_boxes(detections: jax.Array, labels: jax.Array, sizes: tuple[float, float] = SIZES) -> Matches:
    """Return which detections find a box, as COCO's evaluation matches them: the surer one chooses first.

    Each takes the box of its class with the largest IoU that no surer one has; one of the range of sizes before others.

    Args:
        detections: [B, K, 6], the surest first.
        labels: [B, M, 5].
        sizes: sides of squares, in pixels, below and above which boxes are small and large.
    """
    ranges = jnp.asarray(_ranges(sizes), jnp.float32)  # [4, 2]
    present = labels[..., 4] >= 0
    inside = _within(box_areas(labels[..., :4]), ranges)  # [B, M, 4]
    same = (detections[:, :, None, 5] == labels[:, None, :, 4]) & present[:, None]
    iou = jnp.where(same, box_iou(detections[:, :, None, :4], labels[:, None, :, :4]), -1.0)  # [B, K, M]
    least = jnp.asarray(IOUS, jnp.float32)[None, None, :, None]
    wanted = jnp.swapaxes(inside, 1, 2)[:, :, None]  # [B, 4, 1, M]

    def choose(taken: jax.Array, of_one: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Let the next detection of each image choose; [B, 4, 10, M] are taken, its IoUs are [B, M]."""
        iou = of_one[:, None, None]
        free = (iou >= least) & ~taken
        first = free & wanted
        found = first.any(-1, keepdims=True)
        allowed = jnp.where(found, first, free)
        score = jnp.where(allowed, iou, -1.0)
        last = score.shape[-1] - 1 - jnp.argmax(score[..., ::-1], -1)  # of equals the last
        chosen = allowed & (jnp.arange(score.shape[-1])[None, None, None] == last[..., None])
        return taken | chosen, (found[..., 0], allowed.any(-1))

    batch, most = labels.shape[:2]
    nothing = jnp.zeros((batch, len(ranges), len(IOUS), most), bool)
    _, (hits, matched) = lax.scan(choose, nothing, jnp.swapaxes(iou, 0, 1))
    hits, matched = jnp.moveaxis(hits, 0, 1), jnp.moveaxis(matched, 0, 1)  # [B, K, 4, 10]
    counts = _within(box_areas(detections[..., :4]), ranges) & (detections[..., 5:] >= 0)
    return Matches(hits, ~matched & counts[..., None], inside & present[..., None])


def mean_average_precision(classes: Sequence[str], sizes: tuple[float, float] = SIZES) -> Metric:
    """Return COCO's average precisions as a metric that adds up: "map", "map50", those of sizes and classes.

    "map" is the mean over IoUs of 0.5 to 0.95 and classes, "map50" that at an IoU of 0.5; "map_small", "map_medium" and
    "map_large" are of boxes of a size, "ap_NAME" of a class, where there are at most 20. What no box is of is NaN.

    Scores are counted in bins, equal steps of log-odds, so that sums are bounded. Where no two detections of a class
    share a bin, the numbers are those of ``precision_at_recalls``, else nearly so: within 0.002 for 3,600 detections
    whose scores are spread, 0.01 where they lie close together.

    Args:
        classes: their names.
        sizes: sides of squares, in pixels, below and above which boxes are small and large.

    Raises:
        InputError: if there are no classes, or the sizes do not rise.
    """
    classes = _checked(classes, sizes)
    num_classes, bins = len(classes), max(_LEAST_BINS, _BINS // len(classes))

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> _Sums:
        order = jnp.argsort(-outputs[..., 4], axis=-1, stable=True)
        outputs = jnp.take_along_axis(outputs, order[..., None], 1)
        found = match_boxes(outputs, labels, sizes)
        rows = jnp.zeros(outputs.shape[:1], jnp.float32)
        weight = jnp.ones(rows.shape, jnp.int32) if weights is None else spread_over(weights, rows)
        at = _class_numbers(outputs[..., 5]) * bins + _bins(outputs[..., 4], bins)

        def counted(which: jax.Array, number: jax.Array, size: int) -> jax.Array:
            """Return how many there are of each number, [B, K, ...] and [B, K] -> [size, ...]."""
            each = which.astype(weight.dtype) * weight.reshape(-1, *(1,) * (which.ndim - 1))
            none = jnp.zeros((size, *which.shape[2:]), each.dtype)
            return none.at[number.reshape(-1)].add(each.reshape(-1, *which.shape[2:]))

        def binned(which: jax.Array) -> jax.Array:
            return jnp.moveaxis(
                counted(which, at, num_classes * bins).reshape(num_classes, bins, 4, -1), (2, 3), (0, 1)
            )

        positives = counted(found.positives, _class_numbers(labels[..., 4]), num_classes)
        return _Sums(binned(found.hits), binned(found.misses), positives.T)

    def compute(sums: _Sums) -> dict[str, float]:
        hits, misses = (np.asarray(part, np.float64)[..., ::-1].cumsum(-1) for part in (sums.hits, sums.misses))
        found = np.full((4, len(IOUS), num_classes, len(RECALLS)), np.nan)
        for size, number in np.ndindex(4, num_classes):
            if (positives := float(sums.positives[size][number])) > 0:
                for iou in range(len(IOUS)):
                    found[size, iou, number] = _precisions(
                        hits[size, iou, number], misses[size, iou, number], positives
                    )
        return average_precisions(found, classes)

    return Metric(measure, compute, "higher", in_training=False, check=_check_shapes)


def precision_at_recalls(
    detections: np.ndarray, labels: np.ndarray, num_classes: int, sizes: tuple[float, float] = SIZES
) -> np.ndarray:
    """Return the precisions at 101 recalls, float64 [4, 10, C, 101], exactly as COCO's evaluation has them.

    The axes are sizes (all, small, medium, large), IoUs, classes and recalls; NaN where there is no box to be found.
    Unlike the metric, it needs all detections at once.

    Args:
        detections: [N, K, 6], of an image the surest first.
        labels: [N, M, 5].
        num_classes: C.
        sizes: sides of squares, in pixels, below and above which boxes are small and large.
    """
    matches = jax.jit(match_boxes, static_argnames="sizes")(jnp.asarray(detections), jnp.asarray(labels), sizes=sizes)
    hits, misses, positives = map(np.asarray, matches)
    found = np.full((4, len(IOUS), num_classes, len(RECALLS)), np.nan)
    for number in range(num_classes):
        of_class = detections[..., 5] == number
        order = np.argsort(-detections[..., 4][of_class], kind="stable")
        for size in range(4):
            to_be_found = int(positives[..., size][labels[..., 4] == number].sum())
            for iou in range(len(IOUS) if to_be_found else 0):
                found[size, iou, number] = _precisions(
                    hits[of_class][order, size, iou].cumsum(), misses[of_class][order, size, iou].cumsum(), to_be_found
                )
    return found


def average_precisions(precisions: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Return the numbers of ``mean_average_precision`` for precisions [4, 10, C, 101]."""
    each = precisions.mean(-1)  # [4, 10, C]
    found = {"map": _mean(each[0]), "map50": _mean(each[0, 0])}
    found |= {f"map_{name}": _mean(each[i]) for i, name in enumerate(("small", "medium", "large"), 1)}
    if len(classes) <= _MOST_NAMED:
        keys = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in classes]
        keys = keys if len(set(keys)) == len(keys) else list(map(str, range(len(keys))))
        found |= {f"ap_{key}": _mean(each[0, :, number]) for number, key in enumerate(keys)}
    return found


def _precisions(hits: np.ndarray, misses: np.ndarray, positives: float) -> np.ndarray:
    """Return the precisions at 101 recalls, of running sums in the order of falling scores.

    Where several detections are one step of the sums, hits and misses in it are taken to come in random order: before
    the n-th of h hits there are n / (h + 1) of the misses on average.
    """
    if not hits.size:  # nothing of this class was found
        return np.zeros(len(RECALLS))
    precision = hits / np.maximum(hits + misses, np.spacing(1))
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)  # of this recall or a larger one
    at = np.searchsorted(hits / positives, RECALLS, side="left")
    before = [np.concatenate([[0.0], sums])[at] for sums in (hits, misses)]
    step = [np.append(sums, sums[-1:])[at] - past for sums, past in zip((hits, misses), before, strict=True)]
    number = np.clip(np.ceil(RECALLS * positives - before[0] - 1e-9), 0, step[0])
    found = before[0] + number
    within = found / np.maximum(found + before[1] + step[1] * number / (step[0] + 1), np.spacing(1))
    return np.where(at < len(hits), np.maximum(best[at], within), 0.0)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _ranges(sizes: tuple[float, float]) -> np.ndarray:
    small, large = (side**2 for side in sizes)
    return np.array([[0, 1e10], [0, small], [small, large], [large, 1e10]])


def _within(areas: jax.Array, ranges: jax.Array) -> jax.Array:
    """Return which ranges areas are in, both ends included, [B, N] -> [B, N, 4]."""
    areas = areas[..., None].astype(jnp.float32)
    return (areas >= ranges[None, None, :, 0]) & (areas <= ranges[None, None, :, 1])


def _class_numbers(classes: jax.Array) -> jax.Array:
    """Return classes as whole numbers, those of nothing as 0: it counts for nothing."""
    return jnp.maximum(classes, 0).astype(jnp.int32)


def _bins(scores: jax.Array, bins: int) -> jax.Array:
    """Return the bin of each score, in equal steps of its log-odds."""
    odds = jnp.log(jnp.maximum(scores, 1e-30)) - jnp.log1p(-jnp.minimum(scores, 1 - 1e-7))
    share = (odds + _LARGEST) / (2 * _LARGEST)
    return jnp.clip(jnp.floor(share * bins), 0, bins - 1).astype(jnp.int32)


def _checked(classes: Sequence[str], sizes: tuple[float, float]) -> tuple[str, ...]:
    check_kind("classes", classes, (list, tuple), "give a list of names, such as ['cat', 'dog']")
    if not classes:
        raise InputError("classes=[]: there is nothing to find; give one name or more")
    check_number("sizes", sizes[0], 0, sizes[1], f"two rising sides in pixels, such as {SIZES}, not {sizes}")
    return tuple(classes)


def _check_shapes(outputs: Any, labels: np.ndarray) -> None:
    shape = getattr(outputs, "shape", ())
    if shape[2:] != (6,) or labels.shape[2:] != (5,):
        raise InputError(
            f"detections of shape {shape} and labels of shape {labels.shape}; give [B, K, 6] and [B, M, 5]"
        )
