"""Whisper: an encoder of sound, and a decoder that writes what was said."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.errors import InputError
from jaxnets.models.blocks import check_sizes, exact_gelu
from jaxnets.models.sequences import Continued, SourceTarget
from jaxnets.models.transformer import Transformer
from jaxnets.models.transformer_block import TransformerBlock
from jaxnets.nn import Conv
from jaxnets.nn.spectrogram import log_mel, mel_filters, whisper_scaled

RATE, HOP = 16_000, 160  # samples a second, and from one frame to the next
_FFT = 400
_MARGIN = 2 * HOP  # samples that frames at a window's edges see beyond it, and a few more
_HALVES = 2  # frames that become one position


class SoundEncoder(nnx.Module):
    """Two convolutions over time, the second with stride 2, and blocks of attention, [B, T, M] -> [B, T / 2, D].

    Args:
        num_mels: M, bands of each frame.
        features: D, the width of the blocks.
        num_layers: how many blocks.
        num_heads: of their attention.
        max_length: the most positions, half of the most frames.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
        **block_options: handed to each ``TransformerBlock``.
    """

    def __init__(
        self,
        num_mels: int,
        features: int,
        num_layers: int,
        num_heads: int,
        *,
        max_length: int,
        dtype: Any = None,
        rngs: nnx.Rngs,
        **block_options: Any,
    ):
        self.num_mels, self.max_length = num_mels, max_length
        options = {"dtype": dtype, "rngs": rngs}
        self.conv1 = Conv(num_mels, features, (3,), padding=1, **options)
        self.conv2 = Conv(features, features, (3,), strides=_HALVES, padding=1, **options)
        self.position_embedding = nnx.Param(_waves(max_length, features))
        self.blocks = nnx.List(
            TransformerBlock(features, num_heads, **options, **block_options) for _ in range(num_layers)
        )
        self.norm = nnx.LayerNorm(features, epsilon=1e-5, **options)

    def __call__(self, frames: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return a vector for each two frames; ``rngs`` is what dropout draws from."""
        if frames.ndim != 3 or frames.shape[2] != self.num_mels or frames.shape[1] > _HALVES * self.max_length:
            most = _HALVES * self.max_length
            raise InputError(f"frames of shape {frames.shape}; give [B, T, {self.num_mels}], T at most {most}")
        x = exact_gelu(self.conv2(exact_gelu(self.conv1(frames))))
        x += self.position_embedding[...].astype(x.dtype)[None, : x.shape[1]]
        for block in self.blocks:
            x, _ = block(x, rngs=rngs)
        return self.norm(x)


class Whisper(nnx.Module):
    """An encoder of log-mel frames and a decoder of tokens (Radford et al., 2022), logits [B, L, V].

    It is given a ``SourceTarget`` of frames [B, T, M] and tokens [B, L]. Given ``Continued``, of a ``SourceTarget`` to
    begin with and then of tokens alone, it returns what it remembers too, the sound among it.

    Args:
        vocabulary: V, how many tokens there are.
        features: D, the width of the blocks.
        num_layers: blocks of the encoder, and of the decoder.
        num_heads: of their attention.
        num_mels: M, bands of each frame.
        max_source: the most positions of the encoder, each of two frames.
        max_length: the longest sequence of tokens.
        decoder_layers: blocks of the decoder, if others than the encoder's.
        kernel_init: initialiser of the weights, and of the tokens' embeddings and positions.
        dtype: of the computation; parameters stay float32.
        rngs: where initial values come from.
        **block_options: handed to each ``TransformerBlock``, such as ``dropout``.
    """

    def __init__(
        self,
        vocabulary: int,
        features: int,
        num_layers: int,
        num_heads: int,
        *,
        num_mels: int = 80,
        max_source: int = 1500,
        max_length: int = 448,
        decoder_layers: int | None = None,
        kernel_init: nnx.Initializer = nnx.initializers.normal(0.02),
        dtype: Any = None,
        rngs: nnx.Rngs,
        **block_options: Any,
    ):
        check_sizes(features=features, num_layers=num_layers, num_mels=num_mels, max_source=max_source)
        options = {"activation": exact_gelu, "kernel_init": kernel_init, "dtype": dtype, "rngs": rngs} | block_options
        self.encoder = SoundEncoder(num_mels, features, num_layers, num_heads, max_length=max_source, **options)
        own = {"max_length": max_length, "tokens": True, "positions": "learned", "causal": True, "cross": True}
        sizes = vocabulary, features, decoder_layers or num_layers, num_heads, vocabulary
        self.decoder = Transformer(*sizes, tied=True, **own, **options)

    def check(self, inputs: Any) -> None:
        """Check the tokens on the host."""
        self.decoder.check(inputs.target)

    def __call__(self, inputs: SourceTarget | Continued, *, rngs: nnx.Rngs | None = None) -> Any:
        """Return the logits of each next token; ``rngs`` is what dropout draws from."""
        given, carry = inputs if isinstance(inputs, Continued) else (inputs, None)
        if carry is not None:
            return self.decoder(Continued(given, carry), rngs=rngs)
        memory = self.encoder(given.source, rngs=rngs)
        target = Continued(given.target) if isinstance(inputs, Continued) else given.target
        return self.decoder(target, memory, rngs=rngs)


def _waves(length: int, features: int) -> jax.Array:
    """Return sines, then cosines, of positions at falling frequencies, float32 [length, features]."""
    half = -(-features // 2)
    rates = jnp.exp(-math.log(10_000) / max(half - 1, 1) * jnp.arange(half, dtype=jnp.float32))
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] * rates[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], 1)[:, :features]


def sound_frames(samples: np.ndarray, window: int, num_mels: int = 80) -> np.ndarray:
    """Return what Whisper hears of a sound and of a window of silence behind it, float32 [T + window, num_mels].

    Frames are scaled by the loudest of the whole sound. They are computed a window at a time: one program serves sounds
    of all lengths, and takes no more memory for longer ones.

    Args:
        samples: from -1 to 1, [N], ``RATE`` a second; T is N / ``HOP``, rounded up.
        window: frames of a window.
        num_mels: bands of each frame.
    """
    total = -(-len(samples) // HOP)
    count, size = -(-total // window) + 1, window * HOP
    around = np.zeros(_MARGIN + count * size + _MARGIN, np.float32)
    around[_MARGIN : _MARGIN + len(samples)] = samples
    around[:_MARGIN] = around[2 * _MARGIN : _MARGIN : -1]  # mirrored
    starts = range(0, count * size, size)
    bands = [np.asarray(_bands(num_mels, around[at : at + size + 2 * _MARGIN])) for at in starts]
    return np.asarray(whisper_scaled(jnp.asarray(np.concatenate(bands))))[: total + window]


@partial(jax.jit, static_argnums=0)
def _bands(num_mels: int, samples: jax.Array) -> jax.Array:
    edge = _MARGIN // HOP
    return log_mel(samples, mel_filters(RATE, _FFT, num_mels), _FFT, HOP)[edge : -edge - 1]
