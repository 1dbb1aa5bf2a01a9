"""Translation: parts of words, pairs of sentences, batches of like length, and the recipe from the command line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import fails

import jaxnets as jn
from jaxnets import cli
from jaxnets.data import subwords, tokens
from jaxnets.learners.sequences import sequence_to_sequence
from jaxnets.models import EncoderDecoder, SourceTarget
from jaxnets.tasks.translations import split_words
from jaxnets.transforms.trimmed import trimmed

KEY = jax.random.key(0)


def pairs(num=8, length=12):
    """Random pairs of different lengths, padded with 0."""
    generator = np.random.default_rng(0)
    rows = {name: 1 + generator.integers(0, 6, (num, length)) for name in ("inputs", "targets")}
    for array in rows.values():
        for row, size in zip(array, generator.integers(2, length - 3, num), strict=True):
            row[size:] = 0
    return {name: array.astype(np.int32) for name, array in rows.items()}


def translator():
    network = jn.network(EncoderDecoder, 7, 8, 1, 2, max_length=12, padding=0)
    return sequence_to_sequence(jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1)), 0)


@pytest.fixture(scope="module")
def learner():
    return translator()


class TestPairs:
    @pytest.mark.slow
    def test_each_token_is_predicted_from_those_before_and_the_source(self, learner):
        batch, state = pairs(), learner.init(KEY)
        sums = jax.jit(learner.evaluate)(state, batch)
        given = SourceTarget(batch["inputs"], batch["targets"][:, :-1])
        logs = jax.nn.log_softmax(jax.jit(learner.predict)(state, given))
        wanted = batch["targets"][:, 1:]
        each = -np.take_along_axis(np.asarray(logs), wanted[..., None], 2)[..., 0]
        np.testing.assert_allclose(sums["loss"].total, each[wanted != 0].sum(), rtol=1e-5)
        assert float(sums["loss"].count) == (wanted != 0).sum()

    @pytest.mark.slow
    def test_trimmed_batches_give_the_same_numbers(self, learner):
        batch, state = pairs(), learner.init(KEY)
        short = trimmed(learner, 0, (3, 6, 9))
        for name in ("step", "evaluate"):
            args = (state, batch, KEY) if name == "step" else (state, batch)
            whole, cut = (jax.jit(getattr(one, name))(*args) for one in (learner, short))
            for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    @pytest.mark.release
    @pytest.mark.slow
    def test_a_batch_in_parts_and_members_of_a_population(self, learner):
        batch, state = pairs(), learner.init(KEY)
        parts = jn.accumulated(trimmed(translator(), 0, (3, 6)), 2)
        whole, two = (jax.jit(one.step)(state, batch, KEY)[1]["loss"] for one in (learner, parts))
        np.testing.assert_allclose(two.total, whole.total, rtol=1e-5)
        members = jn.population(trimmed(learner, 0, (3, 6)), 2)
        keys = jax.random.split(KEY, 2)
        batches = jax.tree.map(lambda a: np.stack([a, a[::-1]]), batch)
        together = jax.jit(members.step)(members.init(keys), batches, keys)[1]["loss"].total
        alone = jax.jit(learner.step)(learner.init(keys[1]), {k: a[1] for k, a in batches.items()}, keys[1])[1]["loss"]
        np.testing.assert_allclose(together[1], alone.total, rtol=1e-5)

    def test_trimmed_cuts_as_far_as_it_can(self):
        seen = []
        inner = jn.Learner(
            None, None, lambda state, batch: seen.append(batch["inputs"].shape) or jnp.int32(len(seen)), None
        )
        rows = np.zeros((2, 10), np.int32)
        rows[1, :5] = 1
        evaluate = trimmed(inner, 0, (3, 5, 8)).evaluate
        for last, wanted in ((3, 1), (4, 2), (5, 2), (8, 3), (9, 4)):
            seen.clear()
            assert int(evaluate(None, {"inputs": np.where(np.arange(10) < last, rows.max(), 0)[None]})) == wanted
            assert seen == [(1, 3), (1, 5), (1, 8), (1, 10)]
        with pytest.raises(jn.InputError, match="must be rising"):
            trimmed(inner, 0, (5, 3))

    def test_refuses(self, learner):
        with pytest.raises(jn.InputError, match="no targets"):
            learner.check({"inputs": pairs()["inputs"]})
        with pytest.raises(jn.InputError, match="hold nothing to predict"):
            learner.check({"inputs": pairs()["inputs"], "targets": np.ones((8, 1), np.int32)})
        with pytest.raises(jn.InputError, match="tokens range from"):
            learner.check(pairs() | {"inputs": np.full((8, 4), 9)})
        with pytest.raises(jn.InputError, match="targets: row 1 has padding"):
            learner.check({name: np.array([[1, 2, 3, 0], [1, 0, 2, 3]], np.int32) for name in ("inputs", "targets")})
        with pytest.raises(jn.InputError, match="a mask of shape"):
            learner.check(pairs() | {"mask": np.ones((8, 1))})
        learner.check(pairs() | {"mask": np.arange(8) > 0})
        with pytest.raises(jn.InputError, match="targets: row 0 is nothing but padding"):
            learner.check(pairs() | {"targets": np.zeros((8, 4), np.int32)})


class TestParallelLines:
    def test_refuses(self, tmp_path):
        a, b = tmp_path / "a", tmp_path / "b"
        a.write_text("one\ntwo\n")
        b.write_text("eins\nzwei\n")
        assert tokens.parallel_text([a, b]) == [["one", "two"], ["eins", "zwei"]]
        b.write_text("eins\n\n")
        with pytest.raises(jn.InputError, match="line 2 is empty"):
            tokens.parallel_text([a, b])
        b.write_text("eins\n")
        with pytest.raises(jn.InputError, match="has 2 lines and"):
            tokens.parallel_text([a, b])


WORDS = {"a": "ein", "the": "der", "dog": "hund", "man": "mann", "runs": "läuft", "sleeps": "schläft"}
SENTENCES = [f"{a} {b} {c} ." for a in ("a", "the") for b in ("dog", "man") for c in ("runs", "sleeps")]


def german(sentence):
    return " ".join(WORDS.get(word, word) for word in sentence.split())


class TestSubwords:
    def test_text_comes_back_as_it_was(self):
        pytest.importorskip("tokenizers", reason="needs tokenizers: pip install -e '.[translation]'")
        text = [*SENTENCES, *map(german, SENTENCES), "saftig-grünes gras , hier ."]
        tokenizer = subwords.learn_subwords(text, 120)
        rows = subwords.encode_subwords(text, tokenizer, 60, start=True)
        assert subwords.num_subwords(tokenizer) <= 120
        assert (rows[:, 0] == subwords.START).all() and ((rows == subwords.END).sum(1) == 1).all()
        assert subwords.decode_subwords(rows, tokenizer) == text
        for spelled in ("a <end> man", "<padding>"):
            assert subwords.UNKNOWN in (row := subwords.encode_subwords([spelled], tokenizer, 60, start=False))[0]
            assert subwords.unknown_characters(spelled, tokenizer) == "<>" and subwords.PADDING not in row[0, :5]
        with pytest.raises(jn.InputError, match="sentence 2 is empty"):
            subwords.encode_subwords(["a", " "], tokenizer, 60, start=True)
        with pytest.raises(jn.InputError, match="use a larger --vocabulary"):
            subwords.learn_subwords([chr(1000 + i) for i in range(300)], 300)
        with pytest.raises(jn.InputError, match="1 to 1 are taken"):
            subwords.encode_subwords(text, tokenizer, 3, start=True)


def test_own_sentences_are_written_as_multi30ks():
    split = split_words
    assert (
        split("A man\u2019s T-shirt says \u201chi\u201d, he SMILES.", "en")
        == "a man &apos;s t-shirt says &quot; hi &quot; , he smiles ."
    )
    assert split("L'homme d'affaires: 2,50", "fr") == "l&apos; homme d&apos; affaires : 2,50"
    assert split("The U.S. flag.", "en") == "the u.s. flag ."
    assert split("McDonald's", "de") == "mcdonald &apos; s"


@pytest.mark.release
@pytest.mark.slow
def test_the_recipe(tmp_path, capsys):
    for library in ("tokenizers", "sacrebleu"):
        pytest.importorskip(library, reason="needs tokenizers and sacrebleu: pip install -e '.[translation]'")
    for part, times in (("train", 20), ("val", 1), ("test", 1)):
        (tmp_path / f"{part}.en").write_text("\n".join(SENTENCES * times) + "\n")
        (tmp_path / f"{part}.de").write_text("\n".join(map(german, SENTENCES * times)) + "\n")
    sizes = "--num-layers 1 --num-heads 2 --model-dim 32 --vocabulary 300 --max-tokens 24"
    flags = "--duration 40ep --batch-size 16 --warmup 10 --dropout 0 --label-smoothing 0 --average 0"
    assert cli.main(["summary", "translate", "--data", str(tmp_path), *f"{sizes} {flags}".split()]) == 0
    assert capsys.readouterr().out.count("Transformer ") == 2  # encoder and decoder
    run = tmp_path / "run"
    assert (
        cli.main(
            ["train", "translate", "--data", str(tmp_path), "--out", str(run), *f"{sizes} {flags} --seeds 2".split()]
        )
        == 0
    )
    result = json.loads((run / "result.json").read_text())
    assert min(result["metrics"]["test/bleu"]["values"]) > 90
    assert (run / "translations.txt").read_text().count("real  ein hund läuft .") == 1
    capsys.readouterr()
    assert cli.main(["predict", str(run), "the man sleeps .", "a dog runs .", "a dog \u732b", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["translation"] for row in rows[:2]] == ["der mann schläft .", "ein hund läuft ."]
    assert [row["unknown characters"] for row in rows] == ["", "", "\u732b"]
    assert "tokens; 1 to 23 are taken" in fails(capsys, "predict", run, "dog " * 40)
    assert "sentence 1 is empty" in fails(capsys, "predict", run, " ")
    assert "target='de' must be another language" in fails(capsys, "train", "translate", "--source", "de")
    assert "its languages are en, de and fr" in fails(capsys, "train", "translate", "--source", "cs")
    assert "vocabulary=10 must be 300 to" in fails(capsys, "train", "translate", "--vocabulary", 10)
