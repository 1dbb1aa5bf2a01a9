"""How boxes lie to each other: [..., 4] of left, top, right and bottom, edges in pixels."""

import jax
import jax.numpy as jnp


def box_areas(boxes: jax.Array) -> jax.Array:
    """Return the areas of boxes, [..., 4] -> [...]; 0 where a side is negative."""
    return jnp.prod(jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0), -1)


def box_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the area that two boxes share over the area that they cover, [..., 4] and [..., 4] -> [...].

    Shapes broadcast as NumPy's do, so ``box_iou(a[:, None], b[None])`` is of all pairs; 0 where both have no area.
    """
    return _shared_and_covered(a, b)[0]


def box_giou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the generalised IoU, from -1 to 1, [..., 4] and [..., 4] -> [...] (Rezatofighi et al., 2019).

    The IoU, less the share of the box around both that neither covers: it has a gradient where they do not meet.
    """
    iou, covered = _shared_and_covered(a, b)
    around = jnp.concatenate([jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:])], -1)
    hull = box_areas(around)
    return iou - (hull - covered) / jnp.maximum(hull, _LEAST)


_LEAST = 1e-9  # area, so that none is divided by 0


def _shared_and_covered(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the IoU, and the area that two boxes cover together."""
    shape = jnp.broadcast_shapes(a.shape, b.shape)
    a, b = jnp.broadcast_to(a, shape), jnp.broadcast_to(b, shape)
    both = jnp.concatenate([jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])], -1)
    shared = box_areas(both)
    covered = box_areas(a) + box_areas(b) - shared
    return shared / jnp.maximum(covered, _LEAST), covered
