"""Augmentation of what a learner is trained on."""

from collections.abc import Callable
from typing import Any

import jax

from jaxnets.learner import Batch, Learner, TrainState, check_single, inputs_of, with_training
from jaxnets.network import Key

Augment = Callable[[Key, jax.Array], jax.Array]


def augmented(learner: Learner, augment: Augment) -> Learner:
    """Return a learner whose training batches have ``augment(key, inputs)`` for inputs; ``population`` comes after."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def train(state: TrainState, batch: Batch, key: Key) -> Any:
            check_single(state, "augmented")
            augment_key, key = jax.random.split(key)
            return function(state, {**batch, "inputs": augment(augment_key, inputs_of(batch))}, key)

        return train

    return with_training(learner, wrap)
