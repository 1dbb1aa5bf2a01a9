"""Learning of an ensemble inside a network: each member on its own loss, their combination predicted."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxnets.errors import InputError
from jaxnets.learner import Learner
from jaxnets.learners.supervised import supervised
from jaxnets.losses import Loss
from jaxnets.metrics import Metric
from jaxnets.network import Key, Network, PyTree


class Members(struct.PyTreeNode):
    """What the members of an ensemble say of a batch, [B, K, ...]."""

    outputs: Any


def mean_probability(outputs: jax.Array) -> jax.Array:
    """Return logits whose softmax is the mean of the members' probabilities, [B, K, C] -> [B, C]."""
    total = jax.nn.logsumexp(jax.nn.log_softmax(outputs, axis=-1), axis=1)
    return total - jnp.log(jnp.asarray(outputs.shape[1], total.dtype))


def mean_output(outputs: jax.Array) -> jax.Array:
    """Return the mean of the members' outputs, [B, K, ...] -> [B, ...]."""
    return outputs.mean(1)


def ensembled(
    network: Network,
    loss: Loss,
    tx: optax.GradientTransformation,
    metrics: Mapping[str, Metric] | None = None,
    *,
    combine: Callable[[jax.Array], jax.Array] = mean_probability,
) -> Learner:
    """Return the learner of an ensemble inside a network: outputs [B, K, ...] of K members.

    The mean of the members' losses is minimised, each its own, so that they stay apart (Gorishniy et al., 2024: TabM).
    What is predicted and measured is their combination.

    Args:
        network: the model.
        loss: ``loss(outputs, labels)``, for each example, of one member's outputs [B, ...].
        tx: an Optax optimizer.
        metrics: what is reported beside "loss", by name, of the combination.
        combine: what the members say together, [B, K, ...] -> [B, ...].
    """

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        outputs, model_state = network.apply(params, model_state, inputs, train=train, key=key)
        if jnp.ndim(outputs) < 3:
            raise InputError(f"outputs of shape {jnp.shape(outputs)} have no axis of members; give [B, K, ...]")
        return (Members(outputs) if train else combine(outputs)), model_state

    def each(outputs: Any, labels: jax.Array) -> jax.Array:
        if not isinstance(outputs, Members):
            return loss(outputs, labels)
        return jax.vmap(loss, in_axes=(1, None), out_axes=1)(outputs.outputs, labels).mean(1)

    def combined(metric: Metric) -> Metric:
        def measure(outputs: Any, labels: jax.Array, weights: jax.Array | None) -> Any:
            whole = combine(outputs.outputs) if isinstance(outputs, Members) else outputs
            return metric.measure(whole, labels, weights)

        return metric._replace(measure=measure)

    found = {name: combined(metric) for name, metric in (metrics or {}).items()}
    return supervised(network._replace(apply=apply), each, tx, found)
