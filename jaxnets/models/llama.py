"""Llama, and the many decoders that are made as it is: Mistral's, SmolLM's."""

from typing import Any

from flax import nnx

from jaxnets.models.transformer import Transformer


def llama(
    vocabulary: int,
    features: int,
    num_layers: int,
    num_heads: int,
    *,
    hidden: int,
    num_kv_heads: int | None = None,
    max_length: int = 2048,
    rngs: nnx.Rngs,
    **options: Any,
) -> Transformer:
    """Return a decoder as Llama is (Touvron et al., 2023), tokens [B, T] -> logits of each next token, [B, T, V].

    Args:
        vocabulary: V, how many tokens there are.
        features: D, the width of the blocks.
        num_layers: how many blocks.
        num_heads: of their attention.
        hidden: width of the gated feed-forward networks.
        num_kv_heads: heads of keys and values, which those of queries share; ``num_heads`` if absent.
        max_length: the longest sequence, for which the cache has room; no weight depends on it.
        rngs: where initial values come from.
        **options: handed to the ``Transformer`` in place of Llama's own: ``tied=True`` for one table of tokens before
            and after, ``rope_theta`` for the base of the angles.
    """
    own = {"tokens": True, "positions": "rotary", "causal": True, "out_features": vocabulary, "use_bias": False}
    own |= {"norm": "rms", "norm_epsilon": 1e-5, "activation": nnx.silu, "gated": True, "hidden": hidden}
    own |= {"num_kv_heads": num_kv_heads, "max_length": max_length, "kernel_init": nnx.initializers.normal(0.02)}
    return Transformer(vocabulary, features, num_layers, num_heads, **own | options, rngs=rngs)
