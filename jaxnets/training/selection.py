"""How the members of a population compete: the worse are dropped, or go on from the better."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.errors import InputError, check_number, check_whole
from jaxnets.training.plan import Plan, RunState
from jaxnets.transforms.varied import VARIED


@dataclass(frozen=True)
class Halving:
    """Successive halving (Jamieson and Talwalkar, 2016): at each rung the best ``1 / factor`` of the trials go on.

    Of n trials there are ``ceil(log(n) / log(factor))`` rungs, the last after ``1 / factor`` of the run's steps, each
    other after ``1 / factor`` of the next one's; the evaluation at a rung, or the next after it, decides. Dropped
    members keep their weights and cost nothing more where members are trained one after the other.

    Attributes:
        factor: how many times fewer go on.
        members: of a trial, side by side, judged by their mean: its seeds.
        monitor: the metric that is looked at.
        maximize: whether more of it is better; as the learner's metric says if absent.
    """

    factor: int = 3
    members: int = 1
    monitor: str = "validation/loss"
    maximize: bool | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_whole("factor", self.factor, 2, remedy="such as 3")
        check_whole("members", self.members, remedy="seeds of a trial")

    def rungs(self, num_trials: int, num_steps: int) -> list[int]:
        """Return the steps from which on ever fewer trials go on."""
        number = math.ceil(math.log(num_trials) / math.log(self.factor) - 1e-9)
        return [max(1, num_steps // self.factor ** (number - i)) for i in range(number)]

    def begin(self, plan: Plan) -> None:
        """Raise an ``InputError`` if the run does not suit."""
        num_members = plan.seeds.size
        if num_members % self.members:
            raise InputError(f"members={self.members} of a trial do not divide the population of {num_members}")
        if plan.num_steps is None:
            raise InputError("halving needs to know the run's length; give it in steps or epochs, not in time")
        rungs = self.rungs(num_members // self.members, plan.num_steps)
        if rungs and plan.every > rungs[0]:
            raise InputError(
                f"the first of {num_members // self.members} trials would be dropped at step {rungs[0]:,}, and the "
                f"first evaluation is at step {plan.every:,}; evaluate every {max(1, rungs[0])} steps, or train longer"
            )

    def select(self, run: RunState, row: Mapping[str, Any], plan: Plan) -> RunState:
        """Return the state with those dropped that are not among the best."""
        assert plan.num_steps is not None
        num_trials, step = len(run.dropped) // self.members, int(row["step"])
        passed = sum(rung <= step for rung in self.rungs(num_trials, plan.num_steps))
        allowed = max(1, math.ceil(num_trials / self.factor**passed))
        scores = _scores(row[self.monitor], maximize=bool(self.maximize)).reshape(num_trials, -1).mean(1)
        dropped = np.asarray(run.dropped).reshape(num_trials, -1)[:, 0]
        order = np.lexsort((np.arange(num_trials), scores, dropped))  # of equals the first
        kept = np.zeros(num_trials, bool)
        kept[order[:allowed]] = True
        return run.replace(dropped=np.repeat(dropped | ~kept, self.members))


@dataclass(frozen=True)
class PopulationBased:
    """Population-based training (Jaderberg et al., 2017): the worst go on from the best, with other hyperparameters.

    After every evaluation the worst ``share`` of the members take the weights, the optimizer's state and the
    hyperparameters of members drawn from the best ``share``, each hyperparameter times one of ``factors``, unless that
    is not allowed; 0 stays 0. What is drawn depends on ``seed`` and the step alone. It needs ``varied`` members.

    Attributes:
        share: of the members, at either end.
        factors: less, and more, of a hyperparameter.
        seed: of what is drawn.
        monitor: the metric that is looked at.
        maximize: whether more of it is better; as the learner's metric says if absent.
        allowed: ``allowed(name, value)``: whether a hyperparameter may have a value; any if absent.
    """

    share: float = 0.25
    factors: tuple[float, float] = (0.8, 1.25)
    seed: int = 0
    monitor: str = "validation/loss"
    maximize: bool | None = None
    allowed: Callable[[str, float], bool] = lambda name, value: True

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_number("share", self.share, 0, 0.5 + 1e-9, "in (0, 0.5], such as 0.25", low_too=False)
        if len(self.factors) != 2 or not 0 < self.factors[0] < 1 < self.factors[1]:
            raise InputError(f"factors={self.factors} must be one below 1 and one above, such as (0.8, 1.25)")

    def begin(self, plan: Plan) -> None:
        """Raise an ``InputError`` if the run does not suit."""
        if VARIED not in plan.state.train.extra:
            raise InputError("population-based training needs members that differ: jaxnets.varied(make, values)")
        if round(plan.seeds.size * self.share) < 1:
            raise InputError(f"share={self.share} of {plan.seeds.size} members is none; train more")
        if plan.early_stopping:
            raise InputError("early stopping does not go with population-based training; leave patience out")

    def select(self, run: RunState, row: Mapping[str, Any], plan: Plan) -> RunState:
        """Return the state whose worst members were replaced; after the last step nothing changes."""
        size, step = plan.seeds.size, int(row["step"])
        if step == plan.num_steps:
            return run
        random = np.random.default_rng([self.seed, step])
        order = np.argsort(_scores(row[self.monitor], maximize=bool(self.maximize)), kind="stable")
        number = round(size * self.share)
        values = {name: np.asarray(value) for name, value in sorted(run.train.extra[VARIED].items())}
        source, worst = np.arange(size), order[-number:]
        source[worst] = random.choice(order[:number], number)
        factors = random.choice(self.factors, (len(values), number))
        moved = {}
        for (name, before), factor in zip(values.items(), factors, strict=True):
            moved[name] = before[source]
            proposed = (moved[name][worst] * factor).astype(np.float32)
            good = [self.allowed(name, float(value)) for value in proposed]
            moved[name][worst] = np.where(good, proposed, moved[name][worst])
        in_a_row = np.array(run.skipped.in_a_row)
        in_a_row[worst] = 0  # one that was given up goes on, from good weights
        skipped = run.skipped.replace(in_a_row=in_a_row)
        return run.replace(train=_replaced(run.train, source, moved), skipped=skipped)


@jax.jit
def _replaced(train: Any, source: jax.Array, values: Mapping[str, jax.Array]) -> Any:
    """Return the state in which member i goes on from ``source[i]`` with these hyperparameters."""
    taken = jax.tree.map(lambda leaf: jnp.take(leaf, source, axis=0), train)
    return taken.replace(extra={**taken.extra, VARIED: dict(values)})


def _scores(values: Any, *, maximize: bool) -> np.ndarray:
    """Return numbers of which less is better, float64 [members]; what is no number is worst."""
    scores = np.asarray(values, np.float64) * (-1 if maximize else 1)
    return np.where(np.isnan(scores), np.inf, scores)
