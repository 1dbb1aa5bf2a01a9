"""Bad steps, after which a loss or the state is not finite: found, left out, counted and named."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.hosts import on_host
from jaxnets.metrics import Mean
from jaxnets.network import PyTree
from jaxnets.parameters import paths
from jaxnets.training.plan import RunState
from jaxnets.training.stopping import select

LIMIT = 10  # bad steps in a row after which a member is given up
_FEW = 4  # rows that are named

Take = Callable[[RunState, int, int], RunState]  # takes so many steps from a step on; the state it is given is used up


class Guard:
    """Looks at a run's state after each chunk of steps, and leaves the bad steps out.

    What is not finite stays so, in sums of losses and in weights. So one look after a chunk tells whether all its steps
    were good; if not, the chunk is taken again in halves until the bad step is found. The state after it is the one
    before it, a step further. So a healthy run has its bits, and pays for the look and a copy of the state, a chunk.

    Each member of a population is judged by itself. One that had ``LIMIT`` bad steps in a row is given up: it keeps the
    weights from before them.

    Args:
        run: the state to begin from.
        rows: ``rows(step) -> [members, B]``: the training rows that a step takes.
        seeds: of the members.

    Attributes:
        seconds: how long a copy and a look take.
    """

    def __init__(self, run: RunState, rows: Callable[[int], np.ndarray], seeds: np.ndarray):
        self._rows, self._seeds = rows, seeds
        self._names = [_readable(path) for path in paths(_watched(run))]
        self._bad = on_host(_counts(_watched(run), seeds.ndim))
        self._before = _copied(_donated(run))
        self.notes: list[str] = []
        self.begin(run)  # so that all is compiled, here and below
        self._count(run)
        began = time.perf_counter()
        self.begin(run)
        self._count(run)
        jax.block_until_ready(self._before)
        self.seconds = time.perf_counter() - began

    def begin(self, run: RunState) -> None:
        """Keep a copy of the state from which the next steps are taken."""
        self._before = _copy(self._before, _donated(run))

    def checked(self, after: RunState, step: int, num: int, take: Take) -> RunState:
        """Return the state after ``num`` steps from the state kept last, without the bad ones; ``notes`` are of these.

        Once all members are given up, the state may be one of fewer steps.

        Args:
            after: the state that these steps led to.
            step: where they began.
            num: how many they were.
            take: takes some of them again.
        """
        self.notes = []
        train, sums = self._before
        return self._judged(after.replace(train=train, sums=sums), after, step, num, take)

    def _steps(self, run: RunState, step: int, num: int, take: Take) -> RunState:
        """Return the state after these steps without the bad ones."""
        train, sums = _copied(_donated(run))
        return self._judged(run, take(run.replace(train=train, sums=sums), step, num), step, num, take)

    def _judged(self, run: RunState, after: RunState, step: int, num: int, take: Take) -> RunState:
        """Return ``after`` if the steps from ``run`` to it were good, else the state without those that were not."""
        if (gone := given_up(run)).any():
            after = after.replace(train=_stayed(gone, run, after))
        counts = self._count(after)
        rising = (counts > self._bad) & ~gone
        if not rising.any():
            self._bad = counts
            return after.replace(skipped=run.skipped.replace(in_a_row=np.where(gone, run.skipped.in_a_row, 0)))
        if num == 1:
            return self._left_out(run, after, step, rising, np.where(rising.any(0), self._bad, counts))
        run = self._steps(run, step, num // 2, take)
        return run if given_up(run).all() else self._steps(run, step + num // 2, num - num // 2, take)

    def _left_out(self, run: RunState, after: RunState, step: int, rising: np.ndarray, counts: np.ndarray) -> RunState:
        """Return the state after a step that was bad for some members, and note it."""
        bad, gone, skipped = np.asarray(rising.any(0)), given_up(run), run.skipped
        in_a_row = np.where(bad, skipped.in_a_row + 1, np.where(gone, skipped.in_a_row, 0)).astype(np.int32)
        skipped = skipped.replace(num=(skipped.num + bad).astype(np.int32), in_a_row=in_a_row)
        self._bad = counts
        for member in np.flatnonzero(bad).tolist():
            name = self._names[int(rising.reshape(len(rising), -1)[:, member].argmax())]
            rows = self._rows(step)[member]
            others = f" and {len(rows) - _FEW} more" if len(rows) > _FEW else ""
            self.notes.append(
                f"left out step {step + 1:,}{self._of_seed(member)}: {name} is not finite after it; it took rows "
                f"{', '.join(map(str, rows[:_FEW]))}{others} ({skipped.num.reshape(-1)[member]:,} left out so far)"
            )
        sums = select(bad, run.sums, after.sums)
        return after.replace(train=_stayed(bad, run, after), sums=sums, skipped=skipped)

    def _count(self, run: RunState) -> np.ndarray:
        """Return how many numbers of each leaf are not finite; none is told at once, for counting takes five times."""
        watched = _watched(run)
        if not self._bad.any() and _finite(watched):
            return self._bad
        return on_host(_counts(watched, self._seeds.ndim))

    def _of_seed(self, member: int) -> str:
        return f" of seed {self._seeds.reshape(-1)[member]}" if self._seeds.ndim else ""


def given_up(run: RunState) -> np.ndarray:
    """Return which members had so many bad steps in a row that they are trained no more, of the population's shape."""
    return np.asarray(run.skipped.in_a_row) >= LIMIT


def told(run: RunState, step: int, reason: str, seeds: np.ndarray, row: Mapping[str, Any]) -> str:
    """Return why a run ended, with what went wrong in it; "diverged" comes first, if that is what it did.

    Args:
        run: its last state.
        step: how many steps it took; the weights that are kept may be of an earlier one.
        reason: why it ended.
        seeds: of the members.
        row: the last row of metrics.
    """
    gone, num = np.ravel(given_up(run)), np.ravel(run.skipped.num)
    held_out = np.ravel(np.broadcast_to(row.get("validation/loss", 0.0), seeds.shape))

    def of(members: np.ndarray) -> str:
        return f" (seed {', '.join(map(str, seeds.reshape(-1)[members]))})" if seeds.ndim else ""

    if gone.any():
        what = f"{LIMIT} steps in a row were not finite{of(gone)}; the weights before them are kept"
    elif (mostly := 2 * num > step).any():
        what = f"{num.max():,} of {step:,} steps were not finite and left out{of(mostly)}"
    elif (lost := ~np.isfinite(held_out)).any():
        what = f"validation/loss is not finite{of(lost)}"
    else:
        return f"{reason}; {num.sum():,} bad steps were left out{of(num > 0)}" if num.any() else reason
    end = "" if gone.all() else f"; {reason}"
    return f"diverged at step {step:,}: {what}; try a lower learning rate, or clip gradients{end}"


def _stayed(members: np.ndarray, run: RunState, after: RunState) -> PyTree:
    """Return the state after some steps, in which these members learned nothing."""
    return select(members, run.train.replace(step=after.train.step), after.train)


def _donated(run: RunState) -> tuple[PyTree, PyTree]:
    return run.train, run.sums


def _copied(tree: PyTree) -> PyTree:
    return jax.device_put(tree, jax.tree.map(lambda leaf: leaf.sharding, tree), may_alias=False)


@partial(jax.jit, donate_argnums=0, keep_unused=True)
def _copy(old: PyTree, new: PyTree) -> PyTree:
    """Return a copy of the new tree in the memory of the old one."""
    return jax.tree.map(jnp.copy, new)


def _watched(run: RunState) -> PyTree:
    """Return what must stay finite, by path; what comes first is named first: losses, weights, then the rest."""
    losses = {"loss": run.sums["loss"]} if "loss" in run.sums else run.sums
    losses = {name: sums for name, sums in losses.items() if isinstance(sums, Mean)}
    leaves = paths((losses, run.train.params, run.train.replace(params=None)))
    return {path: leaf for path, leaf in leaves.items() if jnp.issubdtype(leaf.dtype, jnp.inexact)}


@jax.jit
def _finite(watched: PyTree) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(watched)]).all()


@partial(jax.jit, static_argnums=1)
def _counts(watched: PyTree, axes: int) -> jax.Array:
    """Return how many numbers of each leaf are not finite, int32 [L, *members]."""
    leaves = jax.tree.leaves(watched)
    return jnp.stack([jnp.sum(~jnp.isfinite(leaf), range(axes, leaf.ndim), dtype=jnp.int32) for leaf in leaves])


def _readable(path: str) -> str:
    """Return "train/loss", "params/..." or "opt_state/..." for a path of what is watched."""
    number, _, rest = path.partition("/")
    return {"0": f"train/{rest.partition('/')[0]}", "1": f"params/{rest}"}.get(number, rest)
