"""Recordings of speech: where they come from, how they are joined and changed, and what a network hears of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets import data as named
from jaxnets.data import Data, augment, augment_sound, speech
from jaxnets.data.speech import Recordings
from jaxnets.errors import InputError, check_field, nearest
from jaxnets.learner import Learner
from jaxnets.options.data import DataConfig
from jaxnets.transforms import augmented

TRANSCRIPTS = "transcripts.csv"


@dataclass(frozen=True)
class SpeechData(DataConfig):
    """Recordings with what is said in them."""

    data: str = "fsdd"
    """fsdd, a folder or zip file of WORD/FILE.wav (or train/WORD/FILE.wav, test/...), or a CSV file with the columns
    file and text (speaker, part), or a folder with such a transcripts.csv"""
    rate: int = 8000
    """samples a second that files are brought to"""
    hold_out: str | None = None
    """a speaker who is tested, and not trained on; if absent, recordings of all speakers are tested"""
    validation: float = 0.1
    """fraction of the training recordings held out to choose by; 0 for none"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "rate", 1000 <= self.rate <= 192_000, "1000 to 192000 samples a second")
        check_field(self, "validation", 0 <= self.validation < 1, "in [0, 1)")

    def load(self) -> dict[str, Recordings]:
        """Return the recordings: "train", "test" and, if there are some, "validation"."""
        files = (
            f"a folder or zip file of WORD/FILE.wav, or a CSV file of file and text (or a folder with {TRANSCRIPTS})"
        )
        path = named.find("speech", self.data, self.data_dir, files)
        return self._parts(named.load(self.data, self.data_dir, rate=self.rate) if path is None else self._read(path))

    def _read(self, path: Path) -> Recordings:
        table = path / TRANSCRIPTS
        if path.suffix.lower() == ".csv" or (path.is_dir() and table.is_file()):
            return speech.transcribed(table if path.is_dir() else path, self.rate)
        return speech.words_in_folders(path, self.rate)

    def _parts(self, found: Recordings) -> dict[str, Recordings]:
        if self.hold_out is None:
            rows = {part: [row for row, of in enumerate(found.parts) if of == part] for part in set(found.parts)}
        else:
            known = sorted(set(found.speakers) - {""})
            if self.hold_out not in known:
                told = f"they are {', '.join(known)}" if known else f"no speakers are named in {self.data}"
                raise InputError(
                    f"hold_out={self.hold_out!r} is none of the speakers{nearest(self.hold_out, known)}; {told}"
                )
            of_one = [who == self.hold_out for who in found.speakers]
            rows = {"train": np.flatnonzero(~np.array(of_one)).tolist(), "test": np.flatnonzero(of_one).tolist()}
        parts = {part: found.take(rows[part]) for part in ("train", "validation", "test") if rows.get(part)}
        if "train" not in parts:
            raise InputError(f"{self.data}: nothing is left to train on; its recordings are for {', '.join(parts)}")
        if "test" not in parts:
            parts["train"], parts["test"] = _split(parts["train"], 0.2)
        if self.validation and "validation" not in parts:
            parts["train"], parts["validation"] = _split(parts["train"], self.validation)
        return {name: part for name, part in parts.items() if name != "validation" or self.validation}


def _split(found: Recordings, share: float) -> tuple[Recordings, Recordings]:
    """Return the rest and a share of the recordings, of each text alike if each is there more than once."""
    texts, labels, counts = np.unique(found.texts, return_inverse=True, return_counts=True)
    alike: dict[str, Any] = {"labels": labels} if counts.min() > 1 and share * len(labels) >= len(texts) else {}
    rest, held_out = Data(inputs=np.arange(len(labels)), **alike).split(share)
    return found.take(rest["inputs"]), found.take(held_out["inputs"])


@dataclass(frozen=True)
class StringConfig:
    """How recordings of single words are joined into strings."""

    words_joined: tuple[int, int] = (3, 7)
    """least and most words of a string"""
    num_strings: int = 3000
    """strings to train on; a tenth as many for validation, a sixth for the test"""
    gap: float = 0.3
    """the longest gap before, between and after words, in seconds"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        good = len(self.words_joined) == 2 and 1 <= self.words_joined[0] <= self.words_joined[-1] <= 100
        check_field(self, "words_joined", good, "two whole numbers, the least first, from 1 to 100")
        check_field(self, "num_strings", 20 <= self.num_strings <= 1_000_000, "20 to 1,000,000")
        check_field(self, "gap", 0 <= self.gap <= 10, "0 to 10 seconds")

    def joined(self, parts: dict[str, Recordings], rate: int) -> dict[str, Recordings]:
        """Return strings of each part's own recordings."""
        shares = {"train": 1, "validation": 10, "test": 6}
        make = partial(speech.joined, words=self.words_joined, gap=self.gap, rate=rate)
        return {
            part: make(found, max(2, self.num_strings // shares[part]), seed=list(shares).index(part))
            for part, found in parts.items()
        }


@dataclass(frozen=True)
class Hearing:
    """What a network hears, and how it is changed in training."""

    frame: float = 0.032
    """seconds of a frame of the spectrogram"""
    hop: float = 0.01
    """seconds from one frame to the next"""
    num_mels: int = 40
    """bands of the spectrogram"""
    dynamic_range: float | None = None
    """decibels below a recording's loudest band that are still heard: with 40, a room's noise is not told from silence;
    all is heard if absent"""
    speed: float = 0.1
    """augmentation: play each recording by up to this share faster or slower"""
    noise: float = 0.1
    """augmentation: add noise of up to this share of each recording's loudness"""
    masked_time: float = 0.1
    """augmentation: blank two stretches of the spectrogram, each up to this share of its length (SpecAugment)"""
    masked_bands: int = 4
    """augmentation: blank two groups of bands of the spectrogram, each of up to so many"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "hop", 0 < self.hop <= self.frame, f"above 0, and frame={self.frame} or less")
        check_field(self, "frame", self.frame <= 1, "1 second or less")
        check_field(self, "num_mels", self.num_mels >= 1, "1 or more")
        good = self.dynamic_range is None or 0 < self.dynamic_range < 1000
        check_field(self, "dynamic_range", good, "more than 0, and less than 1000 decibels")
        check_field(self, "speed", 0 <= self.speed < 0.5, "in [0, 0.5)")
        check_field(self, "noise", 0 <= self.noise < 10, "in [0, 10)")
        check_field(self, "masked_time", 0 <= self.masked_time < 1, "in [0, 1)")
        check_field(self, "masked_bands", 0 <= self.masked_bands < self.num_mels, f"0 to {self.num_mels - 1}")

    def options(self) -> dict[str, Any]:
        """Return what a ``Listener`` takes of these."""
        names = ("frame", "hop", "num_mels", "dynamic_range", "masked_time", "masked_bands")
        return {name: getattr(self, name) for name in names}

    def around(self, learner: Learner) -> Learner:
        """Return the learner with changes of the samples in training, if there are any."""
        changes = [augment_sound.speed(self.speed)] * (self.speed > 0) + [augment_sound.noise(self.noise)] * (
            self.noise > 0
        )
        return augmented(learner, augment.chain(*changes)) if changes else learner

    def frames(self, samples: int, rate: int, stride: int) -> int:
        """Return how many of the network's frames recordings of so many samples have, however fast they are played."""
        return int(samples / (1 + self.speed)) // round(self.hop * rate) // stride


@dataclass(frozen=True)
class ConformerConfig:
    """What a Conformer is made of."""

    num_layers: int = 2
    """blocks of the Conformer"""
    num_heads: int = 4
    """heads of its attention"""
    model_dim: int = 96
    """width of its blocks, which the heads share"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("num_layers", "num_heads", "model_dim"):
            check_field(self, name, 1 <= getattr(self, name) <= 10_000, "1 to 10000")
        good = self.model_dim % (2 * self.num_heads) == 0
        check_field(self, "model_dim", good, f"a multiple of twice num_heads={self.num_heads}")

    @property
    def sizes(self) -> Sequence[int]:
        """Width, blocks and heads, as ``Conformer`` takes them."""
        return self.model_dim, self.num_layers, self.num_heads
