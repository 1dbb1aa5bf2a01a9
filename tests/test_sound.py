"""Files of sound, and spectrograms beside the formulas of others, written anew in NumPy's float64."""

import struct
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import quick, wav

from jaxnets.data.sound import as_stored, clipped, decode_sound, read_sound, resampled
from jaxnets.errors import InputError
from jaxnets.nn.spectrogram import log_mel, mel_filters, power_spectrogram, whisper_log_mel

TONE = np.sin(2 * np.pi * 440 * np.arange(4000) / 8000) * 0.5


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_files_of_whole_numbers(width, channels):
    samples = np.stack([TONE, -0.3 * TONE][:channels], 1)
    found = as_stored("a.wav", wav(samples, width, 11_025))
    assert found.rate == 11_025 and found.samples.dtype == np.float32
    np.testing.assert_allclose(found.samples, samples, atol=2.0 ** (2 - 8 * width) + 1e-7)
    mixed = decode_sound("a.wav", wav(samples, width), 8000)
    np.testing.assert_allclose(mixed, samples.mean(1), atol=2.0 ** (2 - 8 * width) + 1e-7)


def test_samples_are_stored_to_the_bit():
    numbers = np.array([0, 1, -1, 32767, -32768, 12345], np.int64)
    found = as_stored("a.wav", wav(numbers / 32767.0 * (1 + 0 * numbers))).samples[:, 0]
    assert (found[:4] * 32768 == [0, 1, -1, 32767]).all()


def test_other_formats_by_soundfile(tmp_path):
    soundfile = pytest.importorskip("soundfile", reason="needs soundfile: pip install -e '.[sound]'")
    for name, options in {"a.flac": {}, "a.wav": {"subtype": "FLOAT"}, "b.wav": {"subtype": "PCM_16"}}.items():
        soundfile.write(tmp_path / name, TONE, 8000, **options)
        np.testing.assert_allclose(read_sound(tmp_path / name, 8000), TONE, atol=4e-5)
    for name in ("a.mp3", "a.ogg"):
        soundfile.write(tmp_path / name, np.tile(TONE, 4), 16_000)
        found = read_sound(tmp_path / name, 8000)
        assert abs(len(found) - 8000) < 700 and 0.4 < np.abs(found[2000:6000]).max() < 0.6
    soundfile.write(tmp_path / "a.aiff", TONE, 8000)
    with pytest.raises(InputError, match="format AIFF"):
        read_sound(tmp_path / "a.aiff", 8000)


def test_without_soundfile_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(InputError, match=r"without soundfile; pip install 'jaxnets\[sound\]'"):
        decode_sound("a.flac", b"fLaC" + bytes(100), 8000)


BROKEN = {
    "cut off": (wav(TONE)[:-1000], "cut off: its header says 4,000 samples, and 3,500"),
    "no samples": (wav(TONE[:0]), "holds no samples"),
    "silent": (wav(TONE * 0), "is silent"),
    "channels that cancel": (wav(np.stack([TONE, -TONE], 1)), "silent once its channels, which cancel"),
    "a rate of 1": (wav(TONE, rate=1), "1 samples a second; from 1,000"),
    "a header alone": (wav(TONE)[:20], "cannot be read as sound"),
    "a width of 40 bits": (
        wav(TONE)[:32] + struct.pack("<HH", 5, 40) + wav(TONE)[36:],
        "cannot be read as sound|cut off",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_bad_files_are_named(fault):
    content, message = BROKEN[fault]
    with pytest.raises(InputError, match=f"^a.wav: .*({message})"):
        decode_sound("a.wav", content, 8000)


def test_files_that_are_not_there(tmp_path):
    for path, message in {tmp_path / "a.wav": "no such file", tmp_path: "cannot be read"}.items():
        with pytest.raises(InputError, match=message):
            read_sound(path, 8000)


def test_clipping_is_seen():
    assert not clipped(TONE)
    assert clipped(np.clip(4 * TONE, -1, 1))


@pytest.mark.parametrize(("rate", "to"), [(8000, 16_000), (44_100, 16_000), (11_025, 8000), (48_000, 8000)])
def test_a_tone_stays_a_tone_at_another_rate(rate, to):
    def tone(rate):
        return np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate).astype(np.float32)

    found = resampled(tone(rate), rate, to)
    assert found.dtype == np.float32 and len(found) == -(-(rate // 2) * to // rate)
    inside = slice(to // 20, -to // 20)
    np.testing.assert_allclose(found[inside], tone(to)[: len(found)][inside], atol=2e-3)


def slaney(rate, fft, num_mels, low, high):
    """Return the filters by Slaney's Auditory Toolbox, one weight at a time."""

    def hertz(mel):
        return 200 / 3 * mel if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    def mel(hertz):
        return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)

    edges = [hertz(m) for m in np.linspace(mel(low), mel(high), num_mels + 2)]
    weights = np.zeros((num_mels, 1 + fft // 2))
    for band, (left, middle, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for k in range(1 + fft // 2):
            f = k * rate / fft
            height = (f - left) / (middle - left) if f <= middle else (right - f) / (right - middle)
            weights[band, k] = max(0.0, height) * 2 / (right - left)
    return weights


BANDS = [(16_000, 400, 80, 0.0, 8000.0), (8000, 256, 40, 60.0, 3800.0), (22_050, 2048, 128, 0.0, 11_025.0)]


@pytest.mark.parametrize(("rate", "fft", "num_mels", "low", "high"), BANDS)
def test_filters_are_slaneys_and_librosas(rate, fft, num_mels, low, high):
    found = mel_filters(rate, fft, num_mels, low, high)
    np.testing.assert_allclose(found, slaney(rate, fft, num_mels, low, high), atol=1e-7)
    try:
        import librosa
    except ImportError:
        return
    wanted = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=num_mels, fmin=low, fmax=high)
    np.testing.assert_allclose(found, wanted, atol=1e-7, rtol=1e-5)


def test_bands_outside_of_the_spectrum_are_refused():
    for options, message in (
        ({"high": 4100.0}, "half the rate .4000. or less"),
        ({"low": 4000.0}, "below high=4000"),
        ({"num_mels": 300}, "lies between two frequencies"),
    ):
        with pytest.raises(InputError, match=message):
            mel_filters(**{"rate": 8000, "fft": 256, "num_mels": 40} | options)


def powers(samples, fft, hop, mode):
    """Return the spectrogram by the transform's sum, frame by frame."""
    around = np.pad(samples.astype(np.float64), fft // 2, mode=mode)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft) / fft)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(fft), np.arange(1 + fft // 2)) / fft)
    starts = range(0, len(samples) - len(samples) % hop + 1, hop)
    return np.abs(np.stack([around[start : start + fft] * window for start in starts]) @ waves) ** 2


@pytest.mark.parametrize("edges", ["constant", "reflect"])
@pytest.mark.parametrize("sizes", quick([(999, 64, 20), (1600, 400, 160), (999, 64, 64), (500, 33, 7)]))
def test_spectrograms_are_those_of_the_sum(sizes, edges):
    length, fft, hop = sizes
    samples = np.random.default_rng(0).normal(size=(2, length)).astype(np.float32)
    found = np.asarray(jax.jit(partial(power_spectrogram, fft=fft, hop=hop, edges=edges))(samples))
    wanted = np.stack([powers(row, fft, hop, edges) for row in samples])
    np.testing.assert_allclose(found, wanted, atol=1e-5 * wanted.max())
    if fft % 2 == 0 and edges == "reflect":
        torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
        theirs = torch.stft(torch.tensor(samples), fft, hop, window=torch.hann_window(fft), return_complex=True)
        np.testing.assert_allclose(found, theirs.abs().pow(2).swapaxes(1, 2).numpy(), atol=1e-5 * wanted.max())


def test_padding_with_zeros_changes_no_frame():
    samples = np.random.default_rng(0).normal(size=800).astype(np.float32)
    filters = mel_filters(8000, 256, 40)
    bands = jax.jit(lambda samples: log_mel(samples, filters, 256, 80))
    alone = bands(samples)
    padded = bands(np.pad(samples, (0, 777)))[: len(alone)]
    np.testing.assert_allclose(alone, padded, atol=1e-6)


def test_whispers_features():
    """By the formulas of its own ``log_mel_spectrogram``, in float64."""
    draw = np.random.default_rng(0)
    samples = (0.1 * draw.normal(size=16_000) * np.linspace(0, 1, 16_000)).astype(np.float32)
    samples = np.concatenate([samples, np.zeros(8000, np.float32)])
    both = np.stack([samples, samples * 0.01])
    found = jax.jit(whisper_log_mel)(jnp.asarray(both))
    assert found.shape == (2, 150, 80)
    for bands, row in zip(found, both, strict=True):
        mels = slaney(16_000, 400, 80, 0, 8000) @ powers(row, 400, 160, "reflect")[:-1].T
        logs = np.log10(np.maximum(mels, 1e-10))
        np.testing.assert_allclose(bands.T, (np.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0, atol=1e-4)


def test_too_few_samples_to_be_mirrored():
    with pytest.raises(InputError, match="100 samples are too few for frames of 256"):
        power_spectrogram(jnp.zeros(100), 256, 80, "reflect")
