"""Which rows a step trains on, as a pure function of the seed and the step; and batches for evaluation."""

from collections.abc import Iterator, Mapping

import numpy as np


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


def padded_batches(arrays: Mapping[str, np.ndarray], batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield every row exactly once, in order; the last batch repeats its last row, and its "mask" leaves that out."""
    num_examples = len(next(iter(arrays.values())))
    for start in range(0, num_examples, batch_size):
        batch = {name: array[start : start + batch_size] for name, array in arrays.items()}
        mask = np.arange(start, start + batch_size) < num_examples
        if not mask.all():
            rows = np.minimum(np.arange(batch_size), num_examples - 1 - start)
            batch = {name: array[rows] for name, array in batch.items()}
        if "mask" in batch:
            mask = batch["mask"] * mask.reshape(mask.shape + (1,) * (batch["mask"].ndim - 1))
        yield {**batch, "mask": mask}
