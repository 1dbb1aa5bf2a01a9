"""Batches for evaluation: every row once, in order."""

from collections.abc import Iterator, Mapping

import numpy as np


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
