"""Embeddings of sentences and images by pretrained weights, and exact search among them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnets.data import Data
from jaxnets.errors import InputError, check_whole
from jaxnets.network import Network
from jaxnets.training.featurized import featurized
from jaxnets.transforms.features import features
from jaxnets.weights.pretrained import Pretrained

_STEP = 16  # tokens: sentences are filled up to a multiple, so that few programs serve all lengths


def embedding_network(model: Pretrained) -> Network:
    """Return the network whose outputs are embeddings [B, D]: the mean over tokens, or what the output layer takes.

    Raises:
        InputError: if the weights are of a model that continues text.
    """
    if model.card.kind == "text":
        raise InputError("a model that continues text has no embedding of a whole; use minilm")
    return features(model.network, "out", of="inputs") if model.card.kind == "images" else model.network


def embed(model: Pretrained, inputs: Sequence[Any], *, progress: bool = True) -> np.ndarray:
    """Return embeddings of length 1, float32 [N, D]: their products are cosines.

    Args:
        model: as ``pretrained`` returns it.
        inputs: sentences, or paths of images.
        progress: show progress, after two seconds.

    Raises:
        InputError: if there are no inputs, or they do not suit.
    """
    if not len(inputs):
        raise InputError("inputs are none; give at least one")
    rows, network = model.prepare(inputs), embedding_network(model)

    def outputs(rows: np.ndarray) -> np.ndarray:
        return featurized(network, model.params, model.model_state, Data(inputs=rows), progress=progress)["inputs"]

    if model.card.kind == "images":
        return normalized(outputs(rows))
    lengths = (rows != 0).sum(1)
    buckets = -(-lengths // _STEP) * _STEP
    widest = np.pad(rows, ((0, 0), (0, max(0, buckets.max() - rows.shape[1]))))
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for bucket in np.unique(buckets):
        at = np.flatnonzero(buckets == bucket)
        found.append((at, outputs(widest[at, :bucket])))
    made = np.empty((len(rows), found[0][1].shape[1]), np.float32)
    for at, part in found:
        made[at] = part
    return normalized(made)


def normalized(embeddings: np.ndarray) -> np.ndarray:
    """Return rows [N, D] of length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.where(lengths > 0, lengths, 1), np.float32)


def most_similar(embeddings: np.ndarray, query: np.ndarray, number: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows are most like a query, and the cosines, the highest first; of equals, the first.

    Args:
        embeddings: [N, D], of any length.
        query: [D].
        number: of rows; all, if there are fewer.

    Raises:
        InputError: if shapes differ, or a number is not finite.
    """
    embeddings, query = np.asarray(embeddings), np.asarray(query)
    check_whole("number", number, remedy="rows to find")
    if embeddings.ndim != 2 or query.shape != embeddings.shape[1:]:
        raise InputError(f"embeddings of shape {embeddings.shape} and a query of {query.shape}: give [N, D] and [D]")
    if not (np.isfinite(embeddings).all() and np.isfinite(query).all()):
        raise InputError("embeddings or the query hold numbers that are not finite")
    cosines = normalized(embeddings) @ normalized(query[None])[0]
    order = np.argsort(-cosines, kind="stable")[:number]
    return order, cosines[order]
