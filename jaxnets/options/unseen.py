"""Where pictures and recordings come from of which some classes are not trained on: people, characters, species."""

from dataclasses import dataclass, replace

import numpy as np

from jaxnets import data as named
from jaxnets.data import Data, Splits, episodes, speech
from jaxnets.data.unseen import fold_of, held_out_classes, images_by_class, inverted, turned, without_few
from jaxnets.errors import InputError, check_field
from jaxnets.memory import check_fits
from jaxnets.options.data import DataConfig


@dataclass(frozen=True)
class UnseenPeople(DataConfig):
    """Who is not trained on."""

    parts: int = 4
    """parts of like size into which the people are cut, in the order of their names"""
    held_out: int = 3
    """the part that is tested, and not trained on, from 0"""
    validation_people: int = 4
    """people beside them who are not trained on either: the threshold is chosen on them; 0 for none"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "parts", self.parts >= 2, "2 or more")
        check_field(self, "held_out", 0 <= self.held_out < self.parts, f"in 0..{self.parts - 1}, below parts")
        good = self.validation_people >= 0 and self.validation_people != 1
        check_field(self, "validation_people", good, "0, or 2 or more: two people make a pair of strangers")

    def parted(self, found: Data, example: str) -> Splits:
        """Return splits by people, those with one example left out."""
        found = without_few(found, 2, "people", example)
        number = len(found.classes)
        test = fold_of(number, self.held_out, self.parts) if self.parts <= number else ()
        if len(test) < 2:
            raise InputError(f"parts={self.parts} of {number} people: two or more are needed to test; use fewer")
        return held_out_classes(found, self.validation_people, test, "people")


@dataclass(frozen=True)
class PeopleData(UnseenPeople):
    """Pictures of people, some of whom are not trained on."""

    data: str = "orl-faces"
    """orl-faces, or the path of a folder or zip file of PERSON/IMAGE; people with one picture are left out"""
    image_size: tuple[int, int] = (56, 46)
    """height and width to resize the pictures to"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_field(
            self, "image_size", len(self.image_size) == 2 and min(self.image_size) >= 1, "two sizes of 1 or more"
        )

    def load(self) -> Splits:
        """Return the pictures, and who is on them, by number."""
        path = named.find("people", self.data, self.data_dir, "a folder or zip file of PERSON/IMAGE")
        if path is None:
            return self.parted(named.load(self.data, self.data_dir, image_size=self.image_size), "picture")
        return self.parted(images_by_class(path, self.image_size), "picture")


@dataclass(frozen=True)
class VoiceData(UnseenPeople):
    """Recordings of people, some of whom are not trained on."""

    data: str = "fsdd"
    """fsdd, or the path of a folder or zip file of PERSON/FILE.wav, or of files WORD_PERSON_NUMBER.wav; people with one
    recording are left out"""
    parts: int = 3
    """parts of like size into which the people are cut, in the order of their names"""
    held_out: int = 2
    """the part that is tested, and not trained on, from 0"""
    validation_people: int = 0
    """people beside them who are not trained on either: the threshold is chosen on them; 0 for none"""
    rate: int = 8000
    """samples a second that files are brought to"""
    seconds: float = 1.0
    """seconds of a recording that are trained and tested on: the middle of a longer one"""
    speeds: tuple[float, ...] = (0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.45)
    """training recordings are also played at these speeds, each of a person's as a voice of its own; () for none"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_field(self, "rate", 1000 <= self.rate <= 192_000, "1000 to 192000 samples a second")
        check_field(self, "seconds", 0.1 <= self.seconds <= 60, "0.1 to 60")
        good = all(0.5 <= speed <= 2 and speed != 1 for speed in self.speeds)
        check_field(self, "speeds", good and len(set(self.speeds)) == len(self.speeds), "each once, 0.5 to 2, none 1")

    def load(self) -> Splits:
        """Return the recordings, [N, L] int16, and who speaks, by number."""
        files = "a folder or zip file of PERSON/FILE.wav, or of files WORD_PERSON_NUMBER.wav"
        path = named.find("speech", self.data, self.data_dir, files)
        own = speech.voices(path, self.rate) if path else None
        found = own or named.load(self.data, self.data_dir, rate=self.rate)
        length, (names, labels) = round(self.seconds * self.rate), np.unique(found.speakers, return_inverse=True)
        check_fits(f"seconds={self.seconds}", (1 + len(self.speeds)) * len(labels) * length * 2, "use fewer")
        known = {"inputs": {"mean": (0.0,), "std": (1.0,)}}
        rows = speech.middles(found.samples, length)
        splits = self.parted(Data(inputs=rows, labels=labels, classes=names.tolist(), known=known), "recording")
        splits = splits.mapped(_mixed)
        return replace(splits, train=speech.at_speeds(splits.train, self.speeds, self.rate))


def _mixed(data: Data) -> Data:
    """Return the rows in an order drawn once, so that each block that is evaluated holds all people."""
    return data.take(np.random.default_rng(0).permutation(data.num_examples))


@dataclass(frozen=True)
class EpisodeData(DataConfig):
    """Pictures of many classes, some of which are not trained on, in episodes of few of each."""

    data: str = "omniglot-small"
    """omniglot-small, or the path of a folder or zip file of CLASS/IMAGE"""
    image_size: tuple[int, int] = (28, 28)
    """height and width to resize the pictures to"""
    dark_on_light: bool = False
    """the pictures of a folder or zip file are of dark ink on paper: swap dark and bright"""
    test_share: float | None = None
    """share of a folder's or zip file's classes that are tested, the last by their names; 0.25 if absent"""
    validation_classes: int = 16
    """classes beside them that are not trained on either, to choose by; 0 for none"""
    turned: bool = True
    """take training pictures turned by 90, 180 and 270 degrees for classes of their own"""
    ways: int = 5
    """classes of an episode"""
    shots: int = 1
    """examples of each class to learn from"""
    queries: int = 5
    """examples of each class to classify"""
    test_episodes: int = 1000
    """episodes of the test, drawn once and for all, and a tenth as many for validation"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        good = len(self.image_size) == 2 and min(self.image_size) >= 1
        check_field(self, "image_size", good, "a height and a width of 1 or more")
        check_field(self, "test_share", self.test_share is None or 0 < self.test_share < 1, "in (0, 1)")
        good = self.validation_classes == 0 or self.validation_classes >= self.ways
        check_field(self, "validation_classes", good, f"0, or as many as there are ways, {self.ways}, or more")
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("test_episodes", 20)):
            check_field(self, name, least <= getattr(self, name) < 2**20, f"{least} or more, and less than {2**20:,}")

    def load(self) -> Splits:
        """Return pictures to train on, and episodes of validation and test, one behind the other."""
        splits = self._classes()
        train = turned(splits.train) if self.turned else splits.train
        of_validation = splits.validation and self._drawn(splits.validation, max(2, self.test_episodes // 10), 1)
        assert splits.test is not None
        return Splits(train, of_validation, self._drawn(splits.test, self.test_episodes, 2))

    def _classes(self) -> Splits:
        """Return all pictures, split by class."""
        path = named.find("characters", self.data, self.data_dir, "a folder or zip file of CLASS/IMAGE")
        if path is None:
            if self.test_share is not None or self.dark_on_light:
                name = "dark_on_light" if self.dark_on_light else "test_share"
                raise InputError(f"{name}={getattr(self, name)} is for a folder or zip file, not for {self.data}")
            return named.load(self.data, self.data_dir, image_size=self.image_size, validation=self.validation_classes)
        found = images_by_class(path, self.image_size)
        found = without_few(inverted(found) if self.dark_on_light else found, self.shots + self.queries, "classes")
        number = len(found.classes)
        tested = round((self.test_share or 0.25) * number)
        return held_out_classes(found, self.validation_classes, np.arange(number - tested, number))

    def _drawn(self, part: Data, number: int, seed: int) -> Data:
        """Return the rows of so many episodes."""
        size = self.ways * (self.shots + self.queries)
        check_fits(f"test_episodes={number}", number * size * part["inputs"][0].nbytes, "use fewer")
        order = episodes(self.ways, self.shots, self.queries)(part, size, seed)
        return part.take(order.rows(0, number).reshape(-1))
