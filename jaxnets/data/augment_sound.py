"""Augmentation of sound on the device: ``augment(key, inputs) -> inputs`` of samples [B, N] int16, ``PADDING`` behind.

What an example draws does not depend on the others.
"""

import jax
import jax.numpy as jnp

from jaxnets.data.augment import Augment
from jaxnets.data.speech import PADDING
from jaxnets.errors import check_number


def speed(share: float) -> Augment:
    """Return the augmentation that plays each example by up to this share faster or slower (Ko et al., 2015).

    Pitch and formants move with it. Between samples it is linear; what would become longer than the row is slowed down
    less.
    """
    check_number("speed", share, 0, 0.5, "a share in [0, 0.5), such as 0.1")

    def apply(key: jax.Array, inputs: jax.Array) -> jax.Array:
        length = jnp.sum(inputs != PADDING, 1)[:, None]  # [B, 1]
        factor = jax.random.uniform(key, length.shape, minval=1 - share, maxval=1 + share)
        factor = jnp.maximum(factor, length.astype(jnp.float32) / inputs.shape[1])
        at = jnp.arange(inputs.shape[1], dtype=jnp.float32)[None] * factor  # [B, N]
        below = at.astype(jnp.int32)
        above = jnp.minimum(below + 1, length - 1)
        first, second = (
            jnp.take_along_axis(inputs, jnp.minimum(where, length - 1), 1).astype(jnp.float32)
            for where in (below, above)
        )
        between = first + (at - below.astype(jnp.float32)) * (second - first)
        return jnp.where(below < length, jnp.round(between), float(PADDING)).astype(inputs.dtype)

    return apply


def noise(level: float) -> Augment:
    """Return the augmentation that adds white noise, at most ``level`` of each example's own loudness (both as RMS).

    How much of it is drawn in decibels, from 40 dB below that on.
    """
    check_number("noise", level, 0, 10, "a share of the sound's loudness in [0, 10), such as 0.1")

    def apply(key: jax.Array, inputs: jax.Array) -> jax.Array:
        keys = jax.random.split(key)
        real = inputs != PADDING
        samples = jnp.where(real, inputs.astype(jnp.float32), 0.0)
        power = jnp.sum(jnp.square(samples), 1) / jnp.maximum(jnp.sum(real, 1), 1).astype(jnp.float32)
        decibels = jax.random.uniform(keys[0], power.shape, minval=-40.0, maxval=0.0)
        loudness = jnp.sqrt(power) * level * 10 ** (decibels / 20)
        samples = samples + loudness[:, None] * jax.random.normal(keys[1], samples.shape)
        limited = jnp.clip(jnp.round(samples), float(PADDING + 1), float(-PADDING - 1))
        return jnp.where(real, limited, float(PADDING)).astype(inputs.dtype)

    return apply
