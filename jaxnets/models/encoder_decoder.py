"""The encoder-decoder transformer."""

from typing import Any

from flax import nnx

from jaxnets.models.sequences import Continued, SourceTarget
from jaxnets.models.transformer import Transformer


class EncoderDecoder(nnx.Module):
    """A transformer that reads one sequence and writes another (Vaswani et al., 2017), logits [B, T, V].

    Source and target share a vocabulary, whose embedding is the output layer's too. Given ``Continued``, of a
    ``SourceTarget`` to begin with and then of tokens [B, T] of the target alone, it returns what it remembers too.

    Args:
        in_features: V, of tokens in the vocabulary.
        features: D, the width of the blocks.
        num_layers: blocks of the encoder, and of the decoder.
        num_heads: of their attention.
        max_length: the longest sequence.
        padding: the token that fills up short sequences.
        rngs: where initial values come from.
        **options: handed to both ``Transformer``.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        num_layers: int,
        num_heads: int,
        *,
        max_length: int,
        padding: int,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        options |= {"max_length": max_length, "tokens": True, "rngs": rngs}
        sizes = in_features, features, num_layers, num_heads
        self.padding = padding
        self.encoder = Transformer(*sizes, None, padding=padding, **options)
        embed = self.encoder.embed
        self.decoder = Transformer(*sizes, in_features, causal=True, cross=True, tied=True, embed=embed, **options)

    def check(self, inputs: Any) -> None:
        """Check source and target on the host."""
        self.encoder.check(inputs.source)
        self.decoder.check(inputs.target)

    def __call__(self, inputs: SourceTarget | Continued, *, rngs: nnx.Rngs | None = None) -> Any:
        """Return the logits of each next token of the target; ``rngs`` is what dropout draws from."""
        given, carry = inputs if isinstance(inputs, Continued) else (inputs, None)
        if carry is not None:
            return self.decoder(Continued(given, carry), rngs=rngs)
        memory = self.encoder(given.source, rngs=rngs)
        target = Continued(given.target) if isinstance(inputs, Continued) else given.target
        return self.decoder(target, memory, given.source != self.padding, rngs=rngs)
