"""Geometry of boxes and their average precision, beside pycocotools and a plain reference."""

import contextlib
import io
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import metrics
from jaxnets.errors import InputError
from jaxnets.metrics.detection import IOUS, RECALLS

CLASSES = ("red cell", "White", "c")
SIZES = (20.0, 40.0)


def made(random, images=6, boxes=8, detections=20):
    """Return labels, and detections near to them and elsewhere, of which some lack."""
    corner, side = random.uniform(0, 80, (images, boxes, 2)), random.uniform(4, 60, (images, boxes, 2))
    labels = np.concatenate([corner, corner + side, random.integers(0, 3, (images, boxes, 1))], -1)
    labels[random.random((images, boxes)) < 0.3, 4] = -1
    of = labels[:, random.integers(0, boxes, detections)]
    near, classes = of[..., :4] + random.normal(0, 2, (images, detections, 4)), of[..., 4:]
    far = np.concatenate([corner[:, :1] + 9, corner[:, :1] + 30], -1)
    chosen = np.where(random.random((images, detections, 1)) < 0.8, near, far)
    score = -np.sort(-random.uniform(0.02, 0.98, (images, detections, 1)), 1)
    found = np.concatenate([chosen, score, classes], -1)
    found[..., 2:4] = np.maximum(found[..., 2:4], found[..., :2] + 1)
    return found.astype(np.float32), labels.astype(np.float32)


def by_coco(found, labels, classes, sizes):
    """Return precisions [4, 10, C, 101] of pycocotools."""
    coco = pytest.importorskip("pycocotools.coco", reason="needs pycocotools: pip install -e '.[boxes]'")
    from pycocotools.cocoeval import COCOeval

    def corners(row):
        left, top, right, bottom = row[:4].astype(float).tolist()
        return [left, top, right - left, bottom - top]

    truth = [
        {"id": 0, "image_id": i, "category_id": int(row[4]), "bbox": (box := corners(row)), "area": box[2] * box[3]}
        | {"iscrowd": 0}
        for i, rows in enumerate(labels)
        for row in rows
        if row[4] >= 0
    ]
    truth = [one | {"id": number} for number, one in enumerate(truth, 1)]
    results = [
        {"image_id": i, "category_id": int(row[5]), "bbox": corners(row), "score": float(row[4])}
        for i, rows in enumerate(found)
        for row in rows
        if row[5] >= 0
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        data = coco.COCO()
        categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
        data.dataset = {"images": [{"id": i} for i in range(len(labels))], "annotations": truth}
        data.dataset |= {"categories": categories, "info": {}}
        data.createIndex()
        judge = COCOeval(data, data.loadRes(results), "bbox")
        small, large = (side**2 for side in sizes)
        judge.params.areaRng = [[0, 1e10], [0, small], [small, large], [large, 1e10]]
        judge.evaluate()
        judge.accumulate()
    precisions = judge.eval["precision"][..., -1]  # [10, 101, C, 4]
    return np.where(precisions < 0, np.nan, precisions).transpose(3, 0, 2, 1)


def by_hand(found, labels, number, least):
    """Return the average precision of a class over all sizes, in plain steps."""
    hits, total = [], 0
    for rows, boxes in zip(found.astype(float), labels.astype(float), strict=True):
        free = [box[:4] for box in boxes if box[4] == number]
        total += len(free)
        for row in rows:
            if row[5] != number:
                continue
            best, at = least, None
            for i, box in enumerate(free):
                width, height = np.minimum(row[2:4], box[2:]) - np.maximum(row[:2], box[:2])
                shared = max(width, 0) * max(height, 0)
                both = np.prod(row[2:4] - row[:2]) + np.prod(box[2:] - box[:2]) - shared
                if shared / both >= best:
                    best, at = shared / both, i
            if at is not None:
                free.pop(at)
            hits.append((row[4], at is not None))
    hits.sort(key=lambda pair: -pair[0])
    right = np.cumsum([hit for _, hit in hits])
    precision, recall = right / np.arange(1, len(right) + 1), right / total
    return np.mean([max(precision[recall >= at], default=0) for at in RECALLS])


@pytest.mark.parametrize("seed", range(3))
def test_precisions_are_those_of_pycocotools(seed):
    found, labels = made(np.random.default_rng(seed))
    found[..., 4] = found[..., 4].round(1 if seed == 2 else 6)  # of equals the first counts first
    ours = metrics.precision_at_recalls(found, labels, 3, SIZES)
    np.testing.assert_allclose(ours, by_coco(found, labels, CLASSES, SIZES), atol=1e-6)
    assert not np.isnan(ours).all() and 0.1 < metrics.average_precisions(ours, CLASSES)["map50"] < 0.9


def test_average_precision_is_that_of_plain_steps():
    found, labels = made(np.random.default_rng(7))
    ours = metrics.precision_at_recalls(found, labels, 3, SIZES)
    for number in range(3):
        for i in (0, 5, 9):
            assert ours[0, i, number].mean() == pytest.approx(by_hand(found, labels, number, IOUS[i]), abs=1e-9)


def test_the_metric_adds_up_to_the_same_whatever_the_batches():
    random = np.random.default_rng(1)
    found, labels = made(random, images=8)
    scores = np.linspace(0.03, 0.97, found[..., 4].size)  # none shares a bin
    order = random.permutation(scores.size).reshape(found.shape[:2])
    found[..., 4] = -np.sort(-scores[order], 1)
    metric = metrics.mean_average_precision(CLASSES, SIZES)
    exact = metrics.average_precisions(metrics.precision_at_recalls(found, labels, 3, SIZES), CLASSES)
    assert list(exact) == ["map", "map50", "map_small", "map_medium", "map_large", "ap_red_cell", "ap_white", "ap_c"]
    measure = jax.jit(metric.measure)
    for size in (8, 4):
        parts = [measure(found[i : i + size], labels[i : i + size], None) for i in range(0, 8, size)]
        sums = jax.tree.map(lambda *leaves: np.sum(leaves, 0), *parts)
        assert metric.compute(sums) == pytest.approx(exact, abs=1e-6)
    shuffled = np.take_along_axis(found, np.argsort(random.random(found.shape[:2]), 1)[..., None], 1)
    assert metric.compute(measure(shuffled, labels, None)) == pytest.approx(exact, abs=1e-6)
    masked = metric.compute(measure(found, labels, jnp.arange(8) < 5))
    some = metrics.precision_at_recalls(found[:5], labels[:5], 3, SIZES)
    assert masked == pytest.approx(metrics.average_precisions(some, CLASSES), abs=1e-6)


@pytest.mark.parametrize(("narrower", "away"), [(1, 2e-3), (3, 1e-2)])
def test_scores_that_share_bins_are_nearly_so(narrower, away):
    found, labels = made(np.random.default_rng(2), images=60, detections=60)
    found[..., 4] = 0.3 + (found[..., 4] - 0.3) / narrower
    metric = metrics.mean_average_precision(CLASSES, SIZES)
    exact = metrics.average_precisions(metrics.precision_at_recalls(found, labels, 3, SIZES), CLASSES)
    assert metric.compute(jax.jit(metric.measure)(found, labels, None)) == pytest.approx(exact, abs=away)


def test_what_no_box_is_of_is_nan():
    found, labels = made(np.random.default_rng(0))
    labels[labels[..., 4] == 2, 4] = -1
    metric = metrics.mean_average_precision(CLASSES, (1.0, 2.0))
    got = metric.compute(metric.measure(found, labels, None))
    assert np.isnan([got["ap_c"], got["map_small"]]).all() and 0 < got["map"] < 1


@pytest.mark.parametrize("left", [(0, 1), ()], ids=["of a class", "at all"])
def test_what_is_not_found_counts_as_missed(left):
    found, labels = made(np.random.default_rng(0))
    found[~np.isin(found[..., 5], left), 5] = -1
    exact = metrics.average_precisions(metrics.precision_at_recalls(found, labels, 3, SIZES), CLASSES)
    assert exact["ap_c"] == 0 and (exact["map"] == 0) == (not left)


def test_geometry_is_that_of_plain_steps():
    random = np.random.default_rng(0)
    corner = random.uniform(0, 50, (2, 40, 2))
    a, b = np.concatenate([corner, corner + random.uniform(1, 40, (2, 40, 2))], -1)
    iou = metrics.box_iou(jnp.asarray(a, jnp.float32)[:, None], jnp.asarray(b, jnp.float32)[None])
    giou = metrics.box_giou(jnp.asarray(a, jnp.float32)[:, None], jnp.asarray(b, jnp.float32)[None])
    for (i, j), value in np.ndenumerate(np.asarray(iou)):
        one, other = a[i], b[j]
        wide, high = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
        shared = max(0.0, wide) * max(0.0, high)
        covered = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
        around = (max(one[2], other[2]) - min(one[0], other[0])) * (max(one[3], other[3]) - min(one[1], other[1]))
        assert value == pytest.approx(shared / covered, abs=1e-6)
        assert float(giou[i, j]) == pytest.approx(shared / covered - (around - covered) / around, abs=1e-6)
    nothing = jnp.zeros(4)
    assert float(metrics.box_iou(nothing, nothing)) == 0
    assert np.isfinite(jax.grad(lambda box: metrics.box_giou(box, nothing))(nothing)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(metrics.mean_average_precision, ()), "there is nothing to find"),
        (partial(metrics.mean_average_precision, "cells"), "give a list of names"),
        (partial(metrics.mean_average_precision, ("a",), (9.0, 4.0)), "two rising sides"),
    ],
)
def test_what_cannot_be_measured(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_labels_that_cannot_be_measured():
    metric = metrics.mean_average_precision(("a",))
    with pytest.raises(InputError, match=r"give \[B, K, 6\]"):
        metric.check(jax.ShapeDtypeStruct((2, 9), np.float32), np.zeros((3, 4, 5)))
