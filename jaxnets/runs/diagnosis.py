"""Divergence, over- and underfitting, by what the curves of a run show."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnets.metrics import Better

LEAST_ROWS = 5  # evaluations that a curve needs
FAR = 3.0  # times its best, from which on a training loss diverges
RISE = 0.1  # of the fall to its best, by which a validation loss has to rise again to count
FALL = 0.1  # of the whole fall, by which a loss has to fall in the last quarter to count as falling still


def diagnosis(history: Sequence[Mapping[str, Any]], better: Mapping[str, Better]) -> str:
    """Return what the training and validation losses show, with the remedy; nothing where they show nothing.

    Divergence: the training loss is three times its best.
    Overfitting: the validation loss has risen from its best by a tenth of its fall, while the training loss fell on.
    Underfitting: in the last quarter of the run both fell by a tenth of their whole fall or more.

    Args:
        history: rows of metrics, of one seed or several, whose mean is looked at.
        better: which values of each metric are better.
    """
    names = ("train/loss", "validation/loss")
    if any(better.get(name) != "lower" for name in names):
        return ""
    rows = [row for row in history if all(name in row for name in names)]
    train, held_out = (np.array([np.mean(np.asarray(row[name], float)) for row in rows]) for name in names)
    if len(rows) < LEAST_ROWS or not (np.isfinite(train).all() and np.isfinite(held_out).all()):
        return ""
    if train[-1] > FAR * train.min() > 0:
        lowest = rows[int(train.argmin())]["step"]
        return (
            f"divergence: the training loss was lowest, {train.min():.4g}, at step {lowest:,} and is {train[-1]:.4g} "
            "now; lower the learning rate, clip gradients (--clip-norm), or warm up (--warmup)"
        )
    best = int(held_out.argmin())
    fall = held_out[0] - held_out[best]
    if held_out[-1] - held_out[best] > RISE * fall and train[-1] < train[best]:
        return (
            f"overfitting: the validation loss was lowest, {held_out[best]:.4g}, at step {rows[best]['step']:,} and is "
            f"{held_out[-1]:.4g} now, while the training loss fell on; stop early (--patience), regularise (dropout, "
            "weight decay, augmentation), or give more data"
        )
    if all(_still_falling(curve) for curve in (train, held_out)):
        return "underfitting: both losses were still falling at the end; train longer, or with a higher learning rate"
    return ""


def _still_falling(curve: np.ndarray) -> bool:
    quarter = curve[3 * len(curve) // 4]
    return curve[0] > curve[-1] and quarter - curve[-1] > FALL * (curve[0] - curve[-1])
