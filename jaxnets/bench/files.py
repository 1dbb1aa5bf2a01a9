"""Files of images, characters and numbers, and how they come into arrays: by this library, and by plain code."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from jaxnets.bench.jax_peers import Way
from jaxnets.data import tokens
from jaxnets.data.cache import cache_dir
from jaxnets.data.images import image_splits
from jaxnets.data.series import read_series

Kind = Literal["images", "text", "csv"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_NUM_IMAGES, _NUM_CHARACTERS, _NUM_ROWS = 2000, 1_000_000, 20_000


class Made(NamedTuple):
    """A file to read.

    Attributes:
        kind: of what.
        about: what it is, in a line.
        path: where it is.
    """

    kind: Kind
    about: str
    path: Path


def made(kind: Kind) -> Made:
    """Return a file of random contents, made in the cache folder."""
    random, path = np.random.default_rng(0), cache_dir() / "bench" / kind
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "images":
        from PIL import Image  # noqa: PLC0415

        with zipfile.ZipFile(path, "w") as archive:
            for number in range(_NUM_IMAGES):
                image, file = random.integers(0, 256, (32, 32, 3), dtype=np.uint8), io.BytesIO()
                Image.fromarray(image).save(file, "png")
                archive.writestr(
                    f"{('train', 'test')[number % 5 == 0]}/{number // 5 % 10}/{number}.png", file.getvalue()
                )
        return Made(kind, f"a zip file of {_NUM_IMAGES:,} PNG images of 32x32", path)
    if kind == "text":
        path.write_text("".join(map(chr, random.integers(32, 97, _NUM_CHARACTERS))), encoding="utf-8")
        return Made(kind, f"a text of {_NUM_CHARACTERS:,} characters", path)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", *"abcdefg"])
        writer.writerows([number, *values] for number, values in enumerate(random.normal(size=(_NUM_ROWS, 7)).tolist()))
    return Made(kind, f"a CSV file of {_NUM_ROWS:,} rows of 8", path)


def ours(file: Made) -> Way:
    """Return how this library reads it, with all its checks; the result is the mean of what was read."""

    def images() -> float:
        splits = image_splits(file.path)
        parts = [split["inputs"] for split in (splits.train, splits.test) if split is not None]
        return float(sum(part.sum(dtype=np.int64) for part in parts) / sum(part.size for part in parts))

    def text() -> float:
        characters = file.path.read_text(encoding="utf-8")
        return float(tokens.encode_characters(characters, tokens.characters(characters)).mean())

    return {"images": images, "text": text, "csv": lambda: float(read_series(file.path).values.mean())}[file.kind]


def by_hand(file: Made) -> Way:
    """Return how one would read it with Pillow, a dictionary, or NumPy."""

    def images() -> float:
        from PIL import Image  # noqa: PLC0415

        with zipfile.ZipFile(file.path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".png")]
            arrays = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
        return float(np.stack(arrays).mean())

    def text() -> float:
        characters = file.path.read_text(encoding="utf-8")
        numbers = {character: number for number, character in enumerate(sorted(set(characters)))}
        return float(np.array([numbers[character] for character in characters], np.int32).mean())

    def rows() -> float:
        return float(np.loadtxt(file.path, delimiter=",", skiprows=1, usecols=range(1, 8)).mean())

    return {"images": images, "text": text, "csv": rows}[file.kind]
