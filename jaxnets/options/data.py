"""Where a recipe's data come from: a named data set, or a user's own files. One group of flags for each kind."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from jaxnets import data as named
from jaxnets.data import Data, Series, Splits, boxed_images, labelled_images, music, read_series, read_text, tokens
from jaxnets.data.dialogues import Dialogue, dialogue_parts
from jaxnets.data.labelled_texts import read_texts, text_parts
from jaxnets.data.series import Fill
from jaxnets.data.stories import Question, last_stories, story_parts
from jaxnets.data.tokens import Sentences
from jaxnets.errors import InputError, check_field


@dataclass(frozen=True)
class DataConfig:
    """What all kinds of data have in common."""

    data: str
    """a named data set, or the path of one's own"""
    data_dir: Path | None = None
    """where a named data set's files are; else JAXNETS_DATA, else the cache folder, into which they are fetched"""

    def absolute(self) -> Self:
        """Return the same, with the path of files here as it can be found from elsewhere."""
        here = self.data not in named.NAMED and Path(self.data).exists()
        data = str(Path(self.data).absolute()) if here else self.data
        return replace(self, data=data, data_dir=self.data_dir and self.data_dir.absolute())


def with_data(config: Any, change: Callable[[DataConfig], DataConfig]) -> Any:
    """Return a recipe's config with its groups of data flags changed; one that has none is returned as it is."""
    groups = {name: value for name, value in vars(config).items() if isinstance(value, DataConfig)}
    return replace(config, **{name: change(value) for name, value in groups.items()})


@dataclass(frozen=True)
class ImageData(DataConfig):
    """Images with classes."""

    data: str = "mnist"
    """digits, mnist, fashion-mnist, cifar10, or a folder or zip of images (train/CLASS/x.png), an npz file or a folder
    of IDX files"""
    image_size: tuple[int, int] | None = None
    """height and width to resize a folder's or zip's images to; they must all have one size without it"""
    validation: float | None = None
    """fraction of the training data held out to choose by, 0 for none; 0.1 (mnist 0.05, cifar10 0.02) if absent"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "validation", self.validation is None or 0 <= self.validation < 1, "in [0, 1)")
        check_field(self, "image_size", self.image_size is None or min(self.image_size, default=0) >= 1, "1 or more")

    def load(self, usual_size: tuple[int, int] | None = None) -> Splits:
        """Return the images and their classes, a folder's in their ``usual_size`` if there is one and none is told."""
        return labelled_images(self.data, self.data_dir, self.image_size, self.validation, usual_size)


@dataclass(frozen=True)
class BoxData(DataConfig):
    """Images with boxes around what is in them."""

    data: str = "bccd"
    """bccd, scattered-digits, or a folder or zip of images with VOC's XML, COCO's JSON, YOLO's or KITTI's text files"""
    image_size: tuple[int, int] | None = None
    """height and width to resize images to, with their boxes; they must all have one size without it"""
    validation: float | None = None
    """fraction of the training data held out to choose by, where there is no validation part, 0.1 if absent; 0 for
    none: a validation part that there is, is then trained on"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "validation", self.validation is None or 0 <= self.validation < 1, "in [0, 1)")
        check_field(self, "image_size", self.image_size is None or min(self.image_size, default=0) >= 1, "1 or more")

    def load(self) -> Splits:
        """Return the images and their boxes, as ``box_splits`` has them."""
        return boxed_images(self.data, self.data_dir, self.image_size, self.validation)


@dataclass(frozen=True)
class SentenceData(DataConfig):
    """Sentences with classes."""

    data: str = "sst2"
    """sst2; a file: .tsv (sentence<TAB>label lines), .csv, .jsonl; a folder of train, dev and test files, or of
    CLASS/x.txt"""
    text_column: str | None = None
    """the column of a file that has the texts; the one called text, sentence or the like, if absent"""
    label_column: str | None = None
    """the column that has the labels; the one called label, class or the like, if absent"""
    several: str | None = None
    """the sign between a text's labels, such as ";", where it may have several, or none; one label each if absent"""
    validation: float | None = None
    """fraction of the training data held out to choose by, where there is no dev.tsv, 0 for none; 0.1 if absent"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "validation", self.validation is None or 0 <= self.validation < 1, "in [0, 1)")
        check_field(self, "several", self.several is None or len(self.several) == 1, "one character, such as ;")

    def load(self) -> dict[str, Sentences]:
        """Return the sentences: "train", "test" and, if there is one, "validation"."""
        path = named.find("sentences", self.data, self.data_dir, "a .csv, .tsv or .jsonl file, or a folder of texts")
        columns = {name: getattr(self, f"{name}_column") for name in ("text", "label")} | {"several": self.several}
        if path is None:
            if given := [name for name, value in columns.items() if value is not None]:
                flag = given[0] if given[0] == "several" else f"{given[0]}_column"
                raise InputError(f"{flag}={columns[given[0]]!r} is for files of one's own, and not for {self.data}")
            parts = named.load(self.data, self.data_dir)
        else:
            parts = text_parts(path, **columns) if path.is_dir() else {"train": read_texts(path, **columns)}
        return self._parted(parts)

    def _parted(self, parts: dict[str, Sentences]) -> dict[str, Sentences]:
        """Return the parts, with those that are missing drawn from the training part."""
        if "test" not in parts:
            return self._drawn(parts["train"])
        if "validation" not in parts:
            train, held = self._split(parts["train"], self.validation or 0.1) if self.validation != 0 else (None, None)
            return parts if train is None else parts | {"train": train, "validation": held}
        if self.validation is not None:
            raise InputError(f"validation={self.validation}, but {self.data} has a dev.tsv; leave --validation out")
        return parts

    def _split(self, found: Sentences, fraction: float) -> Any:
        """Return the rest and a fraction; stratified by the labels, if a text has one."""
        labels: dict[str, Any] = {} if self.several else {"labels": np.array(found.labels)}
        pair = Data(inputs=np.arange(len(found.labels)), **labels).split(fraction)
        return [Sentences(*([column[row] for row in data["inputs"]] for column in found)) for data in pair]

    def _drawn(self, found: Sentences) -> dict[str, Sentences]:
        """Return the parts of one file, by draws."""
        train, test = self._split(found, 0.2)
        parts = {"train": train, "test": test}
        if self.validation != 0:
            parts["train"], parts["validation"] = self._split(train, self.validation or 0.1)
        return parts


@dataclass(frozen=True)
class StoryData(DataConfig):
    """Questions about stories."""

    data: str = "babi"
    """babi, or a folder or zip of TASK_train.txt, TASK_test.txt and, maybe, TASK_valid.txt in its format"""
    validation: float | None = None
    """share of each task's training questions, its last stories, to choose by, 0 for none; where there is no
    TASK_valid.txt, 0.1 if absent"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "validation", self.validation is None or 0 <= self.validation < 1, "in [0, 1)")

    def load(self) -> dict[str, list[Question]]:
        """Return the questions: "train", "test" and, if there are some to choose by, "validation"."""
        path = named.find("stories", self.data, self.data_dir, "a folder or zip of files in bAbI's format")
        parts = named.load(self.data, self.data_dir) if path is None else story_parts(path)
        if "validation" in parts:
            if self.validation is not None:
                raise InputError(f"validation={self.validation}, but {self.data} has *_valid.txt; leave it out")
        elif self.validation != 0:
            parts = dict(parts)
            parts["train"], parts["validation"] = last_stories(parts["train"], self.validation or 0.1)
        return parts


@dataclass(frozen=True)
class ConversationData(DataConfig):
    """Conversations."""

    data: str = "one-word"
    """one-word; a .jsonl file, a conversation a line: {"messages": [{"role": "user", "content": "..."}, ...]}; or a
    folder of train.jsonl and, maybe, dev.jsonl and test.jsonl"""
    validation: float | None = None
    """fraction of the training data held out to choose by, where there is no dev.jsonl, 0 for none; 0.1 if absent"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "validation", self.validation is None or 0 <= self.validation < 1, "in [0, 1)")

    def load(self) -> dict[str, list[Dialogue]]:
        """Return the conversations: "train" and, if there are some, "validation" and "test"."""
        path = named.find("conversations", self.data, self.data_dir, "a .jsonl file, or a folder of train.jsonl")
        parts = named.load(self.data, self.data_dir) if path is None else dialogue_parts(path)
        if "validation" in parts:
            if self.validation is not None:
                raise InputError(f"validation={self.validation}, but {self.data} has a part for it; leave it out")
        elif self.validation != 0:
            rows = Data(inputs=np.arange(len(parts["train"]))).split(self.validation or 0.1)
            held = {
                part: [parts["train"][row] for row in data["inputs"]]
                for part, data in zip(("train", "validation"), rows, strict=True)
            }
            parts = parts | held
        return parts


@dataclass(frozen=True)
class TextData(DataConfig):
    """A running text."""

    data: str = "shakespeare"
    """shakespeare, or the path of a UTF-8 text file, gzipped or not"""
    validation: float = 0.1
    """fraction of the text, its end, that is held out"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "validation", 0 < self.validation < 1, "in (0, 1): the end of the text is held out")

    def load(self) -> str:
        """Return the text."""
        path = named.find("text", self.data, self.data_dir, "a text file")
        return named.load(self.data, self.data_dir) if path is None else read_text(path).replace("\r\n", "\n")


@dataclass(frozen=True)
class PieceData(DataConfig):
    """Pieces of music."""

    data: str = "chorales"
    """chorales, or the path of a JSON file: {"train": [[[pitch, ...], ...], ...], "valid": ..., "test": ...}"""

    def load(self) -> dict[str, list[np.ndarray]]:
        """Return the pieces: "train", "valid" and "test", each uint8 [T, 88]."""
        path = named.find("pieces", self.data, self.data_dir, "a JSON file of pieces")
        pieces = named.load(self.data, self.data_dir) if path is None else music.read_pieces(path)
        if missing := [name for name in ("train", "valid", "test") if not pieces.get(name)]:
            raise InputError(f"{self.data}: has no {' and no '.join(missing)} pieces; it has {', '.join(pieces)}")
        if short := [name for name in ("valid", "test") if all(len(piece) < 2 for piece in pieces[name])]:
            raise InputError(f"{self.data}: no {' and no '.join(short)} piece has a second chord to predict")
        return pieces


@dataclass(frozen=True)
class TranslationData(DataConfig):
    """Sentences in two languages."""

    data: str = "multi30k"
    """multi30k, or a folder of train.SOURCE, train.TARGET, val.* and test.*, a sentence a line"""
    source: str = "en"
    """the language that is read: the suffix of its files"""
    target: str = "de"
    """the language that is written"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_field(self, "target", self.target != self.source, "another language than the source's")

    def load(self) -> dict[str, list[list[str]]]:
        """Return the lines of both languages: "train", "validation" and "test"."""
        sides = (self.source, self.target)
        path = named.find("translations", self.data, self.data_dir, "a folder of parallel files")
        if path is None:
            return named.load(self.data, self.data_dir, languages=sides)
        files = {"train": "train", "validation": "val", "test": "test"}
        return {part: tokens.parallel_text([path / f"{name}.{side}" for side in sides]) for part, name in files.items()}


@dataclass(frozen=True)
class SeriesData(DataConfig):
    """Measurements at times that rise."""

    data: str = "etth1"
    """etth1, or the path of a CSV file with a header and a column of times, gzipped or not"""
    time: str | None = None
    """the column of times (numbers or ISO 8601, rising in even steps); the first if absent"""
    columns: tuple[str, ...] = ()
    """the columns to forecast; all others if there are none"""
    fill: Fill = "error"
    """what becomes of missing values: an error, or the previous value of their column"""
    irregular: bool = False
    """take the rows as equally far apart, whatever their times, such as trading days"""
    split: tuple[float, float, float] | None = None
    """training, validation and test rows, in the order of time: fractions, or counts; 0.7 0.1 0.2 if absent, and for
    etth1 the usual 8640 2880 2880"""

    def __post_init__(self) -> None:
        """Check that no column is named twice."""
        if twice := [name for name in self.columns if self.columns.count(name) > 1]:
            raise InputError(f"columns names {twice[0]!r} twice; name each column once")

    def load(self) -> Series:
        """Return the series; its ``split`` is the one to be taken."""
        options: dict[str, Any] = {"time": self.time, "columns": self.columns}
        options |= {"fill": self.fill, "irregular": self.irregular}
        path = named.find("series", self.data, self.data_dir, "a CSV file")
        series = named.load(self.data, self.data_dir, **options) if path is None else read_series(path, **options)
        return series._replace(split=self.split or series.split or (0.7, 0.1, 0.2))
