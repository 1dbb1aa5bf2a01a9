"""Questions about stories: bAbI's format, stories as rows of tokens, and the network that looks into them."""

import dataclasses
import os
import zipfile
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import fails
from small import FAKES, load_small_data, smaller

import jaxnets as jn
from jaxnets.data import stories
from jaxnets.data.stories import Question, encode_stories, last_stories, read_questions, story_parts, story_vocabulary
from jaxnets.errors import InputError
from jaxnets.models import Attended, MemoryNetwork
from jaxnets.tasks.task import Trained

TEXT = """1 Mary moved to the hall.
2 John went home.
3 Where is Mary? \thall\t1
4 Mary got the milk.
5 What is Mary carrying?\tmilk,apple\t4 2
1 Rex is green.
2 Is Rex green?\tyes\t1
"""


def test_line_numbers_begin_a_story_and_answers_may_be_lists():
    first, second, third = read_questions(TEXT, "a.txt", "qa8")
    assert first == Question(("Mary moved to the hall.", "John went home."), "Where is Mary?", "hall", (0,), 0, "qa8")
    assert second.facts == (*first.facts, "Mary got the milk.")
    assert second.answer == "milk,apple" and second.supporting == (1, 2)
    assert third == Question(("Rex is green.",), "Is Rex green?", "yes", (0,), 1, "qa8")
    (asked,) = read_questions("1 Rex is green.\n2 Is Rex green?", "a.txt", answered=False)
    assert asked.answer == "" and asked.facts == ("Rex is green.",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no questions"),
        ("Mary went home.", "line 1 is no NUMBER SENTENCE"),
        ("1 Mary went home.\n2 ", "line 2 is no NUMBER SENTENCE"),
        ("1 Where is Mary?\thome\t1", "line 1 asks before a fact is told"),
        ("1 Mary went home.\n2 Where is Mary?\t\t1", "line 2 is a question without an answer"),
        ("1 Mary went home.\n2 John left.", "holds no questions"),
    ],
)
def test_lines_of_another_form(text, message):
    with pytest.raises(InputError, match=rf"a\.txt: {message}"):
        read_questions(text, "a.txt")


def write(folder: Path, names=("qa2_b_train", "qa10_c_train", "qa2_b_test", "qa10_c_test")) -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.txt").write_text(TEXT)
    return folder


def test_folders_and_zip_files_and_what_they_lack(tmp_path, monkeypatch, capsys):
    parts = story_parts(write(tmp_path / "en"))
    assert {part: [question.task for question in found] for part, found in parts.items()} == {
        part: ["qa2_b"] * 3 + ["qa10_c"] * 3 for part in ("train", "test")
    }
    with zipfile.ZipFile(tmp_path / "babi-en.zip", "w") as archive:
        for file in (tmp_path / "en").iterdir():
            archive.write(file, f"en/{file.name}")
    assert story_parts(tmp_path / "babi-en.zip") == parts == stories.babi(tmp_path)
    with pytest.raises(InputError, match=r"holds no files \*_test\.txt"):
        story_parts(write(tmp_path / "half", ["qa1_a_train", "qa1_a_valid"]))
    (tmp_path / "en" / "qa2_b_test.txt").write_bytes(b"\xff\xfe1 ")
    with pytest.raises(InputError, match=r"qa2_b_test\.txt.*UTF-16"):
        story_parts(tmp_path / "en")
    monkeypatch.setenv("JAXNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXNETS_DATA", raising=False)
    assert "no babi-en.zip and no folder en in" in fails(capsys, "train", "babi", "--duration", "1")


def test_whole_stories_are_held_out():
    found = [Question(("a",), "b?", "c", (), story // 3, task) for task in ("x", "y") for story in range(30)]
    rest, held = last_stories(found, 0.2)
    for task in ("x", "y"):
        of_rest, of_held = ({q.story for q in part if q.task == task} for part in (rest, held))
        assert of_rest == set(range(8)) and of_held == {8, 9}
    assert Counter([*rest, *held]) == Counter(found)
    with pytest.raises(InputError, match="task x has one story"):
        last_stories(found[:3], 0.2)


def test_rows_hold_the_question_and_the_newest_facts():
    found = read_questions(TEXT, "a.txt")
    vocabulary = story_vocabulary(found)
    assert vocabulary[:2] == ("<padding>", "<unknown>") and "." not in vocabulary
    rows, lengths = encode_stories(found, vocabulary, 2, 6)
    told = [" ".join(vocabulary[token] for token in sentence if token) for sentence in rows[1].reshape(3, 6)]
    assert told == ["what is mary carrying", "mary got the milk", "john went home"]  # the oldest fact is left out
    assert lengths.tolist() == [18, 18, 12] and rows.dtype == np.int32 and not rows[2, 12:].any()
    with pytest.raises(InputError, match=r"'Mary moved to the hall\.' has 5 words; 1 to 4 are taken; use a larger"):
        encode_stories(found, vocabulary, 2, 4)


def test_real_babi_against_its_lines():
    """The format's rules are written anew here."""
    folder = os.environ.get("JAXNETS_DATA")
    if not folder or not (Path(folder) / "babi-en.zip").exists():
        pytest.skip("needs bAbI: JAXNETS_DATA names no folder with babi-en.zip")
    with zipfile.ZipFile(Path(folder) / "babi-en.zip") as archive:
        name = "en/qa8_lists-sets_test.txt"
        lines = archive.read(name).decode().splitlines()
        found = read_questions("\n".join(lines), name)
    expected, facts = [], {}
    for line in lines:
        number, rest = line.split(" ", 1)
        facts = {} if number == "1" else facts
        if "\t" in rest:
            text, answer, supports = rest.split("\t")
            order = list(facts)
            supporting = tuple(sorted({order.index(n) for n in supports.split()}))
            expected.append((tuple(facts.values()), text.strip(), answer, supporting))
        else:
            facts[number] = rest
    assert [(q.facts, q.text, q.answer, q.supporting) for q in found] == expected and len(found) == 1000


def network(**options):
    return jn.network(MemoryNetwork, 7, 8, 2, 2, 3, max_facts=4, max_words=3, **options)


def tokens(rows=2):
    found = np.random.default_rng(0).integers(1, 7, (rows, 15)).astype(np.int32)
    found[0, 9:] = 0
    found[1, 5] = 0
    return found


def in_numpy(params, row, hops):
    """Return the logits of one row, by loops over facts and heads."""

    def dense(p, x):
        return x @ p["kernel"] + p.get("bias", 0)

    def norm(p, x):
        return (x - x.mean()) / np.sqrt(x.var() + 1e-6) * p["scale"] + p["bias"]

    table = params["embed"]["embedding"]

    def sentence(words, positions):
        return sum(
            (table[word] * positions["embedding"][i] for i, word in enumerate(words) if word), np.zeros(table.shape[1])
        )

    sentences = row.reshape(-1, 3)
    x = sentence(sentences[0], params["positions_of_question"])
    facts = [
        sentence(words, params["positions"]) + params["ages"]["embedding"][age]
        for age, words in enumerate(sentences[1:])
        if words.any()
    ]
    look = params["looks"]
    look = look[0] if 0 in look else look["0"]
    for hop in range(hops):
        x = x + params["hops"]["embedding"][hop]
        q, read = dense(look["q"], norm(look["norm"], x)), []
        normed = [norm(look["norm_of_facts"], fact) for fact in facts]
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            scores = np.array([dense(look["k"], fact)[part] @ q[part] / 2 for fact in normed])
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            read.append(sum(w * dense(look["v"], fact)[part] for w, fact in zip(weights, normed, strict=True)))
        x = x + dense(look["out"], np.concatenate(read))
        x = x + dense(look["back"], np.maximum(dense(look["hidden"], norm(look["norm_of_dense"], x)), 0))
    return dense(params["out"], norm(params["norm"], x))


@pytest.mark.slow
def test_the_network_is_that_of_loops():
    net, rows = network(), tokens()
    params, state = net.init(jax.random.key(0))
    apply = jax.jit(net.apply)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), params)
    (logits, weights), _ = apply(params, state, Attended(rows))
    plain = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    np.testing.assert_allclose(logits, [in_numpy(plain, row, 2) for row in rows], atol=1e-5)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert weights.shape == (2, 2, 4) and not weights[0, :, 2:].any()
    np.testing.assert_allclose(apply(params, state, rows[:1, :9])[0], logits[:1], atol=1e-6)  # without the padding


@pytest.mark.slow
def test_noise_is_of_training_and_moves_ages():
    net, rows = network(noise=0.5), tokens()
    params, state = net.init(jax.random.key(0))
    drawn = [net.apply(params, state, rows, train=True, key=jax.random.key(i))[0] for i in range(3)]
    assert len({np.asarray(logits).tobytes() for logits in drawn}) > 1
    np.testing.assert_array_equal(net.apply(params, state, rows)[0], network().apply(params, state, rows)[0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((2, 7), np.int32), r"a row is a question and 1 to 4 facts of 3 tokens"),
        (np.ones((2, 18), np.int32), r"\[B, 6\.\.15\]"),
        (np.full((2, 6), 9, np.int32), "outside the vocabulary"),
        (np.zeros((2, 6), np.int32), "nothing but padding"),
    ],
)
def test_rows_that_the_network_does_not_take(rows, message):
    with pytest.raises(InputError, match=message):
        network().check(rows)


@pytest.mark.slow
def test_errors_by_task_and_what_predict_says(tmp_path, monkeypatch):
    """A network learns small stories; its errors and supporting facts are counted here question by question."""
    load_small_data(monkeypatch)
    recipe = smaller("babi", "4ep", evaluate_every="4ep")
    config = dataclasses.replace(recipe.config, model_dim=32, num_hops=2, noise=0.0)
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, learning_rate=1e-2))
    recipe = recipe._replace(config=config)
    splits = recipe.load(config)
    learner = recipe.learner(splits.train.spec)
    state = jn.fit(learner, splits.train, duration=60, batch_size=16, progress=False).state
    task, trained = recipe.task(splits.train.spec, learner), Trained(learner, [state])
    found = task.finish(trained, splits, tmp_path)
    questions = FAKES["babi"]["test"]
    logits, weights = jax.jit(learner.predict)(state, Attended(splits.test["inputs"]))
    wrong, recalled = {}, []
    for question, row, looks in zip(questions, np.asarray(logits), np.asarray(weights), strict=True):
        answer = splits.train.classes[row.argmax()]
        wrong.setdefault(question.task, []).append(answer != question.answer)
        tops = {question.facts[::-1][look.argmax()] for look in looks}
        recalled.append(question.facts[question.supporting[0]] in tops)
    errors = [np.mean(of_task) for of_task in wrong.values()]
    assert found.metrics["test/mean_error_of_tasks"] == pytest.approx([np.mean(errors)])
    assert [found.metrics[f"test/error_of_qa{i}"][0] for i in (1, 2)] == pytest.approx(errors)
    assert found.metrics["test/supporting_facts_found"] == pytest.approx([np.mean(recalled)])
    assert found.metrics["test/failed_tasks"] == [sum(error > 0.05 for error in errors)] and np.mean(errors) < 0.05
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("tasks.png", "attention.png"))
    (tmp_path / "asked.txt").write_text("1 Mary went to the hall.\n2 John went to the garden.\n3 Where is John?")
    given = ["Mary went to the garden. John went to the hall. Where is Mary?", str(tmp_path / "asked.txt")]
    examples = task.read(given, None)
    rows = task.rows(examples, task.predict(trained, examples))
    assert [row["answer"] for row in rows] == ["garden", "garden"]
    assert rows[0]["question"] == "Where is Mary?" and rows[0]["attended to"].endswith("%)")
    assert task.read(["Zoe went home. Where is Zoe?"], None).names[0]["unknown words"] == "zoe home"
    for text in ("Mary went home.", "Where is Mary?", "Where is Mary? She is out.", ""):
        with pytest.raises(InputError, match="is no story with a question"):
            task.read([text], None)
