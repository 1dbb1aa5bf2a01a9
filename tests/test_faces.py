"""Faces: people who are held out, a run from the outside, its pictures, and a gallery of known people."""

import json
import shutil

import numpy as np
import pytest
from helpers import fails
from sklearn.metrics import roc_auc_score

from jaxnets import cli, data
from jaxnets.data.unseen import fold_of, held_out_classes, images_by_class, without_few
from jaxnets.errors import InputError
from jaxnets.options import PeopleData
from jaxnets.recipes import faces
from jaxnets.recipes.recipe import find
from jaxnets.tasks.embeddings import thresholds_on

SIDE = (16, 12)
NUMBER = 14


def save_people(folder, number=NUMBER, pictures=6):
    """Write grey pictures of people, each with a pattern of their own, shifted and noisy."""
    from PIL import Image

    random = np.random.default_rng(0)
    patterns = random.integers(40, 216, (number, 4, 3)).repeat(4, 1).repeat(4, 2)
    for person, pattern in enumerate(patterns):
        (folder / f"s{person + 1}").mkdir(parents=True)
        for i in range(pictures):
            pixels = np.clip(np.roll(pattern, i % 2, 0) + random.normal(0, 12, SIDE), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"s{person + 1}" / f"{i}.pgm")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "people"
    save_people(folder)
    return folder


@pytest.fixture(scope="module")
def run(people):
    """Return the folder of a run of two seeds."""
    folder = people.parent / "run"
    small = "--features 8 pool --embedding 8 --shift 1 --duration 60 --parts 3 --held-out 2 --image-size"
    words = [
        "train",
        "faces",
        "--data",
        str(people),
        *small.split(),
        *map(str, SIDE),
        "--evaluate-every",
        "30",
        "--seeds",
        "2",
    ]
    assert cli.main([*words, "--batch-size", "16", "--no-flip", "--out", str(folder)]) == 0
    return folder


def test_people_are_held_out(people):
    splits = PeopleData(str(people), image_size=SIDE, parts=3, held_out=1).load()
    names = [{part.classes[number] for number in part["labels"]} for part in splits if part is not None]
    assert names[2] == {f"s{i}" for i in range(6, 11)}  # the second of three parts, in the order of their numbers
    assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2]) and len(names[1]) == 4
    assert splits.train["labels"].max() + 1 == len(names[0]) == 5  # classes to train on are numbered first
    assert splits.train["inputs"].shape == (30, *SIDE, 1)
    whole = images_by_class(people)
    assert whole.classes[:3] == ("s1", "s2", "s3")

    def content(part):
        return {(part.classes[n], image.tobytes()) for n, image in zip(part["labels"], part["inputs"], strict=True)}

    assert set.union(*map(content, splits.parts.values())) == content(whole)


def test_batches_are_of_some_people_with_some_pictures_each(people):
    held_out = PeopleData(str(people), image_size=SIDE, parts=3, held_out=0)
    config = faces.Config(held_out, pictures=8, training=find("faces").config.training)
    splits = faces.load(config)
    rows = splits.order(splits.train, 40, 0).rows(0, 3)
    labels = splits.train["labels"][rows].reshape(3, 5, 8)
    assert (labels == labels[..., :1]).all() and all(len(set(step)) == 5 for step in labels[..., 0].tolist())


def test_people_with_one_picture_are_left_out_and_told(people, tmp_path, capsys):
    shutil.copytree(people, tmp_path / "people")
    for picture in sorted((tmp_path / "people" / "s2").iterdir())[1:]:
        picture.unlink()
    found = PeopleData(str(tmp_path / "people"), image_size=SIDE).load()
    assert "left out 1 people with one picture: s2" in " ".join(capsys.readouterr().err.split())
    assert "s2" not in found.train.classes and len(found.train.classes) == NUMBER - 1
    for folder in list((tmp_path / "people").iterdir()):
        for picture in sorted(folder.iterdir())[1:]:
            picture.unlink()
    printed = fails(capsys, "train", "faces", "--data", tmp_path / "people")
    assert "14 of 14 people have one picture (s1, s2, s3, s4, s5, ...)" in printed and "add pictures" in printed


@pytest.mark.slow
def test_a_run_learns_measures_and_draws(run):
    result = json.loads((run / "result.json").read_text())
    got = {name: found["mean"] for name, found in result["metrics"].items()}
    assert got["test/auc"] > 0.9 and got["test/eer"] < 0.2 and got["test/rank_1"] > 0.7
    assert 0 <= got["test/false_accepts"] < 0.3 and 0 <= got["test/false_rejects"] < 0.4
    assert {"test/auc_of_eigenfaces", "test/eer_of_fisherfaces"} < set(result["baselines"])
    for name in ("pairs.png", "verification.png", "embeddings.png"):
        assert (run / name).stat().st_size > 10_000


@pytest.mark.slow
def test_a_gallery_knows_who_is_enrolled(run, people, tmp_path, capsys):
    known = tmp_path / "known"
    for person in ("s10", "s11", "s12"):
        (known / person).mkdir(parents=True)
        for i in range(4):
            shutil.copy(people / person / f"{i}.pgm", known / person)
    assert "nobody is enrolled" in fails(capsys, "gallery", "identify", run, people / "s10" / "5.pgm")
    assert cli.main(["gallery", "enrol", str(run), str(known)]) == 0
    assert "3 people, 12 files" in capsys.readouterr().out
    words = [str(people / person / "5.pgm") for person in ("s10", "s11", "s12", "s13", "s14")]
    assert cli.main(["gallery", "identify", str(run), *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["nearest"] for row in found[:3]] == ["s10", "s11", "s12"]
    assert {row["person"] for row in found[3:]} <= {"unknown", "s10", "s11", "s12"}
    assert min(row["cosine"] for row in found[:3]) > max(row["cosine"] for row in found[3:])
    between = str((found[0]["cosine"] + found[3]["cosine"]) / 2)
    assert cli.main(["gallery", "identify", str(run), words[0], words[3], "--threshold", between]) == 0
    printed = capsys.readouterr().out
    assert "s10" in printed and "unknown" in printed
    assert cli.main(["gallery", "compare", str(run), words[0], str(people / "s10" / "0.pgm"), "--json"]) == 0
    same = json.loads(capsys.readouterr().out)
    assert same["same"] == (same["cosine"] >= same["threshold"])
    assert same["distance"] == pytest.approx(np.sqrt(2 - 2 * same["cosine"]), abs=1e-6)
    description = json.loads((run / "gallery.json").read_text())
    (run / "gallery.json").write_text(json.dumps({**description, "weights": "others"}))
    assert "was enrolled with other weights" in fails(capsys, "gallery", "identify", run, words[0])


@pytest.mark.slow
def test_a_gallery_refuses(run, people, tmp_path, capsys):
    picture = people / "s1" / "0.pgm"
    for words, message in (
        (("enrol", run, picture), "enrol takes one folder of PERSON/FILE"),
        (("enrol", run, people / "s1"), "is in no person's folder"),
        (("enrol", run, people, "--threshold", 0.5), "changes nothing with enrol"),
        (("compare", run, picture), "compare takes two files, not 1"),
        (("compare", run, picture, picture, "--threshold", 2), "threshold=2.0 must be a cosine"),
        (("identify", run, picture, "--gallery", tmp_path / "a.txt"), "must be an .npy file"),
        (("identify", run, picture, "--gallery", tmp_path / "a.npy"), "nobody is enrolled"),
    ):
        assert message in fails(capsys, "gallery", *words)


@pytest.mark.slow
def test_predict_and_encode(run, people, tmp_path, capsys):
    pictures = [str(people / person / f"{i}.pgm") for person in ("s12", "s13") for i in (0, 2)]
    capsys.readouterr()
    assert cli.main(["predict", str(run), *pictures, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["most like"].split(" row")[0] for row in rows] == [pictures[i] for i in (1, 0, 3, 2)]
    assert cli.main(["encode", str(run), *pictures, "--out", str(tmp_path / "codes.npy")]) == 0
    codes = np.load(tmp_path / "codes.npy")
    assert codes.shape == (4, 16)  # of two seeds, side by side
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_the_seeds_together_are_measured_beside_each(run, people, tmp_path):
    held_out = PeopleData(str(people), image_size=SIDE, parts=3, held_out=2).load().test
    pictures = sorted(
        file for name in {held_out.classes[i] for i in held_out["labels"]} for file in (people / name).iterdir()
    )
    assert cli.main(["encode", str(run), *map(str, pictures), "--out", str(tmp_path / "codes.npy")]) == 0
    codes, who = np.load(tmp_path / "codes.npy"), np.array([picture.parent.name for picture in pictures])
    first, second = np.triu_indices(len(who), 1)
    expected = roc_auc_score(who[first] == who[second], (codes @ codes.T)[first, second])
    result = json.loads((run / "result.json").read_text())
    assert result["baselines"]["test/auc_of_ensemble"] == pytest.approx(expected, abs=1e-6)


def test_thresholds_are_where_errors_are_equal():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 6)
    made = random.normal(size=(8, 6))[labels] + 0.5 * random.normal(size=(48, 6))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    found = thresholds_on(made, labels)
    cosines, same = made @ made.T, labels[:, None] == labels[None]
    off = ~np.eye(48, dtype=bool)
    assert abs((cosines[~same] >= found.compare).mean() - (cosines[same & off] < found.compare).mean()) < 0.02
    own = np.where(same & off, cosines, -1).max(1)
    other = np.where(same, -1, cosines).max(1)
    assert abs((other >= found.identify).mean() - (own < found.identify).mean()) < 0.05
    assert found.identify > found.compare


def test_orl_faces(jaxnets_data, capsys):
    if not (jaxnets_data / "orl-faces.zip").exists():
        pytest.skip("needs orl-faces.zip in the folder of real data")
    whole = data.load("orl-faces")
    assert whole["inputs"].shape == (400, 112, 92, 1) and (np.bincount(whole["labels"]) == 10).all()
    assert whole.classes == tuple(f"s{i}" for i in range(1, 41))
    assert "the ORL faces are not there" in fails(capsys, "train", "faces", "--data-dir", "/nowhere")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--batch-size", 30), "batch_size=30 must be a multiple of pictures=4"),
        (("--pictures", 1), "pictures=1 must be 2 or more"),
        (("--held-out", 4), "held_out=4 must be in 0..2"),
        (("--validation-people", 1), "validation_people=1 must be 0, or 2 or more"),
        (("--margin", 0.5), "margin=0.5 changes nothing with loss='supervised-contrastive'"),
        (("--loss", "triplet", "--margin", 9), "margin=9.0 must be in (0, 4)"),
        (("--validation-people", 9), "9 of 10 people beside the 4 of the test to choose by"),
        (("--batch-size", 80), "batch_size=80 is of 20 people with 4 pictures each, but 6 are trained on"),
        (("--parts", 9, "--held-out", 8), "parts=9 of 14 people: two or more are needed to test"),
        (("--folds", 3, "--batch-size", 16), "would part rows that belong together"),
    ],
)
def test_flags_out_of_range(people, capsys, flags, message):
    assert message in fails(
        capsys, "train", "faces", "--dry-run", "--data", people, "--parts", 3, "--held-out", 2, *flags
    )


def test_classes_that_cannot_be_held_out(tmp_path):
    save_people(tmp_path / "train", 3)
    save_people(tmp_path / "test", 3)
    with pytest.raises(InputError, match="holds the parts train, test; give CLASS/IMAGE"):
        images_by_class(tmp_path)
    whole = images_by_class(tmp_path / "train")
    with pytest.raises(InputError, match="folds=4 of 3 classes"):
        fold_of(len(whole.classes), 0, 4)
    with pytest.raises(InputError, match="two must be left to train on"):
        held_out_classes(whole, 0, [0, 1])
    assert without_few(whole, 6, "people").num_examples == 18
