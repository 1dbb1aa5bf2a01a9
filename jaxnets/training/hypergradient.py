"""Gradients through training: what the loss after many steps owes to how the run was set up."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.interpreters.partial_eval import dce_jaxpr
from jax.typing import ArrayLike

from jaxnets.errors import InputError, check_callable, check_kind, short
from jaxnets.learner import Batch, Initial, Learner, Sums, TrainState, check_learner, started
from jaxnets.metrics import Mean
from jaxnets.network import Key, PyTree
from jaxnets.parameters import paths
from jaxnets.training.chunk import run_keys, step_key
from jaxnets.transforms.population import OneByOne

Run = Callable[[TrainState, Mapping[str, jax.Array], jax.Array, Key], tuple[TrainState, Sums]]
HeldOut = Callable[[Learner, TrainState, Batch], jax.Array]


def unrolled(learner: Learner) -> Run:
    """Return a pure function that takes many steps, and that can be differentiated through all of them.

    ``run(state, columns, rows, key) -> (state, sums)``: step ``i`` trains on the rows ``rows[i]`` of ``columns`` with
    the key ``fold_in(key, state.step)``, as ``chunk``'s does; of ``rows`` [K, B], the sums are what the metrics of each
    of the K steps have measured, [K, ...].

    Reverse mode keeps every sqrt(K)-th state, and takes the steps between them once more when it comes to them (Chen et
    al., 2016, "Training deep nets with sublinear memory cost"): memory grows as sqrt(K), and time by one forward pass.
    Forward mode (``jax.jvp``) keeps nothing.

    Raises:
        InputError: by ``run``, if the rows are not [K, B] row numbers of the columns, or the state is a population's.
    """
    check_learner(learner)

    def run(state: TrainState, columns: Mapping[str, jax.Array], rows: jax.Array, key: Key) -> tuple[TrainState, Sums]:
        _check_one(learner, state.step)
        columns = _arrays("columns", columns)
        rows = _row_numbers(rows, len(next(iter(columns.values()))))

        def take(state: TrainState, rows: jax.Array) -> tuple[TrainState, Sums]:
            batch = {name: column[rows] for name, column in columns.items()}
            return learner.step(state, batch, step_key(key, state.step))

        def segment(state: TrainState, rows: jax.Array) -> tuple[TrainState, Sums]:
            return lax.scan(take, state, rows)

        num_steps, batch_size = rows.shape
        length = _segment_length(num_steps)
        whole = num_steps - num_steps % length
        segments = rows[:whole].reshape(-1, length, batch_size)  # [S, L, B]
        state, sums = lax.scan(jax.checkpoint(segment, prevent_cse=False), state, segments)
        sums = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), sums)
        if whole == num_steps:
            return state, sums
        state, last = segment(state, rows[whole:])
        return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), sums, last)

    return run


class Hypergradient(NamedTuple):
    """The loss on held-out data after a run, and its derivatives.

    Attributes:
        loss: the loss.
        hyper: its derivatives by the hyperparameters, like ``hyper``.
        params: by the initial weights, like the state's ``params``.
        weights: by how much each training example counts, like the array "weights" of the training data, [N]; None if
            they have none.
        state: the state after the run.
    """

    loss: jax.Array
    hyper: PyTree
    params: PyTree
    weights: jax.Array | None
    state: TrainState


def held_out_loss(learner: Learner, state: TrainState, batch: Batch) -> jax.Array:
    """Return the mean of the learner's "loss" over a batch.

    Raises:
        InputError: if the learner's ``evaluate`` measures no such mean.
    """
    sums = learner.evaluate(state, batch)
    if not isinstance(sums.get("loss"), Mean):
        raise InputError(
            f"the learner evaluates {', '.join(sums) or 'nothing'}, and no mean 'loss' to differentiate; give "
            "loss=function(learner, state, batch)"
        )
    total, count = sums["loss"]
    return total / count.astype(total.dtype)


def hypergradient(
    make: Callable[[PyTree], Learner],
    hyper: PyTree,
    train: Mapping[str, Any],
    rows: Any,
    validation: Mapping[str, Any],
    seed: ArrayLike = 0,
    *,
    initial: Initial | None = None,
    loss: HeldOut = held_out_loss,
) -> Hypergradient:
    """Return the loss on held-out data after a run, and its derivatives by all that the run begins from.

    One backward pass through all steps (``unrolled``) gives the derivatives by hyperparameters, initial weights and
    weights of examples. It is a pure function of arrays, to be compiled, mapped over seeds or tasks, or called by an
    outer optimizer. The run is that of ``fit`` with the same seed and rows.

    Learning rates that are too high make derivatives that explode. Adam divides by a root whose derivative is infinite
    at 0, where a weight has had no gradient yet: ``optax.adam(rate, eps_root=1e-8)`` makes it finite. Flax lets no
    derivative through the running averages of batch normalisation: of a loss that is evaluated with them, it lacks that
    part.

    Args:
        make: ``make(hyper) -> Learner``, of numbers that are traced, such as ``supervised(network, loss,
            optax.sgd(hyper["rate"]))``.
        hyper: floats in any pytree; None if there are none.
        train: the training data, arrays [N, ...]; "weights" among them say how much each example counts (where one
            is 0, the example is left out, and so is its derivative).
        rows: of each step, [K, B], such as ``jaxnets.data.shuffled(train, B, seed).rows(0, K)``.
        validation: the held-out data, evaluated in one batch.
        seed: of initial weights and steps, as in ``fit``.
        initial: weights to begin from, if any are given.
        loss: ``loss(learner, state, validation)``, what is differentiated; by default the mean of the learner's "loss".

    Raises:
        InputError: if the rows are not [K, B] row numbers of the training data, a hyperparameter is no float or changes
            nothing, the learner does not read the weights of examples, or it is a population.
    """
    check_callable("make", make, "give one of make(hyper) -> Learner; without hyperparameters lambda _: learner")
    check_callable("loss", loss, "give one of loss(learner, state, batch)")
    check_kind("initial", initial, (Initial, type(None)), "give jaxnets.Initial(params)")
    train, validation = _arrays("train", train), _arrays("validation", validation)
    hyper = _floats(hyper)
    init_key, key = run_keys(seed)
    _check_one(make(hyper), init_key)

    def begin(hyper: PyTree) -> PyTree:
        return started(make(hyper), jax.random.clone(init_key), initial).params

    def after(hyper: PyTree, params: PyTree, weights: jax.Array | None) -> tuple[jax.Array, TrainState]:
        learner, columns = make(hyper), train if weights is None else {**train, "weights": weights}
        state = started(learner, jax.random.clone(init_key), Initial(params, initial and initial.model_state))
        state, _ = unrolled(learner)(state, columns, rows, key)
        return loss(learner, state, validation), state

    weights = train.get("weights")
    if weights is not None:
        weights = weights.astype(jnp.promote_types(weights.dtype, jnp.float32))
    _check_used(lambda hyper, weights: after(hyper, begin(hyper), weights)[0], hyper, weights)
    params, back = jax.vjp(begin, hyper)
    (value, state), found = jax.value_and_grad(after, (0, 1, 2), has_aux=True)(hyper, params, weights)
    by_hyper, by_params, by_weights = found
    by_hyper = jax.tree.map(jnp.add, by_hyper, *back(by_params))  # hyperparameters of the initial values count as well
    return Hypergradient(value, by_hyper, by_params, by_weights, state)


def _segment_length(num_steps: int) -> int:
    """Return how many steps are taken anew at a time: about sqrt(K), if possible so that no steps are left over."""
    root = math.isqrt(num_steps)
    return next((length for length in range(root, root // 2, -1) if num_steps % length == 0), root)


def _arrays(name: str, data: Any) -> dict[str, jax.Array]:
    """Return named arrays of equally many rows as JAX has them.

    Raises:
        InputError: if they are no such arrays.
    """
    check_kind(name, data, Mapping, "give named arrays, such as jaxnets.Data(inputs=..., labels=...)")
    arrays = {column: jnp.asarray(array) for column, array in data.items()}
    lengths = {array.shape[:1] for array in arrays.values()}
    if len(lengths) != 1 or not all(lengths) or (0,) in lengths:
        shapes = {column: array.shape for column, array in arrays.items()}
        raise InputError(f"{name}: arrays of shapes {shapes}; each needs one row an example, and one example or more")
    return arrays


def _row_numbers(rows: Any, number: int) -> jax.Array:
    """Return the rows of each step, [K, B].

    Raises:
        InputError: if they are not whole numbers of this form, or, where their values are known, not from 0 to N - 1.
    """
    wanted = "row numbers [num_steps, batch_size], such as jaxnets.data.shuffled(train, batch_size, seed).rows(0, 50)"
    try:
        found = rows if isinstance(rows, Tracer) else np.asarray(rows)
    except ValueError as error:  # batches of unlike size
        raise InputError(f"rows={short(rows)} must be {wanted}") from error
    if found.ndim != 2 or found.dtype.kind not in "iu":
        raise InputError(f"rows of shape {found.shape} and dtype {found.dtype} must be {wanted}")
    if 0 in found.shape:
        raise InputError(f"rows of shape {found.shape} are no steps; give {wanted}")
    if not isinstance(found, Tracer) and (found.min() < 0 or found.max() >= number):
        raise InputError(f"rows from {found.min()} to {found.max()} of {number} examples; give row numbers below that")
    return jnp.asarray(found)


def _check_one(learner: Any, members: jax.Array) -> None:
    """Check that it is a learner of one, whose keys and steps have no axes."""
    check_learner(learner)
    if isinstance(learner.step, OneByOne) or members.ndim:
        raise InputError(
            "gradients through training are of one run, not of a population; leave population() out, give one seed, "
            "and jax.vmap the function over seeds or states"
        )


def _floats(hyper: PyTree) -> PyTree:
    """Return the hyperparameters as arrays.

    Raises:
        InputError: if one is no float, so that there is no derivative by it.
    """
    for name, value in paths({"hyper": hyper}).items():
        if not hasattr(value, "dtype") and not isinstance(value, int | float):
            raise InputError(f"{name}={short(value)} is no number; let make close over it instead")
        if not jnp.issubdtype(dtype := jnp.result_type(value), jnp.floating):
            raise InputError(
                f"{name}={short(value)} is {dtype}, by which there is no derivative; give a float, such as 1.0"
            )
    return jax.tree.map(jnp.asarray, hyper)


def _check_used(loss: Callable[..., jax.Array], hyper: PyTree, weights: jax.Array | None) -> None:
    """Check that the loss's derivatives by hyperparameters and weights are not 0 whatever their values are.

    They are where a number is not used at all, or only rounded, compared or behind ``stop_gradient``: what computes the
    tangent of the loss does then without that number's tangent.

    Raises:
        InputError: if one is.
    """
    given = {"hyper": hyper, "weights": weights}
    leaves, structure = jax.tree.flatten(given)
    if not leaves:
        return
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]

    def tangent(values: list[jax.Array], tangents: list[jax.Array]) -> jax.Array:
        return jax.jvp(lambda *values: loss(**structure.unflatten(values)), values, tangents)[1]

    program = jax.make_jaxpr(tangent)(shapes, shapes).jaxpr
    used = dce_jaxpr(program, [True] * len(program.outvars))[1][len(leaves) :]
    if idle := [name for name, is_used in zip(paths(given), used, strict=True) if not is_used]:
        raise InputError(
            f"{', '.join(idle)} cannot change the loss: the derivative would be 0. Of hyper, make(hyper) must use each "
            "number, neither rounded nor only compared; weights are for learners that read them, such as supervised()"
        )
