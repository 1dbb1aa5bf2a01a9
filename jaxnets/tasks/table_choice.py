"""Which of several settings suits a table: each is tried for a short time, and rows that it has not seen say."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxnets.data import Spec, Splits, in_folds
from jaxnets.data.telling import tell
from jaxnets.errors import FINITE
from jaxnets.learner import Learner
from jaxnets.training.fit import fit
from jaxnets.transforms.folded import folded

_FEW = 3000  # rows up to which settings are tried in folds
_FOLDS = 5


def chosen(
    candidates: Mapping[str, tuple[Any, Splits]], make: Callable[[Any, Spec], Learner], *, in_order: bool = False
) -> str:
    """Return the name of the settings with the least held-out loss, and print what each has; the first's without any.

    Up to 3,000 rows of training and validation are tried in five folds, more by their validation part.

    Args:
        candidates: config, whose ``training`` is short, and data by name.
        make: ``make(config, spec)`` returns the learner.
        in_order: rows are in the order of time, so that no fold may be taken out of their middle.
    """
    first, splits = next(iter(candidates.values()))
    held = splits.validation
    rows = splits.train.num_examples + (held.num_examples if held else 0)
    fits = first.training.batch_size <= rows - -(-rows // _FOLDS)
    folds = None if in_order or rows > _FEW or not fits else _FOLDS
    if folds is None and held is None:
        return next(iter(candidates))
    how = "on validation rows" if folds is None else f"over {folds} folds"
    tell(f"settings: {', '.join(candidates)} are tried {how}, {first.training.duration} steps each")
    found = {
        name: _least(make(config, data.train.spec), config, data, folds) for name, (config, data) in candidates.items()
    }
    best = min(found, key=lambda name: found[name])
    told = ", ".join(f"{name} {loss:.4f}" for name, loss in found.items())
    tell(f"settings: {best} (loss {how} after {first.training.duration} steps: {told})")
    return best


def _least(learner: Learner, config: Any, splits: Splits, folds: int | None) -> float:
    """Return the least held-out loss of a training, the mean over folds."""
    seed: Any = 0
    if folds is not None:
        splits, learner, seed = in_folds(splits, folds), folded(learner, folds), range(folds)
    options = config.training.options() | {"early_stopping": None, "order": splits.order, "progress": False}
    result = fit(learner, splits.train, seed=seed, validation=splits.validation, **options)
    losses = np.array([row["validation/loss"] for row in result.history if "validation/loss" in row], np.float64)
    return float(np.where(np.isfinite(losses), losses, FINITE).min(0).mean())
