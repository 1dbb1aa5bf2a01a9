"""Which metrics stand beside a loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxnets import metrics
from jaxnets.errors import InputError
from jaxnets.metrics import Metric

_OF_CLASSES: dict[str, Callable[[int], Metric]] = {
    "accuracy": lambda num_classes: metrics.accuracy,
    "top_5_accuracy": lambda num_classes: metrics.top_k_accuracy(5),
    "precision": metrics.precision,
    "recall": metrics.recall,
    "f1": metrics.f1,
    "auroc": metrics.auroc,
    "average_precision": metrics.average_precision,
    "log_loss": lambda num_classes: metrics.log_loss,
    "calibration_error": lambda num_classes: metrics.calibration_error(),
}


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of a classifier; those of several classes are means over the classes (macro averages)."""

    metrics: tuple[
        Literal[
            "accuracy",
            "top_5_accuracy",
            "precision",
            "recall",
            "f1",
            "auroc",
            "average_precision",
            "log_loss",
            "calibration_error",
        ],
        ...,
    ] = ("accuracy",)
    """what is measured beside the loss"""

    def __post_init__(self) -> None:
        """Check the names."""
        if repeated := sorted({name for name in self.metrics if self.metrics.count(name) > 1}):
            raise InputError(f"metrics names {', '.join(repeated)} twice; name each once")

    def of(self, num_classes: int) -> dict[str, Metric]:
        """Return the metrics by name, for so many classes."""
        return {name: _OF_CLASSES[name](num_classes) for name in self.metrics}
