"""Embeddings of sentences and images by pretrained weights, and exact search among them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnets.data import Data, subwords
from jaxnets.errors import InputError, check_whole
from jaxnets.training.featurized import featurized
from jaxnets.weights.pretrained import Pretrained


def embed(model: Pretrained, inputs: Sequence[Any], *, progress: bool = True, keep: bool = False) -> np.ndarray:
    """Return embeddings of length 1, float32 [N, D]: their products are cosines.

    Args:
        model: as ``pretrained`` returns it.
        inputs: sentences, or paths of images.
        progress: show progress, after two seconds.
        keep: keep them in the cache folder, where the next call with the same inputs finds them.

    Raises:
        InputError: if there are no inputs, or they do not suit.
    """
    if not len(inputs):
        raise InputError("inputs are none; give at least one")
    padding = None if model.card.kind == "images" else subwords.PADDING
    data, options = Data(inputs=model.prepare(inputs)), {"padding": padding, "progress": progress, "keep": keep}
    return normalized(featurized(model.body, model.params, model.model_state, data, **options)["inputs"])


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
