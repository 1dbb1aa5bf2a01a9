"""Recipes of autoencoders, anomalies and adversarial networks, from the command line, on scikit-learn's digits."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import fails, quick
from PIL import Image

from jaxnets import cli
from jaxnets.data import digits, labelled_images
from jaxnets.options import ImageData
from jaxnets.recipes import anomaly, autoencoding
from jaxnets.recipes.recipe import find
from jaxnets.tasks import reconstructions
from jaxnets.tasks.anomalies import anomaly_scores

QUICK = ["--data", "digits", "--duration", "2ep", "--batch-size", "64"]
DENSE = [*QUICK, "--hidden", "32", "--code", "8"]


def result(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def is_a_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        return min(picture.size) > 50 and np.asarray(picture.convert("L")).std() > 5


COMMANDS = {
    "plain": ["mnist-autoencoder", *DENSE, "--seeds", "2"],
    "denoising": ["mnist-denoise", *QUICK, "--features", "4", "8", "--code", "8"],
    "variational": ["mnist-vae", *DENSE, "--importance-samples", "5"],
    "anomaly": ["anomaly", *DENSE, "--normal", "3", "0", "--seeds", "2"],
    "gan": ["mnist-gan", *QUICK, "--features", "4", "8", "--hidden", "16", "--conditional", "--seeds", "2"],
}


class Runs(dict):
    """Runs by kind, each trained when it is first asked for."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __missing__(self, kind: str) -> Path:
        self[kind] = self.folder / kind
        assert cli.main(["train", *COMMANDS[kind], "--out", str(self[kind])]) == 0
        return self[kind]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


class TestAutoencoding:
    @pytest.mark.slow
    def test_the_error_stands_beside_that_of_pca(self, trained):
        got = result(trained["plain"])
        splits = labelled_images("digits")
        parts = (splits.train, splits.test)
        flat = [np.asarray(part["inputs"], np.float64).reshape(-1, 64) / 16 for part in parts]
        mean = flat[0].mean(0)
        basis = np.linalg.svd(flat[0] - mean, full_matrices=False)[2][:8]
        expected = np.square((flat[1] - mean) @ basis.T @ basis + mean - flat[1]).mean()
        np.testing.assert_allclose(got["baselines"]["test/mse_of_pca"], expected, rtol=1e-4)
        own = got["metrics"]["test/mse"]["values"]
        np.testing.assert_allclose(got["metrics"]["test/mse_over_pca"]["values"], np.array(own) / expected, rtol=1e-5)

    @pytest.mark.slow
    def test_encode_writes_codes(self, trained, tmp_path, capsys):
        images = digits().test["inputs"][:3]
        np.save(tmp_path / "a.npy", images)
        for suffix in ("npy", "npz", "csv"):
            out = tmp_path / f"codes.{suffix}"
            assert cli.main(["encode", str(trained["plain"]), str(tmp_path / "a.npy"), "--out", str(out)]) == 0
        codes = np.load(tmp_path / "codes.npy")
        assert codes.shape == (3, 8)
        np.testing.assert_array_equal(np.load(tmp_path / "codes.npz")["inputs"], codes)
        rows = (tmp_path / "codes.csv").read_text().splitlines()
        assert rows[0].split(",")[:2] == ["code_0", "code_1"]
        np.testing.assert_allclose([[float(x) for x in row.split(",")] for row in rows[1:]], codes, rtol=1e-7)

    @pytest.mark.slow
    def test_predict_tells_the_error_of_a_reconstruction(self, trained, tmp_path, capsys):
        np.save(tmp_path / "a.npy", np.stack([digits().test["inputs"][0], np.full((8, 8, 1), 16, np.uint8)]))
        run = trained["plain"]
        capsys.readouterr()
        assert cli.main(["predict", str(run), str(tmp_path / "a.npy"), "--json"]) == 0
        digit, white = (row["mse"] for row in json.loads(capsys.readouterr().out))
        assert 0 < digit < white

    @pytest.mark.slow
    def test_predict_keeps_what_is_made_of_images(self, trained, tmp_path, capsys):
        images = digits().test["inputs"][:4]
        np.save(tmp_path / "a.npy", images)
        run, files = trained["plain"], [tmp_path / "made.npy", tmp_path / "made.png"]
        for file in files:
            assert cli.main(["predict", str(run), str(tmp_path / "a.npy"), "--out", str(file), "--json"]) == 0
        made = np.load(files[0])
        assert made.shape == images.shape and is_a_picture(files[1])
        own, others = (np.square(made - images[::step] / 16).mean() for step in (1, -1))
        assert own < others
        assert "makes no images" in fails(
            capsys, "predict", trained["anomaly"], tmp_path / "a.npy", "--out", tmp_path / "a.png"
        )
        assert "suffix must be one of" in fails(capsys, "predict", run, tmp_path / "a.npy", "--out", tmp_path / "a.txt")
        for name in ("a.npy", "a.png"):
            gone = tmp_path / "gone" / name
            assert "there is no folder" in fails(capsys, "predict", run, tmp_path / "a.npy", "--out", gone)

    def test_held_out_images_are_corrupted_once(self):
        config = find("mnist-denoise").config
        splits = autoencoding.load(replace(config, images=ImageData("digits")))
        assert "clean" not in splits.train
        test = digits().test
        np.testing.assert_array_equal(splits.test["clean"], test["inputs"])
        noise = splits.test["inputs"].astype(float) - test["inputs"]
        assert 3 < noise[test["inputs"] == 8].std() < 9 and splits.test["inputs"].max() <= 16
        binary = autoencoding.load(replace(config, images=ImageData("digits"), kind="variational")).test
        assert set(np.unique(binary["inputs"])) == {0, 16}

    @pytest.mark.slow
    def test_a_variational_one_is_measured_and_draws(self, trained, tmp_path, capsys):
        metrics = {name: metric["mean"] for name, metric in result(trained["variational"])["metrics"].items()}
        np.testing.assert_allclose(metrics["test/loss"], metrics["test/kl"] + metrics["test/distortion"], rtol=1e-5)
        assert metrics["test/nll"] < metrics["test/loss"] + 0.5
        out = tmp_path / "drawn.png"
        assert cli.main(["generate", str(trained["variational"]), "--length", "9", "--out", str(out)]) == 0
        assert is_a_picture(out)
        assert "9 images of 8 x 8 x 1" in capsys.readouterr().out

    @pytest.mark.slow
    def test_pictures(self, trained):
        for kind in ("plain", "denoising", "variational"):
            assert all(is_a_picture(trained[kind] / f"{name}.png") for name in ("reconstructions", "walk", "codes"))
        assert is_a_picture(trained["variational"] / "samples.png")

    @pytest.mark.slow
    def test_refuses(self, trained, tmp_path, capsys):
        np.save(tmp_path / "a.npy", np.zeros((2, 5, 5, 1), np.uint8))
        assert "takes examples of shape (8, 8, 1)" in fails(capsys, "encode", trained["plain"], tmp_path / "a.npy")
        assert "nothing is given" in fails(capsys, "encode", trained["plain"])
        assert "is no single autoencoder" in fails(capsys, "encode", trained["anomaly"], tmp_path / "a.npy")
        assert "must be .npy, .npz or .csv" in fails(capsys, "encode", trained["plain"], "a.npy", "--out", "a.txt")
        assert "is no model that generates" in fails(capsys, "generate", trained["plain"])
        assert "images of no class" in fails(capsys, "generate", trained["variational"], "--prompt", "3")
        assert "code=0 must be 1 or more" in fails(capsys, "train", "mnist-vae", "--code", 0)
        assert "noise=0.0 must be greater" in fails(capsys, "train", "mnist-denoise", "--noise", 0)
        many = ["--model", "conv", "--features", *"22222"]
        assert "5 layers halve images of 8 x 8" in fails(capsys, "train", "mnist-autoencoder", *QUICK, *many)

    @pytest.mark.slow
    def test_a_code_as_long_as_an_image_has_no_rival(self, tmp_path):
        full = ["--code", "64", "--hidden", "8", "--duration", "2", "--out", str(tmp_path)]
        assert cli.main(["train", "mnist-autoencoder", *QUICK, *full]) == 0
        assert not [name for name in result(tmp_path)["metrics"] if "pca" in name]  # PCA leaves nothing out


class TestAnomaly:
    def test_detectors_see_their_own_class_alone(self):
        config = replace(find("anomaly").config, images=ImageData("digits", validation=0.0), normal=("3", "0"))
        splits = anomaly.load(config)
        raw = digits()
        for i, number in enumerate((3, 0)):
            own = raw.train["inputs"][raw.train["labels"] == number]
            kept = splits.train["inputs"][splits.train["mask"][:, i] == 1, i]
            assert sorted(kept.reshape(len(kept), -1).tolist()) == sorted(own.reshape(len(own), -1).tolist())
        np.testing.assert_array_equal(splits.test["mask"][:, 1], raw.test["labels"] == 0)

    def test_scores(self):
        inputs = np.array([[[[16], [0]]], [[[4], [0]]], [[[0], [0]]]], np.uint8)  # norms 1, 0.25 and 0
        made = np.stack([np.full((3, 1, 2, 1), value) for value in (0.0, -50.0)], 1)  # all grey, and all black
        scores = anomaly_scores(inputs, made, 16.0)
        np.testing.assert_allclose(scores, [[0.5, 1.0], [0.3125, 0.0625], [0.5, 0.0]], atol=1e-6)

    @pytest.mark.slow
    def test_areas_stand_beside_isolation_forests(self, trained):
        got = result(trained["anomaly"])
        assert len(got["metrics"]["test/auroc"]["values"]) == 2
        assert 0.5 < got["baselines"]["test/auroc_of_isolation_forest"] <= 1
        assert got["metrics"]["test/auroc_of_worst_class"]["mean"] <= got["metrics"]["test/auroc"]["mean"]
        assert is_a_picture(trained["anomaly"] / "anomalies.png")

    @pytest.mark.slow
    def test_predict_scores_by_each_detector(self, trained, tmp_path, capsys):
        np.save(tmp_path / "a.npy", digits().test["inputs"][:2])
        run = trained["anomaly"]
        capsys.readouterr()
        assert cli.main(["predict", str(run), str(tmp_path / "a.npy"), "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert len(rows) == 2 and set(rows[0]) == {"file", "row", "unlike 3", "unlike 0"}

    def test_refuses(self, capsys, tmp_path):
        assert "names a class twice" in fails(capsys, "train", "anomaly", "--data", "digits", "--normal", 3, 3)
        np.savez(tmp_path / "a.npz", inputs=np.random.default_rng(0).normal(size=(60, 8, 8)), labels=np.arange(60) % 2)
        for preset in ("anomaly", "mnist-vae", "mnist-gan"):
            assert "shift them to begin at 0" in fails(capsys, "train", preset, "--data", tmp_path / "a.npz")
        assert "normal='x' is no class" in fails(capsys, "train", "anomaly", "--data", "digits", "--normal", "x")


@pytest.mark.slow
class TestImageGeneration:
    def test_what_is_drawn_is_measured_for_each_seed(self, trained):
        got = result(trained["gan"])
        for name in ("fid", "smallest_class_share", "largest_class_share", "clear_share", "asked_class_share"):
            assert len(got["metrics"][f"test/{name}"]["values"]) == 2
        baselines = got["baselines"]
        assert baselines["test/fid_of_real_images"] < 20 < baselines["test/fid_of_untrained"]
        assert baselines["test/judge_accuracy"] > 0.8
        assert len(list((trained["gan"] / "samples").glob("*.npy"))) == 2
        assert all(is_a_picture(trained["gan"] / f"{name}.png") for name in ("samples", "samples-by-step"))

    def test_predict_tells_the_discriminators_score(self, trained, tmp_path, capsys):
        np.save(tmp_path / "a.npy", digits().test["inputs"][:3])
        run = trained["gan"]
        capsys.readouterr()
        assert cli.main(["predict", str(run), str(tmp_path / "a.npy"), "--json"]) == 0
        assert [set(row) for row in json.loads(capsys.readouterr().out)] == [{"file", "row", "score"}] * 3

    def test_a_class_can_be_asked_for(self, trained, tmp_path, capsys):
        out = tmp_path / "sevens.png"
        assert cli.main(["generate", str(trained["gan"]), "--prompt", "7", "--length", "4", "--out", str(out)]) == 0
        assert is_a_picture(out)
        np.save(tmp_path / "a.npy", np.zeros((2, 8, 8, 1), np.uint8))
        assert "is no single autoencoder" in fails(capsys, "encode", trained["gan"], tmp_path / "a.npy")
        assert "prompt='x' is no class; use one of 0, 1" in fails(capsys, "generate", trained["gan"], "--prompt", "x")
        assert "end the name in .png" in fails(capsys, "generate", trained["gan"], "--out", tmp_path / "a.jpg")

    def test_refuses(self, capsys):
        gan = ["train", "mnist-gan", *QUICK, "--features", 4, 8]
        for flags in (["--patience", 3], ["--overfit-one-batch"]):
            assert "waits for a falling loss" in fails(capsys, *gan, *flags)
        assert "a range test waits for a falling loss" in fails(capsys, "lr-find", *gan[1:])
        assert "hidden=(0,) must be widths of 1" in fails(capsys, *gan, "--hidden", 0)
        assert "accumulate=2 is for learners that follow one gradient" in fails(capsys, *gan, "--accumulate", 2)
        norm = fails(capsys, *gan, "--norm", "batch", "--game", "wasserstein")
        assert "norm='batch' mixes the images" in norm
        steps = fails(capsys, *gan, "--discriminator-steps", 3)
        assert "discriminator_steps=3 does not divide the batch of 64" in steps


@pytest.mark.parametrize(
    "flags", quick([["--conditional"], ["--game", "wasserstein"], ["--game", "hinge"], ["--penalty", "1"]])
)
def test_every_game_can_be_played(flags, capsys):
    features = ["--data", "digits", "--features", "4", "8"]
    assert cli.main(["train", "mnist-gan", *features, *flags, "--dry-run"]) == 0


@pytest.mark.slow
def test_a_run_that_is_stopped_while_it_is_measured_is_measured_again(tmp_path, capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    command = ["train", "mnist-autoencoder", *DENSE, "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(reconstructions, "_draw", stopped)
        assert cli.main(command) == 130
    before = result(tmp_path / "run")
    assert "test/mse" in before["metrics"]
    assert cli.main(["resume", str(tmp_path / "run")]) == 0
    after = result(tmp_path / "run")
    assert after["steps"] == before["steps"] and "test/mse_over_pca" in after["metrics"]
    assert cli.main(["resume", str(tmp_path / "run")]) == 0
    assert "has ended" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_diverged_keeps_its_result(tmp_path, capsys):
    broken = ["--optimizer", "sgd", "--learning-rate", "1e20"]
    assert cli.main(["train", "mnist-autoencoder", *DENSE, *broken, "--out", str(tmp_path / "run")]) == 1
    assert result(tmp_path / "run")["stop_reason"].startswith("diverged")
    assert "nothing is drawn" in capsys.readouterr().out


def test_pixels_of_the_test_set_may_be_the_brightest(tmp_path, capsys):
    images = np.random.default_rng(0).uniform(0, 1, (60, 8, 8, 1)).astype(np.float32)
    arrays = {
        "inputs": images,
        "labels": np.arange(60) % 2,
        "test_inputs": 2 * images,
        "test_labels": np.arange(60) % 2,
    }
    np.savez(tmp_path / "a.npz", **arrays)
    splits = labelled_images(str(tmp_path / "a.npz"), validation=0.1)
    assert {part.spec["inputs"].high for part in splits} == {2 * images.max().item()}
    data = ["--data", str(tmp_path / "a.npz"), "--hidden", "8", "--code", "2", "--batch-size", "16"]
    assert cli.main(["train", "mnist-autoencoder", *data, "--dry-run"]) == 0
