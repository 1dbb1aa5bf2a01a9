"""Where ratings come from."""

from dataclasses import dataclass

from jaxnets import data as named
from jaxnets.data import Ratings, read_ratings
from jaxnets.errors import InputError
from jaxnets.options.data import DataConfig


@dataclass(frozen=True)
class RatingData(DataConfig):
    """Ratings of items by users, with their times."""

    data: str = "movielens-100k"
    """movielens-100k, or the path of a CSV file of user, item, rating and time, gzipped or not"""
    columns: tuple[str, ...] = ()
    """the columns of user, item, rating and time, or of user, item and time; found by their names if there are none"""
    validate: bool = True
    """hold out a part of the training data to choose by, in the way in which the test part is"""
    longest: int = 1000
    """ratings of a user that are seen together, the latest; a user with more is trained on in parts"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 2 <= self.longest < 2**20:
            raise InputError(f"longest={self.longest} must be 2 or more, and less than {2**20:,}")
        if twice := [name for name in self.columns if self.columns.count(name) > 1]:
            raise InputError(f"columns names {twice[0]!r} twice; name each column once")

    def load(self) -> Ratings:
        """Return the ratings, in the order of time."""
        path = named.find("ratings", self.data, self.data_dir, "a CSV file of ratings")
        if path is not None:
            return read_ratings(path, self.columns)
        if self.columns:
            raise InputError(f"columns={self.columns} are those of a CSV file, and data={self.data!r} is none")
        return named.load(self.data, self.data_dir)
