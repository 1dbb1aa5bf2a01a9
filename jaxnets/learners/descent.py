"""What learners that follow one gradient have in common."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnets.learner import TrainState
from jaxnets.network import PyTree


def updating(tx: optax.GradientTransformation) -> Callable[[TrainState, PyTree, PyTree], TrainState]:
    """Return the update of a ``Descent``: the state after an optimizer's step along a gradient."""

    def update(state: TrainState, grads: PyTree, model_state: PyTree) -> TrainState:
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state, model_state, state.extra)

    return update


def at_least_float32(outputs: Any) -> Any:
    """Return bfloat16 and float16 leaves as float32: losses and sums need its precision."""

    def one(leaf: jax.Array) -> jax.Array:
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) if floating else leaf

    return jax.tree.map(one, outputs)
