"""Cross-validation: rows in folds, and the order of rows that leaves one of them out."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from jaxnets.data.arrays import FOLD, Data
from jaxnets.data.groups import GROUP, dealt
from jaxnets.data.orders import MakeOrder, Order
from jaxnets.data.splits import Splits
from jaxnets.errors import InputError, check_whole


def in_folds(splits: Splits, folds: int, first_seed: int = 0) -> Splits:
    """Return splits for cross-validation: training and validation rows in one, each in a fold, to train on and measure.

    Folds are drawn, of equal size to a row, with as many rows of each class in each; or, of rows with a "group" (whose
    each is), such that a group is in one fold, as evenly as that allows. Which are in which depends on ``first_seed``
    alone. The run of seed ``first_seed + i`` leaves fold i out. The test rows stay apart. An epoch is one of all rows;
    and what a spec says of inputs, such as their mean, is that of all of them.

    Args:
        splits: what is there.
        folds: how many, 2 or more.
        first_seed: of the folds' runs.

    Raises:
        InputError: if there are fewer rows, or groups, than folds.
    """
    whole = splits.train if splits.validation is None else _joined(splits.train, splits.validation)
    check_whole("folds", folds, 2, remedy="such as 10")
    if folds > whole.num_examples:
        raise InputError(f"folds={folds} of {whole.num_examples} examples; use {whole.num_examples} or fewer")
    labels = whole.get("labels")
    labels = labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu" else None
    if GROUP in whole:
        number = dealt(whole[GROUP], labels, [1 / folds] * folds, [first_seed])
    else:
        rows = np.random.default_rng([first_seed, folds]).permutation(whole.num_examples)
        rows = rows if labels is None else rows[np.argsort(labels[rows], kind="stable")]
        number = np.empty(whole.num_examples, np.int32)
        number[rows] = np.arange(whole.num_examples) % folds
    whole = whole.replaced(**{FOLD: number})
    return replace(splits, train=whole, validation=whole, order=leaving_out(splits.order, first_seed))


def leaving_out(order: MakeOrder, first_seed: int) -> MakeOrder:
    """Return what makes an order of the rows that are not in fold ``seed - first_seed``."""

    def make(data: Mapping[str, np.ndarray], batch_size: int, seed: int) -> Order:
        folds = np.asarray(data[FOLD])
        if not 0 <= seed - first_seed <= folds.max():
            last = first_seed + int(folds.max())
            raise InputError(f"seed={seed} is of no fold; the seeds are range({first_seed}, {last + 1}), one for each")
        rows = np.flatnonzero(folds != seed - first_seed).astype(np.int32)
        if batch_size > len(rows):
            raise InputError(f"{batch_size=} exceeds the {len(rows)} examples outside a fold; use {len(rows)} or less")
        return _Mapped(
            order({name: array[rows] for name, array in data.items() if name != FOLD}, batch_size, seed), rows
        )

    return make


class _Mapped:
    """An order of some rows, by their numbers among all."""

    def __init__(self, order: Order, rows: np.ndarray):
        self._order, self._rows = order, rows

    def rows(self, start: int, num_steps: int) -> np.ndarray:
        """Return the rows of steps ``start`` to ``start + num_steps``, int32 [num_steps, batch_size]."""
        return self._rows[self._order.rows(start, num_steps)]


def _joined(first: Data, second: Data) -> Data:
    """Return the rows of both; a mask, or weights, that only one has are 1 for the other's."""

    def column(data: Data, name: str, like: np.ndarray) -> np.ndarray:
        found = data.get(name)
        return np.ones((data.num_examples, *like.shape[1:]), like.dtype) if found is None else found

    parts = {}
    for name, array in {**second, **first}.items():
        parts[name] = np.concatenate([column(first, name, array), column(second, name, array)])
    return Data(classes=first.classes or None, known=first.known, **parts)
