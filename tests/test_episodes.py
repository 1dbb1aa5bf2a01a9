"""Few-shot classification from the outside: its data, a run, its picture, and a user's folder of few examples."""

import json

import numpy as np
import pytest
from helpers import fails

from jaxnets import cli, data
from jaxnets.data import Data
from jaxnets.data.unseen import held_out_classes, turned
from jaxnets.errors import InputError
from jaxnets.options import EpisodeData

SIDE = 12
SMALL = (
    "--features 8 pool --embedding 8 --train-ways 4 --train-queries 2 --queries 2 --ways 3 --test-episodes 50 "
    "--validation-classes 4"
)


def save_signs(folder, number=24, pictures=5):
    """Write grey pictures, dark on light, of signs that differ in which of nine squares are filled."""
    from PIL import Image

    random = np.random.default_rng(0)
    for sign in range(number):
        squares = random.permutation([0, 0, 0, 0, 200, 200, 200, 200, 200]).reshape(3, 3).repeat(4, 0).repeat(4, 1)
        (folder / f"sign{sign}").mkdir(parents=True)
        for i in range(pictures):
            pixels = np.clip(255 - np.roll(squares, i % 2, 1) + random.normal(0, 15, (SIDE, SIDE)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"sign{sign}" / f"{i}.png")


@pytest.fixture(scope="module")
def signs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signs") / "signs"
    save_signs(folder)
    return folder


def train(signs, out, *more):
    words = ["train", "omniglot-few-shot", "--data", signs, "--image-size", SIDE, SIDE, *SMALL.split()]
    words += ["--dark-on-light", "--batch-size", 12, "--duration", 60, "--evaluate-every", 30, "--out", out, *more]
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def run(signs):
    """Return the folder of a run of two seeds."""
    assert train(signs, signs.parent / "run", "--seeds", 2) == 0
    return signs.parent / "run"


@pytest.fixture(scope="module")
def support(signs, tmp_path_factory):
    """Return a folder of two examples of one class and one of two others."""
    folder = tmp_path_factory.mktemp("support")
    for name, numbers in (("sign1", (0, 1)), ("sign22", (0,)), ("sign23", (0,))):
        (folder / name).mkdir()
        for i in numbers:
            (folder / name / f"{i}.png").write_bytes((signs / name / f"{i}.png").read_bytes())
    return folder


def test_episodes_are_of_classes_that_are_not_trained_on(signs):
    options = EpisodeData(
        str(signs), image_size=(SIDE, SIDE), dark_on_light=True, validation_classes=5, queries=2, test_episodes=30
    )
    splits = options.load()
    names = [{part.classes[number] for number in part["labels"]} for part in splits if part is not None]
    assert names[2] == {f"sign{i}" for i in range(18, 24)} and len(names[1]) == 5
    assert len(names[0]) == 4 * 13 and not names[0] & (names[1] | names[2])
    assert splits.test.num_examples == 30 * 15 and splits.validation.num_examples == 3 * 15
    for episode in splits.test["labels"].reshape(30, 15):
        shots, queries = episode[:5], episode[5:].reshape(5, 2)
        assert len(set(shots)) == 5 and (queries == shots[:, None]).all()
    assert splits.train["inputs"].mean() < 128  # bright on dark
    whole = Data(inputs=splits.train["inputs"][:1], labels=[0])
    np.testing.assert_array_equal(turned(whole)["inputs"][1], np.rot90(whole["inputs"][0]))
    again = options.load()
    assert again.fingerprint == splits.fingerprint


@pytest.mark.slow
def test_a_run_learns_measures_and_draws(run):
    result = json.loads((run / "result.json").read_text())
    got = {name: found["mean"] for name, found in result["metrics"].items()}
    assert got["test/accuracy"] > 0.7 and 0 <= got["test/interval_95"] < 0.1
    assert 1 / 3 < result["baselines"]["test/accuracy_of_pixels"] <= 1
    assert (run / "episodes.png").stat().st_size > 5_000


@pytest.mark.slow
def test_predict_takes_a_few_examples(run, signs, support, capsys):
    pictures = [signs / name / f"{i}.png" for name in ("sign1", "sign22", "sign23") for i in (2, 3, 4)]
    words = ["predict", run, *pictures, "--support", support, "--invert", "--json"]
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found[0]) == {"file", "row", "class", "probability"}
    right = [row["class"] == name for row, name in zip(found, np.repeat(["sign1", "sign22", "sign23"], 3), strict=True)]
    assert np.mean(right) > 0.7


@pytest.mark.slow
def test_predict_refuses(run, signs, support, tmp_path, capsys):
    picture = signs / "sign1" / "0.png"
    assert "give --support FOLDER" in fails(capsys, "predict", run, picture)
    assert "is no folder" in fails(capsys, "predict", run, picture, "--support", picture)
    assert "is in no class's folder" in fails(capsys, "predict", run, picture, "--support", support / "sign1")
    (tmp_path / "one" / "a").mkdir(parents=True)
    (tmp_path / "one" / "a" / "0.png").write_bytes(picture.read_bytes())
    assert "has 1 classes with images" in fails(capsys, "predict", run, picture, "--support", tmp_path / "one")


@pytest.mark.slow
def test_maml_takes_as_many_classes_as_it_has_outputs(signs, support, tmp_path, capsys):
    words = ["--method", "maml", "--norm", "layer", "--batch-size", "9", "--duration", "10"]
    small = SMALL.replace("--embedding 8 --train-ways 4 --train-queries 2 ", "").split()
    flags = ["train", "omniglot-few-shot", "--data", signs, "--image-size", SIDE, SIDE, *small, "--dark-on-light"]
    assert cli.main([str(word) for word in [*flags, *words, "--out", tmp_path / "run"]]) == 0
    picture = signs / "sign1" / "0.png"
    capsys.readouterr()
    assert cli.main(["predict", str(tmp_path / "run"), str(picture), "--support", str(support), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["class"] in ("sign1", "sign22", "sign23") and 0 < row["probability"] <= 1
    assert "has 24 classes, and the model adapts 3 outputs" in fails(
        capsys, "predict", tmp_path / "run", picture, "--support", signs
    )


@pytest.mark.slow
def test_omniglot(jaxnets_data):
    if not (jaxnets_data / "omniglot").is_dir():
        pytest.skip("needs omniglot/ in the folder of real data")
    splits = data.load("omniglot-small", validation=16)
    counts = [len(np.unique(part["labels"])) for part in splits if part is not None]
    assert counts == [120, 16, 106] and splits.train["inputs"].shape == (2400, 28, 28, 1)
    alphabets = [{part.classes[n].split("/")[0] for n in part["labels"]} for part in splits if part is not None]
    assert alphabets[2] == {"Japanese_(katakana)", "Sanskrit", "Tagalog"} and not alphabets[0] & alphabets[2]
    assert splits.train["inputs"].mean() < 40  # white on black


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--ways", 7), "validation_classes=4 must be 0, or as many as there are ways, 7"),
        (("--ways", 7, "--validation-classes", 0), "ways=7: the data have 6 classes of 3 rows"),
        (("--train-ways", 20, "--batch-size", 60, "--no-turned"), "ways=20: the data have 14"),
        (("--batch-size", 13), "batch_size=13 must be a multiple of 12, a training episode of "),
        (("--queries", 5, "--batch-size", 24), "24 of 24 classes have fewer than 6 pictures"),
        (("--test-share", 1.5), "test_share=1.5 must be in (0, 1)"),
        (("--inner-rate", 0.2), "inner_rate=0.2 changes nothing with method='matching'"),
        (("--method", "reptile", "--inner-steps", 1), "inner_steps=1 must be 2 or more"),
        (("--image-size", 12, 10), "images of 12 x 10 pixels cannot be turned"),
        (("--folds", 3), "would part rows that belong together"),
    ],
)
def test_flags_out_of_range(signs, tmp_path, capsys, flags, message):
    words = ("train", "omniglot-few-shot", "--dry-run", "--data", signs, "--image-size", SIDE, SIDE)
    assert message in fails(capsys, *words, *SMALL.split(), "--batch-size", 12, *flags)


def test_options_of_files_are_refused_for_omniglot(jaxnets_data, capsys):
    for flags, message in (
        (("--dark-on-light",), "dark_on_light=True is"),
        (("--test-share", 0.5), "test_share=0.5 is"),
    ):
        assert f"{message} for a folder or zip file" in fails(capsys, "train", "omniglot-few-shot", *flags)


def test_too_few_classes_are_left():
    data_of_three = Data(inputs=np.zeros((6, 4, 4, 1)) + np.arange(6)[:, None, None, None], labels=[0, 0, 1, 1, 2, 2])
    with pytest.raises(InputError, match="two must be left to train on; use 0 or fewer"):
        held_out_classes(data_of_three, 2, [2])
