"""Learning who likes what: ratings from other ratings, and what comes next in a history of items."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets.errors import check_callable, check_whole
from jaxnets.learner import Batch, Learner, Sums, TrainState, check_learner, check_network, mapped, with_training
from jaxnets.learners.arrays import COUNTING, check_names
from jaxnets.learners.supervised import supervised
from jaxnets.metrics import Metric, coverage, hit_rate, ndcg
from jaxnets.models.next_items import Matched
from jaxnets.network import Key, Network, PyTree

NextLoss = Callable[[Matched, jax.Array, Key], jax.Array]
LISTED = 10  # items of a list of recommendations
BESIDE = ("user", "tags", "times", "ratings", "given")  # arrays beside the items whose ratings are told


def rating(learner: Learner) -> Learner:
    """Return a learner of rows of ratings, each of a user: of "inputs" (items), "user", "tags", "times" and so on.

    These arrays are as ``rating_splits`` makes them; ``predict`` takes a dict of them, the items as "items".

    Args:
        learner: a ``supervised`` learner whose network takes such a dict, such as of a ``RatingFactors``.
    """
    check_learner(learner)

    def parts(batch: Mapping[str, Any]) -> dict[str, Any]:
        inputs = {"items": batch["inputs"]} | {name: batch[name] for name in BESIDE}
        return {"inputs": inputs} | {name: batch[name] for name in ("labels", *COUNTING) if name in batch}

    def check(arrays: Mapping[str, np.ndarray]) -> None:
        check_names(arrays, ("inputs", "labels", *BESIDE), COUNTING)
        learner.check(parts(arrays))

    return mapped(learner, parts)._replace(check=check)


class _Training(NamedTuple):
    """Outputs in training, and what a loss draws from."""

    matched: Matched
    key: Key


def next_item(network: Network, loss: NextLoss, tx: optax.GradientTransformation) -> Learner:
    """Return the learner of histories: each item from those before it; in use, a ranking of all items not yet had.

    Batches hold "inputs" [B, T], items with 0 at the end of short histories, "user" [B], and "labels" [B], what came
    next; a "mask" [B] says which rows count, and "weights" [B] how much. ``predict`` takes a dict of "items" and
    "user", and returns scores [B, V], -inf for item 0 and for those of the history. Beside the cross-entropy of a
    softmax over all other items are measured the hit rate, NDCG and coverage of the first ten. A label of 0, an item
    that training does not hold, is never hit; its cross-entropy is taken for that of chance, ``log V``.

    Args:
        network: from "user" and "items" to ``Matched``.
        loss: ``loss(matched, labels, key)``: of each of the labels, [B, T].
        tx: an Optax optimizer.
    """
    check_network("network", network)
    check_callable("loss", loss, "give one of loss(matched, labels, key), such as softmax_over_items")
    metrics: dict[str, Metric] = {
        f"hit_rate_{LISTED}": hit_rate(LISTED),
        f"ndcg_{LISTED}": ndcg(LISTED),
        f"coverage_{LISTED}": coverage(LISTED, without=1),
    }

    def apply(
        params: PyTree, model_state: PyTree, inputs: PyTree, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, PyTree]:
        matched, model_state = network.apply(params, model_state, inputs, train=train, key=key)
        if not train:
            return _ranking(matched, inputs["items"]), model_state
        assert key is not None
        return _Training(matched, jax.random.fold_in(key, 1)), model_state

    def measured(outputs: Any, labels: jax.Array) -> jax.Array:
        if isinstance(outputs, _Training):
            return loss(outputs.matched, labels, outputs.key)
        chance = jnp.log(jnp.asarray(outputs.shape[-1], outputs.dtype))
        known = optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.maximum(labels, 1))
        return jnp.where((labels > 0) & jnp.isfinite(known), known, chance)

    def shifted(batch: Batch) -> dict[str, Any]:
        items, last = batch["inputs"], batch["labels"]
        lengths = (items != 0).sum(1, dtype=jnp.int32)
        following = jnp.pad(items[:, 1:], ((0, 0), (0, 1)))
        at_end = jnp.arange(items.shape[1], dtype=jnp.int32)[None] == lengths[:, None] - 1
        labels = jnp.where(at_end, last[:, None].astype(items.dtype), following)
        mask = labels != 0
        if "mask" in batch:
            mask = mask & batch["mask"].astype(bool)[:, None]
        return {**parts(batch), "labels": labels, "mask": mask}

    def parts(batch: Batch) -> dict[str, Any]:
        rest = {name: batch[name] for name in ("labels", *COUNTING) if name in batch}
        return {"inputs": {"items": batch["inputs"], "user": batch["user"]}} | rest

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda state, batch, key: function(state, shifted(batch), key)

    def check(arrays: Mapping[str, np.ndarray]) -> None:
        check_names(arrays, ("inputs", "user", "labels"), COUNTING)
        learner.check(parts(arrays))

    def evaluate(state: TrainState, batch: Batch) -> Sums:
        return learner.evaluate(state, parts(batch))

    learner = supervised(network._replace(apply=apply), measured, tx, metrics)
    return with_training(learner, wrap)._replace(evaluate=evaluate, check=check)


def _ranking(matched: Matched, items: jax.Array) -> jax.Array:
    """Return the scores of all items after whole histories, [B, V]; -inf for item 0 and what was had."""
    last = jnp.maximum((items != 0).sum(1, dtype=jnp.int32) - 1, 0)
    states = jnp.take_along_axis(matched.states, last[:, None, None], 1)[:, 0]
    scores = states @ matched.items.T + matched.bias[None]
    had = jnp.zeros(scores.shape, bool).at[jnp.arange(len(items))[:, None], items].set(True).at[:, 0].set(True)
    return jnp.where(had, -jnp.inf, scores)


def softmax_over_items(matched: Matched, labels: jax.Array, key: Key) -> jax.Array:
    """Return the negative log-likelihood of each label in a softmax over all items, [B, T]."""
    logits = matched.states @ matched.items.T + matched.bias[None, None]
    nothing = (jnp.arange(logits.shape[-1]) == 0)[None, None]
    logits = jnp.where(nothing, jnp.finfo(logits.dtype).min, logits)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def sampled_softmax(num_negatives: int) -> NextLoss:
    """Return the same over each label and so many items drawn evenly for a batch, for catalogues of many items.

    A drawn item that is the label counts once. Items are drawn evenly, so no correction of their logits is needed but a
    constant (Jean et al., 2015).
    """
    check_whole("num_negatives", num_negatives)

    def loss(matched: Matched, labels: jax.Array, key: Key) -> jax.Array:
        drawn = jax.random.randint(key, (num_negatives,), 1, len(matched.bias))
        others = matched.states @ matched.items[drawn].T + matched.bias[drawn][None, None]
        same = drawn[None, None] == labels[..., None]
        others = jnp.where(same, jnp.finfo(others.dtype).min, others)
        right = _of(matched, labels)
        return jax.nn.logsumexp(jnp.concatenate([right[..., None], others], -1), -1) - right

    return loss


def bpr(matched: Matched, labels: jax.Array, key: Key) -> jax.Array:
    """Return ``-log sigmoid(score of the label - score of another item)``, drawn evenly (BPR; Rendle et al., 2009)."""
    drawn = jax.random.randint(key, labels.shape, 1, len(matched.bias), labels.dtype)
    return -jax.nn.log_sigmoid(_of(matched, labels) - _of(matched, drawn))


def _of(matched: Matched, items: jax.Array) -> jax.Array:
    """Return the scores of items [B, T] after the histories up to there, [B, T]."""
    return (matched.states * matched.items[items]).sum(-1) + matched.bias[items]
