"""The command that trains many trials of a recipe as few programs, and ranks them."""

import itertools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.interpreters.partial_eval import dce_jaxpr

from jaxnets.commands.opening import built, planned
from jaxnets.commands.sweeping import go_on, plan_of
from jaxnets.errors import InputError, check_whole
from jaxnets.learner import Batch, TrainState
from jaxnets.memory import device_memory, num_bytes
from jaxnets.options import DataConfig, with_data
from jaxnets.options.conditions import check_used
from jaxnets.options.varying import Grid, drawn, field_of, read_grid, value_of, with_fields, with_traced
from jaxnets.recipes.recipe import Recipe
from jaxnets.runs.competition import Competition
from jaxnets.runs.console import console
from jaxnets.runs.folder import Run, RunConfig
from jaxnets.runs.json_files import plain, to_json
from jaxnets.runs.saving import Saving
from jaxnets.runs.sweeps import Group, SweepConfig, direction, file_of, is_sweep
from jaxnets.training.plan import Plan
from jaxnets.transforms.population import fitting_way
from jaxnets.transforms.varied import without_values

_MOST_TRIALS = 10_000
_COPIES = 4  # of a member's state that a run holds at most: its own, one to go back to, and one to be saved, and sums
_SHARE = 0.8  # of the memory that a program may take


@dataclass(frozen=True)
class SweepOptions:
    """Which trials there are, and how they compete."""

    grid: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """what is tried of an option, once for each: learning_rate=1e-4:1e-1:log8 (eight values), weight_decay=0,0.01, or,
    to draw from, dropout=0:0.5:lin; every combination is a trial"""
    random: int | None = None
    """so many trials drawn at random from these values and ranges, instead of all combinations"""
    seeds: int = 1
    """of each trial; it is ranked by their mean"""
    seed: int = 0
    """the first seed, and that of what is drawn"""
    by: str = "validation/loss"
    """the metric that ranks trials"""
    halving: int | None = None
    """successive halving: at each rung, one of so many trials goes on, the best; 3 is usual"""
    pbt: bool = False
    """population-based training: after each evaluation the worst quarter goes on from the best, with other values"""
    population: Literal["map", "vmap"] | None = None
    """trials of a program one after the other (map: the default on CPU), or together (vmap)"""
    out: Path | None = None
    """the sweep's folder; runs/RECIPE-sweep-ID if absent"""
    saving: Saving = Saving()
    """when states are saved, and which are kept"""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_whole("seeds", self.seeds)
        if self.random is not None:
            check_whole("random", self.random, 1, _MOST_TRIALS, "trials")
        if self.halving is not None:
            check_whole("halving", self.halving, 2, remedy="such as 3")
        if self.halving is not None and self.pbt:
            raise InputError(f"halving={self.halving} and pbt are two ways to compete; leave one out")
        if self.pbt and self.seeds > 1:
            raise InputError(f"seeds={self.seeds} changes nothing with pbt: each member is a trial; leave it out")


def sweep(recipe: Recipe, options: SweepOptions) -> int:
    """Train many trials of a recipe as few programs, rank them, and keep the best, ready to go on."""
    if not options.grid:
        raise InputError("a sweep needs --grid NAME=VALUES, such as --grid learning_rate=1e-4:1e-1:log8")
    recipe = recipe._replace(config=with_data(recipe.config, DataConfig.absolute))  # it may be resumed from elsewhere
    folder = options.out or Path("runs") / f"{recipe.name}-sweep-{secrets.token_hex(3)}"
    if is_sweep(folder):
        raise InputError(f"{folder}: already holds a sweep; resume it (jaxnets resume {folder}) or name another --out")
    trials = _trials(recipe.config, options)
    recipe = recipe.settled()
    names = tuple(trials[0])
    plan, traced = _program(recipe, trials, names, options.by)
    kind = "halving" if options.halving else "population"
    competition = None
    if options.halving or options.pbt:
        competition = Competition(kind, options.by, options.halving or 3, options.seeds, options.seed)
    groups = _groups(recipe, trials, traced, plan.state, options)
    if competition and len(groups) > 1:
        raise InputError(
            f"trials compete within one program, and these are {len(groups)}: {_why(groups, names, traced)}; leave out "
            "--halving and --pbt, or what decides the program"
        )
    seeds = tuple(range(options.seed, options.seed + options.seeds))
    way = options.population or fitting_way()
    better, config = direction(plan.better, options.by), plain(recipe.config)
    found = SweepConfig(
        *(recipe.name, config, names, tuple(map(plain, trials)), groups, seeds, way, options.by, better),
        *(options.saving, competition),
    )
    if competition:
        plan_of(recipe, found, 0)  # it suits the run
    console.print(
        f"[bold]{recipe.name}[/bold]: {len(trials)} trials of {len(seeds)} seed{'s' * (len(seeds) > 1)}, in "
        f"{len(groups)} program{'s' * (len(groups) > 1)}{': ' * (len(groups) > 1)}{_why(groups, names, traced)}",
        highlight=False,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with Run(folder).held():
        to_json(file_of(folder), found)
        return go_on(folder, recipe, found)


def _trials(config: Any, options: SweepOptions) -> list[dict[str, Any]]:
    """Return the values of every trial, each checked as its flags would be."""
    grids = [read_grid(text) for text in options.grid]
    if len({grid.name for grid in grids}) < len(grids):
        raise InputError(f"grid: an option twice among {', '.join(grid.name for grid in grids)}; name each once")
    for grid in grids:
        field_of(config, grid.name)
    if options.random is None:
        if ranges := [grid.name for grid in grids if grid.scale]:
            raise InputError(f"grid: {ranges[0]} is a range to draw from; say how many values, log8, or --random N")
        texts = itertools.product(*(grid.values for grid in grids))
        number = int(np.prod([len(grid.values) for grid in grids]))
        if number > _MOST_TRIALS:
            raise InputError(f"grid: {number:,} trials are more than {_MOST_TRIALS:,}; use fewer values, or --random N")
    else:
        random = np.random.default_rng(options.seed)
        texts = ([drawn(grid, random) for grid in grids] for _ in range(options.random))
    known: dict[tuple[str, str], Any] = {}

    def value(grid: Grid, text: str) -> Any:
        if (grid.name, text) not in known:
            known[grid.name, text] = value_of(config, grid.name, text, rounded=grid.spaced)
        return known[grid.name, text]

    found = [{grid.name: value(grid, text) for grid, text in zip(grids, row, strict=True)} for row in texts]
    different = list({str(trial): trial for trial in found}.values())
    if len(different) < len(found):
        console.print(f"{len(found) - len(different)} trials are others again, and are left out")
    for trial in different:
        check_used(with_fields(config, trial), config)
    return different


def _program(
    recipe: Recipe, trials: Sequence[Mapping[str, Any]], names: Sequence[str], by: str
) -> tuple[Plan, set[str]]:
    """Return the plan of the first trial alone, and which options the members of one program can differ in."""
    first = recipe._replace(config=with_fields(recipe.config, trials[0]))
    splits = first.load(first.config)

    def plan_with(varied: Mapping[str, tuple[float, ...]] | None, **changes: Any) -> Plan:
        changed = first._replace(config=with_fields(first.config, changes))
        config = RunConfig(recipe.name, {}, varied=varied)
        return planned(built(Run(Path()), config, changed, splits.train.spec), splits)

    plan, traced = plan_with(None), set()
    for name in names:
        values = [trial[name] for trial in trials]
        if not all(type(value) is float for value in values):
            continue
        try:
            first.load(with_traced(first.config, {name: _Unread()}))
            together = plan_with({name: (values[0],)})
        except (_ReadError, InputError, TypeError, jax.errors.ConcretizationTypeError):
            continue  # the data, or the program, depends on it
        # A 0 may leave a part of the optimizer out, which a member has: its state would not be a run's of its own.
        alone = [plan] if 0.0 not in values else [plan, plan_with(None, **{name: 0.0})]
        if all(_structure(other.state.train) == _structure(together.state.train) for other in alone):
            traced.add(name)
            _check_measure(first, name, values[0], together, by)
    return plan, traced


def _structure(state: TrainState) -> Any:
    return jax.tree.structure(without_values(state))


def _check_measure(recipe: Recipe, name: str, value: float, plan: Plan, by: str) -> None:
    """Check that an option does not change how the metric is measured that ranks by it."""
    rows = 2 * plan.learner.block
    batch = {key: jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype) for key, array in plan.train.items()}
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), plan.state.train)
    short = by.partition("/")[2]

    def measure(value: Any, state: TrainState, batch: Batch) -> Any:
        learner = recipe._replace(config=with_traced(recipe.config, {name: value})).learner(plan.train.spec)
        sums = learner.evaluate(without_values(state), batch)
        return sums.get(short, sums)

    program = jax.make_jaxpr(measure)(jnp.float32(value), state, batch).jaxpr
    if dce_jaxpr(program, [True] * len(program.outvars))[1][0]:
        raise InputError(
            f"{name} changes what {by} measures, so that its trials cannot be ranked by it; choose another metric, "
            "such as --by validation/accuracy"
        )


def _groups(
    recipe: Recipe, trials: Sequence[Mapping[str, Any]], traced: set[str], state: Any, options: SweepOptions
) -> tuple[Group, ...]:
    """Return which trials are one program: those alike in what decides it, as many as fit into memory."""
    together: dict[str, Group] = {}
    for number, trial in enumerate(trials):
        alike = {name: plain(value) for name, value in trial.items() if name not in traced}
        own = together.get(str(alike), Group(alike, ()))
        together[str(alike)] = Group(alike, (*own.trials, number))
    if not traced and options.seeds == 1:
        return tuple(together.values())
    member = _COPIES * num_bytes(state.train)
    most = max(1, int(_SHARE * device_memory()) // max(1, member * options.seeds))
    parts = [
        Group(group.alike, group.trials[start : start + most])
        for group in together.values()
        for start in range(0, len(group.trials), most)
    ]
    if len(parts) > len(together):
        console.print(
            f"{most} trials at a time: a member takes {member / 1e6:,.0f} MB, and more do not fit into memory"
        )
    return tuple(parts)


def _why(groups: Sequence[Group], names: Sequence[str], traced: set[str]) -> str:
    """Return which options make several programs necessary."""
    deciding = [name for name in names if name not in traced]
    if len(groups) == 1:
        return ""
    return f"{', '.join(deciding)} decide{'s' * (len(deciding) == 1)} what is compiled" if deciding else "memory"


class _ReadError(Exception):
    """A value was looked at."""


class _Unread:
    """A value that nobody may look at."""

    def _refuse(self, *_: Any) -> Any:
        raise _ReadError

    __getattr__ = __float__ = __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __hash__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = _refuse
