"""Boxes of a detector's cells, and which of them are kept; all shapes are static, so that it compiles."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.metrics import box_iou

MOST = 100  # boxes of an image that are kept, as COCO measures
_CANDIDATES = 256  # that compete
_FAR = 6.0  # logarithm of a distance in strides that none exceeds


def cell_centres(height: int, width: int, stride: int) -> jax.Array:
    """Return the centres of cells in pixels, x and y, float32 [height * width, 2], a row of cells after the other."""
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    return (jnp.stack([x, y], -1).reshape(-1, 2).astype(jnp.float32) + 0.5) * stride


def cell_boxes(outputs: jax.Array, stride: int) -> tuple[jax.Array, jax.Array]:
    """Return the logits [B, A, C] and the boxes [B, A, 4] of a ``Detector``'s cells, [B, h, w, C + 4]."""
    batch, height, width, channels = outputs.shape
    flat = outputs.reshape(batch, -1, channels)
    distances = stride * jnp.exp(jnp.minimum(flat[..., -4:], _FAR))
    centres = jnp.broadcast_to(cell_centres(height, width, stride), (*flat.shape[:2], 2))
    boxes = jnp.concatenate([centres - distances[..., :2], centres + distances[..., 2:]], -1)
    return flat[..., :-4], boxes


def suppressed(boxes: jax.Array, classes: jax.Array, overlap: float) -> jax.Array:
    """Return which boxes non-maximum suppression keeps, bool [B, K].

    From the first on, each is kept that overlaps no kept one of its class before it. It is found as the fixed point of
    that rule, for all boxes at once: after n rounds the first n are right, and a few rounds mostly suffice.

    Args:
        boxes: [B, K, 4], the surest first.
        classes: [B, K].
        overlap: the IoU above which two are of the same thing.
    """
    number = boxes.shape[1]
    before = jnp.arange(number)[:, None] < jnp.arange(number)[None]  # [K, K]: the first is before the second
    same = classes[:, :, None] == classes[:, None]
    beats = (box_iou(boxes[:, :, None], boxes[:, None]) > overlap) & same & before[None]

    def rule(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        keep, _ = state
        return ~(beats & keep[:, :, None]).any(1), keep

    start = jnp.ones(boxes.shape[:2], bool)
    keep, _ = lax.while_loop(lambda state: (state[0] != state[1]).any(), rule, (start, ~start))
    return keep


def detections(outputs: jax.Array, stride: int, size: Sequence[int], overlap: float) -> jax.Array:
    """Return the boxes that a ``Detector``'s outputs say, [B, h, w, C + 4] -> [B, 100, 6], the surest first.

    They are left, top, right, bottom (pixels, inside the image), score and class; of nothing, score 0 and class -1.

    Args:
        outputs: of the network.
        stride: of its cells.
        size: (H, W) of an image.
        overlap: the IoU above which two boxes of a class are of the same thing.
    """
    logits, boxes = cell_boxes(outputs, stride)
    num_classes = logits.shape[-1]
    flat = logits.reshape(logits.shape[0], -1)
    best, at = lax.top_k(flat, min(_CANDIDATES, flat.shape[1]))
    limits = jnp.asarray([size[1], size[0], size[1], size[0]], boxes.dtype)
    chosen = jnp.take_along_axis(boxes, (at // num_classes)[..., None], 1)
    chosen = jnp.clip(chosen, 0, jnp.broadcast_to(limits, chosen.shape))
    classes = (at % num_classes).astype(boxes.dtype)
    keep = suppressed(chosen, classes, overlap)
    scores, rows = lax.top_k(jnp.where(keep, jax.nn.sigmoid(best), -1.0), min(MOST, keep.shape[1]))
    there = scores > 0
    found = jnp.take_along_axis(jnp.concatenate([chosen, classes[..., None]], -1), rows[..., None], 1)
    made = jnp.concatenate([found[..., :4], scores[..., None], found[..., 4:]], -1)
    nothing = jnp.broadcast_to(jnp.asarray([0, 0, 0, 0, 0, -1], made.dtype), made.shape)
    made = jnp.where(there[..., None], made, nothing)
    return jnp.pad(made, ((0, 0), (0, MOST - made.shape[1]), (0, 0))).at[:, made.shape[1] :, 5].set(-1)
