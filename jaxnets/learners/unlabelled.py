"""What learners without labels have in common: networks side by side, one gradient, and an encoder's features."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets.errors import InputError
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
    inputs_of,
)
from jaxnets.learners.arrays import COUNTING, check_counting, check_names
from jaxnets.learners.descent import at_least_float32, updating
from jaxnets.learners.supervised import row_weights
from jaxnets.metrics import Metric
from jaxnets.metrics.spread import feature_spread
from jaxnets.network import Key, Network, PyTree, named

Pass = Callable[[str, Any], Any]  # ``run(name, inputs)``: the outputs of the network of this name


class Lost(NamedTuple):
    """A batch's loss.

    Attributes:
        value: what is minimised, a mean.
        sums: what is measured.
        num: over how many rows the mean is.
    """

    value: jax.Array
    sums: Sums
    num: jax.Array


Objective = Callable[[TrainState, Batch, Key, Pass], Lost]


def unlabelled(
    networks: Mapping[str, Network],
    objective: Objective,
    measure: Callable[[TrainState, Batch], Sums],
    tx: optax.GradientTransformation,
    metrics: Mapping[str, Metric],
    begun: Callable[[TrainState], TrainState] = lambda state: state,
    moved: Callable[[TrainState], TrainState] = lambda state: state,
) -> Learner:
    """Return the learner of ``networks``, "encoder" among them, that follows the gradient of ``objective``.

    Params and model state hold each network's under its name. ``predict`` returns the encoder's outputs, features
    [B, D]; evaluation measures how far they spread, too (``feature_spread``). Batches hold "inputs", and, for others to
    read, "labels".

    Args:
        networks: by name.
        objective: ``objective(state, batch, key, run)``, where ``run(name, inputs)`` is a network as it is trained.
        measure: ``measure(state, batch)``: sums in evaluation.
        tx: an Optax optimizer.
        metrics: what is computed of the sums.
        begun: what is kept in ``extra`` from the beginning.
        moved: what becomes of it after each update.
    """
    for name, network in networks.items():
        check_network(name, network)
    check_tx("tx", tx)
    parts = {name: named(name, network) for name, network in networks.items()}
    metrics = {**metrics, "features": feature_spread()}

    def init(key: Key, initial: Initial | None = None) -> TrainState:
        check_key(key)
        keys = jax.random.split(key, len(parts))
        made = {name: part.init(own) for own, (name, part) in zip(keys, parts.items(), strict=True)}
        params, model_state = ({name: both[i] for name, both in made.items()} for i in (0, 1))
        params, model_state = begin(params, model_state, initial)
        return begun(TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), model_state))

    def gradient(state: TrainState, batch: Batch, key: Key) -> Gradient:
        def lost(params: PyTree) -> tuple[jax.Array, tuple[PyTree, Sums, jax.Array]]:
            own, *keys = jax.random.split(key, len(parts) + 1)
            keys, new = dict(zip(parts, keys, strict=True)), dict(state.model_state)

            def run(name: str, inputs: Any) -> Any:
                outputs, new[name] = parts[name].apply(
                    params[name], state.model_state[name], inputs, train=True, key=keys[name]
                )
                return at_least_float32(outputs)

            found = objective(state, batch, own, run)
            return found.value, (new, found.sums, found.num)

        grads, (model_state, sums, count) = jax.grad(lost, has_aux=True)(state.params)
        return Gradient(grads, model_state, sums, count)

    follow = updating(tx)

    def update(state: TrainState, grads: PyTree, model_state: PyTree) -> TrainState:
        return moved(follow(state, grads, model_state))

    def predict(state: TrainState, inputs: Any) -> jax.Array:
        return in_use(networks, state, "encoder", inputs)

    def evaluate(state: TrainState, batch: Batch) -> Sums:
        features = predict(state, inputs_of(batch))
        return measure(state, batch) | {"features": metrics["features"].measure(features, features, row_weights(batch))}

    def check(arrays: Mapping[str, np.ndarray]) -> None:
        check_names(arrays, ("inputs",), ("labels", *COUNTING))
        inputs = np.asarray(arrays["inputs"])
        check_counting({"labels": inputs[..., 0] if inputs.ndim > 1 else inputs, **arrays})
        networks["encoder"].check(inputs)
        made = features_of(inputs.shape[1:], jax.dtypes.canonicalize_dtype(inputs.dtype))
        if len(made) != 2:
            raise InputError(f"the encoder makes {made} of two examples; it must make features, [2, D]")

    @lru_cache(maxsize=8)
    def features_of(shape: tuple[int, ...], dtype: Any) -> tuple[int, ...]:
        """Return the shape of two examples' features; all else that is made of them is traced, too."""
        inputs = jax.ShapeDtypeStruct((2, *shape), dtype)
        state = jax.eval_shape(lambda: init(jax.random.key(0)))
        jax.eval_shape(evaluate, state, {"inputs": inputs})
        return jax.eval_shape(predict, state, inputs).shape

    descent = Descent(gradient, update)
    return Learner(
        init, following(descent), evaluate, predict, check, metrics, descent, check_inputs=networks["encoder"].check
    )


def in_use(networks: Mapping[str, Network], state: TrainState, name: str, inputs: Any) -> jax.Array:
    """Return the outputs of the network of this name, as it is used, in float32 at least."""
    outputs, _ = networks[name].apply(state.params[name], state.model_state[name], inputs)
    return at_least_float32(outputs)
