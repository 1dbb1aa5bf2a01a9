"""Voices: whether two recordings are of one person, and of whom, of people who were not trained on."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Data, Spec
from jaxnets.data.speech import PADDING
from jaxnets.inference.similarity import normalized
from jaxnets.nn.spectrogram import log_mel, mel_filters
from jaxnets.tasks.embeddings import Kind, embeddings
from jaxnets.tasks.speech import reading_sound
from jaxnets.tasks.task import NoOptions, Task

_MELS = 40
_TOGETHER = 256  # recordings
_DARK = 6.0  # powers of ten below the loudest from which on a picture is black


def voices(spec: Spec, rate: int) -> Task:
    """Return the task of embeddings of recordings [N, L] int16, beside mean spectra and an LDA of them.

    Args:
        spec: of the training data.
        rate: samples a second.
    """

    def plain(train: Data, test: Data) -> dict[str, np.ndarray]:
        return _plain(mean_spectra(train["inputs"], rate), train["labels"], mean_spectra(test["inputs"], rate))

    def pictures(inputs: np.ndarray) -> np.ndarray:
        bands, masks = (np.concatenate(parts) for parts in zip(*_blocks(inputs, rate), strict=True))
        dark = np.clip(1 + (bands - bands.max((1, 2), keepdims=True)) / _DARK, 0, 1)
        shown = np.where(masks[..., None], dark, 1.0).swapaxes(1, 2)[:, ::-1, :, None]  # what fills up is white
        return shown.repeat(2, 1)  # [N, 2M, T, 1]

    return embeddings(spec, Kind(reading_sound(rate), NoOptions(), plain, pictures))


def mean_spectra(inputs: np.ndarray, rate: int) -> np.ndarray:
    """Return the mean log-mel spectrum of each recording [N, L], its own mean over the bands taken off, [N, 40]."""
    means = []
    for bands, mask in _blocks(inputs, rate):
        weights = mask[..., None] / np.maximum(mask.sum(1), 1)[:, None, None]
        means.append((bands * weights).sum(1))
    found = np.concatenate(means)
    return found - found.mean(1, keepdims=True)  # how loud it was is not whose it is


def _plain(train: np.ndarray, labels: np.ndarray, new: np.ndarray) -> dict[str, np.ndarray]:
    """Return embeddings by the spectra, standardised, and by a linear discriminant analysis (Fisher, 1936) of them."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # noqa: PLC0415  (slow to import)

    mean, scale = train.mean(0), np.maximum(train.std(0), 1e-6)
    train, new = ((rows - mean) / scale for rows in (train, new))
    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(train, labels)
    return {"mean spectra": normalized(new), "LDA of mean spectra": normalized(analysis.transform(new))}


def _blocks(inputs: np.ndarray, rate: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield log-mel bands [B, T, 40] of some recordings after others, and which frames count, [B, T]."""
    fft, hop = rate // 32, rate // 100
    filters = mel_filters(rate, fft, _MELS)
    made = jax.jit(lambda samples: log_mel(samples, filters, fft, hop))
    for start in range(0, len(inputs), _TOGETHER):
        rows = inputs[start : start + _TOGETHER]
        real = rows != PADDING
        mask = real[:, ::hop]
        bands = np.asarray(made(jnp.asarray(np.where(real, rows / 2.0**15, 0), jnp.float32)))
        yield bands[:, : mask.shape[1]].astype(np.float64), mask
