"""Augmentation of what a learner is trained on."""

from collections.abc import Callable

import jax

from jaxnets.learner import Batch, Learner, Metrics, TrainState, check_single
from jaxnets.network import Key

Augment = Callable[[Key, jax.Array], jax.Array]


def augmented(learner: Learner, augment: Augment) -> Learner:
    """Return a learner whose training batches have ``augment(key, inputs)`` for inputs; ``population`` comes after."""

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        check_single(state, "augmented")
        augment_key, step_key = jax.random.split(key)
        return learner.step(state, {**batch, "inputs": augment(augment_key, batch["inputs"])}, step_key)

    return learner._replace(step=step)
