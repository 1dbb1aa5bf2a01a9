"""Sound: WAV, FLAC, MP3 and Ogg files as numbers from -1 to 1, one channel, at the rate that is asked for."""

import importlib
import io
import math
import wave
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data.unpacking import BROKEN, check_unpacked
from jaxnets.errors import InputError, check_whole

SOUNDS = {".wav", ".flac", ".mp3", ".ogg"}
_FORMATS = {"WAV", "WAVEX", "RF64", "FLAC", "MP3", "MPEG", "OGG"}  # whatever a file's name says, no other is read
_RATES = 1_000, 1_000_000  # samples a second
_SILENT = 10 ** (-80 / 20)  # the largest sample of what nobody hears: 80 dB below full scale
_FULL = 0.999  # of full scale: what is at it, was cut off there
_MOST_CLIPPED = 0.01  # share of the samples


class Sound(NamedTuple):
    """What a file holds: samples [N, channels], float32 from -1 to 1, and how many there are a second."""

    samples: np.ndarray
    rate: int


def read_sound(path: Path, rate: int) -> np.ndarray:
    """Return what ``decode_sound`` makes of a file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return decode_sound(str(path), content, rate)


def decode_sound(name: str, content: bytes, rate: int) -> np.ndarray:
    """Return a file's sound, [N] float32 from -1 to 1: the mean of its channels, resampled to ``rate``.

    WAV files of whole numbers (8, 16, 24 or 32 bits) need nothing further; others, FLAC, MP3 and Ogg need soundfile:
    ``pip install "jaxnets[sound]"``.

    Args:
        name: of the file, for errors.
        content: its bytes.
        rate: samples a second that are wanted.

    Raises:
        InputError: if it cannot be read, is cut off, holds no samples, or is silent.
    """
    sound = as_stored(name, content)
    if not len(sound.samples):
        raise InputError(f"{name}: holds no samples; leave it out")
    mixed = sound.samples.mean(1, dtype=np.float32)
    if np.abs(mixed).max() < _SILENT:
        what = (
            "silent" if np.abs(sound.samples).max() < _SILENT else "silent once its channels, which cancel, are mixed"
        )
        raise InputError(f"{name}: is {what} (nothing above -80 dB of full scale); leave it out, or record it anew")
    return resampled(mixed, sound.rate, rate)


def as_stored(name: str, content: bytes) -> Sound:
    """Return a file's sound as it is stored.

    Raises:
        InputError: if it cannot be read, is cut off, or is not of numbers.
    """
    try:
        sound = _wav(name, content) if content.startswith(b"RIFF") else None
        sound = sound or _by_soundfile(name, content)
    except InputError:
        raise
    except (*BROKEN, wave.Error) as error:
        raise InputError(f"{name}: cannot be read as sound: {error or type(error).__name__}") from error
    if not _RATES[0] <= sound.rate <= _RATES[1]:
        raise InputError(f"{name}: {sound.rate:,} samples a second; from {_RATES[0]:,} to {_RATES[1]:,} are read")
    if not np.isfinite(sound.samples).all():
        raise InputError(f"{name}: holds samples that are no numbers (NaN or infinite)")
    return sound


def resampled(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Return samples [N] at another rate, ``ceil(N * to / rate)`` of them.

    SciPy's polyphase filter lets nothing pass above half of the lower rate.

    Args:
        samples: float32.
        rate: of the samples, a second.
        to: the rate that is wanted.
    """
    check_whole("rate", to, *_RATES, remedy="samples a second")
    if rate == to:
        return samples
    from scipy.signal import resample_poly  # noqa: PLC0415  (slow to import)

    common = math.gcd(rate, to)
    return np.asarray(resample_poly(samples, to // common, rate // common), np.float32)


def clipped(samples: np.ndarray) -> bool:
    """Return whether more than 1% of the samples are at full scale: a recording that was too loud."""
    return bool((np.abs(samples) >= _FULL).mean() > _MOST_CLIPPED)


def _wav(name: str, content: bytes) -> Sound | None:
    """Return the sound of a WAV file of whole numbers, None for one of another kind."""
    try:
        file = wave.open(io.BytesIO(content))  # noqa: SIM115  (closed below)
    except wave.Error as error:
        if "unknown format" in str(error):  # floats, and headers that Python before 3.12 does not read
            return None
        raise
    with file:
        width, channels, frames = file.getsampwidth(), file.getnchannels(), file.getnframes()
        raw, rate = file.readframes(frames), file.getframerate()
    if len(raw) != frames * channels * width:
        held = len(raw) // max(1, channels * width)
        raise InputError(f"{name}: is cut off: its header says {frames:,} samples, and {held:,} are there")
    if width == 1:
        numbers = np.frombuffer(raw, np.uint8).astype(np.float32) - 128.0
    elif width == 3:
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        numbers = (padded.view("<i4")[:, 0] >> 8).astype(np.float32)
    else:
        numbers = np.frombuffer(raw, f"<i{width}").astype(np.float32)
    return Sound(numbers.reshape(-1, channels) / np.float32(2 ** (8 * width - 1)), rate)


def _by_soundfile(name: str, content: bytes) -> Sound:
    try:
        soundfile: Any = importlib.import_module("soundfile")
    except (ImportError, OSError) as error:  # it is there, but not the library that it needs
        raise InputError(
            f"{name}: only WAV files of whole numbers are read without soundfile; pip install 'jaxnets[sound]', or "
            "convert it (ffmpeg -i FILE -c:a pcm_s16le FILE.wav)"
        ) from error
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        if file.format not in _FORMATS:
            raise InputError(f"{name}: a file of format {file.format}; give WAV, FLAC, MP3 or Ogg")
        check_unpacked(Path(name), len(content), 4 * file.frames * file.channels)
        return Sound(file.read(dtype="float32", always_2d=True), file.samplerate)
