"""Distances between distributions of features."""

import math

import numpy as np

from jaxnets.errors import InputError


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Fréchet distance of the normal distributions of two sets of features, [N, D] and [M, D].

    ``|mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2))`` with covariances A and B (Heusel et al., 2017), in float64;
    NaN if a feature is. It is biased: of fewer samples it is larger.

    Raises:
        InputError: if the features are not two such arrays, of two samples or more and equally many numbers.
    """
    try:
        a, b = (np.asarray(features, np.float64) for features in (a, b))
    except (TypeError, ValueError) as error:
        raise InputError(f"the features are no arrays of numbers; give [N, D] and [M, D]: {error}") from error
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise InputError(f"features of shapes {a.shape} and {b.shape}; give [N, D] and [M, D], two rows or more each")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.nan
    root = _square_root(np.atleast_2d(np.cov(a, rowvar=False)))
    product = _square_root(root @ np.atleast_2d(np.cov(b, rowvar=False)) @ root)  # its trace is that of (A B)^(1/2)
    traces = a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum() - 2 * np.trace(product)
    return float(np.square(a.mean(0) - b.mean(0)).sum() + traces)


def _square_root(matrix: np.ndarray) -> np.ndarray:
    """Return the square root of a symmetric positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
