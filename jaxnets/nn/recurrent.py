"""Recurrent layers: one scan for every cell, with masks, and states that go in and come out.

The cells are pure functions of what comes from the inputs and what comes from the state, in the form that PyTorch has
them, so that weights can be carried over.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxnets.errors import InputError, check_whole
from jaxnets.platform import platform

Carry = tuple[jax.Array, ...]  # the state between two steps, [B, H] each; the first is the output

# Up to this batch on CPU, all inputs are projected before the scan: one matrix product instead of T products of a few
# rows. Above, it is faster inside, where the projections stay in the processor's cache. Elsewhere it is always outside.
_MOST_ROWS_OUTSIDE = 8


class Cell(NamedTuple):
    """A recurrent cell as a pure function.

    Attributes:
        num_gates: G, the parts of width H that inputs and state are projected to.
        num_carries: arrays in the state.
        update: ``update(from_inputs, from_state, carry) -> carry``; the projections are [B, G * H].
        state_bias: whether the state's projection has a bias of its own.
        forget_gate: the gate whose bias starts at 1 (Jozefowicz et al., 2015), if any.
    """

    num_gates: int
    num_carries: int
    update: Callable[[jax.Array, jax.Array, Carry], Carry]
    state_bias: bool = False
    forget_gate: int | None = None


def _elman(from_inputs: jax.Array, from_state: jax.Array, carry: Carry) -> Carry:
    return (jnp.tanh(from_inputs + from_state),)


def _lstm(from_inputs: jax.Array, from_state: jax.Array, carry: Carry) -> Carry:
    input_gate, forget_gate, cell, output_gate = jnp.split(from_inputs + from_state, 4, -1)
    memory = jax.nn.sigmoid(forget_gate) * carry[1] + jax.nn.sigmoid(input_gate) * jnp.tanh(cell)
    return jax.nn.sigmoid(output_gate) * jnp.tanh(memory), memory


def _gru(from_inputs: jax.Array, from_state: jax.Array, carry: Carry) -> Carry:
    (reset, update, new), (state_reset, state_update, state_new) = (
        jnp.split(part, 3, -1) for part in (from_inputs, from_state)
    )
    update = jax.nn.sigmoid(update + state_update)
    new = jnp.tanh(new + jax.nn.sigmoid(reset + state_reset) * state_new)
    return ((1.0 - update) * new + update * carry[0],)


ELMAN = Cell(1, 1, _elman)  # Elman (1990), with tanh
LSTM = Cell(4, 2, _lstm, forget_gate=1)  # Hochreiter and Schmidhuber (1997), Gers et al. (2000); gates i, f, g, o
GRU = Cell(3, 1, _gru, state_bias=True)  # Cho et al. (2014), reset after the product as in cuDNN; gates r, z, n


class Recurrent(nnx.Module):
    """One recurrent layer in one direction, [B, T, D] -> [B, T, H] and the last state.

    Args:
        cell: ``ELMAN``, ``LSTM``, ``GRU`` or one's own.
        in_features: D.
        features: H.
        reverse: go from the last step to the first.
        truncate: stop gradients every so many steps (truncated back-propagation through time), counted from the first;
            None lets them run through the whole sequence.
        dtype: of the matrix products; parameters and states stay float32 (float64 if the dtype is).
        rngs: where initial values come from: kernels uniform (Glorot and Bengio, 2010), recurrent kernels orthogonal
            (Saxe et al., 2014).
    """

    def __init__(
        self,
        cell: Cell,
        in_features: int,
        features: int,
        *,
        reverse: bool = False,
        truncate: int | None = None,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        if truncate is not None:
            check_whole("truncate", truncate, remedy="steps, or None")
        self.cell, self.features, self.reverse, self.truncate = cell, features, reverse, truncate
        self.dtype = dtype or jnp.float32
        self.kernel = nnx.Param(_for_each_gate(nnx.initializers.glorot_uniform(), cell, in_features, features, rngs))
        self.state_kernel = nnx.Param(_for_each_gate(nnx.initializers.orthogonal(), cell, features, features, rngs))
        bias = jnp.zeros((cell.num_gates, features), jnp.float32)
        bias = bias if cell.forget_gate is None else bias.at[cell.forget_gate].set(1.0)
        self.bias = nnx.Param(bias.reshape(-1))
        self.state_bias = nnx.data(nnx.Param(jnp.zeros(bias.size, jnp.float32)) if cell.state_bias else None)

    def initial(self, batch_size: int) -> Carry:
        """Return the state before the first step, zeros [B, H]."""
        zeros = jnp.zeros((batch_size, self.features), jnp.promote_types(jnp.float32, self.dtype))
        return (zeros,) * self.cell.num_carries

    def __call__(
        self, inputs: jax.Array, carry: Carry | None = None, *, mask: jax.Array | None = None
    ) -> tuple[jax.Array, Carry]:
        """Return the outputs of every step, [B, T, H], and the state after the last.

        Args:
            inputs: [B, T, D].
            carry: the state before the first step; zeros if absent.
            mask: [B, T], which steps count (not 0). Where they do not, the state stays what it was and the output is 0,
                so padded sequences give exactly what each would give alone, in both directions.
        """
        self._check(inputs, carry, mask)
        carry = self.initial(inputs.shape[0]) if carry is None else carry
        kernel, state_kernel, bias = (p[...].astype(self.dtype) for p in (self.kernel, self.state_kernel, self.bias))
        state_bias = None if self.state_bias is None else self.state_bias[...].astype(self.dtype)
        outside = platform() != "cpu" or _is_few(inputs.shape[0])

        def project(x: jax.Array) -> jax.Array:
            return _plus(x.astype(self.dtype) @ kernel, bias)

        def step(carry: Carry, xs: Any) -> tuple[Carry, jax.Array]:
            x, keep, cut = xs
            if cut is not None:
                carry = tuple(jnp.where(cut, lax.stop_gradient(part), part) for part in carry)
            from_inputs = x if outside else project(x)
            from_state = _plus(carry[0].astype(self.dtype) @ state_kernel, state_bias)
            state_dtype = carry[0].dtype
            new = self.cell.update(from_inputs.astype(state_dtype), from_state.astype(state_dtype), carry)
            if keep is None:
                return new, new[0].astype(self.dtype)
            new = tuple(jnp.where(keep, after, before) for after, before in zip(new, carry, strict=True))
            return new, jnp.where(keep, new[0], 0).astype(self.dtype)

        keep = None if mask is None else jnp.swapaxes(mask.astype(bool), 0, 1)[..., None]  # [T, B, 1]
        taken = jnp.arange(inputs.shape[1])  # steps that were taken before each
        taken = jnp.flip(taken) if self.reverse else taken
        cut = None if self.truncate is None else (taken > 0) & (taken % self.truncate == 0)
        if platform() == "cpu":
            xs = jnp.swapaxes(project(inputs) if outside else inputs, 0, 1)  # [T, B, D or G * H]
        else:  # what is made with time first lies so, and a step's part in one piece
            xs = project(jnp.swapaxes(inputs, 0, 1))  # [T, B, G * H]
        carry, outputs = lax.scan(step, carry, (xs, keep, cut), reverse=self.reverse)
        return jnp.swapaxes(outputs, 0, 1), carry

    def _check(self, inputs: jax.Array, carry: Carry | None, mask: jax.Array | None) -> None:
        width = self.kernel.shape[0]
        if inputs.ndim != 3 or inputs.shape[-1] != width:
            raise InputError(f"Recurrent(in_features={width}) got inputs of shape {inputs.shape}, not [B, T, {width}]")
        if mask is not None and mask.shape != inputs.shape[:2]:
            raise InputError(f"mask of shape {mask.shape} for inputs of shape {inputs.shape}; give [B, T]")
        wanted = [(inputs.shape[0], self.features)] * self.cell.num_carries
        if carry is not None and [part.shape for part in carry] != wanted:
            shapes = [part.shape for part in carry]
            raise InputError(f"a state of shapes {shapes} for inputs of shape {inputs.shape}; it needs {wanted}")


def _is_few(rows: Any) -> bool:
    """Return whether a batch is small; one of a size that is not known yet (a symbol, in an export) is not."""
    return isinstance(rows, int) and rows <= _MOST_ROWS_OUTSIDE


def _plus(x: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Return [..., F] plus a bias of its last axis, [F], if there is one."""
    return x if bias is None else x + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


def _for_each_gate(init: nnx.Initializer, cell: Cell, fan_in: int, fan_out: int, rngs: nnx.Rngs) -> jax.Array:
    """Return the gates' kernels side by side, [fan_in, G * fan_out], each drawn on its own."""
    return jnp.concatenate([init(rngs.params(), (fan_in, fan_out), jnp.float32) for _ in range(cell.num_gates)], -1)
