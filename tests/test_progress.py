"""What is shown, to a terminal and to a log."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jaxnets as jn
from jaxnets.training import progress, readable
from jaxnets.training.progress import Display

STATE = jn.RunState(jn.TrainState(jnp.int32(0), {}, (), {}), {})
ROW = {"step": 10, "train/loss": 0.12345, "train/accuracy": 0.9876, "validation/loss": np.array([0.1, 0.3])}


def shown(*events, terminal=False, width=200):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width)
    with Display(console=console) as display:
        for event in events:
            display.show(event)
    return console.file.getvalue()


def event(kind, step=0, **kwargs):
    return jn.Event(kind, STATE, step, 40, **kwargs)


def test_a_log_has_lines():
    got = shown(
        event("compiling"),
        event("compiled", compile_seconds=2.13, cached=True),
        event("evaluation", 10, row=ROW, examples_per_second=12345.6),
        event("evaluation", 20, row=ROW),  # too soon after the first
        event("chunk", 30, row=ROW),
        event("evaluation", 40, row=ROW),
        event("end", 40, reason="completed 40 steps"),
    )
    lines = got.splitlines()
    assert lines[:2] == ["compiling ...", "compiled in 2.1 s (cached)"]
    metrics = "train loss 0.1235 accuracy 98.76%  validation loss 0.2000 ± 0.1414"
    assert lines[2] == f"step 10/40  {metrics}  12,346 examples/s"
    assert lines[3].startswith("step 40/40") and lines[4] == "completed 40 steps" and len(lines) == 5


def test_a_log_is_not_silent_between_evaluations(monkeypatch):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    assert "step 30/40" in shown(event("chunk", 30, row=ROW))


@pytest.mark.parametrize("width", [80, 200])
def test_a_terminal_has_a_bar(width):
    """Where there is little room, the metrics are cut off and not the count."""
    got = shown(event("compiled"), event("chunk", 30, row=ROW), terminal=True, width=width)
    assert "30/40" in got and "train loss 0.1235" in got


def test_quiet_shows_nothing(capsys):
    with Display(quiet=True) as display:
        display.show(event("compiling"))
        display.show(event("end", reason="done"))
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("loss", 0.5, "0.5000"),
        ("test/accuracy", 0.995, "99.50%"),
        ("test/accuracy", [0.99, 1.0], "99.50 ± 0.71%"),
        ("loss", float("nan"), "nan"),
    ],
)
def test_metric(name, value, wanted):
    assert readable.metric(name, value) == wanted


def test_sizes_and_times():
    assert [readable.size(value, "B") for value in (950, 12_340, 4.5e6, 6.7e9)] == [
        "950 B",
        "12.3 kB",
        "4.5 MB",
        "6.7 GB",
    ]
    assert [readable.seconds(value) for value in (3.5e-5, 0.00421, 0.31, 12.36, 185, 7800)] == [
        "35 µs",
        "4.21 ms",
        "0.3 s",
        "12.4 s",
        "3 min 05 s",
        "2 h 10 min",
    ]
