"""What a transformer is made of."""

from dataclasses import dataclass
from typing import Literal

from jaxnets.errors import check_field


@dataclass(frozen=True)
class TransformerConfig:
    """What a transformer is made of, where a recipe's model is one."""

    num_layers: int = 4
    """blocks (transformer)"""
    num_heads: int = 4
    """heads of the attention (transformer)"""
    model_dim: int = 128
    """width of the blocks, which the heads share (transformer)"""
    positions: Literal["rotary", "learned", "sinusoidal"] = "rotary"
    """how it is known where in a sequence an element stands (transformer)"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("num_layers", "num_heads", "model_dim"):
            check_field(self, name, getattr(self, name) >= 1, "1 or more")
        check_field(self, "num_heads", self.model_dim % self.num_heads == 0, f"a divisor of model_dim={self.model_dim}")

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Width, blocks and heads, as ``Transformer`` takes them."""
        return self.model_dim, self.num_layers, self.num_heads
