"""Learning from two views of an example: what a network makes of one is to say what it makes of the other."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets.errors import FINITE, InputError, check_callable, check_number
from jaxnets.learner import Batch, Learner, Sums, TrainState, inputs_of
from jaxnets.learners.contrastive import normalized
from jaxnets.learners.descent import at_least_float32
from jaxnets.learners.supervised import row_weights
from jaxnets.learners.unlabelled import Lost, Pass, in_use, unlabelled
from jaxnets.metrics import Mean, Metric, divide, mean_of, per_example
from jaxnets.metrics.spread import Moments, covariance, moments
from jaxnets.network import Key, Network, PyTree, example_keys

Augment = Callable[[Key, Any], Any]
_TEACHER = "teacher"  # in ``TrainState.extra``
_PARTS = ("encoder", "projector")  # of which there is a teacher
_EPSILON = 1e-4  # added to VICReg's variances


def byol(
    encoder: Network,
    projector: Network,
    predictor: Network,
    tx: optax.GradientTransformation,
    augment: Augment,
    *,
    decay: float = 0.99,
) -> Learner:
    """Return the learner that predicts a teacher's projection of another view (BYOL; Grill et al., 2020).

    The teacher is an exponential moving average of encoder and projector, batch statistics too, in
    ``TrainState.extra``. The loss is ``2 - 2 cos`` between the prediction from one view and the teacher's projection of
    the other, summed over both directions: 0 to 8. In evaluation an example's views are drawn by ``example_keys``.

    Batches hold "inputs" and, optionally, "mask" and "weights". ``predict`` returns the encoder's features [B, D].

    Args:
        encoder: inputs to features, [B, D].
        projector: features to projections.
        predictor: projections to projections; without one, or without a teacher, everything would become one point.
        tx: an Optax optimizer.
        augment: ``augment(key, inputs)`` makes a view.
        decay: of the teacher in each step, in [0, 1).
    """
    check_callable("augment", augment, "give one of augment(key, inputs), such as jaxnets.data.augment.shift(2)")
    check_number("decay", decay, 0, 1, "in [0, 1), such as 0.99")
    networks = {"encoder": encoder, "projector": projector, "predictor": predictor}

    def taught(state: TrainState, views: Any, key: Key | None = None) -> jax.Array:
        """Return the teacher's projections; with a key as it is in training, by statistics of the batch."""
        teacher, made = state.extra[_TEACHER], views
        for i, name in enumerate(_PARTS):
            params, model_state = teacher["weights"][name], teacher["state"][name]
            own = None if key is None else jax.random.fold_in(key, i)
            made, _ = networks[name].apply(params, model_state, made, train=key is not None, key=own)
        return jax.lax.stop_gradient(at_least_float32(made))

    def values(predicted: jax.Array, target: jax.Array) -> jax.Array:
        """Return each example's loss, of predictions and targets of both views, one after another."""
        first, second = jnp.split(2 - 2 * (normalized(predicted) * normalized(_swapped(target))).sum(-1), 2)
        return first + second

    def objective(state: TrainState, batch: Batch, key: Key, run: Pass) -> Lost:
        own, key_of_teacher = jax.random.split(key)
        views = _two_views(augment, own, inputs_of(batch))
        predicted = run("predictor", run("projector", run("encoder", views)))
        found = mean_of(values(predicted, taught(state, views, key_of_teacher)), row_weights(batch))
        count = mean_of(jnp.zeros(len(predicted) // 2, jnp.float32), batch.get("mask")).count
        return Lost(found.total / jnp.maximum(count, 1).astype(jnp.float32), {"loss": found}, count)

    def measure(state: TrainState, batch: Batch) -> Sums:
        views = _views_of_each(augment, inputs_of(batch))
        predicted = views
        for name in networks:
            predicted = in_use(networks, state, name, predicted)
        return {"loss": mean_of(values(predicted, taught(state, views)), row_weights(batch))}

    def begun(state: TrainState) -> TrainState:
        return state.replace(extra={**state.extra, _TEACHER: _of_teacher(state)})

    def moved(state: TrainState) -> TrainState:
        def move(old: jax.Array, new: jax.Array) -> jax.Array:
            floating = jnp.issubdtype(old.dtype, jnp.floating)
            return (old + (1 - decay) * (new - old)).astype(old.dtype) if floating else new

        teacher = jax.tree.map(move, state.extra[_TEACHER], _of_teacher(state))
        return state.replace(extra={**state.extra, _TEACHER: teacher})

    return unlabelled(networks, objective, measure, tx, {"loss": _LOSS}, begun, moved)


_LOSS = per_example(lambda values, _: values, "lower")


def _of_teacher(state: TrainState) -> PyTree:
    kept: dict[str, PyTree] = {"weights": state.params, "state": state.model_state}
    return {kind: {name: tree[name] for name in _PARTS} for kind, tree in kept.items()}


class _Terms(NamedTuple):
    """Sums of what VICReg is computed of: squared distances of the two projections, and the moments of each."""

    distance: Mean
    first: Moments
    second: Moments


def vicreg(
    encoder: Network,
    projector: Network,
    tx: optax.GradientTransformation,
    augment: Augment,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance_weight: float = 1.0,
) -> Learner:
    """Return the learner whose projections of two views are alike, spread, and uncorrelated (VICReg; Bardes, 2022).

    The loss is a sum of three terms, each with its weight, reported beside it: "invariance", the mean squared
    difference of the two views' projections; "variance", what the standard deviation of each dimension,
    ``sqrt(variance + 1e-4)``, lacks of 1, the mean over dimensions and views; "covariance", the squares of the
    covariances of different dimensions, summed, over the number of dimensions, and summed over views. A step's loss is
    of its batch, so rows have a mask but no weights; in evaluation it is of all the data.

    ``predict`` returns the encoder's features [B, D].

    Args:
        encoder: inputs to features, [B, D].
        projector: features to projections.
        tx: an Optax optimizer.
        augment: ``augment(key, inputs)`` makes a view.
        invariance: weight of the first term.
        variance: weight of the second.
        covariance_weight: weight of the third.
    """
    check_callable("augment", augment, "give one of augment(key, inputs), such as jaxnets.data.augment.shift(2)")
    weights = {"invariance": invariance, "variance": variance, "covariance_weight": covariance_weight}
    for name, value in weights.items():
        check_number(name, value, 0, FINITE, "0 or more")
    networks = {"encoder": encoder, "projector": projector}
    factors: dict[str, float] = dict(zip(("invariance", "variance", "covariance"), weights.values(), strict=True))

    def objective(state: TrainState, batch: Batch, key: Key, run: Pass) -> Lost:
        if "weights" in batch:
            raise InputError("weights are of examples, and VICReg's loss is of a whole batch; leave them out")
        views = _two_views(augment, key, inputs_of(batch))
        first, second = jnp.split(run("projector", run("encoder", views)), 2)
        mask = batch.get("mask")
        counts = (
            jnp.ones(len(first), jnp.float32) if mask is None else jnp.asarray(mask).astype(bool).astype(jnp.float32)
        )
        count = counts.sum()
        terms = vicreg_terms(
            mean_of(jnp.square(first - second).mean(-1), counts).total / jnp.maximum(count, 1),
            [_covariance(first, counts), _covariance(second, counts)],
        )
        loss = sum((factors[name] * term for name, term in terms.items()), start=jnp.zeros((), jnp.float32))
        return Lost(loss, {"loss": Mean(loss * count, count)}, count.astype(jnp.int32))

    def measure(state: TrainState, batch: Batch) -> Sums:
        made = _views_of_each(augment, inputs_of(batch))
        for name in networks:
            made = in_use(networks, state, name, made)
        return {"loss": metric.measure(jnp.split(made, 2), made, row_weights(batch))}

    def compute(sums: Mean | _Terms) -> Any:
        if isinstance(sums, Mean):  # of training steps
            return divide(sums)
        terms = vicreg_terms(divide(sums.distance), [covariance(one, 1) for one in (sums.first, sums.second)], np)
        return {"loss": sum(factors[name] * term for name, term in terms.items()), **terms}

    metric = Metric(_terms, compute, "lower")
    return unlabelled(networks, objective, measure, tx, {"loss": metric})


def _terms(views: Any, labels: Any, weights: jax.Array | None) -> _Terms:
    first, second = views
    distance = mean_of(jnp.square(first - second).mean(-1), weights)
    return _Terms(distance, moments(first, weights), moments(second, weights))


def vicreg_terms(distance: Any, covariances: list[Any], xp: Any = jnp) -> dict[str, Any]:
    """Return VICReg's three terms.

    Args:
        distance: the mean squared difference of the two views' projections.
        covariances: of each view's projections, [D, D], over the number of rows less 1.
        xp: NumPy, or JAX's.
    """
    dim = len(covariances[0])
    deviations = [xp.sqrt(xp.diagonal(matrix) + np.float32(_EPSILON)) for matrix in covariances]
    apart = [xp.sum(xp.square(matrix)) - xp.sum(xp.square(xp.diagonal(matrix))) for matrix in covariances]
    return {
        "invariance": distance,
        "variance": sum(xp.mean(xp.maximum(1 - one, 0.0)) for one in deviations) / 2,
        "covariance": sum(one / dim for one in apart),
    }


def _covariance(vectors: jax.Array, counts: jax.Array) -> jax.Array:
    """Return the covariance matrix [D, D] of the rows that count, over their number less 1."""
    number = counts.sum()
    kept = jnp.where(counts[:, None] != 0, vectors, 0.0)
    centred = jnp.where(counts[:, None] != 0, kept - kept.sum(0, keepdims=True) / jnp.maximum(number, 1), 0.0)
    return centred.T @ centred / jnp.maximum(number - 1, 1)


def _two_views(augment: Augment, key: Key, inputs: Any) -> jax.Array:
    """Return two views of each of the inputs, [2 B, ...]: all first ones, then all second ones."""
    return jnp.concatenate([augment(own, inputs) for own in jax.random.split(key)])


def _views_of_each(augment: Augment, inputs: Any) -> jax.Array:
    """Return two views of each of the inputs, [2 B, ...], that depend on nothing but the input."""
    keys = jax.vmap(jax.random.split)(example_keys(inputs))  # [B, 2]

    def view(key: Key, one: jax.Array) -> jax.Array:
        return augment(key, one[None])[0]

    return jnp.concatenate([jax.vmap(view)(keys[:, i], inputs) for i in (0, 1)])


def _swapped(both: jax.Array) -> jax.Array:
    return jnp.concatenate(jnp.split(both, 2)[::-1])
