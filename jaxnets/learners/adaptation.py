"""Learning initial weights from which a few steps of descent learn a new problem: MAML and Reptile."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxnets.errors import FINITE, InputError, check_number, check_whole
from jaxnets.learner import Learner, TrainState
from jaxnets.learners.descent import at_least_float32
from jaxnets.learners.few_shot import Episode, Shape, episodic
from jaxnets.network import Key, Network, PyTree

# (params, model_state, one episode, train, key, number of steps) -> params
Adapt = Callable[[PyTree, PyTree, Episode, bool, Key | None, int], PyTree]


def maml(
    network: Network,
    tx: optax.GradientTransformation,
    train: Shape,
    test: Shape,
    *,
    rate: float = 0.4,
    steps: int = 1,
    test_steps: int | None = None,
    first_order: bool = False,
) -> Learner:
    """Return the learner of model-agnostic meta-learning (Finn et al., 2017), exact to second order.

    An episode's weights are those that ``steps`` of gradient descent on its support make of the parameters; what is
    minimised is the loss of its queries with them, differentiated through these steps. Batches are those of
    ``prototypical``.

    A network with batch statistics takes those of the examples at hand, at a test too, as the paper does: of the
    support while it adapts, then of the queries, so that what is said of a query depends on the others. It must not
    have dropout, which would be applied there as well.

    Args:
        network: inputs to logits, [B, ways].
        tx: an Optax optimizer, of the initial weights.
        train: the episodes of training.
        test: the episodes of evaluation, of as many ways.
        rate: of the inner descent.
        steps: of the inner descent in training.
        test_steps: of the inner descent in evaluation and in ``predict``; ``steps`` if absent.
        first_order: leave out how the steps depend on the initial weights (first-order MAML): cheaper, not exact.
    """
    adapt = _descent(network, rate)
    test_steps = steps if test_steps is None else test_steps
    for name, number in (("steps", steps), ("test_steps", test_steps)):
        check_whole(name, number)
    _check_ways(train, test)

    def classify(
        params: PyTree, model_state: PyTree, episode: Episode, training: bool, key: Key | None
    ) -> tuple[jax.Array, PyTree]:
        def one(episode: Episode) -> jax.Array:
            adapted = adapt(params, model_state, episode, training, key, steps if training else test_steps)
            if first_order:
                adapted = jax.tree.map(lambda new, old: old + lax.stop_gradient(new - old), adapted, params)
            return _logits(network, adapted, model_state, episode.queries, training, key)

        return lax.map(one, episode), model_state

    return episodic(network, tx, classify, train, test)


def reptile(
    network: Network,
    tx: optax.GradientTransformation,
    train: Shape,
    test: Shape,
    *,
    rate: float = 0.1,
    steps: int = 5,
    test_steps: int = 10,
) -> Learner:
    """Return the learner of Reptile (Nichol et al., 2018): weights move towards those that each episode ends with.

    In training an episode's support and queries are all learned from. The optimizer is given the mean over the
    episodes of initial minus adapted weights, over the inner rate, as the gradient. Batches, and batch statistics, are
    those of ``maml``.

    Args:
        network: inputs to logits, [B, ways].
        tx: an Optax optimizer, of the initial weights.
        train: the episodes of training.
        test: the episodes of evaluation, of as many ways.
        rate: of the inner descent.
        steps: of the inner descent in training, each on all examples of an episode.
        test_steps: of the inner descent in evaluation and in ``predict``, on the support.
    """
    adapt = _descent(network, rate)
    check_whole("steps", steps, 2, remedy="for after one it is plain training on all problems at once")
    check_whole("test_steps", test_steps)
    _check_ways(train, test)

    def gradient(state: TrainState, episode: Episode, key: Key) -> tuple[PyTree, PyTree]:
        of_queries = jnp.repeat(jnp.eye(train.ways), train.queries, 0)
        targets = jnp.concatenate(
            [episode.targets, jnp.broadcast_to(of_queries, (len(episode.targets), *of_queries.shape))], 1
        )
        both = jnp.concatenate([episode.support, episode.queries], 1)

        def moved(episode: Episode) -> PyTree:
            adapted = adapt(state.params, state.model_state, episode, True, key, steps)
            return jax.tree.map(lambda old, new: (old - new) / rate, state.params, adapted)

        each = lax.map(moved, Episode(both, targets, episode.queries))
        return jax.tree.map(lambda leaf: leaf.mean(0), each), state.model_state

    def classify(
        params: PyTree, model_state: PyTree, episode: Episode, training: bool, key: Key | None
    ) -> tuple[jax.Array, PyTree]:
        def one(episode: Episode) -> jax.Array:
            adapted = adapt(params, model_state, episode, training, key, test_steps)
            return _logits(network, adapted, model_state, episode.queries, training, key)

        return lax.map(one, episode), model_state

    return episodic(network, tx, classify, train, test, gradient)


def _descent(network: Network, rate: float) -> Adapt:
    """Return the function that takes steps of gradient descent on an episode's support, in one loop."""
    check_number("rate", rate, 0, FINITE, "a number greater than 0, such as 0.4", low_too=False)

    def adapt(
        params: PyTree, model_state: PyTree, episode: Episode, training: bool, key: Key | None, steps: int
    ) -> PyTree:
        def loss(params: PyTree) -> jax.Array:
            logits = _logits(network, params, model_state, episode.support, training, key)
            losses = optax.softmax_cross_entropy(logits, episode.targets)  # 0 where a row of targets is
            return losses.sum() / jnp.maximum(episode.targets.sum(), 1.0)

        def step(params: PyTree, _: None) -> tuple[PyTree, None]:
            return jax.tree.map(lambda leaf, grad: leaf - rate * grad, params, jax.grad(loss)(params)), None

        return lax.scan(step, params, length=steps)[0]

    return adapt


def _logits(
    network: Network, params: PyTree, model_state: PyTree, inputs: jax.Array, training: bool, key: Key | None
) -> jax.Array:
    at_hand = training or bool(jax.tree.leaves(model_state))  # batch statistics of these inputs
    return at_least_float32(network.apply(params, model_state, inputs, train=at_hand, key=key)[0])


def _check_ways(train: Shape, test: Shape) -> None:
    if train.ways != test.ways:
        raise InputError(
            f"ways={test.ways} of the test but {train.ways} in training: the network has one output a class; give both "
            "one number"
        )
