"""Learning to learn from few examples: each episode is a small problem of its own, with classes of its own."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from jaxnets.errors import FINITE, InputError, check_number, check_whole
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
from jaxnets.learners.arrays import check_names
from jaxnets.learners.contrastive import normalized
from jaxnets.learners.descent import at_least_float32, updating
from jaxnets.metrics import Mean, Metric, mean_of
from jaxnets.network import Key, Network, PyTree


class Episode(struct.PyTreeNode):
    """Problems of few examples, E of them, each of W classes.

    Attributes:
        support: examples to learn from, [E, S, ...].
        targets: their classes, float32 [E, S, W], one 1 in a row; a row of zeros does not count.
        queries: examples to classify, [E, Q, ...].
    """

    support: Any
    targets: Any
    queries: Any


class Shape(NamedTuple):
    """How an episode's rows lie, as ``jaxnets.data.episodes`` takes them: shots of every class, then its queries.

    Attributes:
        ways: classes, W.
        shots: examples of each to learn from.
        queries: examples of each to classify.
    """

    ways: int
    shots: int
    queries: int

    @property
    def rows(self) -> int:
        """Rows of an episode."""
        return self.ways * (self.shots + self.queries)


# (params, model_state, episode, train, key) -> logits [E, Q, W], model_state
Classify = Callable[[PyTree, PyTree, Episode, bool, Key | None], tuple[jax.Array, PyTree]]


def prototypical(network: Network, tx: optax.GradientTransformation, train: Shape, test: Shape) -> Learner:
    """Return the learner of prototypical networks (Snell et al., 2017): a class is the mean of its embeddings.

    Logits are the negative squared distances of a query's embedding to them. Batches hold whole episodes: "inputs" and
    "labels" [E * rows] that lie as ``train`` says, in evaluation as ``test`` says. ``predict`` takes an ``Episode`` and
    returns logits [E, Q, W].

    Args:
        network: inputs to embeddings, [B, D].
        tx: an Optax optimizer.
        train: the episodes of training, which may have more ways than those of the test.
        test: the episodes of evaluation.
    """

    def score(support: jax.Array, targets: jax.Array, queries: jax.Array) -> jax.Array:
        counts = jnp.maximum(targets.sum(0), 1e-6)  # [W]
        prototypes = (targets.T @ support) / counts[:, None]
        return -jnp.square(queries[:, None] - prototypes[None]).sum(-1)

    return episodic(network, tx, _embedded(network, score), train, test)


def matching(
    network: Network, tx: optax.GradientTransformation, train: Shape, test: Shape, scale: float = 10.0
) -> Learner:
    """Return the learner of matching networks (Vinyals et al., 2016), without their full-context embeddings.

    A query's probability of a class is the attention that it pays to the class's examples: the softmax of cosines.
    Batches and outputs are those of ``prototypical``; logits are logarithms of probabilities.

    Args:
        network: inputs to embeddings, [B, D].
        tx: an Optax optimizer.
        train: the episodes of training.
        test: the episodes of evaluation.
        scale: of the cosines, 1 in the paper; with it, 20 classes can hardly be told apart for sure.
    """
    check_number("scale", scale, 0, FINITE, "a number greater than 0, such as 10.0", low_too=False)

    def score(support: jax.Array, targets: jax.Array, queries: jax.Array) -> jax.Array:
        cosines = scale * normalized(queries) @ normalized(support).T  # [Q, S]
        shares = jnp.where(targets.T[None] > 0, cosines[:, None], -jnp.inf)  # [Q, W, S]
        known = (targets.sum(0) > 0)[None]
        shares = jnp.where(known[..., None], shares, 0.0)  # no logarithm of nothing, whose derivative is NaN
        logits = jnp.where(known, jax.nn.logsumexp(shares, axis=-1), -1e9)
        return jax.nn.log_softmax(logits)

    return episodic(network, tx, _embedded(network, score), train, test)


def _embedded(network: Network, score: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]) -> Classify:
    """Return the classifier that scores embeddings: all examples of all episodes are embedded in one pass."""

    def classify(
        params: PyTree, model_state: PyTree, episode: Episode, train: bool, key: Key | None
    ) -> tuple[jax.Array, PyTree]:
        both = jnp.concatenate([episode.support, episode.queries], 1)  # [E, S + Q, ...]
        flat = both.reshape(-1, *both.shape[2:])
        outputs, model_state = network.apply(params, model_state, flat, train=train, key=key)
        outputs = at_least_float32(outputs).reshape(*both.shape[:2], -1)
        shots = episode.support.shape[1]
        return jax.vmap(score)(outputs[:, :shots], episode.targets, outputs[:, shots:]), model_state

    return classify


def episodic(
    network: Network,
    tx: optax.GradientTransformation,
    classify: Classify,
    train: Shape,
    test: Shape,
    gradient: Callable[[TrainState, Episode, Key], tuple[PyTree, PyTree]] | None = None,
) -> Learner:
    """Return a learner of episodes.

    Args:
        network: whose parameters learn.
        tx: an Optax optimizer.
        classify: ``classify(params, model_state, episode, train, key) -> (logits, model_state)``; the queries' mean
            cross-entropy is minimised.
        train: the episodes of training.
        test: the episodes of evaluation.
        gradient: ``gradient(state, episode, key) -> (grads, model_state)``, what the optimizer follows in place of that
            loss's gradient.
    """
    check_network("network", network)
    check_tx("tx", tx)
    for name, shape in (("train", train), ("test", test)):
        for part, number in shape._asdict().items():
            check_whole(f"{name}.{part}", number, 2 if part == "ways" else 1)

    def init(key: Key, initial: Initial | None = None) -> TrainState:
        check_key(key)
        params, model_state = begin(*network.init(key), initial)
        return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), model_state)

    def objective(
        params: PyTree, model_state: PyTree, episode: Episode, key: Key
    ) -> tuple[jax.Array, tuple[PyTree, Sums]]:
        logits, model_state = classify(params, model_state, episode, True, key)
        sums = _measured(logits, train, None)
        return sums["loss"].total / sums["loss"].count.astype(jnp.float32), (model_state, sums)

    def find(state: TrainState, batch: Batch, key: Key) -> Gradient:
        _check_whole(batch)
        episode = as_episode(inputs_of(batch), train)
        if gradient is None:
            grads, (model_state, sums) = jax.grad(objective, has_aux=True)(
                state.params, state.model_state, episode, key
            )
        else:
            grads, model_state = gradient(state, episode, key)
            _, (_, sums) = objective(state.params, state.model_state, episode, key)
        return Gradient(grads, model_state, sums, sums["loss"].count)

    def predict(state: TrainState, episode: Episode) -> jax.Array:
        return classify(state.params, state.model_state, episode, False, None)[0]

    def evaluate(state: TrainState, batch: Batch) -> Sums:
        logits = predict(state, as_episode(inputs_of(batch), test))
        mask = batch.get("mask")
        counts = None if mask is None else jnp.asarray(mask).reshape(-1, test.rows).all(1)
        right = (logits.argmax(-1) == _classes(test)).astype(jnp.float32).mean(1)  # [E]
        mean = mean_of(right, counts)
        return _measured(logits, test, counts) | {"interval_95": (mean, mean_of(jnp.square(right), counts).total)}

    def check(arrays: Mapping[str, np.ndarray]) -> None:
        arrays = gathered(arrays)
        check_names(arrays, ("inputs", "labels"), ("mask",))
        network.check(arrays["inputs"])

    descent = Descent(find, updating(tx))
    metrics = {"accuracy": Metric(_no_outputs, better="higher"), "interval_95": Metric(_no_outputs, _half_width)}
    return Learner(init, following(descent), evaluate, predict, check, metrics, descent, block=test.rows)


def as_episode(inputs: Any, shape: Shape) -> Episode:
    """Return rows [E * rows, ...] as episodes.

    Raises:
        InputError: if they are no whole number of episodes.
    """
    if inputs.shape[0] % shape.rows:
        raise InputError(
            f"{inputs.shape[0]} rows are no whole episodes of {shape.rows}, {shape.ways} ways with {shape.shots} + "
            f"{shape.queries} examples each; give a multiple, in the order of jaxnets.data.episodes"
        )
    episodes = inputs.reshape(-1, shape.rows, *inputs.shape[1:])
    number, shots = len(episodes), shape.ways * shape.shots
    targets = jnp.repeat(jnp.eye(shape.ways), shape.shots, 0)  # [S, W]
    targets = jnp.broadcast_to(targets, (number, *targets.shape))
    return Episode(episodes[:, :shots], targets, episodes[:, shots:])


def _classes(shape: Shape) -> jax.Array:
    """Return the class of each query of an episode, [Q]."""
    return jnp.repeat(jnp.arange(shape.ways), shape.queries)


def _measured(logits: jax.Array, shape: Shape, counts: jax.Array | None) -> Sums:
    """Return the sums of loss and accuracy over all queries of the episodes that count, [E]."""
    labels = jnp.broadcast_to(_classes(shape), logits.shape[:-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    right = (logits.argmax(-1) == labels).astype(jnp.float32)
    return {"loss": mean_of(losses, counts), "accuracy": mean_of(right, counts)}


def _half_width(sums: tuple[Mean, Any]) -> float:
    """Return half the width of a 95% interval of the mean over episodes; NaN for fewer than two."""
    (total, count), squares = sums
    total, count, squares = float(total), float(count), float(squares)
    if count < 2:
        return math.nan
    variance = max(0.0, squares - total**2 / count) / (count - 1)
    return 1.96 * math.sqrt(variance / count)


def _no_outputs(outputs: Any, labels: jax.Array, weights: jax.Array | None) -> Any:
    raise InputError("this is measured of episodes, by their learner; give it no outputs")


def _check_whole(batch: Batch) -> None:
    if refused := sorted({"mask", "weights"} & set(batch)):
        raise InputError(f"episodes take no {' and no '.join(refused)} in training; leave out the rows")
