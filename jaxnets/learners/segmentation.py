"""Learning masks: a class for each pixel of an image."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnets.errors import InputError, check_number
from jaxnets.learner import Batch, Learner, Sums, TrainState
from jaxnets.learners.arrays import check_counting
from jaxnets.learners.supervised import supervised
from jaxnets.losses import softmax_cross_entropy
from jaxnets.metrics import Metric
from jaxnets.network import Key, Network

PixelLoss = Callable[[jax.Array, jax.Array], jax.Array]


def segmenting(
    network: Network, loss: PixelLoss, tx: optax.GradientTransformation, metrics: Mapping[str, Metric] | None = None
) -> Learner:
    """Return the learner of masks: "labels" [B, H, W] are the class of each pixel of "inputs", images [B, H, W, C].

    A "mask" may be of pixels, [B, H, W], or of images, [B]; pixels that do not count are labelled -1 for the loss and
    the metrics. The mean of the images' losses is minimised. Images are evaluated and predicted one after another, for
    all at once would take many times the memory, and those that do not count are not looked at.

    Args:
        network: images to logits [B, H, W, classes].
        loss: ``loss(logits, labels)``, for each image, [B]: one of this module.
        tx: an Optax optimizer.
        metrics: of pixels, by name, such as ``jaxnets.metrics.dice(2)``.
    """
    learner = supervised(network, loss, tx, metrics)
    descent = learner.descent
    assert descent is not None

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Sums]:
        return learner.step(state, _marked(batch), key)

    def gradient(state: TrainState, batch: Batch, key: Key) -> Any:
        return descent.gradient(state, _marked(batch), key)

    def evaluate(state: TrainState, batch: Batch) -> Sums:
        batch = _marked(batch)
        shapes = jax.eval_shape(lambda: learner.evaluate(state, _first(batch)))

        def one(example: Batch) -> Sums:
            def measured() -> Sums:
                return learner.evaluate(state, jax.tree.map(lambda leaf: leaf[None], dict(example)))

            def nothing() -> Sums:
                return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

            return lax.cond(example["mask"].astype(bool), measured, nothing) if "mask" in example else measured()

        return jax.tree.map(lambda leaf: leaf.sum(0, dtype=leaf.dtype), lax.map(one, dict(batch)))

    def predict(state: TrainState, inputs: Any) -> Any:
        return lax.map(lambda image: learner.predict(state, image[None])[0], jnp.asarray(inputs))

    def check(arrays: Mapping[str, np.ndarray]) -> None:
        if {"labels", "mask"} <= set(arrays) and np.ndim(arrays["mask"]) > 1:
            check_counting(arrays)
            arrays = {**arrays, "mask": np.any(arrays["mask"], axis=(1, 2))}  # [N], as the gradient has it
        learner.check(arrays)

    marked = descent._replace(gradient=gradient)
    return learner._replace(step=step, descent=marked, evaluate=evaluate, predict=predict, check=check)


def _first(batch: Batch) -> dict[str, Any]:
    return {name: array[:1] for name, array in batch.items()}


def _marked(batch: Batch) -> dict[str, Any]:
    """Return the batch with -1 for the labels of pixels that do not count, and a mask of images."""
    mask = batch.get("mask")
    if mask is None or jnp.ndim(mask) == 1:
        return dict(batch)
    counts = jnp.asarray(mask).astype(bool)
    labels = jnp.where(counts, jnp.asarray(batch["labels"]).astype(jnp.int32), -1)
    return {**batch, "labels": labels, "mask": counts.any((1, 2))}


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean negative log-likelihood over each image's pixels in nats, [B, H, W, C], [B, H, W] -> [B]."""
    _check("cross_entropy", logits, labels)
    return _mean(softmax_cross_entropy(logits, jnp.maximum(labels, 0)), labels)


def focal(logits: jax.Array, labels: jax.Array, gamma: float = 2.0) -> jax.Array:
    """Return the mean of ``-(1 - p) ** gamma * log(p)`` over each image's pixels (Lin et al., 2017) -> [B].

    ``p`` is the probability of the label: pixels that are told well weigh little. Arguments are ``cross_entropy``'s.
    """
    _check("focal", logits, labels)
    check_number("gamma", gamma, 0, float("inf"), "0 or more")
    nats = softmax_cross_entropy(logits, jnp.maximum(labels, 0))
    return _mean((-jnp.expm1(-jnp.maximum(nats, _LEAST))) ** gamma * nats, labels)


def dice_loss(logits: jax.Array, labels: jax.Array, smooth: float = 1.0) -> jax.Array:
    """Return 1 less the mean over classes of each image's soft Dice coefficient -> [B].

    Of a class it is ``(2 sum(p * y) + smooth) / (sum(p) + sum(y) + smooth)`` over the pixels, with ``p`` the
    probability and ``y`` 1 where it is the label (Milletari et al., 2016, without their squares). Arguments are
    ``cross_entropy``'s.
    """
    _check("dice_loss", logits, labels)
    check_number("smooth", smooth, 0, float("inf"), "a number greater than 0", low_too=False)
    probabilities, targets = _soft(logits, labels)
    both = (probabilities * targets).sum((1, 2))  # [B, C]
    either = (probabilities + targets).sum((1, 2))
    return 1 - ((2 * both + smooth) / (either + smooth)).mean(-1)


def lovasz(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the Lovász-softmax loss of each image (Berman et al., 2018) -> [B].

    The Lovász extension of 1 less the Jaccard index, the mean over the classes that the image has. Arguments are
    ``cross_entropy``'s.
    """
    _check("lovasz", logits, labels)
    probabilities, targets = _soft(logits, labels)

    def of_class(probability: jax.Array, target: jax.Array) -> jax.Array:
        """Return the loss of one class of one image, of [pixels]; pixels that do not count are 0 in both."""
        errors, order = lax.sort_key_val(-jnp.abs(target - probability), jnp.arange(target.size))
        target = target[order]
        total = target.sum()
        kept, wrong = total - target.cumsum(), total + (1 - target).cumsum()  # intersection, union below here
        jaccard = 1 - kept / wrong
        return -jnp.dot(errors, jnp.diff(jaccard, prepend=0.0))

    flat = [array.reshape(len(array), -1, array.shape[-1]).swapaxes(1, 2) for array in (probabilities, targets)]
    losses = jax.vmap(jax.vmap(of_class))(*flat)  # [B, C]
    there = (flat[1] > 0).any(-1)
    return jnp.where(there, losses, 0.0).sum(-1) / jnp.maximum(there.sum(-1), 1).astype(jnp.float32)


def total(losses: Sequence[PixelLoss]) -> PixelLoss:
    """Return the sum of losses.

    Raises:
        InputError: if there are none.
    """
    if not losses:
        raise InputError("losses=() must name one loss or more, such as cross-entropy")
    if len(losses) == 1:
        return losses[0]
    return lambda logits, labels: functools.reduce(jnp.add, [loss(logits, labels) for loss in losses])


_LEAST = 1e-12  # nats, below which a focal loss has no derivative for gamma < 1


def _soft(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return probabilities and one-hot labels, [B, H, W, C], 0 where a pixel does not count."""
    counts = (labels >= 0)[..., None]
    probabilities = jnp.where(counts, jax.nn.softmax(logits), 0.0)
    return probabilities, jax.nn.one_hot(labels, logits.shape[-1], dtype=probabilities.dtype)


def _mean(values: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean over the pixels that count of each image, [B, H, W] -> [B]; 0 where none do."""
    counts = (labels >= 0).astype(values.dtype)
    return (values * counts).sum((1, 2)) / jnp.maximum(counts.sum((1, 2)), 1.0)


def _check(name: str, logits: jax.Array, labels: jax.Array) -> None:
    if logits.ndim != 4 or logits.shape[:-1] != labels.shape or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"{name}: logits {logits.shape} and labels {labels.dtype}{list(labels.shape)}; give [B, H, W, classes] "
            "and the number of each pixel's class, [B, H, W]"
        )
