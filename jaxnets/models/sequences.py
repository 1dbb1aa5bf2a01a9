"""Parts that models of sequences share: what they are given, checks of tokens, and one vector for a sequence."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.errors import InputError

Pool = Literal["last", "max", "mean"]


class Continued(NamedTuple):
    """Inputs that go on from a state. A model that is given them returns ``(outputs, state)``.

    Attributes:
        inputs: what the model takes.
        carry: the state that it returned before; None at the beginning.
    """

    inputs: Any
    carry: Any = None


class SourceTarget(NamedTuple):
    """What an encoder-decoder is given.

    Attributes:
        source: tokens to be read, [B, S].
        target: tokens of what is written, up to the last known, [B, T].
    """

    source: jax.Array
    target: jax.Array


class Segmented(NamedTuple):
    """Tokens of several segments in a row, such as a question and a text, and of which each is (BERT's token types).

    Attributes:
        tokens: [B, T].
        segments: whole numbers from 0, [B, T].
    """

    tokens: Any
    segments: Any


class SeenTable(nnx.Module):
    """A vector, or a number, for each of so many things; that of number 0, which was never seen, is zero.

    Args:
        num: things, number 0 included.
        features: numbers of a vector; None for a number alone, [...] -> [...].
        spread: the standard deviation of initial values.
        dtype: of what is returned; the table itself stays float32.
        rngs: where they come from.
    """

    def __init__(self, num: int, features: int | None, spread: float, *, dtype: Any = None, rngs: nnx.Rngs):
        shape = (num,) if features is None else (num, features)
        self.dtype = dtype
        self.embedding = nnx.Param(spread * jax.random.normal(rngs.params(), shape, jnp.float32))

    @property
    def table(self) -> jax.Array:
        """All of it, as it is computed with."""
        table = self.embedding[...]
        return table if self.dtype is None else table.astype(self.dtype)

    def __call__(self, numbers: jax.Array) -> jax.Array:
        """Return what stands there, [...] -> [..., features]."""
        found = self.table[numbers]
        seen = (numbers > 0).astype(found.dtype)
        return found * seen.reshape(seen.shape + (1,) * (found.ndim - seen.ndim))


def check_tokens(inputs: np.ndarray, size: int, padding: int | None) -> None:
    """Check tokens on the host: JAX would make NaN of them, or count from the end, in silence.

    Args:
        inputs: tokens, [..., T].
        size: of the vocabulary.
        padding: the token that fills up short sequences, if one does.

    Raises:
        InputError: if a token is outside the vocabulary, or a sequence is nothing but padding.
    """
    if inputs.dtype.kind not in "iu":
        raise InputError(f"inputs are {inputs.dtype}, not tokens; give whole numbers from 0")
    low, high = inputs.min(), inputs.max()
    if low < 0 or high >= size:
        raise InputError(
            f"tokens range from {low} to {high}, outside the vocabulary's 0..{size - 1}; "
            "build the vocabulary from the training data, and map what is unknown to a token of its own"
        )
    if padding is not None and (empty := (inputs == padding).all(-1)).any():
        row = int(np.argmax(empty))
        raise InputError(f"row {row} is nothing but padding (token {padding}); leave empty sequences out")


def pooled(x: jax.Array, mask: jax.Array | None, pool: Literal["max", "mean"]) -> jax.Array:
    """Return the largest or the mean over the steps that count, [B, T, H] -> [B, H]; 0 where none does."""
    keep = jnp.ones((*x.shape[:2], 1), bool) if mask is None else mask[..., None]  # [B, T, 1]
    if pool == "max":
        # Which is the largest is asked once: XLA may compute numbers anew, and round them otherwise, where a derivative
        # compares them with their maximum, and divides by how many are alike.
        largest = jnp.argmax(jnp.where(keep, x, -jnp.inf), 1)[:, None]
        chosen = keep & (jnp.arange(x.shape[1])[None, :, None] == largest)
        return jnp.where(chosen, x, 0).sum(1)
    return jnp.where(keep, x, 0).sum(1) / jnp.maximum(keep.sum(1), 1).astype(x.dtype)
