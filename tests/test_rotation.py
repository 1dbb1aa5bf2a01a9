"""The angle by which an image is turned: its error, its data, a run from the outside, and a picture."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import fails

from jaxnets import cli
from jaxnets.recipes import rotation
from jaxnets.tasks import angles

SMALL = [
    "--copies",
    "2",
    "--features",
    "8",
    "--hidden",
    "32",
    "--dropout",
    "0",
    "--duration",
    "3ep",
    "--evaluate-every",
    "3ep",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run of two seeds."""
    folder = tmp_path_factory.mktemp("rotation") / "run"
    assert cli.main(["train", "digits-rotation", *SMALL, "--seeds", "2", "--out", str(folder)]) == 0
    return folder


def test_the_error_is_the_angle_between_two_directions():
    random = np.random.default_rng(0)
    outputs, labels = random.normal(size=(100, 2)).astype(np.float32), random.uniform(-180, 180, 100)
    true = np.stack([np.cos(np.radians(labels)), np.sin(np.radians(labels))], -1)
    cosine = (outputs * true).sum(-1) / np.linalg.norm(outputs, axis=-1)
    got = angles.angle_error(jnp.asarray(outputs), jnp.asarray(labels))
    np.testing.assert_allclose(got, np.degrees(np.arccos(cosine.clip(-1, 1))), atol=2e-3)
    np.testing.assert_allclose(angles.unit_vectors(labels), true, atol=1e-6)
    assert float(angles.angle_error(jnp.array([-1.0, -1e-3]), jnp.array(179.0))) < 1.1  # not 359


def test_images_are_turned_by_their_labels():
    splits = rotation.load(rotation.Config(most=90, copies=3))
    assert splits.train.num_examples == 3 * 1293 and splits.test and splits.test.num_examples == 360
    upright = np.repeat(rotation.Config().images.load().train["inputs"], 3, axis=0)
    degrees = splits.train["labels"]
    assert degrees.min() < -85 and degrees.max() > 85 and degrees.dtype == np.float32
    quarter = np.abs(np.abs(degrees) - 90).argmin()  # all but a quarter turn, to the left above 0
    turned = np.rot90(upright[quarter], int(np.sign(degrees[quarter])))
    assert np.abs(splits.train["inputs"][quarter].astype(int) - turned).max() <= 1


@pytest.mark.slow
def test_a_run_learns_and_draws(run):
    result = json.loads((run / "result.json").read_text())
    assert result["metrics"]["test/angle_error"]["mean"] < 0.6 * result["baselines"]["test/angle_error_of_mean"]
    assert (run / "angles.png").stat().st_size > 20_000


def test_predictions_are_degrees(run, tmp_path, capsys):
    test = rotation.load(rotation.Config()).test
    assert test is not None
    some = test.take(slice(50))
    np.save(tmp_path / "some.npy", some["inputs"])
    capsys.readouterr()
    assert cli.main(["predict", str(run), str(tmp_path / "some.npy"), "--json"]) == 0
    found = np.array([row["degrees"] for row in json.loads(capsys.readouterr().out)])
    assert np.abs(found - some["labels"]).mean() < 30


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [("--most", 200, "most=200.0 must be in (0, 180] degrees"), ("--copies", 0, "copies=0 must be 1 or more")],
)
def test_flags_out_of_range(capsys, flag, value, message):
    assert message in fails(capsys, "train", "digits-rotation", flag, value)
