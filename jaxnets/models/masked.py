"""The decoder of a masked autoencoder: from some of an image's patches to all of them."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.errors import InputError
from jaxnets.models.blocks import Activation, check_sizes
from jaxnets.models.transformer_block import TransformerBlock, norm_layer
from jaxnets.nn import Linear


class MaskedDecoder(nnx.Module):
    """Blocks over all patches of an image, of which some are known (He et al., 2022), -> [B, N, out_features].

    It is called with the encoder's vectors of the K patches that are seen, [B, K, in_features], and which these are,
    one-hot, [B, K, N]; for each of the others stands one learned vector.

    Args:
        num_patches: N.
        in_features: width of the encoder.
        features: width of the decoder's blocks.
        num_layers: how many blocks.
        num_heads: of their attention.
        out_features: numbers in a patch.
        activation: of the blocks.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        num_patches: int,
        in_features: int,
        features: int,
        num_layers: int,
        num_heads: int,
        out_features: int,
        *,
        activation: Activation = nnx.gelu,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        check_sizes(num_patches=num_patches, in_features=in_features, features=features, num_layers=num_layers)
        check_sizes(num_heads=num_heads, out_features=out_features)
        options = {"dtype": dtype, "rngs": rngs}
        draw = nnx.initializers.normal(0.02)
        self.num_patches, self.in_features = num_patches, in_features
        self.embed = Linear(in_features, features, **options)
        self.hidden_patch = nnx.Param(draw(rngs.params(), (features,), jnp.float32))
        self.position_embedding = nnx.Param(draw(rngs.params(), (num_patches, features), jnp.float32))
        self.blocks = nnx.List(
            TransformerBlock(features, num_heads, activation=activation, **options) for _ in range(num_layers)
        )
        self.norm = norm_layer("layer", features, use_bias=True, **options)
        self.out = Linear(features, out_features, **options)

    def __call__(self, seen: jax.Array, chosen: jax.Array) -> jax.Array:
        """Return all patches as they may be."""
        if seen.shape[-1] != self.in_features or chosen.shape != (*seen.shape[:2], self.num_patches):
            raise InputError(
                f"MaskedDecoder(num_patches={self.num_patches}, in_features={self.in_features}) got vectors of shape "
                f"{seen.shape}, chosen {chosen.shape}; give [B, K, {self.in_features}], [B, K, {self.num_patches}]"
            )
        x = self.embed(seen)
        hidden = 1 - chosen.sum(1)[..., None]  # [B, N, 1]
        spread = chosen.swapaxes(1, 2).astype(x.dtype) @ x  # each vector to its own patch
        x = spread + (hidden * self.hidden_patch[...][None, None] + self.position_embedding[...][None]).astype(x.dtype)
        for block in self.blocks:
            x, _ = block(x)
        return self.out(self.norm(x))
