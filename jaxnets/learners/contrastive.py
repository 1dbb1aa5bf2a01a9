"""Learning embeddings: examples of one class lie close together on a sphere, those of others apart."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets.errors import FINITE, InputError, check_kind, check_number, check_whole
from jaxnets.learner import (
    Batch,
    Descent,
    Gradient,
    Initial,
    Learner,
    Sums,
    TrainState,
    begin,
    check_key,
    check_network,
    check_tx,
    following,
    gathered,
    inputs_of,
)
from jaxnets.learners.arrays import check_counting, check_names
from jaxnets.learners.descent import updating
from jaxnets.metrics import Mean, Metric, mean_of
from jaxnets.network import Key, Network, PyTree

_TINY = 1e-12  # under roots, whose derivative is infinite at 0


class EmbeddingLoss(NamedTuple):
    """A loss of a batch's embeddings.

    Attributes:
        measure: ``measure(params, step, embeddings, labels, counts) -> Mean``: of embeddings [B, D] of length 1, whole
            labels [B], and which rows count [B], booleans; the mean is minimised.
        init: ``init(key)``: parameters of the loss's own, if it has any.
        num_classes: the classes that it knows, 0 where it takes any: of others it cannot be measured.
    """

    measure: Callable[[PyTree, jax.Array, jax.Array, jax.Array, jax.Array], Mean]
    init: Callable[[Key], PyTree] = lambda key: {}
    num_classes: int = 0


def contrastive(margin: float = 1.0) -> EmbeddingLoss:
    """Return the contrastive loss (Hadsell et al., 2006): squared distances, and what others lack of a margin, squared.

    Of each example, the mean over those of its class is added to the mean over all others, for these are many more.

    Args:
        margin: distance from which on others are far enough, in (0, 2].
    """
    check_number("margin", margin, 0, 2 + 1e-9, "in (0, 2], such as 1.0", low_too=False)

    def measure(params: PyTree, step: jax.Array, embeddings: jax.Array, labels: jax.Array, counts: jax.Array) -> Mean:
        same, other = _partners(labels, counts)
        squared = _squared_distances(embeddings)
        lack = jnp.square(jnp.maximum(margin - jnp.sqrt(jnp.maximum(squared, _TINY)), 0.0))
        return mean_of(_mean_where(squared, same) + _mean_where(lack, other), same.any(1))

    return EmbeddingLoss(measure)


def triplet(margin: float = 0.2) -> EmbeddingLoss:
    """Return the triplet loss with semi-hard negatives (Schroff et al., 2015), of squared distances.

    Each pair of one class meets the nearest other example that is farther away than the pair is wide or, where there is
    none, the farthest of all others: the hardest would have embeddings collapse. It is the mean over pairs.

    Args:
        margin: by which the other example is to be farther away, in squared distance, in (0, 4).
    """
    check_number("margin", margin, 0, 4, "in (0, 4), such as 0.2", low_too=False)

    def measure(params: PyTree, step: jax.Array, embeddings: jax.Array, labels: jax.Array, counts: jax.Array) -> Mean:
        same, other = _partners(labels, counts)
        squared = _squared_distances(embeddings)
        farther = other[:, None] & (squared[:, None] > squared[:, :, None])  # [anchor, positive, negative]
        semi_hard = jnp.where(farther, squared[:, None], jnp.inf).min(-1)
        farthest = jnp.where(other, squared, -jnp.inf).max(-1, keepdims=True)
        found = jnp.where(farther.any(-1), semi_hard, farthest)
        counted = same & other.any(1, keepdims=True)
        losses = jnp.maximum(squared - jnp.where(counted, found, 0.0) + margin, 0.0)
        return mean_of(losses, counted)

    return EmbeddingLoss(measure)


def supervised_contrastive(temperature: float = 0.1) -> EmbeddingLoss:
    """Return the supervised contrastive loss (Khosla et al., 2020; the sum outside of the logarithm).

    Each example is to tell those of its class from all others in the batch: the mean over them of the negative
    logarithm of their share, and the mean over the examples that have one.

    Args:
        temperature: by which cosines are divided.
    """
    check_number("temperature", temperature, 0, FINITE, "a number greater than 0", low_too=False)

    def measure(params: PyTree, step: jax.Array, embeddings: jax.Array, labels: jax.Array, counts: jax.Array) -> Mean:
        same, other = _partners(labels, counts)
        cosines = _cosines(embeddings) / temperature
        of_all = jax.nn.logsumexp(jnp.where(same | other, cosines, -jnp.inf), axis=1, keepdims=True)
        return mean_of(_mean_where(jnp.where(same, of_all - cosines, 0.0), same), same.any(1))

    return EmbeddingLoss(measure)


def arcface(
    num_classes: int, features: int, margin: float = 0.5, scale: float = 30.0, warmup: int = 0
) -> EmbeddingLoss:
    """Return ArcFace (Deng et al., 2019): the cross-entropy of cosines with a direction for each class.

    The angle to the right class's direction counts as larger by a margin; where that would exceed pi, the cosine is
    lowered by ``margin * sin(margin)`` instead, so that it falls all the way.

    Args:
        num_classes: of the training data.
        features: D, the width of the embeddings.
        margin: in radians, in [0, pi / 2).
        scale: of the cosines.
        warmup: steps in which the margin rises from 0.
    """
    check_whole("num_classes", num_classes, 2)
    check_whole("features", features)
    check_number("margin", margin, 0, np.pi / 2, "in [0, pi / 2), such as 0.5")
    check_number("scale", scale, 0, FINITE, "a number greater than 0", low_too=False)
    check_whole("warmup", warmup, 0)

    def init(key: Key) -> PyTree:
        return {"directions": jax.random.normal(key, (features, num_classes))}

    def measure(params: PyTree, step: jax.Array, embeddings: jax.Array, labels: jax.Array, counts: jax.Array) -> Mean:
        now = margin * jnp.minimum(1.0, (step + 1).astype(jnp.float32) / (warmup + 1))
        cosines = embeddings @ normalized(params["directions"].T).T
        sines = jnp.sqrt(jnp.maximum(1 - jnp.square(cosines), _TINY))
        turned = cosines * jnp.cos(now) - sines * jnp.sin(now)
        turned = jnp.where(cosines > -jnp.cos(now), turned, cosines - now * jnp.sin(now))
        right = labels[:, None] == jnp.arange(num_classes)[None]
        logits = scale * jnp.where(right, turned, cosines)
        known = counts & right.any(1)
        values = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, labels, 0))
        return mean_of(values, known)

    return EmbeddingLoss(measure, init, num_classes)


def embedding(
    network: Network,
    loss: EmbeddingLoss,
    tx: optax.GradientTransformation,
    metrics: Mapping[str, Metric] | None = None,
    *,
    block: int = 1,
    at_once: int | None = None,
) -> Learner:
    """Return the learner of a network whose outputs [B, D], brought to length 1, embed examples by their classes.

    Batches hold "inputs", whole "labels" [B] and, optionally, a "mask" [B]; they need several examples of a class, as
    ``jaxnets.data.classes_and_examples`` takes them. Params are {"network": ...} and, if the loss has some, "loss".
    ``predict`` returns embeddings [B, D] of length 1. Where the loss knows its classes alone (``arcface``), evaluation
    is without it, for held-out data may be of others.

    Args:
        network: inputs to vectors, [B, D].
        loss: ``contrastive()``, ``triplet()``, ``supervised_contrastive()``, ``arcface(num_classes)`` or another.
        tx: an Optax optimizer.
        metrics: of embeddings, in evaluation, such as ``jaxnets.metrics.verification()``.
        block: rows that are evaluated together: pairs are those within them.
        at_once: the most of these rows that go through the network at once, where a block takes much memory; all if
            absent.
    """
    check_network("network", network)
    check_kind("loss", loss, EmbeddingLoss, "give an EmbeddingLoss, such as triplet()")
    check_tx("tx", tx)
    check_whole("block", block)
    check_whole("at_once", block if at_once is None else at_once)
    measured = dict(metrics or {})

    def init(key: Key, initial: Initial | None = None) -> TrainState:
        check_key(key)
        params, model_state = network.init(key)
        own = loss.init(jax.random.fold_in(key, 1))
        params, model_state = begin({"network": params} | ({"loss": own} if own else {}), model_state, initial)
        return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), model_state)

    def measured_of(state: TrainState, embeddings: jax.Array, batch: Batch) -> Mean:
        counts = jnp.asarray(batch.get("mask", jnp.ones(embeddings.shape[:1], bool))).astype(bool)
        return loss.measure(state.params.get("loss", {}), state.step, embeddings, batch["labels"], counts)

    def objective(params: PyTree, state: TrainState, batch: Batch, key: Key) -> tuple[jax.Array, tuple[PyTree, Mean]]:
        _check_unweighted(batch)
        outputs, model_state = network.apply(
            params["network"], state.model_state, inputs_of(batch), train=True, key=key
        )
        found = measured_of(state.replace(params=params), normalized(outputs), batch)
        return found.total / jnp.maximum(found.count, 1).astype(jnp.float32), (model_state, found)

    def gradient(state: TrainState, batch: Batch, key: Key) -> Gradient:
        grads, (model_state, found) = jax.grad(objective, has_aux=True)(state.params, state, batch, key)
        return Gradient(grads, model_state, {"loss": found}, found.count)

    def predict(state: TrainState, inputs: Any) -> jax.Array:
        return normalized(network.apply(state.params["network"], state.model_state, inputs)[0])

    def in_parts(state: TrainState, inputs: PyTree) -> jax.Array:
        if at_once is None:
            return predict(state, inputs)
        rows = jax.tree.leaves(inputs)[0].shape[0]
        size = math.gcd(rows, at_once)
        parts = jax.tree.map(lambda array: array.reshape(-1, size, *array.shape[1:]), inputs)
        return jax.lax.map(lambda part: predict(state, part), parts).reshape(rows, -1)

    def evaluate(state: TrainState, batch: Batch) -> Sums:
        _check_unweighted(batch)
        embeddings = in_parts(state, inputs_of(batch))
        sums = {} if loss.num_classes else {"loss": measured_of(state, embeddings, batch)}
        more = {name: one.measure(embeddings, batch["labels"], batch.get("mask")) for name, one in measured.items()}
        return sums | more

    def check(arrays: Mapping[str, np.ndarray]) -> None:
        arrays = gathered(arrays)
        check_names(arrays, ("inputs", "labels"), ("mask",))
        check_counting(arrays)
        labels = arrays["labels"]
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise InputError(f"labels are {labels.dtype}{list(labels.shape)}; give whole numbers of classes, [N]")
        network.check(arrays["inputs"])

    descent = Descent(gradient, updating(tx))
    return Learner(init, following(descent), evaluate, predict, check, measured, descent, network.check, block=block)


def normalized(vectors: jax.Array) -> jax.Array:
    """Return vectors [..., D] of length 1, in float32 at least; one of zeros stays as it is."""
    vectors = vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))
    return vectors * jax.lax.rsqrt(jnp.square(vectors).sum(-1, keepdims=True) + _TINY)


def mirrored(network: Network) -> Network:
    """Return the network whose embeddings, unless it is trained, are those of images and of their mirror images, added.

    Both are brought to length 1 before. Images are [B, H, W, C], embeddings [B, D].
    """

    def apply(
        params: PyTree, model_state: PyTree, inputs: Any, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        made, state = network.apply(params, model_state, inputs, train=train, key=key)
        if train:
            return made, state
        other, _ = network.apply(params, model_state, jnp.flip(inputs, 2), train=False, key=key)
        return normalized(made) + normalized(other), state

    return network._replace(apply=apply)


def _check_unweighted(batch: Batch) -> None:
    if "weights" in batch:
        raise InputError("weights are of examples, and embeddings learn from pairs of them; leave them out")


def _partners(labels: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return which examples are of the class of each, itself left out, and which are of others, both [B, B]."""
    both = counts[:, None] & counts[None]
    equal = labels[:, None] == labels[None]
    return both & equal & ~jnp.eye(len(labels), dtype=bool), both & ~equal


def _cosines(embeddings: jax.Array) -> jax.Array:
    return embeddings @ embeddings.T


def _squared_distances(embeddings: jax.Array) -> jax.Array:
    return jnp.maximum(2 - 2 * _cosines(embeddings), 0.0)


def _mean_where(values: jax.Array, chosen: jax.Array) -> jax.Array:
    """Return the mean of the chosen values of each row, 0 where there are none."""
    return jnp.where(chosen, values, 0.0).sum(1) / jnp.maximum(chosen.sum(1), 1).astype(jnp.float32)
