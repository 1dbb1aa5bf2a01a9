"""The order of rows: a pure function of seed and step, every row once an epoch, whatever is asked for first."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnets.data import Shuffle, padded_batches

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda pair: (max(pair), min(pair)))


@settings(deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 5), start=st.integers(0, 50), steps=st.integers(1, 20))
def test_rows_do_not_depend_on_how_they_are_asked_for(sizes, seed, start, steps):
    together = Shuffle(*sizes, seed).rows(start, steps)
    shuffle = Shuffle(*sizes, seed)
    one_by_one = [shuffle.rows(step, 1)[0] for step in reversed(range(start, start + steps))][::-1]
    assert together.dtype == np.int32 and together.shape == (steps, sizes[1])
    np.testing.assert_array_equal(together, one_by_one)


@settings(deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 5))
def test_every_epoch_holds_every_row_once(sizes, seed):
    num_examples, batch_size = sizes
    flat = Shuffle(num_examples, batch_size, seed).rows(0, 3 * num_examples).reshape(-1)
    for epoch in range(3):
        assert sorted(flat[epoch * num_examples : (epoch + 1) * num_examples]) == list(range(num_examples))


def test_epochs_and_seeds_differ():
    rows = Shuffle(100, 100, 0).rows(0, 2)
    assert (rows[0] != rows[1]).any()
    assert (rows[0] != Shuffle(100, 100, 1).rows(0, 1)[0]).any()


@settings(deadline=None)
@given(num_examples=st.integers(1, 30), batch_size=st.integers(1, 40))
def test_padded_batches_hold_every_row_once_in_order(num_examples, batch_size):
    batches = list(padded_batches({"x": np.arange(num_examples)}, batch_size))
    assert all(len(batch["x"]) == len(batch["mask"]) == batch_size for batch in batches)
    assert np.concatenate([batch["x"][batch["mask"]] for batch in batches]).tolist() == list(range(num_examples))


def test_a_mask_in_the_data_is_kept():
    data = {"x": np.zeros((3, 2)), "mask": np.array([[1, 0], [1, 1], [0, 1]])}
    first, last = padded_batches(data, 2)
    assert first["mask"].tolist() == [[1, 0], [1, 1]]
    assert last["mask"].tolist() == [[0, 1], [0, 0]]


@settings(deadline=None)
@given(num_examples=st.integers(2, 60), batch=st.integers(1, 20), seed=st.integers(0, 3), start=st.integers(0, 2))
def test_batches_of_like_length_hold_every_row_once_an_epoch(num_examples, batch, seed, start):
    batch = min(batch, num_examples)
    lengths = np.random.default_rng(seed).integers(1, 50, num_examples)
    flat = Shuffle(num_examples, batch, seed, lengths).rows(0, 3 * num_examples).reshape(-1)
    for epoch in range(3):
        assert sorted(flat[epoch * num_examples : (epoch + 1) * num_examples]) == list(range(num_examples))
    np.testing.assert_array_equal(
        Shuffle(num_examples, batch, seed, lengths).rows(start, 1)[0], flat.reshape(-1, batch)[start]
    )


def test_batches_of_like_length_are_narrow_and_in_no_order():
    lengths = np.random.default_rng(0).integers(1, 100, 1000)
    rows = Shuffle(1000, 10, 0, lengths).rows(0, 100)
    spread = np.ptp(lengths[rows], axis=1)
    assert np.median(spread) <= 2 and np.ptp(lengths[Shuffle(1000, 10, 0).rows(0, 100)], axis=1).min() > 20
    means = lengths[rows].mean(1)
    assert abs(np.corrcoef(means, np.arange(100))[0, 1]) < 0.3
