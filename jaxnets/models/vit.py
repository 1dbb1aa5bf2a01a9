"""The vision transformer."""

from typing import Any

import jax
from flax import nnx

from jaxnets.errors import InputError
from jaxnets.models.blocks import check_image_shape, check_sizes
from jaxnets.models.transformer import Transformer


class ViT(nnx.Module):
    """A vision transformer (Dosovitskiy et al., 2021) over an image's patches, [B, H, W, C] -> [B, out_features].

    Args:
        shape: H, W, C of the images.
        patch: height and width of a patch; it divides the image's.
        features: D, the width of the blocks.
        num_layers: how many blocks.
        num_heads: of their attention.
        out_features: width of the output; None for the blocks' own.
        class_token: put a learned vector before the patches, of which the outputs are made (as the paper has it).
        rngs: where initial values come from.
        **options: handed to the ``Transformer``; positions are learned, outputs the mean over patches, unless given.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        patch: int,
        features: int,
        num_layers: int,
        num_heads: int,
        out_features: int | None,
        *,
        class_token: bool = False,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        check_image_shape("shape", shape)
        check_sizes(patch=patch)
        height, width, channels = shape
        if height % patch or width % patch:
            raise InputError(f"{patch=} does not divide images of {height} x {width} pixels")
        self.shape, self.patch = tuple(shape), patch
        length = height * width // patch**2 + class_token
        pool = "first" if class_token else "mean"
        options = {"positions": "learned", "pool": pool, "max_length": length, "class_token": class_token} | options
        sizes = patch**2 * channels, features, num_layers, num_heads, out_features
        self.transformer = Transformer(*sizes, **options, rngs=rngs)

    def __call__(self, inputs: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs; ``rngs`` is what dropout draws from."""
        if inputs.shape[1:] != self.shape:
            raise InputError(f"ViT(shape={self.shape}) got inputs of shape {inputs.shape}, the first axis the batch")
        return self.transformer(patches(inputs, self.patch), rngs=rngs)


def patches(images: jax.Array, size: int) -> jax.Array:
    """Return the patches of images, row by row, [B, H, W, C] -> [B, H / size * W / size, size * size * C]."""
    batch, height, width, channels = images.shape
    x = images.reshape(batch, height // size, size, width // size, size, channels)
    return x.swapaxes(2, 3).reshape(batch, -1, size * size * channels)
