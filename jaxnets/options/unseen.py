"""Where pictures come from of which some classes are not trained on: people, characters, species."""

from dataclasses import dataclass

import numpy as np

from jaxnets import data as named
from jaxnets.data import Data, Splits, episodes
from jaxnets.data.unseen import fold_of, held_out_classes, images_by_class, inverted, turned, without_few
from jaxnets.errors import InputError, check_field
from jaxnets.memory import check_fits
from jaxnets.options.data import DataConfig


@dataclass(frozen=True)
class PeopleData(DataConfig):
    """Pictures of people, some of whom are not trained on."""

    data: str = "orl-faces"
    """orl-faces, or the path of a folder or zip file of PERSON/IMAGE; people with one picture are left out"""
    image_size: tuple[int, int] = (56, 46)
    """height and width to resize the pictures to"""
    parts: int = 4
    """parts of like size into which the people are cut, in the order of their names"""
    held_out: int = 3
    """the part that is tested, and not trained on, from 0"""
    validation_people: int = 4
    """people beside them who are not trained on either: the threshold is chosen on them; 0 for none"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(
            self, "image_size", len(self.image_size) == 2 and min(self.image_size) >= 1, "two sizes of 1 or more"
        )
        check_field(self, "parts", self.parts >= 2, "2 or more")
        check_field(self, "held_out", 0 <= self.held_out < self.parts, f"in 0..{self.parts - 1}, below parts")
        good = self.validation_people >= 0 and self.validation_people != 1
        check_field(self, "validation_people", good, "0, or 2 or more: two people make a pair of strangers")

    def load(self) -> Splits:
        """Return the pictures, and who is on them, by number."""
        path = named.find("people", self.data, self.data_dir, "a folder or zip file of PERSON/IMAGE")
        if path is None:
            found = named.load(self.data, self.data_dir, image_size=self.image_size)
        else:
            found = images_by_class(path, self.image_size)
        found = without_few(found, 2, "people")
        test = fold_of(len(found.classes), self.held_out, self.parts)
        if len(test) < 2:
            raise InputError(
                f"parts={self.parts} of {len(found.classes)} people: two or more are needed to test; use fewer"
            )
        return held_out_classes(found, self.validation_people, test, "people")


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
