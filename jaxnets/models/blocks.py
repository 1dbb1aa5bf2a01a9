"""Parts that several families of models share."""

from collections.abc import Callable
from typing import Any, Literal

import jax
from flax import nnx

from jaxnets.errors import InputError

Activation = Callable[[jax.Array], jax.Array]
Norm = Literal["batch", "layer"] | None


class Block(nnx.Module):
    """A dense or convolutional layer, then (optionally) a norm, then the activation.

    Args:
        layer: an ``nnx.Linear`` or a convolution.
        norm: "batch" or "layer" normalisation over the last axis, or none.
        activation: the non-linearity.
        dtype: of the norm's computation.
        rngs: where initial values come from.

    Raises:
        InputError: if ``norm`` is none of these.
    """

    def __init__(self, layer: nnx.Linear | nnx.Conv, norm: Norm, activation: Activation, *, dtype: Any, rngs: nnx.Rngs):
        norms = {None: None, "batch": nnx.BatchNorm, "layer": nnx.LayerNorm}
        if norm not in norms:
            raise InputError(f"{norm=} is not a normalisation; use 'batch', 'layer' or None")
        self.layer = layer
        make = norms[norm]
        self.norm = nnx.data(make(layer.out_features, dtype=dtype, rngs=rngs) if make else None)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the activations, of the layer's output shape."""
        x = self.layer(x)
        if self.norm is not None:
            x = self.norm(x)
        return self.activation(x)
