"""Evaluation and prediction over whole data sets, in batches of one shape."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Sharding

from jaxnets.data import padded_batches
from jaxnets.errors import InputError, check_kind, check_whole
from jaxnets.learner import Learner, Sums, TrainState, check_learner, check_state, put
from jaxnets.metrics import add_up, compute
from jaxnets.network import Coded
from jaxnets.platform import platform
from jaxnets.training.compiling import jit
from jaxnets.transforms.population import apart

# Batches, and bytes of them, that are evaluated by one call.
_MOST_BATCHES = 16
_MOST_BYTES = 1 << 24


def usual_size(batch_size: int | None) -> int:
    """Return how many examples are evaluated at a time: if not given, 32 on CPU, 256 elsewhere.

    What takes more than 32 MB is slow on a CPU: the C library gives so much memory back, and when it is next asked
    for, it is cleared page by page.
    """
    if batch_size is None:
        return 32 if platform() == "cpu" else 256
    check_whole("batch_size", batch_size, remedy="examples at a time")
    return batch_size


def in_turn(learner: Learner) -> Callable[..., Sums]:
    """Return a pure function that evaluates batch after batch, to be compiled.

    ``run(state, batches, num) -> metrics``: arrays [K, B, ...] hold K batches, of which the first ``num`` are
    evaluated; the metrics of each are [K, ...], zeros for the rest.
    """
    return _one_after_another(learner.evaluate)


def _one_after_another(evaluate: Callable[..., Sums]) -> Callable[..., Sums]:
    evaluate_one = apart(evaluate)

    def run(state: TrainState, batches: Mapping[str, jax.Array], num: jax.Array | int) -> Sums:
        def metrics_of(i: jax.Array | int) -> Sums:
            return evaluate_one(state, {name: jnp.asarray(array)[i] for name, array in batches.items()})

        def add(i: jax.Array, found: Sums) -> Sums:
            return jax.tree.map(lambda leaf, new: leaf.at[i].set(new), found, metrics_of(i))

        def zeros(leaf: jax.ShapeDtypeStruct) -> jax.Array:
            return jnp.zeros((len(next(iter(batches.values()))), *leaf.shape), leaf.dtype)

        return lax.fori_loop(0, num, add, jax.tree.map(zeros, jax.eval_shape(metrics_of, 0)))

    return run


def groups(
    data: Mapping[str, np.ndarray], batch_size: int | None = None, block: int = 1
) -> Iterator[tuple[dict[str, np.ndarray], np.int32]]:
    """Yield all of the data for ``in_turn``: some batches, [K, B, ...], and how many of them are not all padding.

    The batches hold whole blocks of rows: their size is rounded up to a multiple of ``block``.

    Raises:
        InputError: if there are no examples, or none in a batch.
    """
    check_kind("data", data, Mapping, "give named arrays, such as jaxnets.Data(inputs=..., labels=...)")
    data = {name: np.asarray(array) for name, array in data.items()}
    lengths = {name: len(array) if array.ndim else 0 for name, array in data.items()}
    number = min(lengths.values(), default=0)
    if len(set(lengths.values())) > 1:
        raise InputError(f"arrays of unequal length: {lengths}; each needs one row an example")
    if number == 0:
        raise InputError("no examples to evaluate; give at least one, [1, ...]")
    size = -(-usual_size(batch_size) // block) * block
    bytes_a_batch = max(1, size * sum(array[:1].nbytes for array in data.values()))
    together = max(1, min(_MOST_BATCHES, _MOST_BYTES // bytes_a_batch, -(-number // size)))
    for start, rows in enumerate(padded_batches(data, together * size)):
        batches = {name: array.reshape(together, size, *array.shape[1:]) for name, array in rows.items()}
        yield batches, np.int32(min(together, -(-number // size) - start * together))


def placed_groups(
    learner: Learner, data: Mapping[str, np.ndarray], batch_size: int | None = None
) -> Iterator[tuple[Mapping[str, Any], np.int32]]:
    """Yield ``groups`` of the data; for a learner on a mesh, each row on the device that evaluates it."""
    placement = learner.placement
    for batches, num in groups(data, batch_size, learner.block):
        size = next(iter(batches.values())).shape[1]
        yield batches if placement is None else put(batches, placement.of_rows(size, 0)), num


@lru_cache(maxsize=32)
def _evaluation(evaluate: Callable[..., Sums], where: Sharding | None) -> Callable[..., Sums]:
    """Return the compiled program for a learner's ``evaluate``, one for all calls; on a mesh all get its results."""
    return jit(_one_after_another(evaluate), out_shardings=where)


@lru_cache(maxsize=32)
def _prediction(predict: Callable[..., Any]) -> Callable[..., Any]:
    """Return the compiled program for a learner's ``predict``, one for all calls."""
    return jit(predict)


def evaluate(
    learner: Learner,
    state: TrainState,
    data: Mapping[str, np.ndarray],
    *,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Return the learner's metrics over every example exactly once; arrays for a population.

    Args:
        learner: whose metrics.
        state: the state to evaluate.
        data: named arrays, [N, ...].
        batch_size: examples at a time, rounded up to whole blocks (``Learner.block``); the last batch is padded and
            masked, so that one program serves all. By default 32 on CPU, 256 elsewhere.

    Raises:
        InputError: if the data do not suit the learner, or the state is not one of its states.
    """
    check_learner(learner)
    next(groups(data, batch_size, learner.block))  # there are examples
    check_state(learner, state)
    learner.check(data)
    call = _evaluation(learner.evaluate, learner.placement and learner.placement.of_rest)
    sums = add_up([jax.device_get(call(state, *group)) for group in placed_groups(learner, data, batch_size)])
    return compute(learner.metrics, sums, axes=np.ndim(state.step))


def predict(learner: Learner, state: TrainState, inputs: Any, *, batch_size: int | None = None) -> Any:
    """Return the learner's outputs for inputs [N, ...]: [N, ...], or [members, N, ...] for a population.

    Inputs and outputs may each be several arrays, in a pytree such as a dict, ``Coded`` or ``Autoencoded``; a list is
    one array.

    Raises:
        InputError: if the inputs do not suit the learner, or the state is not one of its states.
    """
    check_learner(learner)
    size = usual_size(batch_size)
    if isinstance(inputs, list):
        inputs = np.asarray(inputs)
    leaves, structure = jax.tree.flatten(inputs)
    arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}
    number = len(arrays["0"])
    if number == 0:
        raise InputError("no inputs to predict; give at least one example, [1, ...]")
    check_state(learner, state)
    if not isinstance(inputs, Coded):
        learner.check_inputs(inputs)
    call = _prediction(learner.predict)
    parts = [
        jax.device_get(call(state, structure.unflatten([batch[name] for name in arrays])))
        for batch in padded_batches(arrays, min(size, number))
    ]
    axis = np.ndim(state.step)
    return jax.tree.map(lambda *parts: np.take(np.concatenate(parts, axis), np.arange(number), axis), *parts)
