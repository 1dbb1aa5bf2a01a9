"""Training in one call, with progress on the terminal."""

from typing import Any, NamedTuple

from jaxnets.data import Data
from jaxnets.learner import Learner, TrainState
from jaxnets.training.events import events


class Fit(NamedTuple):
    """What came of a run.

    Attributes:
        state: the final state, or the best with early stopping.
        history: one row an evaluation: step, epoch, seconds and metrics (arrays for a population).
        stop_reason: why it ended.
        seconds: how long it took.
        compile_seconds: the part of it that went into compiling.
    """

    state: TrainState
    history: list[dict[str, Any]]
    stop_reason: str
    seconds: float
    compile_seconds: float


def fit(learner: Learner, train: Data, *, progress: bool = True, **options: Any) -> Fit:
    """Train ``learner`` on ``train``, and return the final state and the history of metrics.

    Args:
        learner: what is trained.
        train: the training data.
        progress: show progress on the terminal.
        **options: those of ``events``: duration, batch_size, seed, validation, evaluate_every, early_stopping, order,
            initial, ...
    """
    from jaxnets.training.progress import Display  # noqa: PLC0415  (rich is needed only to show something)

    history, last = [], None
    with Display(quiet=not progress) as display:
        for event in events(learner, train, **options):
            display.show(event)
            if event.kind == "evaluation":
                history.append(dict(event.row))
            last = event
    assert last is not None
    return Fit(last.run_state.train, history, last.reason, last.seconds, last.compile_seconds)
