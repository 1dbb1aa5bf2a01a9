"""Rows that belong together, such as those of one patient: parts of a data set that hold each group whole."""

from collections.abc import Sequence

import numpy as np

from jaxnets.errors import InputError

GROUP = "group"  # the array that says whose each row is, whole numbers [N]


def dealt(groups: np.ndarray, labels: np.ndarray | None, shares: Sequence[float], seed: Sequence[int]) -> np.ndarray:
    """Return in which part each row is, int32 [N]: all rows of a group in one, and of each class as large a share.

    Groups are dealt one after another, the largest first and otherwise in a drawn order, each to the part that lacks
    most of what it holds.

    Args:
        groups: whose each row is, [N].
        labels: classes [N], if rows have some.
        shares: of the rows, for each part.
        seed: of the draw.

    Raises:
        InputError: if there are fewer groups than parts, or groups are no whole numbers [N].
    """
    if groups.ndim != 1 or groups.dtype.kind not in "iu":
        raise InputError(f"{GROUP} is {groups.dtype}{list(groups.shape)}; give a whole number for each row, [N]")
    _, group = np.unique(groups, return_inverse=True)
    classes = np.zeros(len(group), int) if labels is None else np.unique(labels, return_inverse=True)[1]
    number, num_classes, num_parts = int(group.max()) + 1, int(classes.max()) + 1, len(shares)
    if number < num_parts:
        raise InputError(f"the rows are of {number} groups, too few for {num_parts} parts that hold each whole")
    counts = np.zeros((number, num_classes))
    np.add.at(counts, (group, classes), 1)
    of_class = counts.sum(0)
    lacking = np.asarray(shares)[:, None] * of_class  # [parts, classes]
    order = np.random.default_rng([*seed, num_parts]).permutation(number)
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    part, empty = np.empty(number, np.int32), np.ones(num_parts, bool)
    for left, one in zip(range(number, 0, -1), order, strict=True):
        wanted = (lacking / of_class * counts[one]).sum(1)
        chosen = int(np.where(empty, wanted, -np.inf).argmax() if left <= empty.sum() else wanted.argmax())
        part[one], empty[chosen] = chosen, False
        lacking[chosen] -= counts[one]
    return part[group]
