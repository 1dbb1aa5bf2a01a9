"""Early stopping: the best evaluation so far, of a run or of each member of a population."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from jaxnets.errors import InputError, check_number, check_whole
from jaxnets.learner import TrainState

T = TypeVar("T")


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop a run that no longer improves; the weights of its best evaluation are kept.

    Attributes:
        patience: evaluations without improvement after which the run stops.
        min_delta: how much better counts as an improvement.
        monitor: the metric that is looked at.
        maximize: whether more of it is better; as the learner's metric says if absent.
    """

    patience: int
    min_delta: float = 0.0
    monitor: str = "validation/loss"
    maximize: bool | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_whole("patience", self.patience, remedy="evaluations without a better value")
        check_number("min_delta", self.min_delta, 0, np.inf, "0 or more")
        if not isinstance(self.monitor, str):
            raise InputError(f"monitor={self.monitor!r} must be the name of a metric, such as 'validation/accuracy'")
        if self.maximize not in (None, True, False):
            raise InputError(f"maximize={self.maximize!r} must be True, False, or None for what the metric says")


class Best(struct.PyTreeNode):
    """The best evaluation so far; every leaf has the population's axes.

    Attributes:
        state: the state at that evaluation.
        value: of the monitored metric, float32.
        step: when it was.
        waited: evaluations since then.
    """

    state: TrainState
    value: Any
    step: Any
    waited: Any


def first_best(state: TrainState, rule: EarlyStopping) -> Best:
    """Return the memory of a run that was never evaluated: any value is better."""
    shape = state.step.shape
    worst = -np.inf if rule.maximize else np.inf
    zeros = jnp.zeros(shape, jnp.int32)
    return Best(jax.tree.map(jnp.copy, state), jnp.full(shape, worst, jnp.float32), zeros, zeros)


def updated_best(best: Best, state: TrainState, row: Mapping[str, Any], rule: EarlyStopping) -> Best:
    """Return the memory after an evaluation; a member whose patience has run out keeps what it has."""
    value, best_value = np.asarray(row[rule.monitor], np.float32), np.asarray(best.value)
    waited = np.asarray(best.waited)
    gain = value - best_value if rule.maximize else best_value - value
    running = waited < rule.patience
    improved = running & (gain > rule.min_delta)
    if not improved.any():
        return best.replace(waited=waited + running.astype(np.int32))
    return Best(
        select(improved, state, best.state),
        np.where(improved, value, best_value),
        np.where(improved, state.step, best.step),
        np.where(improved, 0, waited + running).astype(np.int32),
    )


@jax.jit
def select(condition: ArrayLike, new: T, old: T) -> T:
    """Return the new tree for members whose condition holds, and the old one for the others."""
    members = jnp.asarray(condition)

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(members.reshape(members.shape + (1,) * (a.ndim - members.ndim)), a, b)

    return jax.tree.map(choose, new, old)
