"""Augmentation of what a learner is trained on: its inputs, or images with their boxes and masks."""

from collections.abc import Callable
from typing import Any

import jax

from jaxnets.errors import check_callable
from jaxnets.learner import Batch, Learner, TrainState, check_learner, check_single, inputs_of, with_training
from jaxnets.network import Key

Augment = Callable[[Key, jax.Array], jax.Array]


def augmented(learner: Learner, augment: Augment) -> Learner:
    """Return a learner whose training batches have ``augment(key, inputs)`` for inputs; ``population`` comes after."""
    check_callable("augment", augment, "give one of augment(key, inputs), such as jaxnets.data.augment.flip()")
    return augmented_batches(learner, lambda key, batch: {**batch, "inputs": augment(key, inputs_of(batch))})


def augmented_batches(learner: Learner, augment: Callable[[Key, Batch], Batch]) -> Learner:
    """Return a learner whose training batches are ``augment(key, batch)``: labels that follow their inputs, too."""
    check_learner(learner)
    check_callable("augment", augment, "give one of augment(key, batch), such as jaxnets.data.augment_boxes.flip()")

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def train(state: TrainState, batch: Batch, key: Key) -> Any:
            check_single(state, "augmented")
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
    check_callable("augment", augment, "give one of augment(key, images, masks), such as jaxnets.data.paired.flips()")

    def changed(key: Key, batch: Batch) -> Batch:
        masks = {name: batch[name] for name in PAIRED if name in batch and batch[name].ndim == 3}
        images, masks = augment(key, inputs_of(batch), masks)
        return {**batch, "inputs": images, **masks}

    return augmented_batches(learner, changed)
