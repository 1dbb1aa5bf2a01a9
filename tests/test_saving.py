"""When states are saved, which are kept, and what a save that fails says."""

import os
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from saved import STATES, saved, saver

from jaxnets.errors import InputError
from jaxnets.runs import checkpoint, saving
from jaxnets.runs.saving import Saving
from jaxnets.training.events import Event

# An evaluation each 10 steps, the best of them at 30; one epoch is 10 steps.
ACCURACIES = {10: 0.5, 20: np.nan, 30: 0.9, 40: 0.7, 50: 0.8}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"save_every": "5"}, [45, 50]),
        ({"save_every": "2ep"}, [40, 50]),
        ({"save_every": "1h"}, [50]),
        ({"save_every": "5", "keep": 4}, [35, 40, 45, 50]),
        ({"keep_every": "20"}, [20, 40, 50]),
        ({"keep_every": "2ep", "keep": 1}, [20, 40, 50]),
        ({"keep_best": "validation/accuracy", "keep": 1}, [30, 50]),
        ({"save_every": "5", "keep_best": "validation/accuracy", "keep_every": "25"}, [25, 30, 45, 50]),
    ],
    ids=str,
)
def test_which_states_are_kept(options, kept, tmp_path):
    whole, broken = saved(tmp_path / "whole"), saved(tmp_path / "broken")

    def run(folder, first, last, facts=None):
        with saver(folder, {"validation/accuracy": "higher"}, facts, **options) as beside:
            for step in range(first, last + 1, 5):
                row = {"validation/accuracy": ACCURACIES.get(step)}
                kind = "evaluation" if step % 10 == 0 else "chunk"
                beside.see(Event(kind, STATES[9], step, 50, row), last=step == last)

    run(whole, 5, 50)
    assert checkpoint.steps(whole) == kept
    run(broken, 5, 35)
    _, facts = checkpoint.restore(broken, STATES[9])
    run(broken, facts["step"] + 5, 50, facts)
    assert set(checkpoint.steps(broken)) - {35} == set(kept) - {35}


def test_a_time_between_two_saves(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(saving.time, "monotonic", lambda: clock[0])
    with saver(saved(tmp_path / "a"), save_every="1m", keep=9) as beside:
        for step, seconds in ((1, 30.0), (2, 61.0), (3, 90.0), (4, 130.0)):
            clock[0] = seconds
            beside.see(Event("chunk", STATES[9], step, None))
            beside.wait()
    assert checkpoint.steps(tmp_path / "a") == [2, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0}, "keep=0 must be 1 or more"),
        ({"keep_every": "30m"}, "keep_every='30m' must be in steps or epochs"),
        ({"save_every": "often"}, "'often' is not understood"),
        ({"save_every": "0"}, "must be more than 0"),
        ({"keep_best": "validation/acuracy"}, r"is none of .*did you mean 'validation/accuracy'"),
    ],
    ids=str,
)
def test_when_to_save_is_checked(options, message):
    plan: Any = SimpleNamespace(better={"validation/accuracy": "higher", "validation/norm": None})
    with pytest.raises(InputError, match=message):
        Saving(**options).check(plan)


def test_an_error_of_a_save_is_told_at_the_next_event_and_a_folder_that_is_gone_by_name(tmp_path):
    folder = saved(tmp_path / "a", 3)
    message = r"a: is no longer there; was the run's folder removed"
    with saver(folder, save_every="1") as beside:
        beside.see(Event("chunk", STATES[9], 4, None))
        beside.wait()
        folder.rename(tmp_path / "b")
        beside.see(Event("chunk", STATES[9], 5, None))
        with pytest.raises(InputError, match=message):
            for _ in range(1000):
                time.sleep(0.01)
                beside.see(Event("evaluation", STATES[9], 5, None))
    assert checkpoint.steps(tmp_path / "b") == [3, 4] and not folder.exists()


def test_the_clock_says_nothing_of_which_state_is_the_newest(tmp_path):
    """Whatever the times of files are, after a clock was set back, the highest step is gone on from."""
    folder = saved(tmp_path / "a", 3, 6)
    for path in (folder / f"{6:010d}").iterdir():
        os.utime(path, (0, 0))
    os.utime(folder / f"{6:010d}", (0, 0))
    assert checkpoint.restore(folder, STATES[6])[1]["step"] == 6
    checkpoint.save(folder, 9, STATES[9], {"reason": ""})
    assert checkpoint.steps(folder) == [6, 9]
