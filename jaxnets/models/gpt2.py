"""GPT-2: a transformer that continues a text."""

from typing import Any

from flax import nnx

from jaxnets.models.transformer import Transformer


def gpt2(
    vocabulary: int,
    features: int,
    num_layers: int,
    num_heads: int,
    *,
    max_length: int = 1024,
    rngs: nnx.Rngs,
    **options: Any,
) -> Transformer:
    """Return GPT-2 (Radford et al., 2019), tokens [B, T] -> logits of each next token, [B, T, V].

    Args:
        vocabulary: V, how many tokens there are.
        features: D, the width of the blocks.
        num_layers: how many blocks.
        num_heads: of their attention.
        max_length: the longest sequence.
        rngs: where initial values come from.
        **options: handed to the ``Transformer`` in place of GPT-2's own: ``tied=False, out_features=None`` for
            [B, T, D].
    """
    own = {"tokens": True, "positions": "learned", "causal": True, "tied": True, "out_features": vocabulary}
    own |= {"norm_epsilon": 1e-5, "activation": nnx.gelu, "dropout": 0.1, "attention_dropout": 0.1}
    own |= {"max_length": max_length, "kernel_init": nnx.initializers.normal(0.02)}
    return Transformer(vocabulary, features, num_layers, num_heads, **own | options, rngs=rngs)
