"""Augmentation of what a learner is trained on: its inputs, or images and masks alike."""

from collections.abc import Callable
from typing import Any

import jax

from jaxnets.errors import check_callable
from jaxnets.learner import Batch, Learner, TrainState, check_learner, check_single, inputs_of, with_training
from jaxnets.network import Key

Augment = Callable[[Key, jax.Array], jax.Array]


def augmented(learner: Learner, augment: Augment) -> Learner:
    """Return a learner whose training batches have ``augment(key, inputs)`` for inputs; ``population`` comes after."""
    check_learner(learner)
    check_callable("augment", augment, "give one of augment(key, inputs), such as jaxnets.data.augment.flip()")

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def train(state: TrainState, batch: Batch, key: Key) -> Any:
            check_single(state, "augmented")
            augment_key, key = jax.random.split(key)
            return function(state, {**batch, "inputs": augment(augment_key, inputs_of(batch))}, key)

        return train

    return with_training(learner, wrap)


def augmented_batches(learner: Learner, augment: Callable[[Key, Batch], Batch]) -> Learner:
    """Return a learner whose training batches are ``augment(key, batch)``: labels that follow their inputs, too."""
    check_learner(learner)
    check_callable("augment", augment, "give one of augment(key, batch), such as jaxnets.data.augment_boxes.flip()")

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def train(state: TrainState, batch: Batch, key: Key) -> Any:
            check_single(state, "augmented_batches")
            augment_key, key = jax.random.split(key)
            return function(state, augment(augment_key, batch), key)

        return train

    return with_training(learner, wrap)


PAIRED = ("labels", "mask", "weights")  # what may hold a number for each pixel of the inputs


def augmented_pairs(learner: Learner, augment: Callable[..., Any]) -> Learner:
    """Return a learner whose training batches have images and masks changed alike; ``population`` comes after.

    Args:
        learner: of images [B, H, W, C]; of "labels", "mask" and "weights" those that are [B, H, W] change with them.
        augment: ``augment(key, images, masks) -> images, masks``, such as one of ``jaxnets.data.paired``.
    """
    check_learner(learner)
    check_callable("augment", augment, "give one of augment(key, images, masks), such as jaxnets.data.paired.flips()")

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def train(state: TrainState, batch: Batch, key: Key) -> Any:
            check_single(state, "augmented_pairs")
            augment_key, key = jax.random.split(key)
            masks = {name: batch[name] for name in PAIRED if name in batch and batch[name].ndim == 3}
            images, masks = augment(augment_key, inputs_of(batch), masks)
            return function(state, {**batch, "inputs": images, **masks}, key)

        return train

    return with_training(learner, wrap)
