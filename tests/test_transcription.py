"""Transcription: rules and segments beside the official script's, written anew; a tiny Whisper from file to text."""

import json
import math
import struct
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import fails
from weight_files import ctranslate2

import jaxnets as jn
from jaxnets import InputError, cli
from jaxnets.data.sound import resampled
from jaxnets.inference import transcription
from jaxnets.inference.transcription import Rules, allowed, rules_of, transcribe
from jaxnets.models import SourceTarget
from jaxnets.models.whisper import sound_frames
from jaxnets.nn.spectrogram import whisper_log_mel
from jaxnets.parameters import paths
from jaxnets.weights import cards
from jaxnets.weights.cards import CARDS
from jaxnets.weights.hugging_face import from_config
from jaxnets.weights.layout import exported
from jaxnets.weights.pretrained import Pretrained
from jaxnets.weights.safetensors_files import write_safetensors
from jaxnets.weights.whisper import ctranslate2_layout

# Tokens 0 to 9 are text, 10 the end, 11 the start, 12 no speech, 13 no timestamps, 14 to 22 timestamps.
RULES = Rules(10, 11, 13, 12, (3, 11, 12), (0, 10))
RNG = np.random.default_rng(0)


def official(written: list[int], logits: np.ndarray, stamped: bool, latest: int) -> np.ndarray:
    """Return logits as Whisper's own filters leave them: SuppressBlank, SuppressTokens and ApplyTimestampRules."""
    logits, begin, end = logits.copy(), RULES.stamps, RULES.end
    if not written:
        logits[list(RULES.suppressed_first)] = -np.inf
    logits[list(RULES.suppressed)] = -np.inf
    if not stamped:
        return logits
    logits[RULES.no_timestamps] = -np.inf
    last = len(written) >= 1 and written[-1] >= begin
    penultimate = len(written) < 2 or written[-2] >= begin
    if last and penultimate:
        logits[begin:] = -np.inf
    elif last:
        logits[:end] = -np.inf
    stamps = [token for token in written if token >= begin]
    if stamps:
        logits[begin : stamps[-1] if last and not penultimate else stamps[-1] + 1] = -np.inf
    if not written:
        logits[:begin] = -np.inf
        logits[begin + latest + 1 :] = -np.inf
    logs = logits - np.logaddexp.reduce(logits)
    if np.logaddexp.reduce(logs[begin:]) > logs[:begin].max():
        logits[:begin] = -np.inf
    return logits


@pytest.mark.parametrize("stamped", [False, True])
def test_rules_are_those_of_the_official_script(stamped, monkeypatch):
    monkeypatch.setattr(transcription, "_LATEST_START", 3)
    apply = jax.jit(lambda *args: allowed(RULES, stamped, *args))
    for draw in range(60):
        written: list[int] = []
        length = 8
        while len(written) < length:
            logits = (3 * RNG.normal(size=23)).astype(np.float32)
            wanted = official(written, logits, stamped, 3)
            filled = jnp.asarray([*written, *[10] * (length - len(written))])
            got = np.asarray(apply(filled, jnp.int32(len(written)), jnp.asarray(logits)))
            np.testing.assert_array_equal(got, wanted, err_msg=f"{draw}: after {written}")
            if not np.isfinite(wanted).any():
                break
            token = int(np.argmax(wanted + RNG.gumbel(size=23)))
            if token == RULES.end:
                break
            written.append(token)


S = RULES.stamps


@pytest.mark.parametrize(
    ("tokens", "pieces", "advance"),
    [
        ([1, 2], [(0, 16, [1, 2])], 16),  # no timestamps at all
        ([], [(0, 16, [])], 16),
        ([S, 1, S + 3], [(0, 6, [S, 1, S + 3])], 16),  # one segment, and nothing after it
        ([S, 1, 2], [(0, 16, [S, 1, 2])], 16),  # it does not end
        ([S, 1, S + 3, S + 3, 2], [(0, 6, [S, 1, S + 3])], 6),  # the second goes on in the next window
        ([S, 1, S + 3, S + 4, 2, S + 7], [(0, 6, [S, 1, S + 3]), (8, 14, [S + 4, 2, S + 7])], 16),
        ([S, 1, S + 3, S + 4, 2, S + 5, S + 5], [(0, 6, [S, 1, S + 3]), (8, 10, [S + 4, 2, S + 5])], 10),
    ],
)
def test_segments_end_where_their_timestamps_say(tokens, pieces, advance):
    assert transcription._pieces(tokens, RULES, 16) == (pieces, advance)


@pytest.mark.parametrize("length", [300, 2560, 5000, 7777])
def test_frames_are_those_of_the_whole_sound(length):
    """Computed a window of 16 frames at a time, they are what one transform of the sound with its silence gives."""
    samples = RNG.normal(size=length).astype(np.float32) * np.linspace(0, 1, length, dtype=np.float32)
    total = math.ceil(length / 160)
    padded = np.zeros((total + 16 + 2) * 160, np.float32)
    padded[:length] = samples
    wanted = np.asarray(whisper_log_mel(jnp.asarray(padded), 8))[: total + 16]
    got = sound_frames(samples, 16, 8)
    assert got.shape == (total + 16, 8)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is an extra")
SPECIAL = ["endoftext", "startoftranscript", "startofprev", "nocaptions", "notimestamps"]
CONFIG = {
    "model_type": "whisper",
    "vocab_size": 256 + len(SPECIAL) + 9,  # 8 positions and one timestamp more
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "num_mel_bins": 8,
    "max_source_positions": 8,
    "max_target_positions": 12,
}


def tokenizer() -> str:
    model = tokenizers.models.BPE({word: i for i, word in enumerate(alphabet())}, [])
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens([f"<|{name}|>" for name in SPECIAL])
    return made.to_str()


def alphabet() -> list[str]:
    return sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())


@pytest.fixture(scope="module")
def model() -> Pretrained:
    """Return a tiny Whisper of random numbers."""
    made, layout = from_config(CONFIG)
    draw = np.random.default_rng(3)
    like, _ = jax.eval_shape(made.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.float32(0.5 * draw.normal(size=leaf.shape)), like)
    for side in ("encoder", "decoder"):  # those that Whisper has not, and which change nothing
        for path, leaf in paths(params[side]).items():
            leaf[:] *= not path.endswith("k/bias")
    card = CARDS["whisper-tiny.en"]._replace(config=CONFIG)
    return Pretrained(card, made, params, {}, tokenizer(), layout)


def test_rules_of_a_tokenizer(model):
    rules = rules_of(model.tokenizer, CONFIG["vocab_size"], 8)
    assert rules[:4] == (256, 257, 260, 259) and rules.stamps == 261
    letters = alphabet()
    signs = {letters.index(sign) for sign in '"#()*+/:;<=>@[\\]^_`{|}~'}
    assert {258, 259, 257} | signs <= set(rules.suppressed)
    assert not {letters.index(sign) for sign in "a.,?!$%&"} & set(rules.suppressed)
    assert rules.suppressed_first == (letters.index("Ġ"), 256)
    with pytest.raises(InputError, match=r"a Whisper of 271 tokens, whose tokenizer has 270"):
        rules_of(model.tokenizer, 271, 8)
    with pytest.raises(InputError, match="lacks Whisper's special tokens"):
        rules_of(model.tokenizer.replace("startoftranscript", "start"), 270, 8)


def by_hand(model: Pretrained, samples: np.ndarray) -> list[tuple[float, float, list[int]]]:
    """Return windows' segments by the whole sequence, computed anew for each token, the likeliest each time."""
    rules = rules_of(model.tokenizer, CONFIG["vocab_size"], 8)
    frames, total = sound_frames(samples, 16, 8), math.ceil(len(samples) / 160)
    apply = jax.jit(lambda source, target: model.network.apply(model.params, {}, SourceTarget(source, target))[0])
    at, found = 0, []
    while at < total:
        written: list[int] = []
        while len(written) < 11:
            target = jnp.asarray([[rules.start, *written, *[0] * (11 - len(written))]])
            logits = apply(jnp.asarray(frames[None, at : at + 16]), target)[0, len(written)]
            filled = jnp.asarray([*written, *[rules.end] * (11 - len(written))])
            token = int(jnp.argmax(allowed(rules, True, filled, jnp.int32(len(written)), logits)))
            if token == rules.end:
                break
            written.append(token)
        pieces, advance = transcription._pieces(written, rules, min(16, total - at))
        found += [(at + start, at + end, said) for start, end, said in pieces]
        at += advance
    return found


@pytest.mark.slow
def test_windows_follow_each_other_as_by_hand(model):
    samples = RNG.normal(size=160 * 50).astype(np.float32)
    rules = rules_of(model.tokenizer, CONFIG["vocab_size"], 8)
    wanted = []
    for start, end, said in by_hand(model, samples):
        text = tokenizers.Tokenizer.from_str(model.tokenizer).decode([t for t in said if t < rules.end]).strip()
        if text:
            wanted.append((start / 100, min(end, 50) / 100, text))
    got = [segment[:3] for segment in transcribe(model, samples, timestamps=True, no_speech=1.0)]
    assert len(got) > 1 and got == wanted
    wide = list(transcribe(model, samples[:2560], num_beams=4, no_speech=1.0))
    narrow = list(transcribe(model, samples[:2560], no_speech=1.0))
    assert wide[0].log_prob >= narrow[0].log_prob - 1e-5 and wide[0][:2] == (0.0, 0.16)


@pytest.mark.slow
def test_a_window_of_no_speech_has_no_text(model):
    samples = RNG.normal(size=2000).astype(np.float32)
    (said,) = transcribe(model, samples, no_speech=1.0)
    likely = said.no_speech - 1e-6
    assert list(transcribe(model, samples, no_speech=likely, least_log_prob=said.log_prob + 1e-6)) == []
    assert len(list(transcribe(model, samples, no_speech=likely, least_log_prob=said.log_prob - 1e-6))) == 1


def test_what_is_wrong_is_said(model):
    for samples in (np.zeros((2, 3)), np.zeros(0), np.zeros(3, int), np.array([np.nan])):
        with pytest.raises(InputError, match="are no sound; give finite floats"):
            list(transcribe(model, samples))
    with pytest.raises(InputError, match="num_beams=0"):
        list(transcribe(model, np.zeros(9), num_beams=0))
    with pytest.raises(InputError, match="of sentences transcribes nothing"):
        list(transcribe(model._replace(card=CARDS["minilm"]), np.zeros(9)))
    with pytest.raises(InputError, match="no features of a whole"):
        _ = model.body


def stored(model: Pretrained) -> Mapping[str, np.ndarray]:
    """Return a network's weights as CTranslate2 has them, by its own names, in 16 bits."""
    tensors = exported(ctranslate2_layout(1, 1), (model.params, {}))
    numbers = {"decoder/activation": 3, "decoder/pre_norm": 1, "decoder/alibi": 0}
    return (
        {name: np.array(number, "i1") for name, number in numbers.items()}
        | {f"{side}/num_heads": np.array(2, "<i2") for side in ("encoder", "decoder")}
        | {name: array.astype("<f2") for name, array in tensors.items()}
    )


HEAD = {"decoder/projection/weight": "decoder/embeddings/weight"}


class TestFiles:
    @pytest.fixture
    def tiny(self, model, monkeypatch, tmp_path):
        """Return a folder of the tiny Whisper's weights, which are those of whisper-tiny.en."""
        monkeypatch.setattr(cards, "CARDS", {**CARDS, "whisper-tiny.en": model.card})
        monkeypatch.setenv("JAXNETS_CACHE", str(tmp_path / "cache"))
        folder = tmp_path / "weights"
        folder.mkdir()
        (folder / "tokenizer.json").write_text(model.tokenizer)
        (folder / "model.bin").write_bytes(ctranslate2(stored(model), HEAD))
        return folder

    def test_both_kinds_of_files_hold_the_same(self, tiny, model, tmp_path):
        read = jn.pretrained("whisper-tiny.en", tiny)
        halves = jax.tree.map(lambda array: np.float32(np.float16(array)), model.params)
        jax.tree.map(np.testing.assert_array_equal, read.params, halves)
        hub = {name: array.astype("<f2") for name, array in exported(model.layout, (model.params, {})).items()}
        assert not any("k_proj.bias" in name for name in hub)
        hub["proj_out.weight"] = hub["model.decoder.embed_tokens.weight"]
        write_safetensors(tiny / "model.safetensors", hub)
        again = jn.pretrained("whisper-tiny.en", tiny / "model.safetensors")
        jax.tree.map(np.testing.assert_array_equal, again.params, halves)
        shapes = jax.eval_shape(read.network.init, jax.random.key(0))
        assert shapes == jax.eval_shape(again.network.init, jax.random.key(0))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"decoder/pre_norm": np.array(0, "i1")}, "decoder/pre_norm is 0; a Whisper has 1"),
            ({"decoder/num_heads": np.array(4, "<i2")}, r"numbers of heads \[2, 4\]"),
            ({"encoder/conv1/weight": np.ones((16, 8), "<f2")}, "encoder/conv1/weight, of 3 axes, is not there"),
            ({"encoder/layer_7/ffn/linear_0/bias": np.ones(24, "<f2")}, "it lacks encoder/layer_1"),
            ({"encoder/extra": np.ones(2, "<f2")}, "encoder/extra would be left over"),
            ({"encoder/conv1/bias": np.ones(15, "<f2")}, r"gives encoder/conv1/bias the shape \[15\], not \[16\]"),
            ({"encoder/conv1/bias": np.ones(16, "i1")}, "quantised weights are not read without their scales"),
            ({"decoder/projection/weight": np.ones((270, 16), "<f2")}, "decoder/projection/weight would be left over"),
            ({f"encoder/layer_{i}/a/b": np.ones(1, "<f2") for i in range(99)}, "encoder has 99 layers; 1 to 64"),
        ],
    )
    def test_what_does_not_fit_is_said(self, tiny, model, change, message):
        (tiny / "model.bin").write_bytes(ctranslate2({**stored(model), **change}))
        with pytest.raises(InputError, match=message):
            jn.pretrained("whisper-tiny.en", tiny)

    @pytest.mark.slow
    def test_the_command(self, tiny, tmp_path, capsys):
        def wav(name: str, samples: np.ndarray, rate: int = 8000) -> str:
            content = (32767 * samples).astype("<i2").tobytes()
            header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(content), b"WAVE", b"fmt ", 16, 1, 1,
                                 rate, 2 * rate, 2, 16, b"data", len(content))  # fmt: skip
            (tmp_path / name).write_bytes(header + content)
            return str(tmp_path / name)

        samples = 0.1 * RNG.normal(size=4000).clip(-3, 3)
        one = wav("a.wav", samples)
        given = ["--weights", str(tiny)]
        said = list(transcribe(jn.pretrained("whisper-tiny.en", tiny), heard(samples), timestamps=True))
        assert cli.main(["transcribe", one, *given, "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["seconds"] == 0.5 and printed["text"] == " ".join(segment.text for segment in said)
        assert [segment["start"] for segment in printed["segments"]] == [segment.start for segment in said]
        assert cli.main(["transcribe", one, *given, "--timestamps", "--beam", "2"]) == 0
        assert capsys.readouterr().out.startswith("[00:00.")
        for name, arguments in {
            "there is no such file": [str(tmp_path / "none.wav"), *given],
            "is silent": [wav("silent.wav", np.zeros(99)), *given],
            "tokenizer.json": [str(tiny / "tokenizer.json"), *given],
            "beam=0 must be from 1 to 32": [one, *given, "--beam", "0"],
            "there is no such file or folder": [one, "--weights", str(tmp_path / "no")],
        }.items():
            assert name in fails(capsys, "transcribe", *arguments)


def heard(samples: np.ndarray) -> np.ndarray:
    stored = (32767 * samples).astype("<i2").astype(np.float32) / np.float32(32768)
    return resampled(stored, 8000, 16000)
