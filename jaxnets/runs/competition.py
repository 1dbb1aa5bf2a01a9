"""How the members of a sweep compete, as a run's folder keeps it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxnets.training.selection import Halving, PopulationBased


@dataclass(frozen=True)
class Competition:
    """How the members of a sweep compete.

    Attributes:
        by: "halving" or "population": the worse are dropped, or go on from the better.
        monitor: the metric that decides.
        factor: how many times fewer go on at each rung (halving).
        members: of a trial: its seeds (halving).
        seed: of what is drawn (population).
    """

    by: Literal["halving", "population"]
    monitor: str
    factor: int = 3
    members: int = 1
    seed: int = 0

    def rule(self, allowed: Callable[[str, float], bool]) -> Halving | PopulationBased:
        """Return the same, as ``fit`` takes it; ``allowed(name, value)`` says which values options may come to."""
        if self.by == "halving":
            return Halving(self.factor, self.members, self.monitor)
        return PopulationBased(seed=self.seed, monitor=self.monitor, allowed=allowed)
