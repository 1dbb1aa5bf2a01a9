"""Recurrent networks over sequences of numbers or tokens: Elman, LSTM and GRU, stacked, in one direction or both."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.errors import InputError, check_kind, check_whole, check_widths
from jaxnets.models.blocks import check_sizes
from jaxnets.models.sequences import Continued, Pool, check_tokens, pooled
from jaxnets.nn import LSTM, Cell, Recurrent, dropout_layer


class RNN(nnx.Module):
    """Recurrent layers and a dense one: [B, T, D] -> [B, T, out_features], or, pooled over time, [B, out_features].

    With ``embedding``, the inputs are tokens, [B, T] of whole numbers. Given ``Continued(inputs, carry)``, it returns
    the outputs and the state of every layer, from which the next inputs go on (in one direction: with two, the one that
    goes back begins from its state at the inputs' end).

    Args:
        in_features: D, or the number of tokens in the vocabulary.
        hidden: widths of the recurrent layers, one after another; each direction has such a width.
        out_features: width of the output (classes, tokens, or targets).
        cell: ``nn.ELMAN``, ``nn.LSTM`` or ``nn.GRU``.
        embedding: width of the tokens' embedding; None for inputs that are numbers.
        padding: the token that fills up short sequences, at their end: its steps count for nothing.
        bidirectional: run each layer in both directions, and hand on both outputs.
        pool: one output a sequence, of its last states, or of the largest or the mean of its outputs over time.
        dropout: probability that a feature is dropped in training, in the embedding and in what each layer hands on.
        truncate: stop gradients every so many steps; None lets them run through the whole sequence.
        dtype: of the matrix products; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        *,
        cell: Cell = LSTM,
        embedding: int | None = None,
        padding: int | None = None,
        bidirectional: bool = False,
        pool: Pool | None = None,
        dropout: float = 0.0,
        truncate: int | None = None,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        if padding is not None and embedding is None:
            raise InputError(f"{padding=} is a token, but without embedding= the inputs are numbers; give both")
        check_widths("hidden", hidden)
        check_kind("cell", cell, Cell, "give nn.ELMAN, nn.LSTM, nn.GRU or a Cell of your own")
        check_sizes(in_features=in_features, out_features=out_features)
        if embedding is not None:
            check_sizes(embedding=embedding)
        if padding is not None:
            check_whole("padding", padding, 0, remedy="the token that fills up short sequences")
        if not hidden or pool not in (None, "last", "max", "mean"):
            raise InputError(f"{hidden=}, {pool=}: give one width or more, and 'last', 'max', 'mean' or None")
        self.in_features, self.padding = in_features, padding
        self.pool: Pool | None = pool
        self.embed = nnx.data(None)
        width = in_features
        if embedding is not None:
            self.embed = nnx.data(nnx.Embed(in_features, embedding, dtype=dtype, rngs=rngs))
            width = embedding
        self.layers = nnx.List()
        for features in hidden:
            options = {"truncate": truncate, "dtype": dtype, "rngs": rngs}
            directions = [Recurrent(cell, width, features, reverse=back, **options) for back in (False, True)]
            self.layers.append(nnx.List(directions[: 1 + bidirectional]))
            width = features * (1 + bidirectional)
        self.dropout = dropout_layer(dropout)
        self.out = nnx.Linear(width, out_features, dtype=dtype, rngs=rngs)

    def check(self, inputs: np.ndarray) -> None:
        """Check tokens on the host, as ``check_tokens`` does; numbers of any kind will do."""
        if self.embed is not None:
            check_tokens(inputs, self.in_features, self.padding)

    def __call__(self, inputs: jax.Array | Continued, *, rngs: nnx.Rngs | None = None) -> Any:
        """Return the outputs; ``rngs`` is what dropout draws from."""
        given, carries = inputs if isinstance(inputs, Continued) else (inputs, None)
        x, mask = self._features(given)
        if self.embed is not None:
            x = self.dropout(x, rngs=rngs)
        last = []
        for number, directions in enumerate(self.layers):
            before = (None,) * len(directions) if carries is None else carries[number]
            both = [layer(x, carry, mask=mask) for layer, carry in zip(directions, before, strict=True)]
            x = jnp.concatenate([outputs for outputs, _ in both], -1)
            last.append(tuple(carry for _, carry in both))
            x = self.dropout(x, rngs=rngs)
        if self.pool == "last":
            x = self.dropout(jnp.concatenate([carry[0] for carry in last[-1]], -1).astype(x.dtype), rngs=rngs)
        elif self.pool is not None:
            x = pooled(x, mask, self.pool)
        outputs = self.out(x)
        return (outputs, tuple(last)) if isinstance(inputs, Continued) else outputs

    def _features(self, inputs: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Return [B, T, D], and which steps count."""
        if self.embed is None:
            if inputs.ndim != 3 or inputs.shape[-1] != self.in_features:
                raise InputError(f"RNN(in_features={self.in_features}) got inputs of shape {inputs.shape}, [B, T, D]")
            return inputs, None
        if inputs.ndim != 2 or not jnp.issubdtype(inputs.dtype, jnp.integer):
            raise InputError(f"RNN(embedding=...) got inputs of {inputs.dtype}{list(inputs.shape)}, not tokens [B, T]")
        return self.embed(inputs), None if self.padding is None else inputs != self.padding
