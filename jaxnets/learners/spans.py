"""Pointing at a span of a text: the first and the last token of what answers a question."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnets import losses
from jaxnets.learner import Learner, check_network
from jaxnets.learners.supervised import supervised
from jaxnets.metrics.spans import span_accuracy, span_f1
from jaxnets.models.sequences import Segmented
from jaxnets.network import Key, Network, PyTree


def pointing(network: Network, separator: int, tx: optax.GradientTransformation) -> Learner:
    """Return the learner of spans: the mean cross-entropy of the first and the last token (Devlin et al., 2019).

    Batches hold "inputs", rows of tokens [B, T], "labels", the positions of the first and the last token [B, 2], 0 and
    0 where a text holds no answer, and, optionally, "mask" and "weights", as for ``supervised``. It predicts logits
    [B, 2, T], and measures "span_accuracy" and "span_f1".

    Args:
        network: as ``span_logits`` takes it.
        separator: likewise.
        tx: an Optax optimizer.
    """
    metrics = {"span_accuracy": span_accuracy, "span_f1": span_f1}
    return supervised(span_logits(network, separator), losses.softmax_cross_entropy, tx, metrics)


def span_logits(network: Network, separator: int) -> Network:
    """Return the network over rows of tokens [B, T] that gives logits of the first and the last token, [B, 2, T].

    A row is one token, a question, the separator, a text, the separator, and padding. Positions outside the text have
    no probability, but for the first, which says that the text holds no answer.

    Args:
        network: of ``Segmented`` tokens, [B, T] -> [B, T, 2], such as ``bert`` with ``pool=None, pooler=False``.
        separator: the token behind each of the two.
    """
    check_network("network", network)

    def apply(
        params: PyTree, model_state: PyTree, inputs: jax.Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        ends = inputs == separator
        before = jnp.cumsum(ends, -1) - ends.astype(jnp.int32)  # separators before each token, [B, T]
        pair = Segmented(inputs, (before > 0).astype(jnp.int32))
        outputs, model_state = network.apply(params, model_state, pair, train=train, key=key)
        may = ((before == 1) & ~ends).at[:, 0].set(True)
        return jnp.where(may[:, None], outputs.swapaxes(1, 2), jnp.finfo(outputs.dtype).min), model_state

    return network._replace(apply=apply)
