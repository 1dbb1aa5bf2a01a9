"""Texts of one's own with labels: how files are read, several labels a text, and the words that speak for a class."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import fails
from sklearn.metrics import f1_score

from jaxnets import cli
from jaxnets.data.labelled_texts import label_names, label_rows, read_texts, text_parts
from jaxnets.data.tokens import Sentences
from jaxnets.errors import InputError
from jaxnets.metrics.labels import exact_match, label_f1
from jaxnets.options import SentenceData
from jaxnets.tasks.sentences import WordOptions, explained
from jaxnets.tasks.task import Examples, Task, one_row_each

TWO = Sentences(["a fine film, truly", "a bad one"], ["good", "poor"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,text,label\n1,"a fine film, truly",good\n2,a bad one,poor\n'),
        ("a.csv", "Review;Class\na fine film, truly;good\na bad one;poor\n"),
        ("a.tsv", "a fine film, truly\tgood\na bad one\tpoor\n"),
        ("a.jsonl", '{"text": "a fine film, truly", "label": "good"}\n\n{"text": "a bad\\n one", "label": "poor"}\n'),
    ],
)
def test_files_of_one_label_a_text(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_texts(tmp_path / name) == TWO


def test_columns_can_be_named(tmp_path):
    (tmp_path / "a.csv").write_text("words,kind,text\na fine film,good,x\na bad one,poor,y\n")
    found = read_texts(tmp_path / "a.csv", text="words", label="kind")
    assert found == Sentences(["a fine film", "a bad one"], ["good", "poor"])
    (tmp_path / "a.tsv").write_text("words\tkind\na fine film\tgood\n")
    assert read_texts(tmp_path / "a.tsv", text="words", label="kind").labels == ["good"]
    (tmp_path / "a.jsonl").write_text('{"q": "a fine film", "a": 3}')
    assert read_texts(tmp_path / "a.jsonl", text="q", label="a").labels == ["3"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "words,label\na film,good\n", "which column has the texts\\? use --text-column; it has words, label"),
        ("a.csv", "text,kind\na film,good\n", "which column has the labels\\? use --label-column"),
        ("a.csv", "text,label\n,good\n", "row 2 has no text"),
        ("a.csv", "text,label\na film,\n", "row 2 has no label"),
        ("a.jsonl", "", "holds no lines of objects"),
        ("a.jsonl", "[1]\n", "line 1 is no object"),
        ("a.jsonl", "{\n", "line 1 is no JSON"),
        ("a.jsonl", '{"text": "a", "label": "b"}\n{"text": "a"}\n', "line 2 has no 'label'"),
        ("a.jsonl", '{"text": "a", "label": null}\n', "line 1 has no label"),
        ("a.jsonl", '{"text": "a", "label": ["b", "c"]}\n', "line 1 has a list of labels; use --several"),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_texts(tmp_path / name)


def test_folders(tmp_path):
    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    write("by class/poor/1.txt", "a bad\none\n")
    write("by class/good/1.txt", "a fine film, truly")
    assert text_parts(tmp_path / "by class") == {"train": Sentences(*map(list, (TWO.texts, TWO.labels)))}
    for part in ("train", "test"):
        write(f"parts/{part}/good/1.txt", "fine")
        write(f"parts/{part}/poor/1.txt", "bad")
    both = Sentences(["fine", "bad"], ["good", "poor"])
    assert text_parts(tmp_path / "parts") == {"train": both, "test": both}
    write("files/train.csv", "text,label\nfine,good\n")
    write("files/dev.csv", "text,label\nbad,poor\n")
    assert {part: found.labels for part, found in text_parts(tmp_path / "files").items()} == {
        "train": ["good"],
        "validation": ["poor"],
    }
    write("loose/1.txt", "fine")
    write("empty/good/1.txt", " ")
    write("none/notes.md", "fine")
    for name, message in (("loose", "lies in no folder of a class"), ("empty", "no text"), ("none", "holds no train")):
        with pytest.raises(InputError, match=message):
            text_parts(tmp_path / name)


def test_several_labels(tmp_path):
    lines = [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": []}, {"text": "c", "label": "y"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read_texts(tmp_path / "a.jsonl", several=";")
    assert found.labels == ["x;y", "", "y"]
    names = label_names(found.labels, ";")
    assert names == ("x", "y") and label_rows(found.labels, ";", names).tolist() == [[1, 1], [0, 0], [0, 1]]
    with pytest.raises(InputError, match="the label 'z' is none of the training texts'"):
        label_rows(["x; z"], ";", names)
    with pytest.raises(InputError, match="no text has a label"):
        label_names(["", " ; "], ";")
    (tmp_path / "b.jsonl").write_text('{"text": "a", "label": ["x;y"]}')
    with pytest.raises(InputError, match="the label 'x;y' holds ';'"):
        read_texts(tmp_path / "b.jsonl", several=";")


def test_metrics_of_several_labels_are_scikit_learns():
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(50, 4)).astype(np.float32), draw.integers(0, 2, (50, 4)).astype(np.float32)
    labels[:, 3], logits[:, 3] = 0, -1  # never said, never so
    mask = draw.integers(0, 2, 50)
    for weights, kept in ((None, slice(None)), (jnp.asarray(mask), mask == 1)):
        found = label_f1().compute(label_f1().measure(jnp.asarray(logits), jnp.asarray(labels), weights))
        said = logits[kept] > 0
        for name, average in (("f1", "micro"), ("macro_f1", "macro")):
            wanted = f1_score(labels[kept], said, average=average, zero_division=0)
            np.testing.assert_allclose(found[name], wanted, atol=1e-12)
        exact = exact_match.compute(exact_match.measure(jnp.asarray(logits), jnp.asarray(labels), weights))
        np.testing.assert_allclose(exact, (said == (labels[kept] > 0)).all(1).mean(), atol=1e-7)
    with pytest.raises(InputError, match="several labels an example"):
        label_f1().measure(jnp.zeros((3, 2)), jnp.zeros(3), None)


def test_words_that_speak_for_a_class_are_those_without_which_it_is_less_likely():
    weights = {"fine": 2.0, "film": 0.5, "bad": -3.0}

    def read(given, options):
        return Examples([{"sentence": text} for text in given], list(given))

    def predict(trained, examples):
        scores = np.array([sum(weights.get(word, 0) for word in text.split()) for text in examples.inputs])
        good = 1 / (1 + np.exp(-scores))
        return np.stack([good, 1 - good], 1)

    task = explained(Task(read=read, predict=predict, rows=lambda e, made: one_row_each(e, [{}] * len(made))))
    examples = task.read(["a fine film", "a bad fine film", "fine"], WordOptions(because=2))
    first, second, third = (row["because"] for row in task.rows(examples, task.predict(None, examples)))
    chance = [1 / (1 + np.exp(-score)) for score in (2.5, 0.5, 2.0)]
    assert first == f"fine ({chance[0] - chance[1]:+.3f}), film ({chance[0] - chance[2]:+.3f})"
    assert second.startswith("bad (+") and "," not in second  # the others speak against it
    assert third == ""  # nothing is left without it
    examples = task.read(["a fine film"], task.options)
    assert task.rows(examples, task.predict(None, examples)) == [{"sentence": "a fine film"}]
    with pytest.raises(InputError, match="because=-1"):
        WordOptions(because=-1)


def test_sst2_keeps_its_own_columns(tmp_path, capsys):
    assert "several=';' is for files of one's own" in fails(capsys, "train", "text", "--several", ";")
    (tmp_path / "a.csv").write_text("text,label\n" + "a fine film,good\na bad one,poor\n" * 20)
    flags = ["--data", tmp_path / "a.csv", "--several", ";", "--class-weights", "balanced"]
    assert "class_weights are of classes" in fails(capsys, "train", "text", *flags)
    parts = SentenceData(str(tmp_path / "a.csv")).load()
    assert {part: sorted(set(found.labels)) for part, found in parts.items()} == {
        part: ["good", "poor"] for part in ("train", "validation", "test")
    }
    assert [len(found.labels) for found in parts.values()] == [28, 8, 4]


@pytest.mark.slow
def test_a_run_on_texts_with_several_labels(tmp_path, capsys):
    draw = np.random.default_rng(0)
    lines = []
    for _ in range(300):
        words = [str(word) for word in draw.choice(["red", "blue", "tea", "sun", "car", "map"], 5)]
        lines.append(json.dumps({"text": " ".join(words), "tags": [word for word in ("red", "tea") if word in words]}))
    Path(tmp_path / "a.jsonl").write_text("\n".join(lines))
    small = ["--hidden", "16", "--embedding", "8", "--dropout", "0", "--word-dropout", "0", "--max-words", "8"]
    flags = ["--duration", "12ep", "--learning-rate", "2e-2", "--batch-size", "20", "--patience", "None"]
    run = tmp_path / "run"
    train = ["train", "text", "--data", str(tmp_path / "a.jsonl"), "--several", ";", *small, *flags, "--out", str(run)]
    assert cli.main(train) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["metrics"]["test/f1"]["mean"] > 0.95 and result["metrics"]["test/exact_match"]["mean"] > 0.9
    assert result["metrics"]["test/f1_of_label_1"]["mean"] > 0.95
    capsys.readouterr()
    assert cli.main(["predict", str(run), "sun red map map", "map sun", "--because", "1", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["labels"].startswith("red (") and first["because"].startswith("red (+")
    assert second["labels"].startswith("none (next ")
