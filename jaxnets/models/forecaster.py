"""Forecasts of several columns at once, with any backbone: each window is brought to one scale and cut into patches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.errors import InputError
from jaxnets.models.blocks import check_sizes


class Forecaster(nnx.Module):
    """What follows a window, column by column, [B, L, C] -> [B, H, C]; the columns share one backbone.

    Each column is normalised by its own window's mean and deviation, which the forecast gets back (reversible instance
    normalisation, Kim et al., 2022, without its affine part), and cut into patches (Nie et al., 2023). So the number of
    columns is free, and a shift or a change of scale of the inputs is one of the outputs.

    Args:
        history: L.
        horizon: H.
        backbone: makes the module in between, [N, P, patch] -> [N, H]: ``backbone(P, patch, H, dtype=, rngs=)``. It is
            called with ``rngs=``.
        linear: add a dense layer of the whole window to what the backbone gives, beginning with zeros.
        patch: steps of a patch; it divides ``history``, and P is how often.
        epsilon: added to a window's variance, so that a constant one is no division by zero.
        dtype: of the backbone's computation; normalisation is in float32 at least, and outputs have the inputs' dtype.
        rngs: where initial values come from.

    Raises:
        InputError: if ``patch`` does not divide ``history``.
    """

    def __init__(
        self,
        history: int,
        horizon: int,
        backbone: Callable[..., Any],
        *,
        linear: bool = False,
        patch: int = 1,
        epsilon: float = 1e-5,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        check_sizes(history=history, horizon=horizon, patch=patch)
        if history % patch:
            raise InputError(f"{history=}, {horizon=} and {patch=} must be 1 or more, and patch divide history")
        self.history, self.horizon, self.patch, self.epsilon = history, horizon, patch, epsilon
        self.backbone = backbone(history // patch, patch, horizon, dtype=dtype, rngs=rngs)
        zeros = nnx.initializers.zeros
        self.linear = nnx.data(
            nnx.Linear(history, horizon, use_bias=False, kernel_init=zeros, dtype=dtype, rngs=rngs) if linear else None
        )

    def __call__(self, inputs: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the forecasts; ``rngs`` is what the backbone's dropout draws from."""
        if inputs.ndim != 3 or inputs.shape[1] != self.history:
            raise InputError(f"Forecaster(history={self.history}) got inputs of shape {inputs.shape}, not [B, L, C]")
        batch, _, columns = inputs.shape
        x = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
        mean = x.mean(1, keepdims=True)  # [B, 1, C]
        deviation = jnp.sqrt(x.var(1, keepdims=True) + self.epsilon)
        x = jnp.swapaxes((x - mean) / deviation, 1, 2).reshape(batch * columns, -1, self.patch)  # [B * C, P, patch]
        outputs = self.backbone(x, rngs=rngs)  # [B * C, H]
        if self.linear is not None:
            outputs += self.linear(x.reshape(batch * columns, self.history))
        outputs = jnp.swapaxes(outputs.astype(x.dtype).reshape(batch, columns, self.horizon), 1, 2)
        return (outputs * deviation + mean).astype(inputs.dtype)
