"""The tasks on sequences, from the command line: train, predict, generate, and what is refused."""

import json
import random
import wave
from pathlib import Path

import numpy as np
import pytest
from helpers import fails

from jaxnets import cli, recipes
from jaxnets.data import music
from jaxnets.options import PieceData, SentenceData, TextData
from jaxnets.recipes import language_modelling, text_classification
from jaxnets.recipes import music as music_recipe
from jaxnets.recipes.recipe import find

SMALL = ["--batch-size", "8", "--evaluate-every", "20"]
NARROW = ["--hidden", "8"]


def train(preset: str, path: Path, out: Path, *flags: str) -> Path:
    assert cli.main(["train", preset, "--data", str(path), "--out", str(out), *SMALL, *flags]) == 0
    return out


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_text("the cat sat on the mat; the dog sat on the cat.\n" * 40)
    flags = [*NARROW, "--window", "16", "--embedding", "4", "--duration", "40", "--warmup", "4", "--seeds", "2"]
    return train("shakespeare-lstm", folder / "a.txt", folder / "run", *flags)


@pytest.mark.slow
class TestLanguageModelling:
    def test_the_folder_has_samples(self, written):
        samples = (written / "samples.txt").read_text()
        assert samples.count("--- temperature") == 3 and len(samples) > 3000
        result = json.loads((written / "result.json").read_text())
        assert len(result["metrics"]["validation/loss"]["values"]) == 2
        assert result["metrics"]["validation/loss"]["mean"] < 2.6  # a uniform guess among 15 characters is 2.71

    def test_generate(self, written, capsys):
        command = ["generate", str(written), "--prompt", "the ", "--length", "30"]
        assert cli.main(command) == 0
        first = capsys.readouterr().out
        assert first.startswith("the ") and len(first) == 4 + 30 + 1
        assert (written / "generated.txt").read_text() + "\n" == first
        assert cli.main([*command, "--seed", "1"]) == 0
        assert capsys.readouterr().out != first
        assert cli.main([*command, "--out", str(written / "other")]) == 0
        assert capsys.readouterr().out == first == (written / "other.txt").read_text() + "\n"

    def test_predict(self, written, capsys):
        assert cli.main(["predict", str(written), "the cat sat", "tac tas", "--json"]) == 0
        likely, unlikely = json.loads(capsys.readouterr().out)
        assert likely["text"] == "the cat sat" and likely["perplexity"] == pytest.approx(np.exp(likely["loss"]))
        assert likely["loss"] < unlikely["loss"]

    def test_refuses(self, written, capsys, tmp_path):
        assert "'K', 'Q': not among the 15 characters" in fails(capsys, "generate", written, "--prompt", "QK")
        assert "length=-1 must be 1 or more" in fails(capsys, "generate", written, "--length", "-1")
        assert "top_k=0 must be 1 or more" in fails(capsys, "generate", written, "--top-k", "0")
        assert "top_p=0.0 must be in (0, 1]" in fails(capsys, "generate", written, "--top-p", "0")
        assert "temperature=-1.0 must be 0" in fails(capsys, "generate", written, "--temperature", "-1")
        assert "'a' is too short to judge" in fails(capsys, "predict", written, "a")
        assert "Unrecognized options: --invert" in fails(capsys, "predict", written, "the", "--invert")
        train = ["train", "shakespeare-lstm", "--data"]
        assert "is not shakespeare, a text file, here or in" in fails(capsys, *train, tmp_path / "b.txt")
        assert "there is no folder" in fails(capsys, "generate", written, "--out", tmp_path / "no" / "a")
        (tmp_path / "b.txt").write_text("too short")
        assert "are too few for windows of 64" in fails(capsys, *train, tmp_path / "b.txt")
        (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
        assert "cannot be read as UTF-8 text" in fails(capsys, *train, tmp_path / "b.txt")
        assert "validation=1.0 must be in (0, 1)" in fails(capsys, *train[:2], "--validation", "1")
        assert "window=0" in fails(capsys, *train[:2], "--window", "0")

    @pytest.mark.slow
    def test_a_transformer(self, tmp_path, capsys):
        (tmp_path / "a.txt").write_text("the cat sat on the mat; the dog sat on the cat.\n" * 40)
        sizes = ["--num-layers", "1", "--num-heads", "2", "--model-dim", "16", "--window", "16", "--duration", "150"]
        run = train("shakespeare-gpt", tmp_path / "a.txt", tmp_path / "run", *sizes, "--warmup", "4")
        result = json.loads((run / "result.json").read_text())
        assert result["metrics"]["validation/loss"]["mean"] < 1.5
        flags = ["--prompt", "the ", "--length", "60", "--temperature", "0"]
        capsys.readouterr()
        assert cli.main(["generate", str(run), *flags]) == 0  # longer than its window
        assert len(greedy := capsys.readouterr().out) == 4 + 60 + 1
        for narrow in (["--top-k", "1"], ["--top-p", "1e-6"]):
            assert cli.main(["generate", str(run), *flags[:4], *narrow]) == 0
            assert capsys.readouterr().out == greedy
        assert cli.main(["predict", str(run), "the cat sat", "tac tas", "--json"]) == 0
        likely, unlikely = json.loads(capsys.readouterr().out)
        assert likely["loss"] < unlikely["loss"]
        text = "the cat sat on the mat"  # 21 characters to predict, read as 16 and 5
        assert cli.main(["predict", str(run), text, text[:17], text[16:], "--json"]) == 0
        whole, *parts = json.loads(capsys.readouterr().out)
        assert whole["loss"] == pytest.approx((16 * parts[0]["loss"] + 5 * parts[1]["loss"]) / 21, rel=1e-4)
        assert "exceed max_length=16" in fails(capsys, "generate", run, "--prompt", "the cat sat on the mat")

    @pytest.mark.slow
    def test_a_transformer_fits(self, tmp_path, capsys):
        (tmp_path / "a.txt").write_text("the cat sat on the mat.\n" * 40)
        train = ["train", "shakespeare-gpt", "--data", str(tmp_path / "a.txt"), "--window", "8", "--dry-run"]
        for flags in (["--positions", "learned"], ["--positions", "sinusoidal"], ["--precision", "bfloat16"]):
            assert cli.main([*train, *flags]) == 0
        assert "num_heads=3 must be a divisor of model_dim=128" in fails(capsys, *train, "--num-heads", "3")
        assert "num_layers=0 must be 1 or more" in fails(capsys, *train, "--num-layers", "0")

    def test_every_held_out_character_counts_once(self, tmp_path):
        text = "".join(random.Random(0).choices("abcdef", k=1003))
        (tmp_path / "a.txt").write_text(text)
        config = language_modelling.Config(TextData(str(tmp_path / "a.txt")), window=16)
        validation = language_modelling.load(config).validation
        counted = validation["inputs"][validation["mask"] == 1]
        assert "".join(validation.spec["inputs"].classes[i] for i in counted) == text[903:]

    def test_every_cell_and_precision_fits(self, tmp_path, capsys):
        (tmp_path / "a.txt").write_text("the cat sat on the mat.\n" * 40)
        for flags in (["--cell", "gru"], ["--cell", "rnn"], ["--precision", "bfloat16"], ["--average", "0.9"]):
            arguments = ["--window", "8", "--embedding", "4", "--warmup", "4", "--dry-run"]
            assert cli.main(["train", "shakespeare-lstm", "--data", str(tmp_path / "a.txt"), *arguments, *flags]) == 0


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Path:
    folder, pick = tmp_path_factory.mktemp("sentences"), random.Random(0).choice
    good, bad = ("fine", "great", "lovely"), ("dull", "awful", "poor")
    rows = [(f"a {pick((good, bad)[i % 2])} film , {pick(('truly', 'really'))}", i % 2) for i in range(200)]
    (folder / "a.tsv").write_text("".join(f"{text}\t{('yes', 'no')[label]}\n" for text, label in rows))
    flags = [*NARROW, "--embedding", "8", "--max-words", "12", "--duration", "80", "--learning-rate", "1e-2"]
    return train("sentiment-gru", folder / "a.tsv", folder / "run", *flags)


class TestTextClassification:
    @pytest.mark.slow
    def test_it_learns_and_predicts(self, judged, capsys):
        result = json.loads((judged / "result.json").read_text())
        assert result["metrics"]["test/accuracy"]["mean"] > 0.95
        assert cli.main(["predict", str(judged), "A great film!", "Truly awful.", "--json"]) == 0
        good, bad = json.loads(capsys.readouterr().out)
        assert (good["class"], bad["class"]) == ("yes", "no") and good["probability"] > 0.5
        assert good["unknown words"] == "!" and bad["unknown words"] == "."
        assert cli.main(["predict", str(judged), "\u044d\u0442\u043e " * 40, "--json"]) == 2  # over 255 bytes
        assert "has 40 words" in capsys.readouterr().err
        (judged / "new.txt").write_text("a dull film\n\na lovely film\n")
        assert cli.main(["predict", str(judged), str(judged / "new.txt"), "--json"]) == 0
        assert [row["class"] for row in json.loads(capsys.readouterr().out)] == ["no", "yes"]

    def test_refuses(self, judged, capsys, tmp_path):
        assert "has 0 words; 1 to 12 are taken" in fails(capsys, "predict", judged, " ")
        assert "has 13 words; 1 to 12 are taken; use a larger" in fails(capsys, "predict", judged, "so " * 13)
        assert "is no model that generates" in fails(capsys, "generate", judged)
        train = ["train", "sentiment-gru", "--data"]
        assert "is not sst2, a .csv, .tsv or .jsonl file, or a folder of texts" in fails(capsys, *train, "sst3")
        (tmp_path / "b.tsv").write_text("one film\tgood\none book\tbad\n" * 9)
        assert "needs validation data" in fails(
            capsys, *train, tmp_path / "b.tsv", "--validation", "0", "--batch-size", "8"
        )
        (tmp_path / "a.tsv").write_text("no label here\n")
        assert "line 1 is no sentence<TAB>label" in fails(capsys, *train, tmp_path / "a.tsv")
        assert "word_dropout=1.0 must be in [0, 1)" in fails(capsys, *train[:2], "--word-dropout", "1")

    def test_the_vocabulary_is_that_of_the_training_sentences(self, tmp_path):
        (tmp_path / "a.tsv").write_text("".join(f"film w{i}x\t{'ab'[i % 2]}\n" for i in range(100)))
        config = text_classification.Config(SentenceData(str(tmp_path / "a.tsv")), min_count=1)
        train, validation, test = text_classification.load(config)
        assert (train.num_examples, validation.num_examples, test.num_examples) == (72, 8, 20)
        assert len(train.spec["inputs"].classes) == 2 + 1 + 72
        assert (test["inputs"][:, 1] == 1).all() and (train["inputs"][:, 1] > 1).all()

    def test_a_folder_of_splits(self, tmp_path):
        for name, label in (("train", "b"), ("dev", "a"), ("test", "b")):
            (tmp_path / f"{name}.tsv").write_text(f"sentence\tlabel\none film\t{label}\nanother film\ta\n")
        splits = text_classification.load(text_classification.Config(SentenceData(str(tmp_path)), min_count=1))
        assert splits.validation["labels"].tolist() == [0, 0] and splits.test["labels"].tolist() == [1, 0]
        assert splits.train.spec["inputs"].classes == ("<padding>", "<unknown>", "film", "one", "another")


@pytest.fixture(scope="module")
def composed(tmp_path_factory) -> Path:
    folder, generator = tmp_path_factory.mktemp("music"), random.Random(0)
    piece = lambda: [[60 + i % 5, 67 + i % 5] for i in range(generator.randint(4, 9))]
    pieces = {name: [piece() for _ in range(16)] for name in ("train", "valid", "test")}
    (folder / "a.json").write_text(json.dumps(pieces))
    flags = [*NARROW, "--duration", "400", "--learning-rate", "3e-2", "--dropout", "0", "--patience", "50"]
    return train("chorales-gru", folder / "a.json", folder / "run", *flags)


@pytest.mark.slow
class TestMusic:
    def test_it_learns_and_composes(self, composed, capsys):
        result = json.loads((composed / "result.json").read_text())
        assert result["metrics"]["test/loss"]["mean"] < 10  # 88 fair coins are 61
        with wave.open(str(composed / "sample.wav")) as file:
            assert file.getnframes() > 22050
        assert (composed / "sample.png").stat().st_size > 5000
        arguments = ["--prompt", "60 67, 61 68", "--length", "3", "--temperature", "0"]
        assert cli.main(["generate", str(composed), *arguments]) == 0
        chords = capsys.readouterr().out.strip()
        assert chords.startswith("60 67, 61 68, 62 69") and chords.count(",") == 4
        assert music.read_chords(chords).shape == (5, 88)
        assert (composed / "generated.mid").read_bytes()[:4] == b"MThd"
        assert cli.main(["predict", str(composed), "60 67, 61 68", "--json"]) == 0
        assert set(json.loads(capsys.readouterr().out)[0]["next"].split()[::2][:2]) == {"62", "69"}

    def test_refuses(self, composed, capsys, tmp_path):
        assert "'A minor' is no music" in fails(capsys, "generate", composed, "--prompt", "A minor")
        (tmp_path / "a.json").write_text('{"train": [[[60]]]}')
        train = ["train", "chorales-gru", "--data", tmp_path / "a.json"]
        assert "has no valid and no test pieces; it has train" in fails(capsys, *train)
        (tmp_path / "a.json").write_text('{"train": [[[60], [61]]], "valid": [[[60]]], "test": [[[60], [61]]]}')
        assert "no valid piece has a second chord to predict" in fails(capsys, *train)
        assert "transpose=13 must be 0 to 12" in fails(capsys, *train[:2], "--transpose", "13")

    def test_the_first_chord_is_not_judged(self, composed):
        config = music_recipe.Config(PieceData(str(composed.parent / "a.json")))
        splits = music_recipe.load(config)
        lengths = splits.train["mask"].sum(1)
        assert (splits.train["mask"][:, :2] == [0, 1]).all() and (splits.test["mask"][:, :3] == [0, 0, 1]).all()
        assert (splits.train["inputs"].any(-1) == splits.train["mask"]).all() and lengths.min() >= 4


def test_every_preset_of_every_task_has_a_config_of_at_most_twenty_fields():
    for presets in recipes.catalogue().values():
        for preset in presets:
            fields = find(preset).config.__dataclass_fields__
            assert len(fields) <= 20 and {"training", "optimizer"} <= set(fields)


@pytest.mark.slow
def test_transformers_fit_every_task(judged, tmp_path, capsys):
    hours = "".join(f"{i},{np.sin(i / 4)}\n" for i in range(400))
    (tmp_path / "a.csv").write_text("time,value\n" + hours)
    small = ["--num-layers", "1", "--model-dim", "8", "--num-heads", "2", "--dry-run"]
    forecast = ["forecast-transformer", "--data", str(tmp_path / "a.csv"), "--history", "24", "--horizon", "6"]
    sentiment = ["sentiment-transformer", "--data", str(judged.parent / "a.tsv")]
    for task in (forecast, sentiment, ["mnist-vit", "--data", "digits", "--patch", "4", "--warmup", "0"]):
        assert cli.main(["train", *task, *small]) == 0
    assert "pool='last' is a recurrent network's" in fails(capsys, "train", *sentiment, "--pool", "last")
    assert "patch=3 does not divide images of 8 x 8" in fails(
        capsys, "train", "mnist-vit", "--data", "digits", "--patch", "3"
    )
