"""The multi-layer perceptron."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax.nn.initializers import he_normal, lecun_normal

from jaxnets.errors import InputError, check_widths
from jaxnets.models.blocks import Activation, Block, Norm
from jaxnets.nn import dropout_layer


class MLP(nnx.Module):
    """Dense layers with an activation between them, [B, ...] -> [B, out_features].

    Each hidden layer is dense, then (optionally) a norm, the activation and dropout. Before batch normalisation, which
    would take it away again, there is no bias.

    Args:
        in_features: numbers in one example; inputs of more axes (images) are flattened.
        hidden: widths of the hidden layers.
        out_features: width of the output (classes, or targets).
        activation: the non-linearity.
        norm: "batch" or "layer" normalisation after each hidden layer, or none.
        dropout: probability that a hidden unit is dropped in training.
        kernel_init: initialiser of all weights; by default hidden layers draw with variance 2 / fan-in (He et al.,
            2015), the output with 1 / fan-in (LeCun et al., 1998).
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.

    Raises:
        InputError: if a width is no whole number of 1 or more, or the dropout not in [0, 1).
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        *,
        activation: Activation = nnx.relu,
        norm: Norm = None,
        dropout: float = 0.0,
        kernel_init: nnx.Initializer | None = None,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        check_widths("hidden", hidden)
        check_widths("in_features and out_features", (in_features, out_features))
        widths = [in_features, *hidden]
        self.in_features = in_features
        self.hidden = nnx.List()
        for fan_in, fan_out in itertools.pairwise(widths):
            options = {"use_bias": norm != "batch", "kernel_init": kernel_init or he_normal(), "dtype": dtype}
            linear = nnx.Linear(fan_in, fan_out, **options, rngs=rngs)
            self.hidden.append(Block(linear, norm, activation, dtype=dtype, rngs=rngs))
        self.dropout = dropout_layer(dropout)
        init = kernel_init or lecun_normal()
        self.out = nnx.Linear(widths[-1], out_features, kernel_init=init, dtype=dtype, rngs=rngs)

    def __call__(self, inputs: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs, [B, out_features]; ``rngs`` is what dropout draws from."""
        if math.prod(inputs.shape[1:]) != self.in_features:
            raise InputError(
                f"MLP(in_features={self.in_features}) got inputs of shape {inputs.shape}, the first axis the batch"
            )
        x = inputs.reshape(inputs.shape[0], -1)
        for block in self.hidden:
            x = self.dropout(block(x), rngs=rngs)
        return self.out(x)
