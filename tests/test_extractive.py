"""Answers that stand in a text: SQuAD's format, windows of long texts, the best span, and SQuAD's scores."""

import json
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import fails
from pretrained import given, needs

import jaxnets as jn
from jaxnets import cli
from jaxnets.data.spans import Answer, Asked, as_spans, hold_out, read_asked, span_parts
from jaxnets.data.stories import Question
from jaxnets.errors import InputError
from jaxnets.inference.spans import best_spans
from jaxnets.learners.spans import span_logits
from jaxnets.metrics import compute
from jaxnets.metrics.spans import answer_exact_match, answer_f1, span_accuracy, span_f1
from jaxnets.models import bert
from jaxnets.options import SpanData
from jaxnets.tasks.span_baselines import baselines
from jaxnets.tasks.span_plots import save_spans
from jaxnets.weights.transformers import question_answering_layout

pytest.importorskip("tokenizers", reason="needs tokenizers: pip install -e '.[translation]'")

from jaxnets.data.span_windows import Windows, encode_windows, label_windows
from jaxnets.data.subwords import encode_with_places, learn_wordpieces

CITIES = ["Oslo", "Lima", "Quito", "Cairo", "Accra", "Delhi", "Osaka", "Turin"]
FILLING = [
    "the",
    "old",
    "man",
    "walked",
    "slowly",
    "along",
    "a",
    "river",
    "and",
    "thought",
    "about",
    "nothing",
    "at",
    "all",
]


def squad(*articles: tuple[str, list[tuple[str, list[dict[str, Any]]]]]) -> dict[str, Any]:
    """Return SQuAD's object of articles: a title, and contexts with their questions."""
    return {
        "version": "1.1",
        "data": [
            {"title": title, "paragraphs": [{"context": context, "qas": qas} for context, qas in paragraphs]}
            for title, paragraphs in articles
        ],
    }


def asks(name: str, question: str, *answers: tuple[str, Any], **more: Any) -> dict[str, Any]:
    told = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": name, "question": question, "answers": told, **more}


def places(number: int, seed: int, share: float = 0.0, length: int = 8) -> dict[str, Any]:
    """Return questions for the city that a text names; a share of the texts names none."""
    draw = random.Random(seed)
    paragraphs = []
    for i in range(number):
        words = draw.choices(FILLING, k=length)
        if draw.random() < share:
            paragraphs.append((" ".join(words), [asks(f"q{i}", "Where was it?", is_impossible=True)]))
            continue
        at = draw.randrange(length)
        words[at] = draw.choice(CITIES)
        context = " ".join(words) + "."
        paragraphs.append((context, [asks(f"q{i}", "Where was it?", (words[at], context.index(words[at])))]))
    return squad(("walks", paragraphs))


def write(path: Path, found: Any) -> Path:
    path.write_text(json.dumps(found))
    return path


def test_files_of_both_versions(tmp_path):
    tea = "Tea is hot. Çay is Turkish."
    found = squad(
        ("Tea", [(tea, [asks("1", "What is hot?", ("Tea", 0), ("tea", 0)), asks("2", "Who?", is_impossible=True)])]),
        ("None", []),
    )
    found["data"][0]["paragraphs"][0]["qas"][1]["plausible_answers"] = [{"text": "hot", "answer_start": 7}]
    first, second = read_asked(write(tmp_path / "a.json", found))
    assert first == Asked("1", "What is hot?", tea, (Answer("Tea", 0), Answer("tea", 0)), "Tea")
    assert first.placed == [Answer("Tea", 0)] and second.answers == ()
    bare = {"data": [{"paragraphs": [{"context": tea, "qas": [{"question": "Why?"}, {"question": "Who?"}]}]}]}
    assert [one.name for one in read_asked(write(tmp_path / "b.json", bare), answered=False)] == ["0", "1"]


CONTEXT = "Mary went home."
GOOD = asks("7", "Where?", ("home", 10))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no JSON"),
        ("[]", 'has no list "data", as SQuAD has it'),
        ('{"data": 3}', 'has no list "data"'),
        ('{"data": []}', "holds no questions"),
        ('{"data": [{"title": "x"}]}', r"data\[0\] has no list 'paragraphs'"),
        (squad(("x", [(" ", [GOOD])])), r"data\[0\]\.paragraphs\[0\] has no 'context', a text that is not empty"),
        (squad(("x", [("\ud800", [GOOD])])), "its 'context' holds half of a character"),
        (squad(("x", [(CONTEXT, [{"question": "Who?"}])])), r"qas\[0\] has no id"),
        (squad(("x", [(CONTEXT, [asks("7", "Why?")])])), "question 7 has no answer; give one, or is_impossible: true"),
        (squad(("x", [(CONTEXT, [asks("7", "", ("home", 10))])])), "question 7 has no 'question'"),
        (squad(("x", [(CONTEXT, [asks("7", "Where?", ("", 10))])])), "question 7: an answer has no 'text'"),
        (squad(("x", [(CONTEXT, [asks("7", "Where?", ("home", None))])])), "'home' has no answer_start"),
        (squad(("x", [(CONTEXT, [GOOD, GOOD])])), "the id '7' occurs twice"),
    ],
)
def test_files_that_lack_something(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_asked(path)


def test_parts_of_folders_and_of_one_file(tmp_path, capsys):
    for name, seed in (("train-v1.1", 0), ("dev-v1.1", 1)):
        write(tmp_path / f"{name}.json", places(20, seed))
    assert {part: len(found) for part, found in span_parts(tmp_path).items()} == {"train": 20, "test": 20}
    loaded = SpanData(str(tmp_path)).load()  # fewer than ten articles: texts are held out
    assert {part: len(found) for part, found in loaded.items()} == {"train": 18, "test": 20, "validation": 2}
    write(tmp_path / "test.json", places(5, 2))
    assert {part: len(found) for part, found in span_parts(tmp_path).items()} == {
        "train": 20, "test": 5, "validation": 20,
    }  # fmt: skip
    write(tmp_path / "train_more.json", places(5, 2))
    with pytest.raises(InputError, match=r"train-v1\.1\.json and train_more\.json are both of train"):
        span_parts(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "holds no train and no test file" in fails(capsys, "train", "extractive", "--data", tmp_path / "empty")
    one = write(tmp_path / "one.json", squad(("x", [(CONTEXT, [GOOD])])))
    assert "all 1 questions are about one text" in fails(capsys, "train", "extractive", "--data", one)


def test_articles_or_texts_are_held_out_whole():
    of_articles = [Asked(f"{i}", "?", f"text {i}", (), f"article {i // 3}") for i in range(60)]
    of_texts = [Asked(f"{i}", "?", f"text {i // 3}", (), "one") for i in range(60)]
    for questions, key in ((of_articles, "title"), (of_texts, "context")):
        rest, held = hold_out(questions, 0.2)
        assert Counter([*rest, *held]) == Counter(questions) and 10 <= len(held) <= 15
        assert not {getattr(one, key) for one in rest} & {getattr(one, key) for one in held}


def test_stories_as_spans():
    facts = ("Mary went home.", "John has home.", "Mary left homes.")
    where = Question(facts, "Where is Mary?", "home", (0,), 3, "qa1")
    elsewhere = Question(facts, "What has John?", "home", (), 3, "qa1")
    yes = Question(facts, "Is Mary home?", "yes", (), 0, "qa2")
    found = as_spans({"train": [where, elsewhere, yes], "test": [where]})
    first, second = found["train"]
    assert first.context == " ".join(facts) and first.title == "qa1 3" and len(found["test"]) == 1
    assert [one.placed for one in (first, second)] == [[Answer("home", 10)], [Answer("home", 25)]]
    with pytest.raises(InputError, match="there is no task in which every answer is a word"):
        as_spans({"train": [yes]})
    with pytest.raises(InputError, match="test: 'yes' is no word of the story"):
        as_spans({"train": [where], "test": [yes._replace(task="qa1")]})


WORDS = ["Zürich", "a", "naïve", "naive", "word,", "U.S.", "日本", "😀", "don't", "  ", "1869", "[SEP]", "e\u0301t"]
TOKENIZER = learn_wordpieces([" ".join(WORDS), "who is there?"] * 3, 200)


def test_tokenizers_of_the_same_texts_are_the_same():
    assert learn_wordpieces([" ".join(WORDS), "who is there?"] * 3, 200) == TOKENIZER
    tokens, places = encode_with_places(["Naïve, naives"], TOKENIZER)[0]
    assert [tokens[0], places.tolist()] == [tokens[2], [[0, 5], [5, 6], [7, 12], [12, 13]]]
    with pytest.raises(InputError, match=r"a vocabulary of 20 has no room for words.*larger --vocabulary"):
        learn_wordpieces(WORDS, 20)


@pytest.mark.parametrize("seed", range(5))
def test_windows_cover_their_texts_and_labels_are_the_answers(seed):
    draw = random.Random(seed)
    questions = []
    for i in range(20):
        words = [*draw.choices(WORDS, k=draw.randrange(1, 40)), "end"]
        context = " ".join(words)
        low = draw.randrange(len(words))
        text = " ".join(words[low : low + draw.randrange(1, 3)]).strip()
        start = len(" ".join(words[:low])) + (low > 0)
        start += len(context[start:]) - len(context[start:].lstrip()) if text else 0
        questions.append(Asked(f"{i}", "who is there?", context, (Answer(text, start),) if text else ()))
    windows = encode_windows(questions, TOKENIZER, 24, 9)
    found = label_windows(questions, windows)
    assert not found.misplaced and not found.within
    for number, one in enumerate(questions):
        rows = np.flatnonzero(windows.question == number)
        stretches = [range(f, f + c) for f, c in zip(windows.first[rows], windows.length[rows], strict=True)]
        assert {token for stretch in stretches for token in stretch} == set(range(len(windows.places[number])))
        assert all(len({*a} & {*b}) == 9 for a, b in pairwise(stretches))
        ids, spans = encode_with_places([one.context], TOKENIZER)[0]
        np.testing.assert_array_equal(spans, windows.places[number])
        pointed = []
        for row, stretch in zip(rows, stretches, strict=True):
            at, tokens = windows.at[row], windows.tokens[row]
            assert tokens[at : at + len(stretch)].tolist() == [ids[token] for token in stretch]
            assert tokens[[0, at - 1, at + len(stretch)]].tolist() == [2, 3, 3] and (tokens == 3).sum() == 2
            first, last = found.labels[row]
            if first > 0:
                begin, end = stretch[first - at], stretch[last - at]
                pointed.append(one.context[spans[begin, 0] : spans[end, 1]])
        assert pointed or not one.answers
        assert set(pointed) <= {answer.text for answer in one.answers}


def test_answers_that_cannot_be_pointed_at_are_named():
    text = "one two three four five six seven eight nine ten"
    tokenizer = learn_wordpieces([text, "who?"], 200)

    def asked(name: str, *answers: tuple[str, int]) -> Asked:
        return Asked(name, "who?", text, tuple(Answer(*answer) for answer in answers))

    questions = [
        asked("right", ("nowhere", 3), ("two", 4)),
        asked("wrong", ("two", 5)),
        asked("outside", ("two", 500)),
        asked("long", ("two three four five six", 4)),
        asked("within", ("wo thre", 5)),
        asked("none"),
    ]
    windows = encode_windows(questions, tokenizer, 9, 2)  # four words of a text in each
    found = label_windows(questions, windows)
    assert (found.misplaced, found.cut, found.within) == (["wrong", "outside"], ["long"], ["within"])
    rows = {one.name: found.labels[windows.question == number].tolist() for number, one in enumerate(questions)}
    assert rows["right"] == [[5, 5], [0, 0], [0, 0], [0, 0]] and rows["within"][0] == [5, 6]
    assert rows["none"] == [[0, 0]] * 4 and rows["long"] == rows["wrong"] == [[-1, -1]] * 4
    with pytest.raises(
        InputError, match=r"question right has 2 tokens: rows of max_tokens=9 leave room for 4 .*larger"
    ):
        encode_windows(questions, tokenizer, 9, 4)
    with pytest.raises(InputError, match="its context '\\\\u200b' has no words"):
        encode_windows([Asked("odd", "who?", "\u200b")], tokenizer, 9, 2)


@pytest.mark.parametrize("or_none", [True, False])
def test_the_best_span_is_that_of_a_search_over_all(or_none):
    draw = np.random.default_rng(0)
    contexts = ["".join("abcdefghijklmnopqrstuvwxyz"[:n]) for n in (7, 26)]
    places = [np.stack([np.arange(n), np.arange(n) + 1], 1) for n in (7, 26)]
    windows = Windows(
        np.zeros((4, 16), np.int32),
        np.array([0, 1, 1, 1]), np.array([0, 0, 8, 16]), np.array([7, 12, 12, 10]), np.array([3, 4, 4, 4]), places,
    )  # fmt: skip
    for _ in range(50):
        chances = draw.dirichlet(np.full(16, 0.3), (4, 2)).astype(np.float32)
        found = best_spans(chances, windows, contexts, 3, or_none=or_none)
        for number, span in enumerate(found):
            rows = np.flatnonzero(windows.question == number)
            every = [
                (chances[row, 0, windows.at[row] + i] * chances[row, 1, windows.at[row] + j], windows.first[row], i, j)
                for row in rows
                for i in range(windows.length[row])
                for j in range(i, min(i + 3, windows.length[row]))
            ]
            best, first, i, j = max(every)
            none = min(chances[row, 0, 0] * chances[row, 1, 0] for row in rows)
            if or_none and none > best:
                assert span[:4] == ("", pytest.approx(none), -1, -1)
            else:
                text = contexts[number][first + i : first + j + 1]
                assert span[:4] == (text, pytest.approx(best, rel=1e-5), first + i, first + j + 1)


def by_the_definition(answer: str, golds: list[str]) -> tuple[float, float]:
    """Return SQuAD's exact match and F1, by its description: letter by letter, and words crossed out one by one."""

    def cleaned(text: str) -> list[str]:
        kept = "".join(letter for letter in text.lower() if letter not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
        return [word for word in re.split(r"\s+", kept) if word not in ("", "a", "an", "the")]

    exact = f1 = 0.0
    for gold in [gold for gold in golds if cleaned(gold)] or [""]:
        ours, theirs = cleaned(answer), cleaned(gold)
        exact = max(exact, float(ours == theirs))
        left, shared = list(theirs), 0
        for word in ours:
            if word in left:
                left.remove(word)
                shared += 1
        if not ours or not theirs:
            f1 = max(f1, float(ours == theirs))
        elif shared:
            precision, recall = shared / len(ours), shared / len(theirs)
            f1 = max(f1, 2 * precision * recall / (precision + recall))
    return exact, f1


def test_scores_are_those_of_the_definition():
    assert answer_exact_match("The  Eiffel-Tower!", ["eiffeltower", "Paris"]) == 1
    assert answer_f1("in the old town", ["old town of Bern"]) == pytest.approx(2 * 2 / (3 + 4))
    assert answer_f1("", []) == 1 and answer_f1("Bern", []) == 0 and answer_f1("", ["Bern"]) == 0
    draw = random.Random(0)
    words = ["the", "a", "The", "Bern,", "Bern", "old", "town.", "an", "!", "U.S.", "us", " ", "théâtre", "\n"]
    for _ in range(2000):
        answer, *golds = [" ".join(draw.choices(words, k=draw.randrange(5))) for _ in range(draw.randrange(1, 5))]
        exact, f1 = by_the_definition(answer, golds)
        assert answer_exact_match(answer, golds) == exact, (answer, golds)
        assert answer_f1(answer, golds) == pytest.approx(f1), (answer, golds)


def test_metrics_of_positions_are_those_of_sets():
    draw = np.random.default_rng(0)
    outputs = draw.normal(size=(40, 2, 6)).astype(np.float32)
    labels = np.sort(draw.integers(0, 6, (40, 2)), 1).astype(np.int32)
    mask = draw.random(40) < 0.7
    exact, f1 = [], []
    for logits, (low, high) in zip(outputs, labels, strict=True):
        first, last = logits.argmax(-1)
        found, true = set(range(first, last + 1)), set(range(low, high + 1))
        exact.append(float((first, last) == (low, high)))
        f1.append(2 * len(found & true) / (len(found) + len(true)))
    metrics = {"exact": span_accuracy, "f1": span_f1}
    sums = {
        name: metric.measure(jnp.asarray(outputs), jnp.asarray(labels), jnp.asarray(mask))
        for name, metric in metrics.items()
    }
    made = compute(metrics, jax.device_get(sums))
    assert made == {
        "exact": pytest.approx(np.mean(np.array(exact)[mask])),
        "f1": pytest.approx(np.array(f1)[mask].mean()),
    }
    with pytest.raises(InputError, match=r"spans are \[B, 2\] and their logits \[B, 2, T\], not"):
        span_f1.measure(jnp.zeros((2, 6)), jnp.zeros(2, jnp.int32), None)


def small_bert(**options: Any) -> jn.Network:
    return jn.network(bert, 30, 16, 2, 2, 2, max_length=12, pool=None, pooler=False, **options)


ROWS = np.array([[2, 7, 8, 3, 9, 10, 11, 3, 0, 0], [2, 5, 3, 6, 7, 8, 9, 10, 11, 3]], np.int32)


def test_there_is_no_probability_elsewhere_than_in_the_text():
    network = span_logits(small_bert(), 3)
    params, model_state = network.init(jax.random.key(0))
    logits, _ = jax.jit(network.apply)(params, model_state, jnp.asarray(ROWS))
    assert logits.shape == (2, 2, 10)
    may = np.zeros((2, 10), bool)
    may[:, 0] = may[0, 4:7] = may[1, 3:9] = True
    np.testing.assert_array_equal(np.asarray(jax.nn.softmax(logits, -1) > 0), np.repeat(may[:, None], 2, 1))

    @jax.jit
    def loss(params: Any) -> jax.Array:
        logits, _ = network.apply(params, model_state, jnp.asarray(ROWS))
        return jn.losses.softmax_cross_entropy(logits, jnp.array([[4, 5], [0, 0]])).mean()

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(loss)(params)))


@pytest.mark.slow
def test_logits_are_those_of_transformers():
    torch, transformers = needs()
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=12,
    )  # fmt: skip
    theirs = transformers.BertForQuestionAnswering(config).eval()
    network = small_bert()
    params = given(network, question_answering_layout(2), {k: v.numpy() for k, v in theirs.state_dict().items()})
    logits, _ = span_logits(network, 3).apply(params, {}, jnp.asarray(ROWS))
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        tokens = torch.tensor(ROWS).long()
        wanted = theirs(tokens, attention_mask=(tokens != 0).long(), token_type_ids=segments)
    for row, columns in ((0, [0, 4, 5, 6]), (1, [0, 3, 4, 5, 6, 7, 8])):
        ours = np.asarray(logits)[row][:, columns]
        np.testing.assert_allclose(ours[0], wanted.start_logits[row, columns], atol=1e-5)
        np.testing.assert_allclose(ours[1], wanted.end_logits[row, columns], atol=1e-5)


def test_simple_rules():
    train = [Asked("1", "?", "x", (Answer("Old Town", 0), Answer("Bern", 0)))]
    asked = [
        Asked("2", "Where did Mary go?", "John stayed. Mary did go to Bern. She saw the old town. It rained."),
        Asked("3", "Who?", "nothing here"),
    ]
    assert baselines(train, asked) == {
        "likest_sentence": ["Mary did go to Bern.", "nothing here"],
        "last_mentioned": ["old town", ""],
    }


def test_the_picture_draws_any_text(tmp_path):
    context = "It cost $5, or $6_x, in 東京."
    asked = [Asked("1", "How $much$?", context, (Answer("$5", 8),)), Asked("2", "Why?", context)]
    windows = encode_windows(asked, learn_wordpieces([context, "how much? why?"], 200), 20, 4)
    chances = np.full((*windows.tokens.shape[:1], 2, 20), 0.05, np.float32)
    found = best_spans(chances, windows, [context] * 2, 3, or_none=False)
    save_spans(tmp_path / "spans.png", [0, 1], found, chances, windows, asked)
    assert (tmp_path / "spans.png").stat().st_size > 10_000


SMALL = [
    "--num-layers", "1", "--model-dim", "32", "--num-heads", "2", "--max-tokens", "20", "--overlap", "6",
    "--duration", "150", "--evaluate-every", "75", "--batch-size", "32", "--learning-rate", "3e-3", "--dropout", "0",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small run on texts, longer than a window, of which some have no answer."""
    folder = tmp_path_factory.mktemp("spans")
    write(folder / "train.json", places(400, 0, 0.3, 24))
    write(folder / "dev.json", places(60, 1, 0.3, 24))
    command = ["train", "extractive-scratch", "--data", folder, "--out", folder / "run", *SMALL]
    assert cli.main([str(part) for part in command]) == 0
    return folder / "run"


@pytest.mark.slow
def test_a_run_answers_and_its_scores_are_those_of_its_predictions(run):
    given = json.loads((run / "predictions.json").read_text())
    asked = read_asked(run.parent / "dev.json")
    scores = [by_the_definition(given[one.name], [answer.text for answer in one.answers]) for one in asked]
    metrics = json.loads((run / "result.json").read_text())["metrics"]
    for name, column in (("exact_match", 0), ("f1", 1)):
        every = np.array([score[column] for score in scores])
        has = np.array([bool(one.answers) for one in asked])
        assert metrics[f"test/{name}"]["mean"] == pytest.approx(every.mean())
        assert metrics[f"test/{name}_of_answered"]["mean"] == pytest.approx(every[has].mean())
        assert every.mean() > 0.9
    assert metrics["test/accuracy_of_unanswerable"]["mean"] > 0.9
    assert (run / "spans.png").stat().st_size > 10_000


@pytest.mark.slow
def test_predict_answers_files_and_texts(run, tmp_path, capsys):
    words = FILLING * 6
    words[50] = "Quito"
    text = " ".join(words)
    (tmp_path / "walk.txt").write_text(text)
    bare = squad(("x", [(text, [{"question": "Where was it?"}]), ("a river", [{"question": "Where was it?"}])]))
    write(tmp_path / "asked.json", bare)
    capsys.readouterr()
    ask = ["--question", "Where was it?", "--json"]
    rows = []
    for arguments in ([tmp_path / "walk.txt", *ask], [text, *ask], [tmp_path / "asked.json", "--json"]):
        assert cli.main([str(part) for part in ("predict", run, *arguments)]) == 0
        rows.append(json.loads(capsys.readouterr().out))
    assert [len(found) for found in rows] == [1, 1, 2]
    for first in (found[0] for found in rows):
        assert first["answer"] == "Quito" == text[first["from"] : first["to"]] and 0.5 < first["probability"] <= 1
        assert "[Quito]" in first["there"]
    assert rows[2][1] | {"probability": 0} == {
        "text": str(tmp_path / "asked.json"), "question": "Where was it?", "answer": "", "probability": 0,
        "from": -1, "to": -1, "there": "no answer",
    }  # fmt: skip
    for arguments, message in (
        ([], "nothing is given; give a JSON file"),
        ([text], "is a text, and nothing is asked; use --question"),
        ([text, "--question", " "], "' ' is empty; give a text and a question"),
        ([tmp_path / "asked.json", "--question", "Why?"], "has questions of its own; leave --question out"),
    ):
        assert message in fails(capsys, "predict", run, *arguments)


def test_what_cannot_be_asked_for(tmp_path, capsys):
    wrong = places(30, 0)
    for paragraph in wrong["data"][0]["paragraphs"]:
        paragraph["qas"][0]["answers"][0]["answer_start"] += 1
    path = write(tmp_path / "wrong.json", wrong)
    message = fails(capsys, "train", "extractive-scratch", "--data", path, "--duration", "30")
    assert "questions left out, each has an answer that does not stand at its answer_start" in message
    assert "no question is left; answer_start is the character" in message
    frozen = ["--data", path, "--frozen-features"]
    assert "a span needs one of each token; use --lora" in fails(capsys, "train", "extractive", *frozen)
    overlap = ["--data", path, "--overlap", "400"]
    assert "overlap=400 must be less than max_tokens=384" in fails(capsys, "train", "extractive-scratch", *overlap)
    wide = ["--data", path, "--max-tokens", "513"]
    assert "max_tokens=513 must be 8 to 512" in fails(capsys, "train", "extractive", *wide)
