"""How long a run is, in which batches, and when it is looked at."""

from dataclasses import dataclass
from typing import Any

from jaxnets.errors import check_field
from jaxnets.options.conditions import GIVEN, only
from jaxnets.training.duration import Duration
from jaxnets.training.stopping import EarlyStopping


@dataclass(frozen=True)
class TrainingConfig:
    """How long, in which batches, and when to look."""

    duration: str = "10ep"
    """how long: 500 (steps), 5ep (epochs), 90s, 30m or 1.5h"""
    batch_size: int = 64
    """examples of a step; 1 is stochastic descent, all of them batch descent"""
    evaluate_every: str = "1ep"
    """steps or epochs between two rows of metrics"""
    patience: int | None = None
    """stop after so many evaluations without a better --monitor, and keep the best weights"""
    min_delta: float = only(0.0, patience=GIVEN)
    """how much better the monitored metric must be to count as better"""
    monitor: str = only("validation/loss", patience=GIVEN)
    """the metric that patience looks at, such as validation/accuracy or train/loss"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        Duration.parse(self.duration)
        Duration.parse(self.evaluate_every, "evaluate_every")
        check_field(self, "batch_size", self.batch_size >= 1, "1 or more")
        self.early_stopping  # noqa: B018  (checks its own)

    @property
    def early_stopping(self) -> EarlyStopping | None:
        """The rule for stopping early, if there is one."""
        return None if self.patience is None else EarlyStopping(self.patience, self.min_delta, self.monitor)

    def num_steps(self, num_examples: int) -> int | None:
        """Return the length of a run in steps; None for a duration in time."""
        return Duration.parse(self.duration).steps(num_examples, self.batch_size)

    def options(self) -> dict[str, Any]:
        """Return these as arguments of ``fit`` and ``events``."""
        return {
            "duration": self.duration,
            "batch_size": self.batch_size,
            "evaluate_every": self.evaluate_every,
            "early_stopping": self.early_stopping,
        }
