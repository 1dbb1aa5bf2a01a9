"""Augmentation: pure functions of a key, on any dtype, that do what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from helpers import assert_same_bits

from jaxnets import InputError
from jaxnets.data import augment
from jaxnets.options import ViewsConfig
from jaxnets.platform import compiled_for

KEY = jax.random.key(0)
IMAGES = jax.random.randint(KEY, (20, 9, 8, 2), 1, 200).astype(jnp.uint8)
ALL = {
    "shift": augment.shift(2),
    "rotate": augment.rotate(20),
    "flip": augment.flip(),
    "cutout": augment.cutout(3),
    "noise": augment.noise(30.0),
    "binarize": augment.binarize(),
    "chain": augment.chain(augment.flip(), augment.shift(1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_shape_and_dtype_are_kept_and_the_key_decides(name, dtype):
    images = IMAGES.astype(dtype)
    got = jax.jit(ALL[name])(KEY, images)
    assert got.shape == images.shape and got.dtype == dtype
    np.testing.assert_allclose(got, ALL[name](KEY, images), atol=1e-3)
    assert (got != images).any()
    assert (got != ALL[name](jax.random.key(1), images)).any()


def test_shift():
    got = np.asarray(augment.shift(2)(KEY, IMAGES))
    seen = set()
    for image, original in zip(got, np.asarray(IMAGES), strict=True):
        padded = np.pad(original, ((2, 2), (2, 2), (0, 0)))
        found = [(y, x) for y in range(5) for x in range(5) if (padded[y : y + 9, x : x + 8] == image).all()]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) > 8


def test_views_that_are_shifted_by_whole_pixels_are_not_blurred():
    found = ViewsConfig(shift=2).augment(KEY, IMAGES)
    assert_same_bits(found, augment.shift(2)(jax.random.fold_in(KEY, 0), IMAGES))


def test_flip():
    got = np.asarray(augment.flip()(KEY, IMAGES))
    flipped = [(image == original[:, ::-1]).all() for image, original in zip(got, np.asarray(IMAGES), strict=True)]
    kept = [(image == original).all() for image, original in zip(got, np.asarray(IMAGES), strict=True)]
    assert all(np.add(flipped, kept) == 1) and 4 < sum(flipped) < 16


def test_cutout():
    got = np.asarray(augment.cutout(3)(KEY, IMAGES))
    for image in got:
        blank = (image == 0).all(-1)
        assert 1 <= blank.sum() <= 9
        rows, columns = np.flatnonzero(blank.any(1)), np.flatnonzero(blank.any(0))
        assert blank.sum() == len(rows) * len(columns)  # one rectangle


def test_rotate_equals_scipy():
    images = IMAGES.astype(jnp.float32)
    got = np.asarray(augment.rotate(30)(KEY, images))
    angles = np.rad2deg(jnp.deg2rad(jax.random.uniform(KEY, (20,), minval=-30, maxval=30)))
    for image, original, angle in zip(got, np.asarray(images), angles, strict=True):
        wanted = scipy.ndimage.rotate(original, angle, reshape=False, order=1, mode="constant", prefilter=False)
        np.testing.assert_allclose(image[2:-2, 2:-2], wanted[2:-2, 2:-2], atol=0.1)


@pytest.mark.parametrize("pixels", [1, 2, 3, 5])
def test_on_a_tpu_windows_are_cut_by_other_means_and_are_the_same(pixels):
    images = jax.random.randint(KEY, (16, 7, 9, 2), 0, 255).astype(jnp.uint8)
    sequences = jax.random.normal(KEY, (16, 20, 3))
    cuts = (augment.crop(20 - pixels), sequences), (augment.transpose(pixels), sequences)
    here = [function(KEY, arrays) for function, arrays in [(augment.shift(pixels), images), *cuts]]
    with compiled_for("tpu"):
        there = [function(KEY, arrays) for function, arrays in [(augment.shift(pixels), images), *cuts]]
        program = str(jax.make_jaxpr(augment.shift(pixels))(KEY, images))
    assert "gather" not in program and "dynamic_slice" not in program
    for one, other in zip(here, there, strict=True):
        assert_same_bits(one, other)


def test_crop():
    rows = np.arange(7) + 100 * np.arange(500)[:, None]
    got = np.asarray(augment.crop(4)(KEY, jnp.asarray(rows)))
    assert got.shape == (500, 4) and (np.diff(got) == 1).all()
    assert (got[:, 0] // 100 == np.arange(500)).all() and set(got[:, 0] % 100) == {0, 1, 2, 3}
    frames = jnp.ones((2, 7, 3))
    assert augment.crop(7)(KEY, frames).shape == (2, 7, 3)
    with pytest.raises(InputError, match=r"crop\(length=8\) of sequences of 7"):
        augment.crop(8)(KEY, frames)


def test_token_dropout():
    tokens = jnp.tile(jnp.array([5, 6, 7, 0]), (5000, 1))
    got = np.asarray(augment.token_dropout(0.3, token=1, padding=0)(KEY, tokens))
    assert (got[:, 3] == 0).all() and set(got[:, 0]) == {1, 5}
    assert (got[:, :3] == 1).mean() == pytest.approx(0.3, abs=0.02)


def test_transpose():
    """A chord moves as a whole, by the same interval in every frame; what leaves the keyboard is silent."""
    frames = np.zeros((300, 2, 12), np.uint8)
    frames[:, 0, [4, 7]] = frames[:, 1, [5, 11]] = 1
    got = np.asarray(augment.transpose(2)(KEY, jnp.asarray(frames)))
    moved = got[:, 0].argmax(-1) - 4
    assert set(moved) == {-2, -1, 0, 1, 2}
    for piece, by in zip(got, moved, strict=True):
        assert np.flatnonzero(piece[0]).tolist() == [4 + by, 7 + by]
        assert np.flatnonzero(piece[1]).tolist() == [5 + by] + [11 + by] * int(by <= 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: augment.shift(-1),
        lambda: augment.rotate(-1.0),
        lambda: augment.cutout(0),
        lambda: augment.crop(0),
        lambda: augment.token_dropout(1.0, 1, 0),
        lambda: augment.transpose(-1),
    ],
)
def test_refuses(make):
    with pytest.raises(InputError, match=r"or more|in \[0, 1\)"):
        make()


def test_noise_is_normal_and_clipped():
    images = jnp.full((50, 20, 20, 1), 100.0)
    values = np.asarray(augment.noise(10.0)(KEY, images)) - 100
    assert scipy.stats.kstest(values.ravel() / 10, "norm").pvalue > 0.01
    for bright in (0, 255):
        pixels = np.asarray(augment.noise(80.0)(KEY, jnp.full((50, 9, 9, 1), bright, jnp.uint8))).astype(int)
        assert pixels.min() >= 0 and pixels.max() <= 255  # bytes do not wrap
        assert abs(np.abs(pixels - bright).mean() - 80 / np.sqrt(2 * np.pi)) < 2


def test_binary_pixels_keep_their_mean():
    images = jnp.broadcast_to(jnp.array([0, 60, 255], jnp.uint8), (20_000, 3))
    drawn = np.asarray(augment.binarize()(KEY, images))
    assert set(np.unique(drawn)) == {0, 255}
    np.testing.assert_allclose(drawn.mean(0), [0, 60, 255], atol=2)
