"""Small states, saved without a run: for tests of checkpoints."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from jaxnets.runs import checkpoint
from jaxnets.runs.saving import Saver, Saving

STATES = {step: {"a": np.full(5, step, np.float32), "b": {"c": np.arange(step, dtype=np.int32)}} for step in (3, 6, 9)}


def saved(folder: Path, *steps: int) -> Path:
    folder.mkdir(exist_ok=True)
    for step in steps:
        checkpoint.save(folder, step, STATES[step], {"reason": ""})
    return folder


def saver(folder: Path, metrics=None, facts=None, **options) -> Saver:
    """Return what saves a run of batches of 10 of 100 examples, told of by no more than that."""
    plan: Any = SimpleNamespace(better=metrics or {}, batch_size=10, train=SimpleNamespace(num_examples=100))
    return Saver(folder, Saving(**options), plan, {}, facts)
