"""A run's folder: what was asked for, what it ran on, what came of it, and all that is needed to go on."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets.data import Spec, Splits
from jaxnets.data.unpacking import parse_json
from jaxnets.errors import InputError
from jaxnets.hosts import by_writer, first
from jaxnets.learner import Learner, TrainState
from jaxnets.parameters import paths
from jaxnets.runs import checkpoint
from jaxnets.runs.competition import Competition
from jaxnets.runs.environment import environment
from jaxnets.runs.json_files import from_dict, from_json, plain, to_json
from jaxnets.runs.lock import locked, written
from jaxnets.runs.saving import Saving
from jaxnets.training.chunk import run_keys
from jaxnets.training.plan import Plan, RunState, Skipped

SWEEP = "sweep.json"  # in the folder of a sweep, which holds runs


@dataclass(frozen=True)
class RunConfig:
    """What a run was asked to do, in full: ``config.json``.

    Attributes:
        recipe: name of the preset, or of the user's file.
        config: every field of the recipe's Config.
        seeds: one for each member that is trained.
        population: how several are trained: one after the other in each step ("map"), or together ("vmap").
        saving: when the state is saved, and which saved states are kept.
        mesh: of devices, such as "data=4,model=2"; None for one.
        fully_sharded: whether parameters and optimizer state are split along "data", too.
        folds: of the cross-validation whose members these are, one seed each; None where it is none.
        varied: options in which the members differ, a value each; None where they differ in the seed alone.
        competition: how the members compete, if they do.
    """

    recipe: str
    config: Mapping[str, Any]
    seeds: tuple[int, ...] = (0,)
    population: str = "map"
    saving: Saving = Saving()
    mesh: str | None = None
    fully_sharded: bool = False
    folds: int | None = None
    varied: Mapping[str, tuple[float, ...]] | None = None
    competition: Competition | None = None

    @property
    def seed(self) -> int | tuple[int, ...]:
        """The seeds as ``fit`` takes them: a lone one is no population, unless it has values of its own."""
        return self.seeds[0] if len(self.seeds) == 1 and self.varied is None else self.seeds


class Run:
    """One run's folder.

    It holds config.json, spec.json, environment.json, metrics.jsonl, checkpoints, curves.png and result.json.

    Args:
        path: of the folder.
        step: the saved state that is meant; the newest if absent.
    """

    def __init__(self, path: Path, step: int | None = None):
        self.path, self.step = path, step
        self.checkpoints = path / "checkpoints"

    @staticmethod
    def unused(path: Path | None, recipe: str) -> "Run":
        """Return a run that is yet to be created, in a folder ``runs/<recipe>-<short id>`` by default.

        Raises:
            InputError: if the folder already holds a run.
        """
        run = Run(path or Path("runs") / f"{recipe}-{int(first(secrets.randbits(24))):06x}")
        started = any((run.path / name).exists() for name in ("config.json", "metrics.jsonl"))
        if started or checkpoint.steps(run.checkpoints):
            raise InputError(
                f"{run.path}: already holds a run; resume it (jaxnets resume {run.path}) or name another --out"
            )
        return run

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, which is made if it is not there: no other run trains in it meanwhile.

        Raises:
            InputError: if another process holds it, which is named, or it cannot be made.
        """
        with ExitStack() as stack:
            by_writer(lambda: stack.enter_context(locked(self.path)))
            yield

    def create(self, config: RunConfig, splits: Splits) -> None:
        """Write down what the run is asked to do, on what.

        Raises:
            InputError: if it cannot be written, or the folder has come to hold a run meanwhile.
        """
        Run.unused(self.path, config.recipe)
        with written(self.path):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            to_json(self.path / "spec.json", splits.train.spec)
            to_json(self.path / "environment.json", environment() | {"data": splits.fingerprint})
            to_json(self.path / "config.json", config)

    @staticmethod
    def open(path: Path) -> "Run":
        """Return the run that a folder holds, or whose saved state it holds (``RUN/checkpoints/0000000500``).

        Raises:
            InputError: if it holds none.
        """
        if path.parent.name == "checkpoints" and path.name.isdigit() and path.is_dir():
            return Run(Run.open(path.parent.parent).path, int(path.name))
        if (path / SWEEP).is_file():
            raise InputError(f"{path}: is a sweep; its best trial is a run: {path / 'best'}")
        if not (path / "config.json").is_file():
            raise InputError(f"{path}: holds no run (there is no config.json)")
        return Run(path)

    @property
    def config(self) -> RunConfig:
        """What it was asked to do."""
        return from_dict(RunConfig, from_json(self.path / "config.json"))

    @property
    def spec(self) -> Spec:
        """What its training data are like."""
        return from_dict(Spec, from_json(self.path / "spec.json"))

    @property
    def result(self) -> dict[str, Any] | None:
        """What came of it; None if it has not ended, or was stopped while it was measured."""
        path = self.path / "result.json"
        result = from_json(path) if path.exists() else {}
        return result if isinstance(result, dict) and "baselines" in result else None

    def history(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl; a last line that was cut off is left out.

        Raises:
            InputError: if another line is no JSON object; it says which.
        """
        path = self.path / "metrics.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        rows = []
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                continue
            try:
                row = parse_json(line)
            except ValueError as error:
                raise InputError(f"{path}: line {number} is no JSON: {error}; remove it") from error
            if not _is_row(row):
                raise InputError(f"{path}: line {number} is no row of metrics with a step; remove it")
            rows.append(row)
        return rows

    def check_data(self, splits: Splits) -> None:
        """Check that these are the data the run began with.

        Raises:
            InputError: if they are others.
        """
        path = self.path / "environment.json"
        environment = from_json(path)
        began = environment.get("data") if isinstance(environment, dict) else None
        if not isinstance(began, dict):
            raise InputError(f'{path}: does not say what the data were, as "data": {{part: SHA-256}}')
        changed = [name for name, digest in splits.fingerprint.items() if began.get(name) != digest]
        if changed:
            raise InputError(f"{self.path}: the {' and '.join(changed)} data are not those that the run began with")

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside its arrays: what was asked for, of what data, and where it ran."""
        return {"config": _asked(self.config), "spec": plain(self.spec), "environment": _place()}

    def changes(self, facts: Mapping[str, Any]) -> list[str]:
        """Return what is other than a checkpoint's facts say, each with both sides."""
        now = plain(self.facts())
        if "config" in facts:  # it may be from before there were all fields
            facts = {**facts, "config": {**_asked(RunConfig(self.config.recipe, {})), **facts["config"]}}
        return [change for name in now if name in facts for change in _differences(name, facts[name], now[name])]

    def train_state(self, learner: Learner) -> TrainState:
        """Return the state that is meant, or the newest (once the run has ended, the one that was kept)."""
        init_key, _ = jax.eval_shape(run_keys, np.asarray(self.config.seed, np.int32))
        shape = jax.eval_shape(learner.init, init_key)
        return checkpoint.restore(self.checkpoints, shape, part="train", step=self.step)[0]

    def restored(self, plan: Plan) -> tuple[RunState, dict[str, Any]]:
        """Return the newest state, and the facts beside it."""
        uncounted = paths({"skipped": Skipped.none(plan.seeds.shape)})  # before bad steps were left out
        return checkpoint.restore(self.checkpoints, plan.state, older=uncounted)

    @property
    def num_steps(self) -> int:
        """Steps that the newest checkpoint has taken."""
        return max(checkpoint.steps(self.checkpoints), default=0)

    def rewrite(self, config: RunConfig) -> None:
        """Write down what the run is asked to do from now on."""
        with written(self.path):
            to_json(self.path / "config.json", config)

    def lengthen(self, config: RunConfig, plan: Plan) -> None:
        """Have a run go on, when it is resumed, until the end of a longer plan, from the weights that were kept.

        Raises:
            InputError: if there is nothing to go on from.
        """
        state, facts = self.restored(plan)
        step = int(np.ravel(np.max(state.train.step))[0])  # before the last, where the best were kept
        if state.best is not None:  # patience begins anew
            state = state.replace(best=state.best.replace(waited=np.zeros_like(state.best.waited)))
        self.rewrite(config)
        with written(self.path):
            (self.path / "result.json").unlink(missing_ok=True)
        again = {**self.facts(), **facts, "reason": "", "config": _asked(config)}  # it ran where it ran
        checkpoint.save(self.checkpoints, step, state, again, newest=True, also=list)

    def cut_history(self, step: int) -> None:
        """Leave out the rows after ``step``, which the resumed run writes again."""
        rows = [row for row in self.history() if row["step"] <= step]
        partial = self.path / ".metrics.jsonl.part"
        with written(self.path):
            partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
            partial.replace(self.path / "metrics.jsonl")


def _asked(config: RunConfig) -> dict[str, Any]:
    """Return what decides a run's bits."""
    return {name: value for name, value in plain(config).items() if name != "saving"}


def _is_row(row: Any) -> bool:
    """Return whether this is a row of metrics: a step, and a number a metric, or one for each seed."""
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return False
    values = [item for value in row.values() for item in (value if isinstance(value, list) else [value])]
    return all(value is None or isinstance(value, int | float) for value in values)


def _place() -> dict[str, Any]:
    """Return what the bits of a run may depend on."""
    return {name: value for name, value in environment().items() if name not in ("command", "platform", "jaxnets")}


def _differences(name: str, before: Any, now: Any) -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names: Sequence[str] = list(dict.fromkeys([*before, *now]))
        return [found for key in names for found in _differences(f"{name}.{key}", before.get(key), now.get(key))]
    same = before == now or name.endswith((".data", ".data_dir"))  # the data themselves are compared, not their place
    return [] if same else [f"{name} was {_short(before)} and is {_short(now)}"]


def _short(value: Any) -> str:
    """Return the value as Python writes it, cut where it is long, such as a tokenizer."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
