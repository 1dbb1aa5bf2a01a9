"""Parts of a learner that do not learn."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax

from jaxnets.errors import InputError
from jaxnets.learner import (
    Batch,
    Initial,
    Learner,
    Sums,
    TrainState,
    check_learner,
    check_single,
    started,
    with_training,
)
from jaxnets.modes import freezing
from jaxnets.network import Key, PyTree
from jaxnets.parameters import listed, matching, parameter_of, path_name, paths, selecting


def frozen(learner: Learner, patterns: Sequence[str]) -> Learner:
    """Return a learner whose parameters that match a pattern keep their bits, whatever the optimizer does.

    Weight decay, momentum and averages do not move them, they do not count in a gradient's norm, and modules that are
    frozen as a whole are in evaluation mode: their dropout is off and their batch statistics stand still. (Of a Linen
    module the parameters alone stand still.) ``population`` comes after.

    Args:
        learner: what is trained.
        patterns: of parameters' names, such as "encoder/**" (``parameters.matches``); "**" and "!out/**" are all but
            the output layer.

    Raises:
        InputError: by ``init``, if a pattern matches nothing, or all parameters are frozen.
    """
    check_learner(learner)
    patterns = listed(patterns)
    if not patterns:
        raise InputError("patterns are none, and nothing would be frozen; name some, such as ['encoder/**']")

    is_frozen = selecting(patterns)

    def init(key: Key, initial: Initial | None = None) -> TrainState:
        state = started(learner, key, initial)
        if all(jax.tree.leaves(matching(state.params, patterns))):
            raise InputError(f"freeze={' '.join(patterns)} leaves nothing to learn; freeze less")
        return state

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def train(state: TrainState, batch: Batch, key: Key) -> Any:
            check_single(state, "frozen")
            with freezing(is_frozen):
                return function(state, batch, key)

        return train

    def held(before: TrainState, after: TrainState) -> TrainState:
        hits = matching(before.params, patterns)
        is_hit = paths(hits)

        def still(path: tuple[Any, ...], old: Any, new: Any) -> Any:
            """Return what an optimizer keeps: of frozen parameters as it was, which saves its computation."""
            name = parameter_of(path_name(path), is_hit)
            return old if name is not None and is_hit[name] else new

        opt_state = jax.tree_util.tree_map_with_path(still, before.opt_state, after.opt_state)
        keep = partial(jax.tree.map, lambda hit, old, new: old if hit else new, hits)
        return kept(before, after.replace(opt_state=opt_state), keep)

    wrapped = with_training(learner, wrap)

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Sums]:
        new, sums = wrapped.step(state, batch, key)
        return held(state, new), sums

    def update(state: TrainState, grads: PyTree, model_state: PyTree) -> TrainState:
        assert learner.descent is not None
        return held(state, learner.descent.update(state, grads, model_state))

    descent = wrapped.descent and wrapped.descent._replace(update=update)
    return wrapped._replace(init=init, step=step, descent=descent)


def kept(before: TrainState, after: TrainState, keep: Callable[[PyTree, PyTree], PyTree]) -> TrainState:
    """Return the state after a step with ``keep(old, new)`` for its params, and for averages of them, if it has any."""
    extra = dict(after.extra)
    for name, value in extra.items():
        if isinstance(value, Mapping) and "params" in value:
            extra[name] = {**value, "params": keep(before.extra[name]["params"], value["params"])}
    return after.replace(params=keep(before.params, after.params), extra=extra)
