"""A model of sound: samples to a log-mel spectrogram, convolutions over it, an encoder over time, and an output.

What fills up short recordings makes no difference to what comes out, nor to batch statistics.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.errors import InputError, check_number, check_whole, check_widths
from jaxnets.models.blocks import check_sizes
from jaxnets.models.sequences import pooled
from jaxnets.nn import GRU, Cell, Conv, Recurrent, dropout_layer, max_pool
from jaxnets.nn.spectrogram import log_mel, mel_filters

Pool = Literal["pool"]
_NEVER = -1e4  # a logit beside which 0 is certain
_MASKS = 2  # of SpecAugment, along each axis


class Listener(nnx.Module):
    """Samples to classes, [B, N] -> [B, out_features], or to classes for each frame, [B, T, out_features].

    Frames that only fill up are certain of class 0, CTC's blank: neither that loss nor a decoder sees them.

    Args:
        out_features: classes.
        rate: samples a second.
        encoder: ``encoder(in_features, dtype=..., rngs=...)`` makes what goes over time, such as ``TimeConvs``,
            ``BothWays`` or ``Conformer``: called with features [B, T, D], a mask [B, T] and ``rngs``, it returns
            [B, T, its ``out_features``].
        features: channels of each 3x3 convolution over the spectrogram, and "pool" for a 2x2 max-pooling.
        framewise: an output for each frame, else one for the whole: of the mean and the largest over the frames.
        frame: seconds of a frame of the spectrogram.
        hop: seconds from one frame to the next.
        num_mels: bands.
        dynamic_range: decibels below an example's loudest band that are still told apart; all if absent.
        masked_time: the longest stretch that SpecAugment blanks in training, as a share of the whole.
        masked_bands: the most bands that it blanks.
        dropout: probability that a number of the encoder's outputs is dropped in training.
        padding: the sample that fills up short recordings, at their end; whole numbers are of 16 bits.
        dtype: of the computation; parameters, spectrogram and statistics stay float32.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        out_features: int,
        rate: int,
        encoder: Callable[..., Any],
        features: Sequence[int | Pool] = (32, "pool", 64, "pool"),
        *,
        framewise: bool = False,
        frame: float = 0.032,
        hop: float = 0.01,
        num_mels: int = 40,
        dynamic_range: float | None = None,
        masked_time: float = 0.0,
        masked_bands: int = 0,
        dropout: float = 0.0,
        padding: int | None = None,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        check_sizes(out_features=out_features, rate=rate, num_mels=num_mels)
        check_widths("features", [width for width in features if width != "pool"])
        self.features, self.framewise, self.padding, self.dtype = tuple(features), framewise, padding, dtype
        self.fft, self.hop = round(frame * rate), round(hop * rate)
        if not 1 <= self.hop <= self.fft:
            raise InputError(f"{frame=} and {hop=} are {self.fft} and {self.hop} samples; a hop is 1 to a frame")
        self.stride = 2 ** self.features.count("pool")  # frames of the spectrogram in one of the output
        if num_mels < self.stride:
            raise InputError(f"{num_mels=} bands are halved to nothing by features={self.features}; pool less")
        if dynamic_range is not None:
            check_number("dynamic_range", dynamic_range, 0, 1e3, "decibels, more than 0, such as 40", low_too=False)
        self.rate, self.num_mels, self.dynamic_range = rate, num_mels, dynamic_range
        mel_filters(rate, self.fft, num_mels)  # to know early that there are such
        self.blank = SpecAugment(masked_time, masked_bands)
        self.convs = nnx.List()
        channels = 1
        for width in features:
            if width != "pool":
                self.convs.append(FrameConv(channels, width, (3, 3), dtype=dtype, rngs=rngs))
                channels = width
        self.encoder = encoder(channels * (num_mels // self.stride), dtype=dtype, rngs=rngs)
        self.dropout = dropout_layer(dropout)
        width = self.encoder.out_features * (1 if framewise else 2)
        self.out = nnx.Linear(width, out_features, dtype=dtype, rngs=rngs)

    def check(self, inputs: np.ndarray) -> None:
        """Check on the host that recordings are rows of samples, and long enough.

        Raises:
            InputError: if they are not.
        """
        if inputs.ndim != 2:
            raise InputError(f"inputs of shape {inputs.shape} are no recordings; give samples [N, L]")
        lengths = np.full(len(inputs), inputs.shape[1]) if self.padding is None else (inputs != self.padding).sum(1)
        if lengths.min() < (least := self.hop * self.stride):
            raise InputError(
                f"row {int(lengths.argmin())} is {lengths.min()} samples long ({lengths.min() / self.rate:.3f} s); "
                f"give {least} or more"
            )

    def __call__(self, inputs: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs; ``rngs`` is what SpecAugment and dropout draw from."""
        x, mask = self._bands(inputs)
        x, convs = self.blank(x, mask, rngs)[..., None], iter(self.convs)  # [B, T, M, 1]
        x = x if self.dtype is None else x.astype(self.dtype)
        for width in self.features:
            x, mask = (max_pool(x, (2, 2)), mask[:, 1::2]) if width == "pool" else (next(convs)(x, mask), mask)
        x = self.encoder(x.reshape(*x.shape[:2], -1), mask, rngs=rngs)
        if not self.framewise:
            both = jnp.concatenate([pooled(x, mask, "mean"), pooled(x, mask, "max")], -1)
            return self.out(self.dropout(both, rngs=rngs))
        logits = self.out(self.dropout(x, rngs=rngs))
        certain = jnp.where(jnp.arange(logits.shape[-1]) == 0, 0.0, _NEVER).astype(logits.dtype)
        return jnp.where(mask[..., None], logits, certain.reshape(1, 1, -1))

    def _bands(self, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return log-mel bands [B, T, M] of mean 0 and deviation 1 in each example, and which frames count, [B, T]."""
        real = jnp.ones(inputs.shape, bool) if self.padding is None else inputs != self.padding
        whole = jnp.issubdtype(inputs.dtype, jnp.integer)
        samples = inputs.astype(jnp.float32) * (2.0**-15 if whole else 1.0)
        filters = mel_filters(self.rate, self.fft, self.num_mels)
        mask = real[:, :: self.hop]
        bands = log_mel(jnp.where(real, samples, 0.0), filters, self.fft, self.hop)[:, : mask.shape[1]]
        counts = mask[..., None]
        if self.dynamic_range is not None:
            loudest = jnp.where(counts, bands, -jnp.inf).max((1, 2), keepdims=True)
            bands = jnp.maximum(bands, loudest - self.dynamic_range / 10)
        number = self.num_mels * jnp.maximum(mask.sum(1), 1).astype(jnp.float32)
        number = number[:, None, None]
        centred = bands - jnp.where(counts, bands, 0.0).sum((1, 2), keepdims=True) / number
        variance = jnp.where(counts, jnp.square(centred), 0.0).sum((1, 2), keepdims=True) / number
        return jnp.where(counts, centred / jnp.sqrt(variance + 1e-5), 0.0), mask


class SpecAugment(nnx.Module):
    """Blanks two stretches of time and two of bands in training, of random lengths (Park et al., 2019), [B, T, M].

    Args:
        time: the longest stretch, as a share of the frames that count.
        bands: the most bands.
    """

    def __init__(self, time: float, bands: int):
        check_number("masked_time", time, 0, 1, "a share in [0, 1)")
        check_whole("masked_bands", bands, 0)
        self.time, self.bands, self.deterministic = time, bands, True

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the spectrogram with zeros where it is blanked."""
        if self.deterministic or rngs is None:
            return x
        frames = mask.sum(1).astype(jnp.float32)
        if self.time:
            blanked = _stretches(rngs.dropout(), frames, self.time * frames, x.shape[1])
            x = jnp.where(blanked[:, :, None], 0.0, x)
        if self.bands:
            size = jnp.full(frames.shape, x.shape[2], jnp.float32)
            blanked = _stretches(rngs.dropout(), size, jnp.full(frames.shape, float(self.bands)), x.shape[2])
            x = jnp.where(blanked[:, None, :], 0.0, x)
        return x


def _stretches(key: jax.Array, size: jax.Array, most: jax.Array, number: int) -> jax.Array:
    """Return which elements lie in random stretches of up to ``most`` [B] of the first ``size`` [B], [B, number]."""
    width, start = jax.random.uniform(key, (2, size.shape[0], _MASKS))
    width = jnp.round(width * most[:, None])
    start = jnp.round(start * jnp.maximum(size[:, None] - width, 0.0))
    at = jnp.arange(number, dtype=jnp.float32)[None, :, None]
    return ((at >= start[:, None]) & (at < (start + width)[:, None])).any(-1)


class FrameConv(nnx.Module):
    """A convolution, batch normalisation and ReLU of what counts alone, [B, T, ..., C] -> [B, T, ..., features].

    Args:
        in_features: channels of the inputs.
        features: channels of the outputs.
        kernel: its size along each axis; the inputs keep theirs.
        dtype: of the computation.
        rngs: where initial values come from.
    """

    def __init__(self, in_features: int, features: int, kernel: Sequence[int], *, dtype: Any = None, rngs: nnx.Rngs):
        options = {"use_bias": False, "kernel_init": nnx.initializers.he_normal(), "dtype": dtype, "rngs": rngs}
        self.conv = Conv(in_features, features, tuple(kernel), **options)
        self.norm = nnx.BatchNorm(features, momentum=0.9, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """Return the activations, 0 where ``mask`` [B, T] is."""
        counts = mask.reshape(*mask.shape, *(1,) * (x.ndim - 2))
        x = self.norm(self.conv(jnp.where(counts, x, 0)), mask=counts)
        return jnp.where(counts, nnx.relu(x), 0)


class TimeConvs(nnx.Module):
    """Convolutions over time, [B, T, D] -> [B, T, out_features].

    Args:
        in_features: D.
        widths: of each convolution.
        kernel: frames that each sees.
        dtype: of the computation.
        rngs: where initial values come from.
    """

    def __init__(self, in_features: int, widths: Sequence[int], *, kernel: int = 5, dtype: Any = None, rngs: nnx.Rngs):
        check_widths("widths", widths)
        sizes = [in_features, *widths]
        pairs = itertools.pairwise(sizes)
        self.layers = nnx.List([FrameConv(a, b, (kernel,), dtype=dtype, rngs=rngs) for a, b in pairs])
        self.out_features = sizes[-1]

    def __call__(self, x: jax.Array, mask: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the activations."""
        for layer in self.layers:
            x = layer(x, mask)
        return x


class BothWays(nnx.Module):
    """Recurrent layers in both directions, [B, T, D] -> [B, T, out_features].

    Args:
        in_features: D.
        widths: of each layer's directions.
        cell: of the layers.
        dropout: probability that a number of a layer's inputs is dropped in training.
        dtype: of the matrix products.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        in_features: int,
        widths: Sequence[int],
        *,
        cell: Cell = GRU,
        dropout: float = 0.0,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        check_widths("widths", widths)
        self.layers, width = nnx.List(), in_features
        for features in widths:
            options = {"dtype": dtype, "rngs": rngs}
            self.layers.append(
                nnx.List([Recurrent(cell, width, features, reverse=r, **options) for r in (False, True)])
            )
            width = 2 * features
        self.dropout, self.out_features = dropout_layer(dropout), width

    def __call__(self, x: jax.Array, mask: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Return the outputs of both directions side by side."""
        for directions in self.layers:
            x = self.dropout(x, rngs=rngs)
            x = jnp.concatenate([layer(x, mask=mask)[0] for layer in directions], -1)
        return x
