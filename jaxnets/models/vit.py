"""The vision transformer, of whole images or of some of their patches."""

from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxnets.errors import InputError
from jaxnets.models.blocks import check_image_shape, check_sizes
from jaxnets.models.transformer import Transformer
from jaxnets.nn import depth_to_space, space_to_depth


class Visible(NamedTuple):
    """Images of which only some patches are seen.

    Attributes:
        images: [B, H, W, C].
        chosen: which of the N patches each of the K that are seen is, one-hot, [B, K, N].
    """

    images: jax.Array
    chosen: jax.Array


class ViT(nnx.Module):
    """A vision transformer (Dosovitskiy et al., 2021) over an image's patches, [B, H, W, C] -> [B, out_features].

    Given ``Visible(images, chosen)``, it returns what the blocks make of the patches that are seen, [B, K, D].

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

    def __call__(self, inputs: jax.Array | Visible, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs; ``rngs`` is what dropout draws from."""
        images = inputs.images if isinstance(inputs, Visible) else inputs
        if images.shape[1:] != self.shape:
            raise InputError(f"ViT(shape={self.shape}) got inputs of shape {images.shape}, the first axis the batch")
        if isinstance(inputs, Visible):
            return self._seen(patches(images, self.patch), inputs.chosen, rngs)
        return self.transformer(patches(images, self.patch), rngs=rngs)

    def _seen(self, every: jax.Array, chosen: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """Return what the blocks make of some patches, which know where they are in the image."""
        transformer = self.transformer
        if transformer.position_embedding is None or transformer.class_embedding is not None:
            raise InputError("patches that are seen need positions='learned', and no class token")
        places = transformer.position_embedding[...]
        x = transformer.embed(chosen @ every.astype(chosen.dtype))
        x = transformer.dropout(x + (chosen @ places).astype(x.dtype), rngs=rngs)  # [B, K, D]
        for block in transformer.blocks:
            x, _ = block(x, rngs=rngs)
        return x if transformer.norm is None else transformer.norm(x)


def patches(images: jax.Array, size: int) -> jax.Array:
    """Return the patches of images, row by row, [B, H, W, C] -> [B, H / size * W / size, size * size * C]."""
    return space_to_depth(images, size).reshape(len(images), -1, size * size * images.shape[-1])


def unpatched(values: jax.Array, shape: tuple[int, ...], size: int) -> jax.Array:
    """Return the images [B, *shape] whose patches these are, [B, N, size * size * C]: the inverse of ``patches``."""
    height, width, _ = shape
    return depth_to_space(values.reshape(len(values), height // size, width // size, -1), size)
