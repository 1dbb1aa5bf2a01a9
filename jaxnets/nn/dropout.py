"""Dropout, with its probability checked."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.errors import check_number, is_traced


def dropout_layer(probability: float) -> nnx.Dropout:
    """Return the layer that drops each number with this probability in training.

    Raises:
        InputError: if the probability is not in [0, 1); of one that is traced that is not known.
    """
    check_number("dropout", probability, 0, 1, "in [0, 1), such as 0.2")
    return _Traced(probability) if is_traced(probability) else nnx.Dropout(probability)


class _Held:
    """A traced value as part of a module's structure, which is compared, and hashed, by identity."""

    def __init__(self, value: Any):
        self.value = value


class _Traced(nnx.Dropout):
    """Dropout whose probability is known to the compiled program alone."""

    def __init__(self, probability: Any):
        super().__init__(0.5)
        self.probability = _Held(probability)

    def __call__(self, inputs: jax.Array, *, deterministic: bool | None = None, rngs: Any = None) -> jax.Array:
        if (self.deterministic if deterministic is None else deterministic) or rngs is None:
            return inputs
        keep = (1.0 - self.probability.value).astype(inputs.dtype)
        mask = jax.random.bernoulli(rngs.dropout(), keep, inputs.shape)
        return jnp.where(mask, inputs / keep, jnp.zeros_like(inputs))
