"""Many members trained at once, each as a run of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from jaxnets.errors import InputError, check_whole
from jaxnets.learner import Batch, Initial, Learner, Step, Sums, TrainState, check_learner, check_together, started
from jaxnets.network import Key
from jaxnets.platform import platform


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as one that XLA compiles by itself, whatever program calls it.

    XLA fuses operations across a function's borders, and what is fused decides where the processor rounds. Compiled
    apart, an evaluation has the same bits alone as in a population. On backends other than CPU it is a plain call.
    """
    called = jax.jit(function)

    def call(*args: Any) -> Any:
        results = called(*args)
        return set_xla_metadata(results, inlineable="false") if platform() == "cpu" else results

    return call


@dataclass(frozen=True)
class OneByOne:
    """The step of members that share nothing: called, it takes one step of each, one after the other.

    As the step of a learner it tells ``chunk`` that all steps of a member may be taken before the next's, so that its
    state is moved once. A function around it, such as ``jax.jit`` of it, is a step like any other.

    Attributes:
        member: the step of one.
        size: how many there are.
    """

    member: Step
    size: int

    def __call__(self, state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Sums]:
        """Take one step of each."""
        return one_by_one(apart(self.member), self.size, state, batch, key)


def one_by_one(function: Callable[..., Any], size: int, *args: Any) -> Any:
    """Return the function's results for each of ``size`` members, one after the other."""
    check_members(size, args)
    return lax.map(lambda member: function(*member), args)


def check_members(size: int, args: Any) -> None:
    """Check that every array has a leading axis of ``size``.

    Raises:
        InputError: if one has not.
    """
    for leaf in jax.tree.leaves(args):
        if leaf.shape[:1] != (size,):
            raise InputError(
                f"a population of {size} was given an array of shape {leaf.shape}, not [{size}, ...]; every member "
                f"has its own state, batch and key, and in fit its own seed: seed=range({size})"
            )


def traced_once(learner: Learner) -> Learner:
    """Return the learner with a step that Python runs once for arguments of a kind: to be checked, and compiled."""
    return learner if isinstance(learner.step, OneByOne) else learner._replace(step=jax.jit(learner.step))


Way = Literal["map", "vmap"]


def fitting_way() -> Way:
    """Return how a population is computed by default: "map" on CPU, "vmap" elsewhere.

    On a CPU a member keeps the bits of a run on its own, in about the time; one after the other, small members would
    leave most of an accelerator idle.
    """
    return "map" if platform() == "cpu" else "vmap"


def each_of(size: int, how: Way) -> Callable[..., Any]:
    """Return ``each(function, *args)``: the function's results for each of ``size`` members, computed that way.

    Raises:
        InputError: if there is no such way.
    """
    if how not in ("map", "vmap"):
        raise InputError(f"{how=} must be 'map' or 'vmap'")

    def each(function: Callable[..., Any], *args: Any) -> Any:
        if how == "map":
            return one_by_one(apart(function), size, *args)
        check_members(size, args)
        return jax.vmap(function)(*args)

    return each


def population(learner: Learner, size: int, how: Way | None = None) -> Learner:
    """Return a learner that trains ``size`` members at once, each with its own key and its own batches.

    Every leaf of its state, of its batches in ``step``, and of its metrics has a leading axis of ``size``; so have the
    keys. All begin from the same ``initial`` weights, where any are given. In ``evaluate`` and ``predict`` all members
    see the same batch.

    Args:
        learner: what each member does.
        size: how many members.
        how: "map" computes one member after the other; each gets the bits of a run on its own, and takes no longer.
            "vmap" computes them together, which is faster on accelerators, and rounds differently. By default "map" on
            CPU, "vmap" elsewhere.
    """
    check_learner(learner)
    check_together(learner, "population")
    check_whole("size", size, remedy="members of a population")
    how = fitting_way() if how is None else how
    each = each_of(size, how)

    def init(key: Key, initial: Initial | None = None) -> TrainState:
        return each(lambda key: started(learner, key, initial), key)

    def evaluate(state: TrainState, batch: Batch) -> Sums:
        return each(lambda member: learner.evaluate(member, batch), state)

    def predict(state: TrainState, inputs: Any) -> Any:
        return each(lambda member: learner.predict(member, inputs), state)

    step = OneByOne(traced_once(learner).step, size) if how == "map" else partial(each, learner.step)
    return learner._replace(init=init, step=step, evaluate=evaluate, predict=predict, descent=None)
