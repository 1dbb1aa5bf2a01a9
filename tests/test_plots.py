"""Pictures are made for one run and for several, with and without spread, and of runs that went wrong."""

import numpy as np
import pytest
from PIL import Image

from jaxnets.runs import plots

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


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_where_they_belong(channels, tmp_path):
    images = np.stack([np.full((4, 6, channels), value) for value in (0.0, 0.5, 1.0, 0.25, 2.0)])
    tiled = plots._tiled(images, 3)
    assert tiled.shape == (2 * 5, 3 * 7, channels)
    np.testing.assert_array_equal(tiled[:4, 7:13], images[1])
    np.testing.assert_array_equal(tiled[5:9, :6], images[3])
    assert tiled.max() == 1.0  # brighter than white is white, and so are the places of images that are missing
    assert (tiled[5:, 14:] == 1.0).all()
    plots.save_image_rows(tmp_path / "rows.png", {"a": images, "b": images[:2]})
    plots.save_image_grid(tmp_path / "grid.png", images)
    for name in ("rows", "grid"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_map_of_codes(width, tmp_path):
    codes = np.random.default_rng(0).normal(size=(40, width)).astype(np.float32)
    plots.save_map(tmp_path / "map.png", codes, np.arange(40) % 2, ["a", "b"])
    with Image.open(tmp_path / "map.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5
