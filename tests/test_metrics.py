"""Metrics that are no means."""

import numpy as np
import pytest
import scipy.linalg

from jaxnets.errors import InputError
from jaxnets.metrics import frechet_distance


def test_frechet_distance():
    """Against SciPy's square root of the product, and the closed form of independent features."""
    rng = np.random.default_rng(0)
    a, b = (
        rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)),
        0.5 + rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)),
    )
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root)
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-8)
    assert abs(frechet_distance(a, a)) < 1e-8
    np.testing.assert_allclose(frechet_distance(a, a + 1.0), 6.0, rtol=1e-8)
    np.testing.assert_allclose(frechet_distance(a, 3 * (a - a.mean(0)) + a.mean(0)), 4 * np.trace(cov_a), rtol=1e-6)
    constant = np.zeros((10, 6))  # a collapsed generator: no variance at all
    np.testing.assert_allclose(frechet_distance(constant, a), np.square(a.mean(0)).sum() + np.trace(cov_a), rtol=1e-8)
    np.testing.assert_allclose(frechet_distance(a[:, :1], a[:, :1] + 2.0), 4.0, rtol=1e-8)
    assert np.isnan(frechet_distance(a, np.full_like(a, np.nan)))
    for wrong in (a[:, :3], a[:1], a[0]):
        with pytest.raises(InputError, match="features of shapes"):
            frechet_distance(a, wrong)
