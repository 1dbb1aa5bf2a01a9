"""A run's folder, opened in Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.data import Spec
from jaxnets.learner import Learner, TrainState
from jaxnets.training.evaluation import predict


class OpenedRun(NamedTuple):
    """A run, as the command line left it.

    Attributes:
        path: its folder.
        learner: what was trained; of several seeds, their population.
        state: its newest weights (once the run has ended, those that were kept).
        spec: what its training data are like.
        config: its recipe's config.
        seeds: one for each member.
        result: what ``result.json`` holds; None before the end.
    """

    path: Path
    learner: Learner
    state: TrainState
    spec: Spec
    config: Any
    seeds: Sequence[int]
    result: dict[str, Any] | None

    def predict(self, inputs: Any, *, batch_size: int | None = None) -> Any:
        """Return the outputs for inputs like the training data's, [N, ...]; [seeds, N, ...] of several seeds."""
        return predict(self.learner, self.state, inputs, batch_size=batch_size)


def open_run(folder: str | Path, recipe: str | Path | None = None) -> OpenedRun:
    """Return the run in a folder.

    Args:
        folder: that ``jaxnets train`` wrote.
        recipe: the recipe's file, if the run is of one's own recipe.

    Raises:
        InputError: if there is no run, none of its checkpoints is sound, or it is of one's own recipe, not named.
    """
    from jaxnets.commands import opening  # noqa: PLC0415  (recipes and options are needed only here)

    opened = opening.open_run(Path(folder), None if recipe is None else Path(recipe))
    learner, run = opened.members, opened.run
    config, seeds = opened.recipe.config, opened.config.seeds
    return OpenedRun(run.path, learner, run.train_state(learner), opened.spec, config, seeds, run.result)
