"""BERT: a transformer that reads a text both ways."""

from typing import Any

from flax import nnx

from jaxnets.models.blocks import exact_gelu
from jaxnets.models.transformer import Transformer


def bert(
    vocabulary: int,
    features: int,
    num_layers: int,
    num_heads: int,
    out_features: int | None = None,
    *,
    max_length: int = 512,
    padding: int = 0,
    rngs: nnx.Rngs,
    **options: Any,
) -> Transformer:
    """Return BERT (Devlin et al., 2019) over tokens [B, T] or ``Segmented``, -> [B, out_features].

    Args:
        vocabulary: how many tokens there are.
        features: D, the width of the blocks.
        num_layers: how many blocks.
        num_heads: of their attention.
        out_features: classes; None for D numbers of the first token, [B, D], as the pooler has them.
        max_length: the longest sequence.
        padding: the token that fills up short sequences.
        rngs: where initial values come from.
        **options: handed to the ``Transformer`` in place of BERT's own: ``pool=None, pooler=False`` for all elements,
            [B, T, D], ``pool="mean", pooler=False`` for their mean, an embedding of the sentence.
    """
    own = {"tokens": True, "positions": "learned", "num_segments": 2, "embedding_norm": True, "norm_first": False}
    own |= {"norm_epsilon": 1e-12, "activation": exact_gelu, "dropout": 0.1, "attention_dropout": 0.1}
    own |= {"pool": "first", "pooler": True, "kernel_init": nnx.initializers.normal(0.02)}
    own |= {"max_length": max_length, "padding": padding}
    return Transformer(vocabulary, features, num_layers, num_heads, out_features, **own | options, rngs=rngs)
