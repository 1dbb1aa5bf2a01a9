"""Pretrained weights by name, embeddings and search, fine-tuning and export, on tiny weights in a folder."""

import hashlib
import json

import jax
import numpy as np
import optax
import pytest
from helpers import fails

import jaxnets as jn
from jaxnets import InputError, cli
from jaxnets.commands import finetune
from jaxnets.data.fetching import Remote
from jaxnets.inference.similarity import most_similar, normalized
from jaxnets.weights import cards
from jaxnets.weights.cards import CARDS, Card
from jaxnets.weights.files import read_weights
from jaxnets.weights.hugging_face import from_config
from jaxnets.weights.layout import exported, imported, named_as_torch
from jaxnets.weights.safetensors_files import write_safetensors

tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is an extra")

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *["a", "an", "the", "good", "bad", "film", "story", "dull", "great", "cat", "dog", "is", "was", "not", "very"],
]
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}
TABLE = "".join(
    f"{'good great' if i % 2 else 'bad dull'} film {i % 3 * 'very '}\t{'+' if i % 2 else '-'}\n" for i in range(60)
)


def tokenizer():
    model = tokenizers.models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return made.to_str()


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Return the folder of tiny weights, whose name is "tiny" and whose place is the cache."""
    folder = tmp_path / "cache" / "weights" / "tiny"
    folder.mkdir(parents=True)
    network, layout = from_config(CONFIG, pool="mean", pooler=False)
    write_safetensors(folder / "model.safetensors", exported(layout, network.init(jax.random.key(0))))
    (folder / "tokenizer.json").write_text(tokenizer())
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    card = Card(
        summary="a tiny BERT of random numbers",
        kind="sentences",
        home="http://127.0.0.1:9/",
        revision="1",
        licence="CC0-1.0",
        size=1,
        files={name: Remote(f"http://127.0.0.1:9/{name}", digest) for name, digest in digests.items()},
        package="",
        weights="model.safetensors",
        config=CONFIG,
    )
    monkeypatch.setenv("JAXNETS_CACHE", str(tmp_path / "cache"))
    for module in (cards, finetune):
        monkeypatch.setattr(module, "CARDS", {**CARDS, "tiny": card})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.tsv").write_text(TABLE)
    return folder


class TestByName:
    def test_a_card_says_all_that_pins_the_bytes(self):
        for name, card in CARDS.items():
            assert card.weights in card.files, name
            assert all(len(remote.sha256) == 64 and remote.url.startswith("https://") for remote in card.files.values())
            assert card.licence and card.summary and card.size > 1e6
            assert (card.kind == "images") == bool(card.shape and card.mean and card.std)

    def test_what_it_returns_goes_on_as_it_was_saved(self, tiny):
        model = jn.pretrained("tiny")
        rows = model.prepare(["a good film", "dull"])
        assert rows.tolist() == [[2, 4, 7, 9, 3], [2, 11, 3, 0, 0]]
        outputs, _ = model.network.apply(model.params, model.model_state, rows)
        alone, _ = model.network.apply(model.params, model.model_state, rows[1:, :3])
        assert outputs.shape == (2, 16)
        np.testing.assert_allclose(outputs[1:], alone, atol=1e-6)  # padding counts for nothing
        assert model.prepare(["[SEP] a"]).tolist()[0][1] == 1  # text is text

    def test_old_files_of_bert_call_norms_as_tensorflow_does(self, tiny, tmp_path):
        tensors = read_weights(tiny / "model.safetensors")
        old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): array for name, array in tensors.items()}
        old = {f"bert.{name.replace('LayerNorm.bias', 'LayerNorm.beta')}": array for name, array in old.items()}
        write_safetensors(tmp_path / "old.safetensors", old)
        new, before = jn.pretrained("tiny").params, jn.pretrained("tiny", tmp_path / "old.safetensors").params
        jax.tree.map(np.testing.assert_array_equal, new, before)

    def test_a_new_head_leaves_the_rest(self, tiny):
        headed = jn.pretrained("tiny", out_features=3)
        assert not any(name.startswith("out/") for name in headed.params)
        learner = jn.supervised(headed.network, jn.losses.softmax_cross_entropy, optax.sgd(0.1))
        state = learner.init(jax.random.key(0), jn.Initial(headed.params))
        assert state.params["out"]["kernel"].shape == (16, 3)
        np.testing.assert_array_equal(
            state.params["blocks"][0]["attention"]["q"]["kernel"], headed.params["blocks/0/attention/q/kernel"]
        )

    def test_what_is_wrong_is_said(self, tiny, tmp_path):
        with pytest.raises(InputError, match=r"no weights 'minilmm' \(did you mean 'minilm'\?\); there are minilm"):
            jn.pretrained("minilmm")
        with pytest.raises(InputError, match="there is no such file or folder"):
            jn.pretrained("tiny", tmp_path / "nowhere")
        with pytest.raises(
            InputError, match=r"not weights in the layout of Hugging Face's BERT .*it lacks .*left over"
        ):
            write_safetensors(tmp_path / "other.safetensors", {"layer.weight": np.zeros(3, np.float32)})
            jn.pretrained("tiny", tmp_path / "other.safetensors")
        with pytest.raises(InputError, match=r"at this size: encoder.layer.2.bias would be left over"):
            more = {"encoder.layer.2.bias": np.zeros(3, np.float32)}
            write_safetensors(tmp_path / "more.safetensors", {**read_weights(tiny / "model.safetensors"), **more})
            jn.pretrained("tiny", tmp_path / "more.safetensors")
        (tmp_path / "tokenizer.json").write_text(tokenizer().replace('"very":18', '"very":18,"more":19'))
        (tmp_path / "model.safetensors").write_bytes((tiny / "model.safetensors").read_bytes())
        with pytest.raises(InputError, match="a tokenizer of 20 tokens, and the weights have 19; it is not theirs"):
            jn.pretrained("tiny", tmp_path)
        whole = (tiny / "model.safetensors").read_bytes()
        (tiny / "model.safetensors").write_bytes(whole[:-1] + b"x")
        with pytest.raises(InputError, match=r"its SHA-256 is .*, not the pinned"):
            jn.pretrained("tiny")
        (tiny / "model.safetensors").write_bytes(whole[:-9])
        with pytest.raises(InputError, match="cannot be read as a safetensors file"):
            jn.pretrained("tiny", tiny)
        (tiny / "model.safetensors").unlink()
        with pytest.raises(InputError, match=r"cannot fetch .*Put .* into .*--weights"):
            jn.pretrained("tiny")
        with pytest.raises(InputError, match="its file says what it is made of"):
            from jaxnets.weights.pretrained import architecture

            architecture("smollm2-135m")

    def test_a_folder_of_shards_has_its_own_tokenizer(self, tiny, tmp_path):
        tensors = read_weights(tiny / "model.safetensors")
        write_safetensors(tmp_path / "shard.safetensors", tensors)
        index = {"weight_map": dict.fromkeys(tensors, "shard.safetensors")}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        (tmp_path / "tokenizer.json").write_text(tokenizer().replace('"cat":13', '"car":13'))
        assert jn.pretrained("tiny", tmp_path).prepare(["a car"]).tolist() == [[2, 4, 13, 3]]

    def test_quantised_weights_are_refused(self, tiny, tmp_path):
        tensors = {name: (100 * x).astype(np.int8) for name, x in read_weights(tiny / "model.safetensors").items()}
        write_safetensors(tmp_path / "int8.safetensors", tensors)
        with pytest.raises(InputError, match=r"holds int8, and .* float32; quantised weights are not read"):
            jn.pretrained("tiny", tmp_path / "int8.safetensors")

    def test_the_command_lists_and_gets(self, tiny, capsys):
        assert cli.main(["pretrained", "ls"]) == 0
        printed = capsys.readouterr().out
        assert all(name in printed for name in CARDS) and "to be fetched" in printed
        assert cli.main(["pretrained", "get", "tiny", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["folder"] == str(tiny)
        assert "get needs a name" in fails(capsys, "pretrained", "get")
        assert "changes nothing with ls" in fails(capsys, "pretrained", "ls", "tiny")


class TestSearch:
    def test_the_nearest_are_exact(self):
        rows = np.random.default_rng(0).normal(size=(200, 7)).astype(np.float32)
        order, cosines = most_similar(rows, rows[3] * 5, 200)
        by_hand = [float(row @ rows[3] / np.linalg.norm(row) / np.linalg.norm(rows[3])) for row in rows]
        assert order[0] == 3 and sorted(order) == list(range(200))
        np.testing.assert_allclose(cosines, sorted(by_hand, reverse=True), atol=1e-6)
        assert most_similar(np.ones((4, 2)), np.ones(2), 9)[0].tolist() == [0, 1, 2, 3]  # of equals, the first
        assert not normalized(np.zeros((1, 3))).any()

    @pytest.mark.parametrize(
        ("rows", "query", "number", "message"),
        [
            (np.ones((3, 2)), np.ones(3), 1, r"embeddings of shape \(3, 2\) and a query of \(3,\)"),
            (np.ones((3, 2)), np.ones(2), 0, "number=0 must be a whole number"),
            (np.full((3, 2), np.nan), np.ones(2), 1, "not finite"),
        ],
    )
    def test_what_is_wrong_is_said(self, rows, query, number, message):
        with pytest.raises(InputError, match=message):
            most_similar(rows, query, number)

    def test_sentences_are_found_by_a_query(self, tiny, tmp_path, capsys):
        sentences = ["a good film", "the cat was bad", "a dull story", "the dog is not very great", "film"]
        (tmp_path / "s.txt").write_text("\n".join(sentences) + "\n\n")
        assert cli.main(["embed", "tiny", "--data", "s.txt", "--out", "e.npy"]) == 0
        rows = np.load(tmp_path / "e.npy")
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
        capsys.readouterr()
        assert cli.main(["search", "e.npy", "a dull story", "--number", "2", "--json"]) == 0
        hits = json.loads(capsys.readouterr().out)
        assert hits[0]["found"] == "a dull story" and hits[0]["cosine"] == pytest.approx(1, abs=1e-5) and len(hits) == 2
        (tmp_path / "e.json").write_text('{"weights": "tiny", "rows": ["one"]}')
        assert "does not describe the 5 embeddings" in fails(capsys, "search", "e.npy", "x")
        (tmp_path / "e.json").write_text('{"weights": "tiny", "place": null, "rows": []}')
        np.save(tmp_path / "f.npy", np.float32(1))
        assert "an array of shape (), not embeddings" in fails(capsys, "search", "f.npy", "x")
        assert "there is no folder" in fails(capsys, "embed", "tiny", "--data", "s.txt", "--out", "no/e.npy")
        assert "must be an .npy file" in fails(capsys, "embed", "tiny", "--data", "s.txt", "--out", "e.csv")


# At so high a rate that what was learned is told from what was not.
TRAIN = ["--data", "table.tsv", "--max-words", "16", "--duration", "6", "--evaluate-every", "6", "--batch-size", "8"]
TRAIN += ["--learning-rate", "0.1"]


@pytest.mark.slow
class TestFineTuning:
    """Commands, each way on tiny weights."""

    @pytest.mark.parametrize("flags", [[], ["--lora", "2"], ["--frozen-features"]], ids=["whole", "lora", "features"])
    def test_a_run_begins_from_weights_and_gives_them_back(self, flags, tiny, tmp_path, capsys):
        assert cli.main(["finetune", "tiny", *TRAIN, *flags, "--out", "run"]) == 0
        assert "weights of tiny: a tiny BERT of random numbers" in capsys.readouterr().out
        run = jn.open_run(tmp_path / "run")
        assert cli.main(["predict", "run", "a very good film", "--json"]) == 0
        probability = json.loads(capsys.readouterr().out)[0]
        for file in tiny.iterdir():  # they are not needed again
            file.rename(file.with_suffix(".gone"))
        assert cli.main(["export", "run", "--out", "run.safetensors"]) == 0
        written = read_weights(tmp_path / "run.safetensors")
        options = {"pool": "mean", "pooler": False, "out_features": 2}
        network, layout = from_config(CONFIG, **options)
        weights = imported(layout, written, jax.eval_shape(network.init, jax.random.key(0)))
        logits, _ = network.apply(*weights, np.array([[2, 4, 18, 7, 9, 3]]))
        expected = np.asarray(jax.nn.softmax(logits))[0]
        assert expected.max() == pytest.approx(probability["probability"], abs=1e-5)
        frozen = "lora" in str(flags) or "features" in str(flags)
        before = read_weights((tiny / "model.gone").rename(tiny / "x.safetensors"))
        name = "embeddings.word_embeddings.weight"
        same = np.array_equal(before[name], written[f"bert.{name}"])
        assert same == frozen
        assert run.result is not None and run.result["steps"] == 6

    def test_a_run_goes_on_with_other_data_and_a_new_head(self, tiny, tmp_path, capsys):
        assert cli.main(["finetune", "tiny", *TRAIN, "--out", "run"]) == 0
        assert "goes on with other data" in fails(capsys, "finetune", "run")
        lines = [f"{line[:-1]}{i % 3}" for i, line in enumerate(TABLE.splitlines())]
        (tmp_path / "three.tsv").write_text("\n".join(lines) + "\n")
        assert cli.main(["finetune", "run", "--data", "three.tsv", "--out", "next"]) == 0
        assert "weights of run, with a new head" in capsys.readouterr().out
        assert jn.open_run(tmp_path / "next").state.params["out"]["kernel"].shape == (16, 3)
        again = ["finetune", "next", "--data", "table.tsv", "--lora", "2", "--out"]  # and back, with adapters
        assert cli.main([*again, "lora"]) == 0
        assert jn.open_run(tmp_path / "lora").state.params["base"]["out"]["kernel"].shape == (16, 2)
        assert cli.main(["finetune", "lora", "--data", "three.tsv", "--out", "last"]) == 0  # all weights learn again
        assert "not of a run" in fails(capsys, "finetune", "next", "--data", "table.tsv", "--frozen-features")
        assert "training begins from next" in fails(
            capsys, "finetune", "next", "--data", "table.tsv", "--weights", str(tiny)
        )

    def test_what_is_wrong_is_said(self, tiny, capsys):
        assert "is neither the folder of a run nor pretrained weights" in fails(capsys, "finetune", "nothing")
        assert "whisper-tiny.en writes down speech; minilm" in fails(capsys, "finetune", "whisper-tiny.en")
        assert "needs data: --data PATH" in fails(capsys, "finetune", "smollm2-135m")
        assert "needs data: --data PATH" in fails(capsys, "finetune", "tiny")
        assert "max_words=2 must be 3 to 64" in fails(capsys, "finetune", "tiny", "--max-words", "2")
        assert "takes sentences, and these data are images" in fails(
            capsys, "train", "digits-cnn", "--model", "pretrained", "--pretrained", "minilm"
        )
        assert "matches no kernel" in fails(
            capsys, "finetune", "tiny", *TRAIN, "--lora", "2", "--lora-patterns", "**/bias"
        )
        assert "changes nothing with frozen_features" in fails(
            capsys, "finetune", "tiny", *TRAIN, "--lora", "2", "--frozen-features"
        )


def test_names_and_shapes_of_pytorch():
    tree = (
        {"hidden": {0: {"kernel": np.arange(6).reshape(2, 3), "bias": np.zeros(3)}}},
        {"norm": {"mean": np.ones(2)}},
    )
    found = named_as_torch(tree)
    assert {name: array.shape for name, array in found.items()} == {
        "hidden.0.weight": (3, 2),
        "hidden.0.bias": (3,),
        "norm.running_mean": (2,),
    }
    assert found["hidden.0.weight"].tolist() == [[0, 3], [1, 4], [2, 5]]
    image = named_as_torch(({"conv": {"kernel": np.zeros((5, 4, 3, 2))}},))
    assert image["conv.weight"].shape == (2, 3, 5, 4)
