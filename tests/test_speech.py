"""Recordings of speech, what is heard of them, and what CTC makes of it: against sums over all paths, and by hand."""

import itertools
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import fails, wav
from scipy.special import log_softmax
from small import recordings

import jaxnets as jn
from jaxnets import losses
from jaxnets.data import augment_sound
from jaxnets.data.speech import PADDING, filled_up, fsdd, joined, transcribed, whole_numbers, words_in_folders
from jaxnets.errors import InputError
from jaxnets.inference.ctc import aligned, greedy, prefix_beam
from jaxnets.metrics import ctc_tokens, token_error_rate
from jaxnets.models import BothWays, Conformer, Listener, TimeConvs
from jaxnets.tasks.speech import Said, _heard, _in_words

DRAW = np.random.default_rng(0)
TONE = np.sin(np.arange(1600) * 0.3) * 0.5


def collapsed(path):
    return tuple(token for token, _ in itertools.groupby(path) if token)


def over_paths(logits):
    """Return the logarithm of the probability of every sequence, and its likeliest path, by a look at all paths."""
    logs = log_softmax(logits.astype(np.float64), axis=-1)
    sums, best = {}, {}
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        score, tokens = sum(logs[t, token] for t, token in enumerate(path)), collapsed(path)
        sums[tokens] = np.logaddexp(sums.get(tokens, -np.inf), score)
        if score > best.get(tokens, (-np.inf,))[0]:
            best[tokens] = score, path
    return sums, best


CASES = [DRAW.normal(size=(length, classes)) * 2 for length, classes in [(5, 4), (1, 3), (6, 3), (4, 5)]]


@pytest.mark.parametrize("logits", CASES, ids=lambda logits: str(logits.shape))
def test_beams_and_alignments_are_those_of_all_paths(logits):
    sums, best = over_paths(logits)
    found = prefix_beam(logits, 10_000)
    assert {h.tokens for h in found} == set(sums)
    np.testing.assert_allclose([h.log_probability for h in found], [sums[h.tokens] for h in found], atol=1e-6)
    assert [h.log_probability for h in found] == sorted((h.log_probability for h in found), reverse=True)
    assert greedy(logits) == collapsed(logits.argmax(1))
    for tokens, (_, path) in best.items():
        runs = [(token, len(list(run))) for token, run in itertools.groupby(path)]
        ends = np.cumsum([length for _, length in runs])
        wanted = [(token, end - length, end) for (token, length), end in zip(runs, ends, strict=True) if token]
        assert [tuple(one) for one in aligned(logits, tokens)] == wanted


def test_a_beam_finds_what_the_best_path_does_not():
    """Where two paths of one sequence outweigh a single likelier one."""
    logits = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
    assert greedy(logits) == () and prefix_beam(logits, 4)[0].tokens == (1,)
    np.testing.assert_allclose(np.exp(prefix_beam(logits, 4)[0].log_probability), 0.64, atol=1e-12)


def test_tokens_that_have_no_room():
    assert losses.ctc_frames((1, 1, 2)) == 4
    with pytest.raises(InputError, match="3 tokens need 4 frames, and there are 3"):
        aligned(np.zeros((3, 3)), (1, 1, 2))
    with pytest.raises(InputError, match="logits of shape"):
        greedy(np.zeros((0, 3)))


def test_the_loss_is_that_of_all_paths_and_padding_costs_nothing():
    logits = DRAW.normal(size=(3, 5, 4)).astype(np.float32)
    labels = np.array([[1, 2, 0], [3, 3, 0], [2, 0, 0]])
    wanted = [-over_paths(row)[0][tuple(tokens[tokens > 0])] for row, tokens in zip(logits, labels, strict=True)]
    certain = np.tile(np.array([0, -1e4, -1e4, -1e4], np.float32), (3, 2, 1))
    with jax.numpy_dtype_promotion("strict"):
        found = jax.jit(losses.ctc)(np.concatenate([logits, certain], 1), labels)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    theirs = torch.nn.functional.ctc_loss(
        torch.log_softmax(torch.tensor(logits), -1).swapaxes(0, 1),
        torch.tensor(labels),
        torch.full((3,), 5),
        torch.tensor((labels > 0).sum(1)),
        reduction="none",
    )
    np.testing.assert_allclose(found, theirs.numpy(), rtol=1e-5)


def test_the_loss_refuses_other_shapes():
    with pytest.raises(InputError, match="ctc: logits of shape"):
        losses.ctc(jnp.zeros((2, 3)), jnp.zeros((2, 3), jnp.int32))
    with pytest.raises(InputError, match=r"outside 0\.\.3"):
        losses.check_labels(losses.ctc, jax.ShapeDtypeStruct((2, 5, 4), jnp.float32), np.array([[4, 0]]))


def test_error_rates_of_the_best_path():
    logits = DRAW.normal(size=(20, 12, 5)).astype(np.float32)
    labels = np.where(np.arange(6) < DRAW.integers(1, 7, (20, 1)), DRAW.integers(1, 5, (20, 6)), 0)
    metric = token_error_rate(ctc_tokens)
    found = metric.compute(metric.measure(jnp.asarray(logits), jnp.asarray(labels), None))
    texts, wanted = (
        [" ".join(map(str, t)) for t in rows] for rows in (map(greedy, logits), (r[r > 0] for r in labels))
    )
    np.testing.assert_allclose(found, jn.metrics.word_error_rate(texts, wanted), rtol=1e-6)
    try:
        import jiwer
    except ImportError:
        return
    np.testing.assert_allclose(found, jiwer.wer(wanted, texts), rtol=1e-6)
    characters = jn.metrics.character_error_rate(texts, wanted)
    np.testing.assert_allclose(characters, jiwer.cer(wanted, texts), rtol=1e-6)


ENCODERS = {
    "convolutions": partial(TimeConvs, widths=(6, 5)),
    "gru": partial(BothWays, widths=(4,)),
    "conformer": partial(Conformer, model_dim=8, num_layers=1, num_heads=2),
}


WHOLE = [("gru", True), ("convolutions", True), ("conformer", True), ("gru", False)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", WHOLE, ids=str)
def test_what_fills_up_changes_nothing(kind):
    """Neither outputs, trained or not, nor batch statistics."""
    encoder, framewise = kind
    options = {"num_mels": 16, "padding": PADDING, "framewise": framewise}
    network = jn.network(Listener, 3, 4000, ENCODERS[encoder], (4, "pool", 6), **options)
    params, state = network.init(jax.random.key(0))
    samples = (3000 * DRAW.normal(size=(2, 1700))).astype(np.int16)
    samples[1, 990:] = PADDING
    apply = jax.jit(partial(network.apply, key=jax.random.key(1)), static_argnames="train")
    longer = np.pad(samples, ((0, 0), (0, 640)), constant_values=PADDING)
    for train in (False, True):
        outputs, after = apply(params, state, samples, train=train)
        others, same = apply(params, state, longer, train=train)
        frames = outputs.shape[1] if framewise else None
        np.testing.assert_allclose(outputs, others[:, :frames], atol=2e-5)
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), after, same)
        if framewise:
            assert (others[:, frames:].argmax(-1) == 0).all()
    alone, _ = apply(params, state, samples[1:, :990])
    of_both, _ = apply(params, state, samples)
    np.testing.assert_allclose(alone[0], of_both[1, : alone.shape[1]] if framewise else of_both[1], atol=2e-5)


def test_batch_statistics_are_those_of_what_counts():
    from jaxnets.models.listener import FrameConv

    network = jn.network(FrameConv, 2, 3, (1,))

    def call(x, mask):
        return network.apply(params, state, {"x": x, "mask": mask}, train=True)

    params, state = network.init(jax.random.key(0))
    x, mask = DRAW.normal(size=(2, 6, 2)).astype(np.float32), np.arange(6) < np.array([[6], [2]])
    made = (x @ np.asarray(params["conv"]["kernel"])[0])[mask]
    outputs, after = call(x, mask)
    np.testing.assert_allclose(after["norm"]["mean"], 0.1 * made.mean(0), atol=1e-6)
    np.testing.assert_allclose(after["norm"]["var"], 0.9 + 0.1 * made.var(0), atol=1e-6)
    normal = (made - made.mean(0)) / np.sqrt(made.var(0) + 1e-5)
    np.testing.assert_allclose(np.asarray(outputs)[mask], np.maximum(normal, 0), atol=1e-5)
    assert not np.asarray(outputs)[~mask].any()


def test_a_rooms_noise_below_the_dynamic_range_is_not_heard():
    random, time = np.random.default_rng(0), np.arange(2000) / 4000
    word = np.where(time < 0.25, 0.5 * np.sin(2 * np.pi * 500 * time), 0.0).astype(np.float32)[None]
    hiss = (1e-4 * random.normal(size=word.shape)).astype(np.float32)  # 70 dB below, and less in each band

    def away(**options):
        network = jn.network(Listener, 3, 4000, ENCODERS["convolutions"], (4, "pool"), num_mels=16, **options)
        params, state = network.init(jax.random.key(0))
        quiet, noisy = (network.apply(params, state, samples)[0] for samples in (word, word + hiss))
        return np.abs(quiet - noisy).max()

    assert away(dynamic_range=40.0) < 1e-3 and away() > 0.05


def test_recordings_that_are_too_short_are_refused_before_anything_compiles():
    network = jn.network(Listener, 3, 4000, ENCODERS["gru"], (4, "pool"), num_mels=16, padding=PADDING)
    with pytest.raises(InputError, match=r"row 1 is 70 samples long \(0\.018 s\); give 80 or more"):
        network.check(filled_up([np.zeros(100, np.int16), np.zeros(70, np.int16)]))


def test_stretches_of_the_spectrogram_are_blanked_in_training_alone():
    from jaxnets.models.listener import SpecAugment

    class Both(jn.models.MLP):
        def __init__(self, *, rngs):
            super().__init__(1, (), 1, rngs=rngs)
            self.blank = SpecAugment(0.3, 4)

        def __call__(self, inputs, *, rngs=None):
            return self.blank(inputs, jnp.arange(inputs.shape[1])[None] < jnp.array([[20], [10]]), rngs)

    network = jn.network(Both)
    params, state = network.init(jax.random.key(0))
    x, blanked = jnp.ones((2, 20, 12)), []
    apply = jax.jit(lambda i: network.apply(params, state, x, train=True, key=jax.random.key(i))[0])
    for i in range(20):
        found = np.asarray(apply(i))
        assert set(np.unique(found)) <= {0.0, 1.0}
        frames, bands = (found == 0).all(2), (found == 0).all(1)
        assert (frames.sum(1) <= [12, 6]).all() and not frames[1, 10:].any() and (bands.sum(1) <= 8).all()
        blanked.append([frames.sum(), bands.sum()])
    assert (np.array(blanked).mean(0) > 2).all()
    assert (network.apply(params, state, x)[0] == x).all()


def test_speed_and_noise():
    rows = filled_up([whole_numbers(TONE), whole_numbers(TONE[:700])], 2000)
    play = jax.jit(augment_sound.speed(0.2))
    for key in map(jax.random.key, range(5)):
        played = np.asarray(play(key, rows))
        lengths = (played != PADDING).sum(1)
        assert played.dtype == np.int16 and (lengths > [1300, 560]).all() and (lengths < [2001, 880]).all()
        for row, length, samples in zip(played, lengths, (TONE, TONE[:700]), strict=True):
            assert (row[length:] == PADDING).all()  # at the end alone
            at = np.arange(length) * len(samples) / length
            wanted = 2.0**15 * np.interp(at, np.arange(len(samples)), samples)
            assert np.abs(row[:length] - wanted)[: length // 2].max() < 3000  # lengths are whole, factors are not
    noisy = np.asarray(jax.jit(augment_sound.noise(0.5))(jax.random.key(0), rows))
    real = rows != PADDING
    assert noisy.dtype == np.int16 and ((noisy != PADDING) == real).all()
    added = np.where(real, noisy.astype(float) - rows, 0)
    shares = np.sqrt((added**2).sum(1) / np.where(real, rows.astype(float) ** 2, 0).sum(1))
    assert (shares > 0.5e-2 * 0.9).all() and (shares < 0.5 * 1.1).all()
    alone = np.asarray(augment_sound.noise(0.5)(jax.random.key(0), np.full((1, 9), -32767, np.int16)))
    assert alone.min() >= -32767  # no sample becomes padding


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_the_digits(kind, tmp_path):
    import zipfile

    names = [f"{digit}_{who}_{i}.wav" for digit in range(2) for who in ("theo", "ann") for i in (0, 4, 5, 49)]
    (tmp_path / "recordings").mkdir()
    for i, name in enumerate(names):
        (tmp_path / "recordings" / name).write_bytes(wav(TONE[: 800 + 10 * i]))
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "fsdd-recordings.zip", "w") as archive:
            for name in names:
                archive.write(tmp_path / "recordings" / name, f"recordings/{name}")
    found = fsdd(tmp_path)
    assert list(map(len, found.samples)) == [800 + 10 * names.index(name.split("/")[-1]) for name in found.names]
    assert set(zip(found.texts, found.speakers, found.parts, strict=True)) == set(
        itertools.product(["zero", "one"], ["theo", "ann"], ["train", "test"])
    )
    with pytest.raises(InputError, match="put the folder recordings of"):
        fsdd(tmp_path / "recordings")


def test_the_official_split(jaxnets_data):
    found = fsdd(jaxnets_data)
    assert len(found.samples) == 3000 and found.parts.count("test") == 300
    assert sorted(set(found.speakers)) == ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
    assert found.texts.count("seven") == 300 and found.samples[0].dtype == np.int16


def test_joined_recordings():
    of = recordings()
    strings = joined(of, 40, (3, 7), 0.3, 8000, 0)
    again = joined(of, 40, (3, 7), 0.3, 8000, 0)
    assert strings.texts == again.texts and all(map(np.array_equal, strings.samples, again.samples))
    counts = [len(text.split()) for text in strings.texts]
    assert min(counts) == 3 and max(counts) == 7 and set(strings.speakers) == set(of.speakers)
    for samples, number in zip(strings.samples, counts, strict=True):
        assert 1200 * number <= len(samples) <= 1530 * number + 2400 * (number + 1)
        assert (samples != PADDING).all()


def csv(folder, lines, header="file,text"):
    for i in range(4):
        (folder / f"{i}.wav").write_bytes(wav(TONE, rate=16_000))
    (folder / "transcripts.csv").write_text("\n".join([header, *lines]))
    return folder / "transcripts.csv"


def test_transcripts_of_ones_own(tmp_path):
    found = transcribed(csv(tmp_path, ["0.wav,one  two,ann", "1.wav,two,bob"], "file,text,speaker"), 8000)
    assert found.texts == ["one two", "two"] and found.speakers == ["ann", "bob"] and len(found.samples[0]) == 800
    for lines, header, message in (
        (["0.wav,one", "9.wav,two"], "file,text", "9.wav: there is no such file"),
        (["0.wav,one", "0.wav,two"], "file,text", "names a file twice"),
        (["0.wav, "], "file,text", "column 'text', row 2 is empty; write what is said"),
        (["../0.wav,one"], "file,text", "leads out of the folder"),
        (["0.wav,one,dev"], "file,text,part", "'dev'; use train, validation, test"),
        (["0.wav,one"], "name,text", "file"),
    ):
        with pytest.raises(InputError, match=message):
            transcribed(csv(tmp_path, lines, header), 8000)


def test_words_in_folders(tmp_path):
    for name in ("train/yes/a.wav", "train/no/b.wav", "test/no/c.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(wav(np.clip(TONE * (4 if "b" in name else 1), -1, 1)))
    found = words_in_folders(tmp_path, 8000)
    assert dict(zip(found.names, zip(found.texts, found.parts, strict=True), strict=True)) == {
        "train/yes/a.wav": ("yes", "train"),
        "train/no/b.wav": ("no", "train"),
        "test/no/c.wav": ("no", "test"),
    }
    (tmp_path / "d.wav").write_bytes(wav(TONE))
    with pytest.raises(InputError, match="wav lies in no folder"):
        words_in_folders(tmp_path, 8000)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no recordings"):
        words_in_folders(tmp_path / "empty", 8000)


def test_clipped_recordings_are_told(tmp_path, capsys):
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes" / "a.wav").write_bytes(wav(np.clip(4 * TONE, -1, 1)))
    words_in_folders(tmp_path, 8000)
    assert "1 recordings are clipped (too loud): yes/a.wav" in capsys.readouterr().err


def test_times():
    samples = whole_numbers(np.concatenate([np.zeros(800), TONE, np.zeros(400)]))
    assert _heard(samples, 8000) == pytest.approx((0.1, 0.3), abs=0.011)
    characters = [Said(letter, i, i + 0.5) for i, letter in enumerate("so|do")]
    assert _in_words(characters) == [Said("so", 0, 1.5), Said("do", 3, 4.5)]


def test_bad_recordings_at_the_command_line(tmp_path, monkeypatch, capsys):
    """What is wrong is named before anything is trained."""
    monkeypatch.chdir(tmp_path)
    csv(tmp_path, ["0.wav," + " ".join(["one"] * 9), *(f"{i}.wav,one two" for i in range(1, 4))])
    train = ["train", "digit-strings", "--output", "text", "--dry-run", "--validation", "0"]
    message = fails(capsys, *train, "--data", ".")
    assert "0.wav: 9 words (and blanks between repeats: 17) are more than the" in message and "40 ms" in message
    parted = [*(f"{i}.wav,one two,train" for i in range(3)), "3.wav,three,test"]
    csv(tmp_path, parted, "file,text,part")
    assert "is in no transcript that is trained on" in fails(capsys, *train, "--data", ".")
    assert "is none of the speakers; no speakers are named" in fails(capsys, *train, "--data", ".", "--hold-out", "ann")
    assert "changes nothing with output='text'" in fails(capsys, *train, "--data", ".", "--gap", "0.1")
    assert "is not fsdd" in fails(capsys, *train, "--data", "nowhere")


@pytest.mark.release
@pytest.mark.slow
def test_a_users_transcripts_by_characters(tmp_path, monkeypatch, capsys):
    """Two tones, each a word of two letters, are learned from a folder, and found in a file of both."""
    from jaxnets import cli

    monkeypatch.chdir(tmp_path)
    low, high = (0.5 * np.sin(np.arange(2400) * pitch) for pitch in (0.2, 0.9))
    lines = []
    for i in range(60):
        words = DRAW.integers(0, 2, DRAW.integers(1, 4))
        sound = np.concatenate([np.concatenate([np.zeros(800), (low, high)[word]]) for word in words])
        (tmp_path / f"{i}.wav").write_bytes(wav(sound + 0.001 * DRAW.normal(size=len(sound))))
        lines.append(f"{i}.wav,{' '.join(('so', 'ti')[word] for word in words)}")
    (tmp_path / "transcripts.csv").write_text("\n".join(["file,text", *lines]))
    options = ["--output", "text", "--units", "characters", "--duration", "150", "--batch-size", "12"]
    assert cli.main(["train", "digit-strings", "--data", ".", *options, "--out", "run"]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["metrics"]["test/character_error_rate"]["mean"] < 0.2
    assert (tmp_path / "run" / "recordings.png").stat().st_size > 5000
    sound = np.concatenate([np.zeros(800), high, np.zeros(800), low])
    (tmp_path / "both.wav").write_bytes(wav(sound + 0.001 * DRAW.normal(size=len(sound))))
    capsys.readouterr()
    assert cli.main(["predict", "run", "both.wav", "--json", "--out", "both.png"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["text"] == "ti so" and row["times"].startswith("ti 0.") and (tmp_path / "both.png").exists()
