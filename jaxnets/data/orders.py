"""Which rows a step trains on, as a pure function of the seed and the step.

An order is made by a function of the data, the batch size and the seed, such as ``shuffled``; anything with ``rows``
will do.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxnets.data.arrays import FOLD
from jaxnets.errors import InputError, check_whole, short


class Order(Protocol):
    """The rows of every step."""

    def rows(self, start: int, num_steps: int) -> np.ndarray:
        """Return the rows of steps ``start`` to ``start + num_steps``, int32 [num_steps, batch_size]."""
        ...


MakeOrder = Callable[[Mapping[str, np.ndarray], int, int], Order]  # of the data, the batch size and the seed


def shuffled(data: Mapping[str, np.ndarray], batch_size: int, seed: int) -> Order:
    """Return the order that visits every row once an epoch, at random."""
    return Shuffle(_length(data), batch_size, seed)


def by_length(data: Mapping[str, np.ndarray], batch_size: int, seed: int) -> Order:
    """Return the order that visits every row once an epoch, in batches of like "lengths", [N].

    Raises:
        InputError: if the data have no lengths, or not one for each row.
    """
    lengths = data.get("lengths")
    if lengths is None or lengths.shape != (_length(data),):
        found = "none" if lengths is None else f"lengths of shape {lengths.shape}"
        raise InputError(f"batches by length need lengths=, one for each of {_length(data)} rows; there are {found}")
    return Shuffle(_length(data), batch_size, seed, lengths)


def usual(data: Mapping[str, np.ndarray], batch_size: int, seed: int) -> Order:
    """Return the order of data about which nothing else is said: by length, where they have lengths, else shuffled."""
    if FOLD in data:
        raise InputError("data in folds need the order that leaves one out: order=splits.order, as in_folds returns it")
    return (by_length if "lengths" in data else shuffled)(data, batch_size, seed)


def weighted(shares: Sequence[float] | np.ndarray) -> MakeOrder:
    """Return what makes the order that draws rows with replacement, each with its share of the whole, [N].

    Raises:
        InputError: by what is returned, if the shares are not one for each row, 0 or more, and not all 0.
    """
    try:
        given = np.asarray(shares, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"shares={short(shares)} must be a list of numbers, one for each row") from error

    def make(data: Mapping[str, np.ndarray], batch_size: int, seed: int) -> Order:
        if given.shape != (_length(data),) or not np.isfinite(given).all() or given.min() < 0 or not given.any():
            raise InputError(
                f"shares of shape {given.shape} for {_length(data)} rows; give one for each, 0 or more, not all 0"
            )
        bounds = np.cumsum(given / given.sum())

        def draw(random: np.random.Generator) -> np.ndarray:
            return np.minimum(np.searchsorted(bounds, random.random(batch_size), "right"), len(bounds) - 1)

        return _Drawn(draw, seed)

    return make


def balanced(data: Mapping[str, np.ndarray], batch_size: int, seed: int) -> Order:
    """Return the order that draws rows with replacement, every class of "labels" [N] as often."""
    labels = _labels(data)
    counts = np.bincount(labels)
    return weighted(1.0 / counts[labels])(data, batch_size, seed)


def classes_and_examples(num_classes: int, num_examples: int) -> MakeOrder:
    """Return what makes the order of batches of P classes with K rows each, drawn anew for every step.

    The rows of a class stand together. Of a class with fewer rows some are repeated.

    Args:
        num_classes: P.
        num_examples: K; the batch size is P x K, or several times that.

    Raises:
        InputError: by what is returned, if that is not so, or there are fewer classes.
    """
    check_whole("num_classes", num_classes)
    check_whole("num_examples", num_examples)

    def make(data: Mapping[str, np.ndarray], batch_size: int, seed: int) -> Order:
        groups = _groups(_labels(data))
        size = num_classes * num_examples
        if len(groups) < num_classes or batch_size % size:
            raise InputError(
                f"{num_classes=} with {num_examples=} each: the data have {len(groups)} classes, and {batch_size=} "
                f"must be a multiple of {size}"
            )

        def draw(random: np.random.Generator) -> np.ndarray:
            parts = []
            for _ in range(batch_size // size):
                chosen = random.choice(len(groups), num_classes, replace=False)
                parts += [_taken(random, groups[number], num_examples) for number in chosen]
            return np.concatenate(parts)

        return _Drawn(draw, seed)

    return make


def episodes(ways: int, shots: int, queries: int) -> MakeOrder:
    """Return what makes the order of episodes for few-shot learning (Vinyals et al., 2016), one or several a batch.

    An episode is ``ways`` classes with ``shots`` rows to learn from each, class after class, and then ``queries`` rows
    to be asked about each; no row is in it twice.

    Raises:
        InputError: by what is returned, if the batch size is no multiple of ``ways * (shots + queries)``, or there are
            not so many classes with so many rows.
    """
    for name, number in (("ways", ways), ("shots", shots), ("queries", queries)):
        check_whole(name, number)

    def make(data: Mapping[str, np.ndarray], batch_size: int, seed: int) -> Order:
        size, each = ways * (shots + queries), shots + queries
        groups = [group for group in _groups(_labels(data)) if len(group) >= each]
        if len(groups) < ways:
            raise InputError(
                f"episodes of {ways=}: the data have {len(groups)} classes of {each} rows or more ({shots=}, "
                f"{queries=}); use {len(groups)} ways or fewer, or give more examples"
            )
        if batch_size % size:
            raise InputError(f"{batch_size=} must be a multiple of {size}, an episode of {ways=}, {shots=}, {queries=}")

        def draw(random: np.random.Generator) -> np.ndarray:
            parts = []
            for _ in range(batch_size // size):
                chosen = random.choice(len(groups), ways, replace=False)
                rows = np.stack([random.choice(groups[number], each, replace=False) for number in chosen])
                parts += [rows[:, :shots].reshape(-1), rows[:, shots:].reshape(-1)]
            return np.concatenate(parts)

        return _Drawn(draw, seed)

    return make


class _Drawn:
    """Rows that are drawn for each step by itself, from (seed, step) alone."""

    def __init__(self, draw: Callable[[np.random.Generator], np.ndarray], seed: int):
        self._draw, self._seed = draw, seed

    def rows(self, start: int, num_steps: int) -> np.ndarray:
        """Return the rows of steps ``start`` to ``start + num_steps``, int32 [num_steps, batch_size]."""
        steps = range(start, start + num_steps)
        return np.stack([self._draw(np.random.default_rng([self._seed, step])) for step in steps]).astype(np.int32)


class Shuffle:
    """The order in which the rows of a data set are visited.

    One endless sequence: a permutation of all rows, then another, and so on, cut into batches. So every epoch holds
    each row exactly once, and every batch is full. The permutation of an epoch depends on (seed, epoch) alone.

    Args:
        num_examples: rows of the data set.
        batch_size: rows of a batch, at most ``num_examples``.
        seed: of the permutations.
        lengths: of each row, [N]; rows of like length make up a batch, and batches of all lengths follow one another at
            random.
    """

    def __init__(self, num_examples: int, batch_size: int, seed: int, lengths: np.ndarray | None = None):
        self.num_examples = num_examples
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self._epochs: dict[int, np.ndarray] = {}

    def rows(self, start: int, num_steps: int) -> np.ndarray:
        """Return the rows of steps ``start`` to ``start + num_steps``, int32 [num_steps, batch_size]."""
        first, last = start * self.batch_size, (start + num_steps) * self.batch_size
        epochs = range(first // self.num_examples, -(-last // self.num_examples))
        self._epochs = {epoch: self._permutation(epoch) for epoch in epochs}
        rows = np.concatenate([self._epochs[epoch] for epoch in epochs])
        offset = first - epochs.start * self.num_examples
        return rows[offset : offset + last - first].reshape(num_steps, self.batch_size)

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch in self._epochs:
            return self._epochs[epoch]
        generator = np.random.default_rng([self.seed, epoch])
        rows = generator.permutation(self.num_examples).astype(np.int32)
        if self.lengths is None:
            return rows
        # The first rows fill up the batch in which the epoch before ended; what is left over begins the next.
        first = -epoch * self.num_examples % self.batch_size
        head, rest = rows[:first], rows[first:]
        rest = rest[np.argsort(self.lengths[rest], kind="stable")]
        whole = len(rest) // self.batch_size * self.batch_size
        left = generator.choice(len(rest), len(rest) - whole, replace=False)  # of all lengths, not the longest
        batches = np.delete(rest, left).reshape(-1, self.batch_size)
        return np.concatenate([head, generator.permutation(batches).reshape(-1), rest[left]])


def _length(data: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(data.values())))


def _labels(data: Mapping[str, Any]) -> np.ndarray:
    labels = data.get("labels")
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError("this order of rows needs classes: an array labels=, [N] of whole numbers")
    return labels


def _groups(labels: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each class that occurs."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def _taken(random: np.random.Generator, rows: np.ndarray, number: int) -> np.ndarray:
    """Return so many of the rows, each once before any is taken again."""
    times = -(-number // len(rows))
    return np.concatenate([random.permutation(rows) for _ in range(times)])[:number]
