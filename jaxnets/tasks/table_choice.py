"""Which of several settings suits a table: each is tried for a short time, and validation rows say."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxnets.data import Spec, Splits
from jaxnets.data.cache import cache_dir
from jaxnets.errors import FINITE
from jaxnets.learner import Learner
from jaxnets.runs.json_files import from_json, plain, to_json
from jaxnets.training.fit import fit


def tried(candidates: Mapping[str, tuple[Any, Splits]], make: Callable[[Any, Spec], Learner]) -> dict[str, float]:
    """Return the least validation loss that each of several settings has in a short training, by name.

    What was found for the same settings and rows before is taken from the cache folder, so that a run that is evaluated
    or resumed need not try again.

    Args:
        candidates: config, whose ``training`` is short, and data by name.
        make: ``make(config, spec)`` returns the learner.
    """
    told = json.dumps([[plain(config), splits.fingerprint] for config, splits in candidates.values()])
    path = cache_dir() / "tables" / f"{hashlib.sha256(told.encode()).hexdigest()}.json"
    if path.is_file():
        kept = from_json(path)
        if isinstance(kept, dict) and set(kept) == set(candidates) and all(isinstance(x, float) for x in kept.values()):
            return kept
    found = {
        name: _least(make(config, splits.train.spec), config, splits) for name, (config, splits) in candidates.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    to_json(path, found)
    return found


def _least(learner: Learner, config: Any, splits: Splits) -> float:
    options = config.training.options() | {"early_stopping": None, "order": splits.order, "progress": False}
    result = fit(learner, splits.train, validation=splits.validation, **options)
    losses = [float(row["validation/loss"]) for row in result.history if "validation/loss" in row]
    return min((loss for loss in losses if math.isfinite(loss)), default=FINITE)
