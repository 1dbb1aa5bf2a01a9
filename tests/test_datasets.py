"""Named data sets: where they are looked for, fetched with a checksum, and what is said when they cannot be had."""

import gzip
import hashlib
import http.server
import struct
import threading

import numpy as np
import pytest

from jaxnets import InputError, data
from jaxnets.data import named
from jaxnets.data.fetching import Remote


def write_idx(folder, name, array, zipped=True):
    raw = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(raw) if zipped else raw)


def write_mnist(folder, zipped=True, sizes=(6, 4)):
    for prefix, size in zip(("train", "t10k"), sizes, strict=True):
        images = np.random.default_rng(size).integers(0, 256, (size, 28, 28))
        write_idx(folder, f"{prefix}-images-idx3-ubyte", images, zipped)
        write_idx(folder, f"{prefix}-labels-idx1-ubyte", np.arange(size) % 10, zipped)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """Set up an empty cache folder, no data folder, and a home of MNIST that does not answer."""
    monkeypatch.setenv("JAXNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXNETS_DATA", raising=False)
    nobody = {name: remote._replace(url=f"http://127.0.0.1:9/{name}") for name, remote in named.MNIST.items()}
    monkeypatch.setattr(named, "MNIST", nobody)
    return tmp_path


def test_digits():
    splits = data.digits()
    assert splits.train["inputs"].shape == (1437, 8, 8, 1) and splits.test["inputs"].shape == (360, 8, 8, 1)
    spec = splits.train.spec
    assert (spec["inputs"].dtype, spec["inputs"].low, spec["inputs"].high) == ("uint8", 0, 16)
    assert spec["labels"].classes == tuple("0123456789")
    assert set(splits.fingerprint) == {"train", "test"}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inner", ["", "mnist"])
def test_mnist_from_a_folder(nowhere, zipped, inner):
    write_mnist(nowhere / "here" / inner, zipped)
    train, _, test = data.mnist(nowhere / "here")
    assert train["inputs"].shape == (6, 28, 28, 1) and test["labels"].tolist() == [0, 1, 2, 3]


def test_clothes_have_names(nowhere):
    write_mnist(nowhere / "fashion-mnist", sizes=(12, 10))
    splits = data.load("fashion-mnist", nowhere)
    names = splits.train.spec["labels"].classes
    assert (splits.train.num_examples, len(names), names[0], names[9]) == (12, 10, "T-shirt or top", "ankle boot")
    assert splits.test["labels"].tolist() == list(range(10))


def test_mnist_from_the_environment(nowhere, monkeypatch):
    write_mnist(nowhere / "shared" / "mnist")
    monkeypatch.setenv("JAXNETS_DATA", str(nowhere / "shared"))
    assert data.mnist().train.num_examples == 6


def test_mnist_offline_says_which_files_to_put_where(nowhere):
    with pytest.raises(InputError) as error:
        data.mnist()
    for part in (
        "cannot fetch",
        "train-images-idx3-ubyte.gz",
        "t10k-labels",
        str(nowhere / "cache" / "mnist"),
        "--data-dir",
    ):
        assert part in str(error.value)
    with pytest.raises(InputError, match="holds no mnist; put train-images"):
        data.mnist(nowhere)


def test_fetched_files_are_checked_and_kept(nowhere, monkeypatch):
    write_mnist(nowhere / "home")
    digests = {name: hashlib.sha256((nowhere / "home" / name).read_bytes()).hexdigest() for name in named.MNIST}

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(nowhere / "home"))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_port}"
        files = {name: Remote(f"{home}/{name}", digest) for name, digest in digests.items()}
        monkeypatch.setattr(named, "MNIST", files)
        assert data.mnist().train.num_examples == 6
        bad = next(iter(digests))
        (nowhere / "cache" / "mnist" / bad).unlink()
        monkeypatch.setitem(files, bad, files[bad]._replace(sha256="0" * 64))
        with pytest.raises(InputError, match=r"its SHA-256 is .*, not the pinned 0000"):
            data.mnist()
        server.shutdown()
    assert sorted(path.name for path in (nowhere / "cache" / "mnist").iterdir()) == sorted(set(digests) - {bad})
    (nowhere / "cache" / "mnist" / bad).write_bytes((nowhere / "home" / bad).read_bytes())
    assert data.mnist().train.num_examples == 6  # from the cache: nobody answers any more


def test_a_folder_that_lacks_a_file(nowhere):
    write_mnist(nowhere)
    (nowhere / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"holds no t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte\.gz"):
        data.idx_folder(nowhere)


def test_images_and_labels_must_match(nowhere):
    write_mnist(nowhere)
    write_idx(nowhere, "train-labels-idx1-ubyte", np.arange(5))
    with pytest.raises(InputError, match=r"unequal length: {'inputs': 6, 'labels': 5}"):
        data.idx_folder(nowhere)


def test_a_folder_that_is_named_is_the_only_one(nowhere):
    write_mnist(nowhere / "cache" / "mnist")
    assert data.mnist().train.num_examples == 6
    with pytest.raises(InputError, match="holds no mnist"):
        data.mnist(nowhere / "elsewhere")


@pytest.mark.parametrize(
    "names", [("inputs", "labels", "test_inputs", "test_labels"), ("x_train", "y_train", "x_test", "y_test")]
)
def test_npz(tmp_path, names):
    values = np.zeros((20, 5, 5), np.uint8), np.arange(20) % 2, np.ones((4, 5, 5), np.uint8), np.arange(4) % 2
    np.savez(tmp_path / "all.npz", **dict(zip(names, values, strict=True)))
    train, _, test = data.npz_splits(tmp_path / "all.npz")
    assert (train.num_examples, test.num_examples) == (20, 4)
    np.savez(tmp_path / "train.npz", **dict(zip(names[:2], values[:2], strict=True)))
    train, _, test = data.npz_splits(tmp_path / "train.npz")
    assert (train.num_examples, test.num_examples) == (16, 4)
    np.savez(tmp_path / "half.npz", **dict(zip(names[:3], values[:3], strict=True)))
    with pytest.raises(InputError, match=f"holds one of {names[2]} and {names[3]}; give both, or neither"):
        data.npz_splits(tmp_path / "half.npz")
    np.savez(tmp_path / "other.npz", pixels=values[0])
    with pytest.raises(InputError, match=r"holds \['pixels'\]; name the arrays inputs and labels"):
        data.npz_splits(tmp_path / "other.npz")


def test_npz_with_weights_and_what_nothing_reads(tmp_path):
    arrays = {"inputs": np.zeros((20, 5, 5), np.uint8), "labels": np.arange(20) % 2}
    np.savez(tmp_path / "a.npz", weights=np.arange(20), **arrays)
    train, _, test = data.npz_splits(tmp_path / "a.npz")
    assert sorted([*train["weights"], *test["weights"]]) == list(range(20))
    np.savez(tmp_path / "b.npz", sample_weight=np.arange(20), **arrays)
    with pytest.raises(InputError, match="holds sample_weight, which nothing reads beside inputs; leave it out"):
        data.npz_splits(tmp_path / "b.npz")


def test_npz_with_text_labels(tmp_path):
    images = np.zeros((6, 5, 5), np.uint8)
    arrays = {"inputs": images, "labels": list("abcabc"), "test_inputs": images[:2], "test_labels": ["c", "b"]}
    np.savez(tmp_path / "a.npz", **arrays)
    _, _, test = data.npz_splits(tmp_path / "a.npz")
    assert test["labels"].tolist() == [2, 1] and test.classes == ("a", "b", "c")


def test_real_mnist(mnist_folder):
    train, _, test = data.mnist(mnist_folder)
    assert (train.num_examples, test.num_examples) == (60_000, 10_000)
    assert train.spec["inputs"].mean == pytest.approx((33.3184,), abs=1e-3)
    assert train.spec["inputs"].std == pytest.approx((78.5675,), abs=1e-3)
    assert np.bincount(test["labels"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
