"""Learning to find boxes: which cells are to see which box, and what their mistakes cost."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets.errors import InputError, check_number, check_whole
from jaxnets.learner import Learner, TrainState, gathered
from jaxnets.learners.arrays import counted
from jaxnets.learners.boxes import cell_boxes, cell_centres, detections
from jaxnets.learners.supervised import supervised
from jaxnets.metrics import Metric, box_areas, box_giou, box_iou, mean_average_precision
from jaxnets.metrics.detection import SIZES
from jaxnets.network import Key, Network, PyTree

_BETA = 2.0  # power of the modulating factor of the focal loss


def detection(
    network: Network,
    tx: optax.GradientTransformation,
    classes: Sequence[str],
    size: Sequence[int],
    *,
    stride: int = 8,
    radius: float = 1.5,
    box_weight: float = 2.0,
    overlap: float = 0.5,
    sizes: tuple[float, float] = SIZES,
) -> Learner:
    """Return the learner that fits a ``Detector`` to boxes: batches hold "inputs" and "labels", [B, M, 5].

    Labels are left, top, right, bottom and class, -1 where there is none (``jaxnets.data.box_splits``). Cells around a
    box's centre are to see it (FCOS, Tian et al., 2019); each class' logit is to say by how much the cell's box covers
    it (the quality focal loss of Li et al., 2020), and the box is fitted by 1 - GIoU. ``predict`` returns the boxes
    that are found, [B, 100, 6]: left, top, right, bottom, score and class.

    Args:
        network: [B, H, W, C] -> [B, h, w, num_classes + 4].
        tx: an Optax optimizer.
        classes: their names.
        size: (H, W) of an image.
        stride: pixels between two cells.
        radius: cells whose centre is so many strides from a box's centre, and inside the box, are to see it.
        box_weight: of the boxes' part of the loss.
        overlap: the IoU above which two found boxes of a class are of the same thing.
        sizes: sides of squares, in pixels, below and above which boxes count as small and large.
    """
    check_whole("stride", stride)
    check_number("radius", radius, 0, 1e3, "greater than 0, such as 1.5", low_too=False)
    check_number("box_weight", box_weight, 0, 1e6, "0 or more")
    check_number("overlap", overlap, 0, 1, "in (0, 1), such as 0.5", low_too=False)
    decode = partial(detections, stride=stride, size=tuple(size), overlap=overlap)
    loss = partial(detection_loss, stride=stride, radius=radius, box_weight=box_weight)
    precision = _decoded(mean_average_precision(tuple(classes), sizes), decode)
    learner = supervised(network, loss, tx, {"map": precision})

    def predict(state: TrainState, inputs: Any) -> jax.Array:
        return decode(learner.predict(state, inputs))

    def check(arrays: Mapping[str, np.ndarray]) -> None:
        labels = arrays.get("labels")
        if labels is not None and labels.shape[2:] != (5,):
            raise InputError(f"labels of shape {labels.shape}; give boxes and their classes, [N, M, 5]")
        learner.check(arrays)
        most = counted(gathered(arrays))[..., 4].max(initial=-1)
        if most >= len(classes):
            raise InputError(f"labels have the class {most:g}, but there are {len(classes)}, numbered from 0")

    return learner._replace(predict=predict, check=check)


def _decoded(metric: Metric, decode: Callable[[jax.Array], jax.Array]) -> Metric:
    """Return the metric of boxes as one of a network's outputs."""

    def measure(outputs: jax.Array, labels: jax.Array, weights: jax.Array | None) -> Any:
        return metric.measure(decode(outputs), labels, weights)

    def check(outputs: Any, labels: np.ndarray) -> None:
        metric.check(jax.eval_shape(decode, outputs), labels)

    return metric._replace(measure=measure, check=check)


def detection_loss(
    outputs: jax.Array, labels: jax.Array, *, stride: int, radius: float = 1.5, box_weight: float = 2.0
) -> jax.Array:
    """Return the loss of each image, [B, h, w, C + 4] and [B, M, 5] -> [B]: of its classes and boxes, a seeing cell.

    Args:
        outputs: of a ``Detector``.
        labels: the boxes to be found.
        stride: pixels between two cells.
        radius: of the cells around a box's centre that are to see it, in strides.
        box_weight: of the boxes' part.
    """
    logits, boxes = cell_boxes(outputs, stride)  # [B, A, C], [B, A, 4]
    _, height, width, _ = outputs.shape
    centres = cell_centres(height, width, stride)
    target, sees = jax.vmap(partial(assigned, centres, stride=stride, radius=radius))(labels)
    quality = jax.lax.stop_gradient(jnp.clip(box_iou(boxes, target[..., :4]), 0, 1))
    right = jnp.arange(logits.shape[-1])[None, None] == target[..., 4:].astype(jnp.int32)
    wanted = jnp.where(right & sees[..., None], quality[..., None], 0.0)  # [B, A, C]
    of_classes = quality_focal(logits, wanted).sum((1, 2))
    of_boxes = jnp.where(sees, 1 - box_giou(boxes, target[..., :4]), 0.0).sum(1)
    return (of_classes + box_weight * of_boxes) / jnp.maximum(sees.sum(1), 1).astype(logits.dtype)


def assigned(centres: jax.Array, labels: jax.Array, *, stride: int, radius: float) -> tuple[jax.Array, jax.Array]:
    """Return the box that each cell is to see, [A, 5], and which cells are to see one, bool [A].

    These are the cells whose centre is inside a box and no more than ``radius`` strides from its centre along both
    axes, and the cell that holds its centre; of several boxes, the smallest.

    Args:
        centres: of the cells, [A, 2].
        labels: the boxes of one image, [M, 5].
        stride: pixels between two cells.
        radius: in strides.
    """
    middle = (labels[:, :2] + labels[:, 2:4]) / 2  # [M, 2]
    away = jnp.abs(centres[:, None] - middle[None])  # [A, M, 2]
    half = (labels[:, 2:4] - labels[:, :2]) / 2
    near = (away < jnp.minimum(half, radius * stride)[None]).all(-1)
    holds = (away <= stride / 2).all(-1)
    fits = (near | holds) & (labels[:, 4] >= 0)[None]
    area = jnp.where(fits, box_areas(labels[:, :4])[None], jnp.inf)
    return labels[jnp.argmin(area, 1)], fits.any(1)


def quality_focal(logits: jax.Array, targets: jax.Array, beta: float = _BETA) -> jax.Array:
    """Return ``|target - p|^beta`` times the cross-entropy, [...] and [...] -> [...] (Li et al., 2020).

    ``p`` is the logistic function of the logit. For targets 0 and 1 it is the focal loss (Lin et al., 2017) without
    its factors of classes.
    """
    away = jnp.abs(targets - jax.nn.sigmoid(logits))
    return away**beta * optax.sigmoid_binary_cross_entropy(logits, targets)


def flipped(network: Network) -> Network:
    """Return the detector whose outputs, unless it is trained, are means over an image and its mirror images.

    The outputs of mirrored images are mirrored back, and the distances to the mirrored sides exchanged.
    """

    def apply(
        params: PyTree, model_state: PyTree, inputs: jax.Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        made, state = network.apply(params, model_state, inputs, train=train, key=key)
        if train:
            return made, state
        total = made
        for axes in ((2,), (1,), (1, 2)):
            mirrored, _ = network.apply(params, model_state, jnp.flip(inputs, axes), train=False, key=key)
            total += mirrored_cells(jnp.flip(mirrored, axes), axes)
        return total / 4, state

    return network._replace(apply=apply)


def mirrored_cells(outputs: jax.Array, axes: Sequence[int]) -> jax.Array:
    """Return outputs [B, h, w, C + 4] with left and right (axis 2) or top and bottom (axis 1) exchanged."""
    logits, (left, top, right, bottom) = outputs[..., :-4], jnp.moveaxis(outputs[..., -4:], -1, 0)
    if 2 in axes:
        left, right = right, left
    if 1 in axes:
        top, bottom = bottom, top
    return jnp.concatenate([logits, jnp.stack([left, top, right, bottom], -1)], -1)
