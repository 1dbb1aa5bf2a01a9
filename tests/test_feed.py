"""The way of the data to the device: the same rows wherever they are kept, read ahead, and waiting that is told."""

import queue
import threading
import time

import chex
import numpy as np
import pytest
from helpers import assert_same_bits, small_learner

import jaxnets as jn
from jaxnets.training import feed
from jaxnets.training.feed import Feed

OPTIONS = {"batch_size": 16, "duration": 40, "evaluate_every": 10, "progress": False}
LEARNER = small_learner(dropout=0.3)


@pytest.fixture(scope="module")
def unbroken(blobs):
    return jn.fit(LEARNER, blobs, validation=blobs, **OPTIONS)


def test_rows_sent_as_needed_equal_data_on_the_device(blobs, unbroken, monkeypatch):
    monkeypatch.setattr("jaxnets.training.feed._MOST_BYTES", 16 * 20 * 7)  # seven steps a buffer
    sent = jn.fit(LEARNER, blobs, validation=blobs, on_device=False, **OPTIONS)
    assert_same_bits(sent.state, unbroken.state)
    assert [row["validation/loss"] for row in sent.history] == [row["validation/loss"] for row in unbroken.history]


def test_rows_of_a_file_equal_rows_in_memory(blobs, unbroken, monkeypatch, tmp_path):
    monkeypatch.setattr("jaxnets.training.feed._MOST_BYTES", 16 * 20 * 7)
    for name, array in blobs.items():
        np.save(tmp_path / f"{name}.npy", array)
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in blobs}
    data = jn.Data(**mapped)
    assert all(np.shares_memory(data[name], mapped[name]) for name in data)  # nothing was read into memory
    assert_same_bits(jn.fit(LEARNER, data, on_device=False, **OPTIONS).state, unbroken.state)


def test_the_next_rows_are_read_while_steps_are_taken(blobs, monkeypatch):
    monkeypatch.setattr("jaxnets.training.feed._MOST_BYTES", 16 * 20 * 7)
    starts: queue.Queue[int] = queue.Queue()
    read = Feed._read
    monkeypatch.setattr(Feed, "_read", lambda feed, start: [starts.put(start), read(feed, start)][1])
    for num_steps, last in ((14, 7), (None, 14)):
        rows = Feed(blobs, np.asarray(0, np.int32), 16, num_steps, on_device=False)
        rows.load(0)
        assert [starts.get(timeout=10), starts.get(timeout=10)] == [0, 7]  # and nobody has asked for the second yet
        assert rows.load(7).start == 7
        rows._reader.shutdown()
        assert max([7, *starts.queue]) == last  # nothing is read beyond the run's end
        starts.queue.clear()


def test_rows_of_each_member(blobs, monkeypatch):
    monkeypatch.setattr("jaxnets.training.feed._MOST_BYTES", 2 * 16 * 20 * 7)
    feeds = [Feed(blobs, np.array([3, 4], np.int32), 16, 14, on_device=place) for place in (True, False)]
    for start in (0, 7, 0):  # again from the beginning, which was not read ahead
        there, sent = (feed.load(start) for feed in feeds)
        rows = np.asarray(there.rows)[:7]
        assert rows.shape == (7, 2, 16)
        np.testing.assert_array_equal(there.columns["inputs"][rows], sent.columns["inputs"][np.asarray(sent.rows)])


def test_a_buffer_is_read_by_several_threads(blobs, monkeypatch):
    waiting = threading.Barrier(2)

    class Disk(np.ndarray):
        """Answers when it was asked for two parts at once."""

        def __getitem__(self, rows):
            waiting.wait(timeout=10)
            return np.asarray(self)[rows]

    monkeypatch.setattr("jaxnets.training.feed._READERS", 2)
    feed = Feed(blobs, np.asarray(0, np.int32), 16, 1, on_device=False)
    feed._data = {name: array.view(Disk) for name, array in blobs.items()}
    buffer = feed.load(0)
    expected = Feed(blobs, np.asarray(0, np.int32), 16, 1, on_device=True).load(0)
    np.testing.assert_array_equal(buffer.columns["inputs"], expected.columns["inputs"][expected.rows[0]])


def test_the_first_rows_are_read_while_programs_compile(blobs, monkeypatch):
    read, begun = Feed._read, threading.Event()
    monkeypatch.setattr(Feed, "_read", lambda feed, start: [begun.set(), read(feed, start)][1])
    options = {name: value for name, value in OPTIONS.items() if name != "progress"}
    first = next(iter(jn.events(LEARNER, blobs, on_device=False, **options)))
    assert first.kind == "compiling" and begun.wait(timeout=10)


def test_an_error_of_the_reader_is_the_runs_error(blobs, monkeypatch):
    def broken(*args):
        raise OSError("the disk is gone")

    monkeypatch.setattr("jaxnets.training.feed._taken", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        jn.fit(LEARNER, blobs, on_device=False, **OPTIONS)


def test_waiting_for_data_is_told(blobs, monkeypatch):
    monkeypatch.setattr("jaxnets.training.feed._MOST_BYTES", 16 * 20)  # a step a buffer
    taken = feed._taken

    def slow(*args):
        time.sleep(0.1)
        return taken(*args)

    monkeypatch.setattr("jaxnets.training.feed._taken", slow)
    *_, last = jn.events(LEARNER, blobs, on_device=False, batch_size=16, duration=8)
    assert last.wait_seconds > 0.5 * 8 * 2 * 0.1  # of the time that two arrays for each of 8 steps take to read


def test_a_buffer_that_runs_out_is_refilled(blobs, unbroken, monkeypatch):
    monkeypatch.setattr("jaxnets.training.feed._MOST_ROWS", 16 * 7)
    assert_same_bits(jn.fit(LEARNER, blobs, **OPTIONS).state, unbroken.state)


@pytest.mark.parametrize("seeds", [np.asarray(0, np.int32), np.array([3, 4], np.int32)])
@pytest.mark.parametrize("on_device", [True, False])
def test_buffers_have_the_shapes_that_programs_are_compiled_for(seeds, on_device, blobs):
    feed = Feed(blobs, seeds, 16, 14, on_device)
    columns, rows = feed.shapes()
    loaded = feed.load(0)
    chex.assert_trees_all_equal_shapes_and_dtypes((columns, rows), (loaded.columns, loaded.rows))
