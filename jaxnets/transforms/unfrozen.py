"""Layers that begin to learn one after another: gradual unfreezing."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnets.errors import InputError, check_kind, check_whole
from jaxnets.learner import Batch, Initial, Learner, Sums, TrainState, check_learner, check_single, started
from jaxnets.network import Key, PyTree
from jaxnets.parameters import by_pattern, layer_numbers
from jaxnets.transforms.frozen import kept


def unfrozen(learner: Learner, starts: int | Mapping[str, int]) -> Learner:
    """Return a learner whose layers begin to learn one after another, the head first (Howard and Ruder, 2018).

    Until its first step a parameter keeps its bits: weight decay and averages do not move it either. All of this is one
    program, so nothing is compiled anew, and each step takes the time of training everything. The rest goes on as if
    all learned, so that a layer begins smoothly: the optimizer's moments follow the gradients from the start, which
    count in a gradient's norm, dropout is on, and batch statistics are those of the batches. (``frozen`` holds these,
    too.) ``population`` comes after.

    Args:
        learner: what is trained.
        starts: the first step of each pattern of parameters' names, ``{"blocks/1/**": 100, "blocks/0/**": 200}``; the
            first pattern that fits counts, what none fits learns from the beginning. Or a number of steps, from each
            numbered layer to the one before it: what comes after all layers learns from step 0, the last layer from
            that number on, and embeddings last.

    Raises:
        InputError: if a step is no whole number; by ``init``, if a pattern matches nothing, there are no numbered
            layers, or nothing learns at first.
    """
    check_learner(learner)
    if isinstance(starts, Mapping):
        for pattern, first in starts.items():
            check_whole(f"starts[{pattern!r}]", first, 0, remedy="the first step of these parameters")
        if not starts:
            raise InputError("starts are none, and all would learn at once; name some, such as {'blocks/0/**': 100}")
    else:
        check_kind("starts", starts, int, "give a number of steps, or the first step by pattern")
        check_whole("starts", starts, remedy="steps from a layer to the one before it")

    def first_steps(params: PyTree) -> PyTree:
        if isinstance(starts, Mapping):
            return by_pattern(params, starts, 0)
        numbers, end = layer_numbers(params)
        return jax.tree.map(lambda number: (end - number) * starts, numbers)

    def init(key: Key, initial: Initial | None = None) -> TrainState:
        state = started(learner, key, initial)
        if least := min(jax.tree.leaves(first_steps(state.params)), default=0):
            raise InputError(f"nothing would learn before step {least}; have some parameters begin at step 0")
        return state

    def held(before: TrainState, after: TrainState) -> TrainState:
        firsts = first_steps(before.params)

        def keep(old: PyTree, new: PyTree) -> PyTree:
            return jax.tree.map(
                lambda first, old, new: jnp.where(before.step >= first, new, old) if first else new, firsts, old, new
            )

        return kept(before, after, keep)

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Sums]:
        check_single(state, "unfrozen")
        new, sums = learner.step(state, batch, key)
        return held(state, new), sums

    def update(state: TrainState, grads: PyTree, model_state: PyTree) -> TrainState:
        assert learner.descent is not None
        return held(state, learner.descent.update(state, grads, model_state))

    descent = learner.descent and learner.descent._replace(update=update)
    return learner._replace(init=init, step=step, descent=descent)
