"""Pictures are made for one run and for several, with and without spread, and of runs that went wrong."""

import numpy as np
import pytest
from PIL import Image

from jaxnets import plots

ROWS = [
    {"step": step, "train/loss": 2.0 / step, "validation/loss": 2.5 / step, "train/accuracy": 0.5} for step in (1, 5, 9)
]
SPREAD = [{**row, "train/loss": [row["train/loss"], 1.0]} for row in ROWS]
BROKEN = [{"step": 1, "train/loss": None}, {"step": 2, "train/loss": 3.0}]


@pytest.mark.parametrize("runs", [{"a": ROWS}, {"a": SPREAD}, {"a": ROWS, "b": SPREAD}, {"a": BROKEN}, {"a": ROWS[:1]}])
def test_curves(runs, tmp_path):
    plots.save_curves(tmp_path / "curves.png", runs)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] > 400 and np.asarray(picture.convert("L")).std() > 5
    assert plots.sketch(runs).startswith("loss: ·")


def test_sketch_draws_to_scale():
    rows = [{"step": step, "train/loss": float(step)} for step in (10, 20)]
    lines = plots.sketch({"a": rows}, width=11, height=3).splitlines()
    assert lines[0] == "loss: · train"
    assert [line[12:] for line in lines[1:4]] == ["         ··", "       ··  ", "     ··    "]
    assert lines[1].split()[0] == "20" and lines[3].split()[0] == "10"
    assert lines[5].split() == ["step", "0", "20"]


def test_nothing_to_draw():
    assert plots.sketch({"a": BROKEN[:1]}) == "no finite loss to draw"


def test_range_test(tmp_path):
    plots.save_range_test(tmp_path / "lr.png", np.geomspace(1e-4, 1, 20), np.linspace(2, 1, 20), 0.1)
    with Image.open(tmp_path / "lr.png") as picture:
        assert picture.size[0] > 400
