"""What networks are made of, where recipes have it in common."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx

from jaxnets.errors import check_field
from jaxnets.nn import ELMAN, GRU, LSTM

_MOST = 2**31  # sizes are counted in 32 bits
_CELLS = {"rnn": ELMAN, "lstm": LSTM, "gru": GRU}
_ACTIVATIONS = {"relu": nnx.relu, "gelu": nnx.gelu, "tanh": nnx.tanh, "sigmoid": nnx.sigmoid}


@dataclass(frozen=True)
class Arithmetic:
    """The numbers that a network computes with."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """dtype of the network's arithmetic; weights, states and losses are float32 in both"""

    @property
    def dtype(self) -> Any:
        """The dtype, as models take it."""
        return jnp.bfloat16 if self.precision == "bfloat16" else None


@dataclass(frozen=True)
class LayerConfig:
    """What stands between layers."""

    activation: Literal["relu", "gelu", "tanh", "sigmoid"] = "relu"
    """the non-linearity"""
    norm: Literal["none", "batch", "layer"] = "none"
    """normalisation after each hidden layer"""

    def options(self) -> dict[str, Any]:
        """Return these as models take them."""
        return {
            "activation": _ACTIVATIONS[self.activation],
            "norm": None if self.norm == "none" else self.norm,
        }


@dataclass(frozen=True)
class RecurrentConfig:
    """What a recurrent network is made of."""

    cell: Literal["rnn", "lstm", "gru"] = "gru"
    """the recurrent cell: rnn (Elman), lstm or gru"""
    hidden: tuple[int, ...] = (100,)
    """widths of the recurrent layers, of each direction where there are two"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        good = min(self.hidden, default=0) >= 1 and max(self.hidden) < _MOST
        check_field(self, "hidden", good, f"widths of 1 or more, and less than {_MOST:,}")

    def options(self) -> dict[str, Any]:
        """Return the cell as models take it."""
        return {"cell": _CELLS[self.cell]}


@dataclass(frozen=True)
class TokenRecurrentConfig(RecurrentConfig):
    """What a recurrent network over tokens is made of."""

    embedding: int = 100
    """width of a token's embedding"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_field(self, "embedding", self.embedding >= 1, "1 or more")

    def options(self) -> dict[str, Any]:
        """Return cell and embedding as models take them."""
        return {**super().options(), "embedding": self.embedding}


@dataclass(frozen=True)
class TransformerConfig:
    """What a transformer is made of."""

    num_layers: int = 4
    """blocks of the transformer"""
    num_heads: int = 4
    """heads of the transformer's attention"""
    model_dim: int = 128
    """width of the transformer's blocks, which the heads share"""
    positions: Literal["rotary", "learned", "sinusoidal"] = "rotary"
    """how a transformer knows the positions of a sequence's elements"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("num_layers", "num_heads", "model_dim"):
            check_field(self, name, 1 <= getattr(self, name) < _MOST, f"1 or more, and less than {_MOST:,}")
        check_field(self, "num_layers", self.num_layers <= 10_000, "10000 or less")
        check_field(self, "num_heads", self.model_dim % self.num_heads == 0, f"a divisor of model_dim={self.model_dim}")

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Width, blocks and heads, as ``Transformer`` takes them."""
        return self.model_dim, self.num_layers, self.num_heads
