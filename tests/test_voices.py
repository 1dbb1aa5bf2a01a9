"""Voices: speakers who are held out, a run of synthetic voices from the outside, and a gallery of recordings."""

import json
import shutil
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import adam, fails, wav

import jaxnets as jn
from jaxnets import cli
from jaxnets.data import Data
from jaxnets.data.speech import PADDING, at_speeds, middles, voices
from jaxnets.errors import InputError
from jaxnets.learners import contrastive, embedding
from jaxnets.options import VoiceData
from jaxnets.tasks.voices import mean_spectra

DRAW = np.random.default_rng(0)
NUMBER, RATE = 8, 8000


def said(who, length=1600):
    """Return a short hum: harmonics of the speaker's pitch, one of a few vowels, and noise."""
    time, pitch, vowel = np.arange(length) / RATE, 90 * 1.2**who * DRAW.uniform(0.97, 1.03), DRAW.uniform(300, 1500)
    harmonics = np.arange(1, int(3500 / pitch))
    loud = np.exp(-(((harmonics * pitch - vowel) / 900) ** 2))
    tones = (loud * np.sin(2 * np.pi * pitch * harmonics * time[:, None])).sum(1)
    return 0.3 * tones / np.abs(tones).max() + 0.002 * DRAW.normal(size=length)


@pytest.fixture(scope="module")
def speakers(tmp_path_factory):
    """Write recordings of each person, a0 with the lowest voice."""
    folder = tmp_path_factory.mktemp("voices") / "speakers"
    for who in range(NUMBER):
        (folder / f"a{who}").mkdir(parents=True)
        for i in range(6):
            (folder / f"a{who}" / f"{i}.wav").write_bytes(wav(said(who, 1200 + 100 * i)))
    return folder


def test_whose_recordings_they_are(speakers, tmp_path):
    found = voices(speakers, RATE)
    assert found.speakers == [f"a{who}" for who in range(NUMBER) for _ in range(6)]
    with zipfile.ZipFile(tmp_path / "named.zip", "w") as archive:
        for name in ("7_theo_0.wav", "seven_mary_ann_12.wav", "7_theo_1.wav"):
            archive.writestr(f"recordings/{name}", (speakers / "a1" / "0.wav").read_bytes())
    assert voices(tmp_path / "named.zip", RATE).speakers == ["theo", "theo", "mary_ann"]
    with pytest.raises(InputError, match=r"4\.wav is in one folder with all others, and not named WORD_PERSON_NUMBER"):
        voices(
            shutil.copytree(speakers / "a1", tmp_path / "one", ignore=lambda *_: [f"{i}.wav" for i in range(4)]), RATE
        )
    mixed = shutil.copytree(speakers, tmp_path / "mixed")
    shutil.copy(speakers / "a1" / "0.wav", mixed / "7_theo_1.wav")
    with pytest.raises(InputError, match=r"7_theo_1\.wav is in no person's folder; give PERSON/7_theo_1\.wav"):
        voices(mixed, RATE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no recordings"):
        voices(tmp_path / "empty", RATE)


def test_speakers_are_held_out_and_others_played_at_other_speeds(speakers):
    splits = VoiceData(str(speakers), parts=4, held_out=1, validation_people=2, seconds=0.2, speeds=(0.8, 1.25)).load()
    names = [{part.classes[number] for number in part["labels"]} for part in splits if part is not None]
    assert names[2] == {"a2", "a3"} and len(names[1]) == 2 and not names[1] & names[2]
    known = {name for name in names[0] if "," not in name}
    assert len(known) == 4 and not known & (names[1] | names[2])
    assert names[0] - known == {f"{name}, {speed} times as fast" for name in known for speed in (0.8, 1.25)}
    assert splits.train["inputs"].shape == (3 * 24, 1600) and splits.test["inputs"].shape == (12, 1600)
    assert len(set(splits.test["labels"][:6].tolist())) == 2  # the order is drawn


def test_pitch_moves_with_speed():
    tone = np.round(8000 * np.sin(2 * np.pi * 400 * np.arange(3000) / RATE)).astype(np.int16)
    data = Data(inputs=middles([tone], 4000), labels=np.zeros(1, int), classes=["ann", "ben"])
    made = at_speeds(data, (0.8, 1.25), RATE)
    assert made["labels"].tolist() == [0, 2, 4] and made.classes[4] == "ann, 1.25 times as fast"
    for row, length, pitch in zip(made["inputs"], (3000, 3750, 2400), (400, 320, 500), strict=True):
        samples = row[row != PADDING].astype(np.float64)
        assert len(samples) == length
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(length), 8000))
        assert abs(spectrum.argmax() - pitch) <= 2
    np.testing.assert_array_equal(middles([tone], 1000)[0], tone[1000:2000])
    assert at_speeds(data, (), RATE).num_examples == 1


def test_mean_spectra_know_no_loudness_and_no_padding():
    hum = np.round(3000 * said(3)).astype(np.int16)
    found = mean_spectra(middles([hum, 4 * hum], 4000), RATE)
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)
    np.testing.assert_allclose(found[0], mean_spectra(middles([hum], 1600), RATE)[0], atol=1e-4)


def test_pairs_of_a_block_are_the_same_in_parts():
    network = jn.network(jn.models.MLP, 4, (8,), 3)
    metrics = {"auc": jn.metrics.pair_auc()}
    batch = {"inputs": DRAW.normal(size=(12, 4)).astype(np.float32), "labels": np.arange(12) % 3}
    whole, parts = (embedding(network, contrastive(), adam(1e-3), metrics, block=12, at_once=n) for n in (None, 8))
    state = whole.init(jax.random.key(0))
    assert "while" not in str(jax.make_jaxpr(whole.evaluate)(state, batch))
    for one, other in zip(*(jax.tree.leaves(made.evaluate(state, batch)) for made in (whole, parts)), strict=True):
        np.testing.assert_allclose(jnp.asarray(one), other, rtol=1e-5)
    with pytest.raises(InputError, match="at_once"):
        embedding(network, contrastive(), adam(1e-3), at_once=0)


FEW = ("--parts", 4, "--held-out", 1, "--seconds", 0.2)


@pytest.mark.slow
def test_a_run_and_its_gallery(speakers, tmp_path, capsys):
    folder, known = tmp_path / "run", tmp_path / "known"
    small = "--features 8 pool 16 pool --widths 16 --embedding 8 --recordings 4 --batch-size 32 --duration 150"
    words = ["train", "voices", "--data", speakers, *FEW, "--validation-people", 2, *small.split()]
    assert cli.main([*map(str, words), "--evaluate-every", "30", "--out", str(folder)]) == 0
    result = json.loads((folder / "result.json").read_text())
    got = {name: found["mean"] for name, found in result["metrics"].items()}
    assert got["test/auc"] > 0.7 and got["test/rank_1"] > 0.7 and {"test/eer", "test/tar_at_far_0.01"} < set(got)
    assert {"test/auc_of_mean_spectra", "test/eer_of_lda_of_mean_spectra"} < set(result["baselines"])
    for name in ("pairs.png", "verification.png", "embeddings.png"):
        assert (folder / name).stat().st_size > 10_000
    for person in ("a2", "a3"):
        shutil.copytree(speakers / person, known / person, ignore=lambda *_: ["4.wav", "5.wav"])
    capsys.readouterr()
    assert cli.main(["gallery", "enrol", str(folder), str(known)]) == 0
    assert "2 people, 8 files" in capsys.readouterr().out
    asked = [str(speakers / name / "5.wav") for name in ("a2", "a3")]
    assert cli.main(["gallery", "identify", str(folder), *asked, "--threshold", "-1", "--json"]) == 0
    assert [row["person"] for row in json.loads(capsys.readouterr().out)] == ["a2", "a3"]
    assert cli.main(["gallery", "compare", str(folder), asked[0], str(speakers / "a2" / "4.wav"), "--json"]) == 0
    same = json.loads(capsys.readouterr().out)
    assert same["same"] == (same["cosine"] >= same["threshold"])
    (tmp_path / "slow.wav").write_bytes(
        wav(np.repeat(said(2), 2), rate=2 * RATE)
    )  # another rate is brought to the run's
    assert cli.main(["predict", str(folder), asked[0], str(tmp_path / "slow.wav"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["most like"].endswith("slow.wav")
    (tmp_path / "silent.wav").write_bytes(wav(np.zeros(1600)))
    for words, message in (
        (("identify", tmp_path / "silent.wav"), "silent.wav: is silent"),
        (("identify", asked[0], "--invert"), "invert=True changes nothing here"),
        (("enrol", speakers / "a2"), "is in no person's folder"),
        (("compare", asked[0]), "compare takes two files, not 1"),
    ):
        assert message in fails(capsys, "gallery", words[0], folder, *words[1:])


def test_one_recording_and_silence(speakers, tmp_path, capsys):
    own = shutil.copytree(speakers, tmp_path / "own")
    for i in range(1, 6):
        (own / "a2" / f"{i}.wav").unlink()
    found = VoiceData(str(own), parts=3, held_out=0, speeds=()).load()
    assert "left out 1 people with one recording: a2" in " ".join(capsys.readouterr().err.split())
    assert "a2" not in found.train.classes
    (own / "a3" / "0.wav").write_bytes(wav(np.zeros(1600)))
    assert "a3/0.wav: is silent" in fails(capsys, "train", "voices", "--dry-run", "--data", own)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--parts", 5, "--held-out", 4), "parts=5 of 8 people: two or more are needed to test; use fewer"),
        (("--parts", 9, "--held-out", 8), "parts=9 of 8 people: two or more are needed to test; use fewer"),
        (("--validation-people", 5), "5 of 6 people beside the 2 of the test to choose by"),
        (("--speeds",), "batch_size=64 is of 8 people with 8 recordings each, but 6 are trained on; use 48 or less"),
        (("--speeds", 1), "speeds=(1.0,) must be each once, 0.5 to 2, none 1"),
        (("--recordings", 5), "batch_size=64 must be a multiple of recordings=5"),
        (("--seconds", 0.01), "seconds=0.01 must be 0.1 to 60"),
        (("--rate", 10), "rate=10 must be 1000 to 192000"),
    ],
)
def test_flags_out_of_range(speakers, capsys, flags, message):
    assert message in fails(capsys, "train", "voices", "--dry-run", "--data", speakers, *FEW, *flags)


def test_the_speakers_of_the_digits(jaxnets_data):
    if not (jaxnets_data / "fsdd-recordings.zip").exists():
        pytest.skip("needs fsdd-recordings.zip in the folder of real data")
    splits = VoiceData(held_out=1, speeds=()).load()
    assert {splits.test.classes[number] for number in splits.test["labels"]} == {"lucas", "nicolas"}
    assert splits.train["inputs"].shape == (2000, 8000) and splits.validation is None
