"""Spectrograms of sound inside a network: short-time Fourier transform, mel bands and their logarithm.

The filters are Slaney's, as librosa has them by default and Whisper ships them; a test holds both to 1e-5.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.errors import InputError, check_number, check_whole

Edges = Literal["constant", "reflect"]
_LINEAR = 200.0 / 3  # Hz a mel below 1 kHz
_BEND, _STEP = 1000.0, math.log(6.4) / 27.0  # above it, mels are logarithmic
_LEAST = 1e-10  # power below which a band counts as silent
_WHISPER = {"rate": 16_000, "fft": 400, "hop": 160}


def mel_filters(rate: int, fft: int, num_mels: int, low: float = 0.0, high: float | None = None) -> np.ndarray:
    """Return the weight of each frequency in each mel band, [num_mels, 1 + fft // 2] float32.

    Bands are triangles that overlap by half, evenly spaced in mels (Slaney, 1998: linear below 1 kHz, logarithmic
    above), each of area 1 in Hz.

    Args:
        rate: samples a second.
        fft: samples of a frame.
        num_mels: bands.
        low: where the first begins, in Hz.
        high: where the last ends, in Hz; half the rate if absent.

    Raises:
        InputError: if the bands are not inside 0 to half the rate, or one lies between two frequencies.
    """
    for name, value in {"rate": rate, "fft": fft, "num_mels": num_mels}.items():
        check_whole(name, value)
    high = rate / 2 if high is None else high
    check_number(
        "high", high, 0, rate / 2 + 1e-6, f"above 0 Hz, and half the rate ({rate / 2:g}) or less", low_too=False
    )
    check_number("low", low, 0, high, f"in Hz, 0 or more and below high={high:g}")
    frequencies = np.linspace(0.0, rate / 2, 1 + fft // 2)
    edges = _hertz(np.linspace(_mels(low), _mels(high), num_mels + 2))
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    weights = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    if (empty := (weights == 0).all(1)).any():
        raise InputError(
            f"num_mels={num_mels} of fft={fft}: band {int(np.argmax(empty))} lies between two frequencies of the "
            "transform; use fewer bands, or a longer fft"
        )
    return weights.astype(np.float32)


def power_spectrogram(samples: jax.Array, fft: int, hop: int, edges: Edges = "constant") -> jax.Array:
    """Return the power of each frequency in each frame, [..., N] -> [..., 1 + N // hop, 1 + fft // 2], float32.

    Frame t is around sample t * hop, in a periodic Hann window: as ``librosa.stft`` and ``torch.stft(center=True)``.

    Args:
        samples: numbers.
        fft: samples of a frame.
        hop: samples from one frame to the next.
        edges: what stands before and behind the samples: zeros ("constant", librosa's default: padding with zeros then
            changes no frame) or their mirror image ("reflect", PyTorch's and Whisper's).

    Raises:
        InputError: if there are too few samples to be mirrored.
    """
    check_whole("fft", fft)
    check_whole("hop", hop, 1, fft, remedy="at most the frame's length")
    num_frames, half = 1 + samples.shape[-1] // hop, fft // 2
    if edges == "reflect" and samples.shape[-1] <= half:
        raise InputError(
            f"{samples.shape[-1]} samples are too few for frames of {fft}, mirrored at the edges; pad them"
        )
    parts = -(-fft // hop)  # pieces of length hop in a frame
    sides = [(0, 0)] * (samples.ndim - 1)
    around = jnp.pad(samples.astype(jnp.float32), [*sides, (half, half)], mode=edges)
    short = (num_frames + parts - 1) * hop - around.shape[-1]
    around = jnp.pad(around, [*sides, (0, max(0, short))])[..., : (num_frames + parts - 1) * hop]
    pieces = around.reshape(*around.shape[:-1], -1, hop)
    frames = jnp.concatenate([pieces[..., i : i + num_frames, :] for i in range(parts)], -1)[..., :fft]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft) / fft)
    found = jnp.fft.rfft(frames * window.astype(np.float32).reshape((1,) * (frames.ndim - 1) + (-1,)))
    return jnp.square(found.real) + jnp.square(found.imag)


def log_mel(samples: jax.Array, filters: np.ndarray, fft: int, hop: int, edges: Edges = "constant") -> jax.Array:
    """Return the base-10 logarithm of each mel band's power, at least -10, [..., N] -> [..., 1 + N // hop, num_mels].

    Args:
        samples: numbers from -1 to 1.
        filters: ``mel_filters`` for frames of ``fft``.
        fft: samples of a frame.
        hop: samples from one frame to the next.
        edges: as ``power_spectrogram`` takes it.
    """
    power = power_spectrogram(samples, fft, hop, edges)
    return jnp.log10(jnp.maximum(jnp.matmul(power, filters.T, precision="highest"), _LEAST))


def whisper_log_mel(samples: jax.Array, num_mels: int = 80) -> jax.Array:
    """Return what Whisper hears (Radford et al., 2022), [..., N] at 16 kHz -> [..., N // 160, num_mels].

    Log-mel bands, none more than 8 (80 dB) below the loudest of its own example, brought to about -1 to 1. Whisper pads
    samples with zeros to 30 s first.
    """
    filters = mel_filters(_WHISPER["rate"], _WHISPER["fft"], num_mels)
    bands = log_mel(samples, filters, _WHISPER["fft"], _WHISPER["hop"], "reflect")[..., :-1, :]
    return whisper_scaled(bands)


def whisper_scaled(bands: jax.Array) -> jax.Array:
    """Return log-mel bands [..., T, num_mels] as Whisper hears them, the loudest of each example known."""
    return (jnp.maximum(bands, bands.max((-2, -1), keepdims=True) - 8.0) + 4.0) / 4.0


def _mels(hertz: float) -> float:
    return hertz / _LINEAR if hertz < _BEND else _BEND / _LINEAR + math.log(hertz / _BEND) / _STEP


def _hertz(mels: np.ndarray) -> np.ndarray:
    above = _BEND * np.exp(_STEP * (mels - _BEND / _LINEAR))
    return np.where(mels < _BEND / _LINEAR, mels * _LINEAR, above)
