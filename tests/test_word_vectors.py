"""Vectors of words in files of three kinds, what is refused of them, and a run that begins from them."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import assert_same_bits, fails

from jaxnets import cli, open_run
from jaxnets.data.word_vectors import read_word_vectors
from jaxnets.errors import InputError
from jaxnets.options import TokenRecurrentConfig, TransformerConfig
from jaxnets.recipes.recipe import find
from jaxnets.runs import checkpoint

WORDS = ["good", "Film", "bad", "a"]
GLOVE = "the 0.5 -1 2\ngood 1 2 3\nfilm 4 5 6\n. . . 7 8 9\nbad 1e-3 -2.5E1 .5\ngood 9 9 9\n"
VEC = "6 3\n" + GLOVE.replace("\n", " \n")  # fastText ends its lines with a space
WANTED = {"good": [1, 2, 3], "Film": [4, 5, 6], "bad": [1e-3, -25, 0.5]}


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def as_npy(folder: Path, vectors=None, words: str | None = None, name: str = "v") -> Path:
    rows = [line.rsplit(" ", 3) for line in GLOVE.splitlines()]
    numbers = np.array([[float(n) for n in row[1:]] for row in rows], np.float64)
    np.save(folder / f"{name}.npy", numbers if vectors is None else vectors)
    written(folder, f"{name}.txt", "\n".join(row[0] for row in rows) if words is None else words)
    return folder / f"{name}.npy"


@pytest.mark.parametrize("kind", ["glove.txt", "words.vec", "glove.txt.gz", "windows.txt", "v.npy"])
def test_rows_are_found_by_word(kind, tmp_path):
    """As it is written, else lower-cased; the first of two counts, and a word may have spaces in it."""
    contents = {
        "glove.txt": GLOVE,
        "words.vec": VEC,
        "glove.txt.gz": gzip.compress(GLOVE.encode()),
        "windows.txt": "\ufeff" + GLOVE.replace("\n", "\r\n"),
    }
    path = as_npy(tmp_path) if kind == "v.npy" else written(tmp_path, kind, contents[kind])
    found = read_word_vectors(path, WORDS)
    assert found.table.dtype == np.float32 and found.table.shape == (4, 3)
    np.testing.assert_array_equal(found.found, [True, True, True, False])
    for word, wanted in WANTED.items():
        np.testing.assert_array_equal(found.table[WORDS.index(word)], np.float32(wanted))
    assert found.coverage() == "vectors of 3 of 4 words (75.0%); without: a"
    assert found.coverage(special=3) == "vectors of 0 of 1 words (0.0%); without: a"
    spaced = read_word_vectors(path, [". . .", "the"])
    np.testing.assert_array_equal(spaced.table, np.float32([[7, 8, 9], [0.5, -1, 2]]))
    assert spaced.coverage() == "vectors of 2 of 2 words (100.0%)"


def test_what_is_not_found_is_drawn_always_the_same(tmp_path):
    path = written(tmp_path, "g.txt", GLOVE)
    words = [*WORDS, *(f"unheard{i}" for i in range(2000))]
    found = read_word_vectors(path, words)
    held = found.table[:3]
    np.testing.assert_allclose(found.table[4:].mean(0), held.mean(0), atol=0.1 * held.std(0).max())
    np.testing.assert_allclose(found.table[4:].std(0), held.std(0), rtol=0.1)
    assert_same_bits(found.table, read_word_vectors(path, words).table)
    assert found.coverage().endswith("without: a, unheard0, unheard1, unheard2, unheard3, ...")


BROKEN = {
    "fewer numbers": (GLOVE + "short 1 2\n", "line 7 has 2 numbers after a word, not 3"),
    "more numbers": (GLOVE + "long 1 2 3 4\n", "line 7 has more than 3 numbers after a word"),
    "an empty line": (GLOVE + "\n" + GLOVE, "line 7 has 0 numbers after a word, not 3"),
    "no numbers": ("the\ngood\n", "line 1 has 0 numbers after a word, and vectors have 1 to 10,000; .* beside an .npy"),
    "empty": ("", "holds none of the 4 words, such as good, Film, bad, a"),
    "no word of ours": ("the 1 2 3\n", "holds none of the 4 words"),
    "text": ("the 1 2 3\ngood x y z\n", "line 2: could not convert string to float: b'x'; after the word"),
    "nan": ("good 1 nan 3\n", "line 1 has a number that is NaN, infinite or too large"),
    "too large": ("good 1 1e39 3\n", "line 1 has a number that is NaN, infinite or too large"),
    "cut short": ("9 3\n" + GLOVE, "its first line promises 9 words, it holds 6; is it cut short?"),
    "another width": ("6 4\n" + GLOVE, "line 2 has 3 numbers after a word, not 4"),
    "a lie about the width": ("6 99999999999\ngood 1\n", "line 1 has 99,999,999,999 numbers"),
    "a long line": ("good " + "1 " * (1 << 20), "line 1 is longer than 1,048,576 bytes"),
    "latin-1": (
        "caf\u00e9 1 2 3\n".encode("latin-1"),
        "line 1 is not UTF-8: .*; save the file as UTF-8",
    ),
    "utf-16": (GLOVE.encode("utf-16"), "it is UTF-16; save it as UTF-8"),
    "a bomb": (gzip.compress(b"\0" * (70 << 20)), "longer than 1,048,576 bytes|bytes that become"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_refuses_text(kind, tmp_path):
    content, message = BROKEN[kind]
    path = written(tmp_path, "glove.txt", content)
    with pytest.raises(InputError, match=message) as error:
        read_word_vectors(path, WORDS)
    assert str(path) in str(error.value)


def test_refuses_npy(tmp_path):
    with pytest.raises(InputError, match=r"there is no such file"):
        read_word_vectors(tmp_path / "nowhere.vec", WORDS)
    np.save(tmp_path / "bare.npy", np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"there is no bare\.txt beside it, with the words of its rows, one a line"):
        read_word_vectors(tmp_path / "bare.npy", WORDS)
    for vectors, message in (
        (np.zeros((6, 3), np.int32), r"holds int32\[6, 3\], not vectors of words, floats \[N, D\]"),
        (np.zeros(6), r"holds float64\[6\], not vectors"),
        (np.zeros((5, 3)), "holds 5 vectors, but .* 6 words; one a line"),
        (np.full((6, 3), np.inf), "row 1 has a number that is NaN, infinite or too large"),
    ):
        with pytest.raises(InputError, match=message):
            read_word_vectors(as_npy(tmp_path, vectors), WORDS)
    np.save(tmp_path / "v.npy", np.array([["x"]], object), allow_pickle=True)
    with pytest.raises(InputError, match="Object arrays"):
        read_word_vectors(tmp_path / "v.npy", WORDS)


@pytest.fixture
def reviews(tmp_path):
    """Sentences of four words, and vectors for two of them."""
    lines = ["good film\tpos", "bad film\tneg", "a good film\tpos", "a bad film\tneg"]
    data = written(tmp_path, "reviews.tsv", "\n".join(lines * 10))
    written(tmp_path, "glove.txt", GLOVE)
    flags = ["sentiment-gru", "--data", data, "--embedding", 3, "--hidden", 4, "--batch-size", 8, "--duration", 6]
    return tmp_path, [*map(str, flags), "--evaluate-every", "3", "--embeddings", str(tmp_path / "glove.txt")]


def embedding(run):
    return np.asarray(run.state.params["embed"]["embedding"])


def parsed(folder: Path, **config: Any) -> Any:
    """Return what the recipe begins from, with a config of these fields."""
    recipe = find("sentiment-gru")
    data = replace(recipe.config.sentences, data=str(folder / "reviews.tsv"))
    recipe = recipe._replace(config=replace(recipe.config, sentences=data, **config))
    spec = recipe.load(recipe.config).train.spec
    return recipe.start(spec), spec, recipe


class TestRecipe:
    def test_has_them_as_its_start(self, reviews):
        folder, _ = reviews
        assert parsed(folder)[0] is None
        narrow = TokenRecurrentConfig(embedding=3, hidden=(4,))
        start, spec, recipe = parsed(folder, embeddings=folder / "glove.txt", recurrent=narrow)
        assert start.about == f"{folder / 'glove.txt'}: vectors of 3 of 4 words (75.0%); without: a"
        state = recipe.learner(spec).init(jax.random.key(0), start.initial)
        table, words = state.params["embed"]["embedding"], spec["inputs"].classes
        np.testing.assert_array_equal(table[words.index("film")], np.float32(WANTED["Film"]))

    @pytest.mark.slow
    def test_begins_from_the_vectors(self, reviews, capsys):
        folder, flags = reviews
        out = folder / "run"
        assert cli.main(["train", *flags, "--freeze", "embed/**", "--out", str(out)]) == 0
        assert "vectors of 3 of 4 words (75.0%); without: a" in capsys.readouterr().out
        run = open_run(out)
        words = run.spec["inputs"].classes
        for word, wanted in (("good", WANTED["good"]), ("film", WANTED["Film"]), ("bad", WANTED["bad"])):
            np.testing.assert_array_equal(embedding(run)[words.index(word)], np.float32(wanted))
        (folder / "glove.txt").unlink()  # whoever resumes, evaluates or predicts needs it no more
        assert cli.main(["resume", str(out), "--duration", "9", "--patience", "999"]) == 0
        assert cli.main(["evaluate", str(out)]) == 0
        np.testing.assert_array_equal(embedding(open_run(out)), embedding(run))
        config = json.loads((out / "config.json").read_text())["config"]
        assert config["embeddings"] == str(folder / "glove.txt")

    @pytest.mark.slow
    def test_they_learn_unless_they_are_frozen(self, reviews):
        folder, flags = reviews
        assert cli.main(["train", *flags, "--out", str(folder / "run")]) == 0
        run = open_run(folder / "run")
        good = embedding(run)[run.spec["inputs"].classes.index("good")]
        assert not np.array_equal(good, np.float32(WANTED["good"]))
        np.testing.assert_allclose(good, WANTED["good"], atol=0.1)

    @pytest.mark.slow
    def test_a_run_without_a_checkpoint_begins_from_them_again(self, reviews):
        folder, flags = reviews
        out = folder / "run"
        assert cli.main(["train", *flags, "--out", str(out)]) == 0
        run = open_run(out)
        for step in checkpoint.steps(out / "checkpoints"):
            checkpoint._remove(out / "checkpoints", [step])
        (out / "result.json").unlink()
        assert cli.main(["resume", str(out)]) == 0
        assert_same_bits(jax.device_get(open_run(out).state.params), jax.device_get(run.state.params))

    def test_another_width_is_refused(self, reviews, capsys):
        folder, flags = reviews
        with pytest.raises(InputError, match=r"vectors of 3 numbers, but embedding=100; use --embedding 3"):
            parsed(folder, embeddings=folder / "glove.txt")
        small = TransformerConfig(num_layers=1, num_heads=2, model_dim=8)
        given = {"model": "transformer", "transformer": small, "embeddings": folder / "glove.txt"}
        with pytest.raises(InputError, match=r"vectors of 3 numbers, but model_dim=8; use --model-dim 3"):
            parsed(folder, **given)
        assert "there is no such file" in fails(capsys, "train", *flags[:-1], folder / "nowhere.txt", "--dry-run")
