"""CIFAR-10's binary version, as an archive and as a folder, and what is said when it is broken or missing."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from jaxnets import InputError, data
from jaxnets.data import cifar
from jaxnets.data.fetching import Remote

NAMES = (*cifar.TRAIN, cifar.TEST)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Set up small batches, an empty cache, no data folder, and a home that does not answer."""
    monkeypatch.setattr(cifar, "_RECORDS", 4)
    monkeypatch.setenv("JAXNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXNETS_DATA", raising=False)
    remote = Remote("http://127.0.0.1:9/cifar-10-binary.tar.gz", hashlib.sha256(b"").hexdigest())
    monkeypatch.setattr(cifar, "CIFAR10", {cifar.ARCHIVE: remote})
    return tmp_path


def batches():
    random = np.random.default_rng(0)
    return {name: np.insert(random.integers(0, 256, (4, 3072), np.uint8), 0, [3, 1, 4, 9], axis=1) for name in NAMES}


def write_folder(folder, contents):
    folder.mkdir(parents=True)
    for name, records in contents.items():
        (folder / name).write_bytes(records.tobytes())


def write_archive(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, records in {"../outside.bin": np.zeros(3, np.uint8), **contents}.items():
            info = tarfile.TarInfo(name if "/" in name else f"{cifar.FOLDER}/{name}")
            info.size = records.nbytes
            archive.addfile(info, io.BytesIO(records.tobytes()))


@pytest.mark.parametrize("inner", ["", "cifar10"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("where", ["named", "environment"])
def test_reads(home, packed, inner, where, monkeypatch):
    wanted = batches()
    folder = home / "here"
    if packed:
        write_archive(folder / inner / cifar.ARCHIVE, wanted)
    else:
        write_folder(folder / inner / cifar.FOLDER, wanted)
    if where == "environment":
        monkeypatch.setenv("JAXNETS_DATA", str(folder))
    train, validation, test = data.cifar10(folder if where == "named" else None)
    assert train["inputs"].shape == (20, 32, 32, 3) and test["inputs"].shape == (4, 32, 32, 3) and validation is None
    assert test["labels"].tolist() == [3, 1, 4, 9] and test.classes[3] == "cat"
    record = wanted["data_batch_2.bin"][1]
    for channel in range(3):  # a plane of each colour, row by row
        plane = record[1 + 1024 * channel : 1 + 1024 * (channel + 1)].reshape(32, 32)
        np.testing.assert_array_equal(train["inputs"][5, :, :, channel], plane)
    assert sorted(path.name for path in home.rglob("*.bin")) == ([] if packed else sorted(NAMES))


def test_refuses(home):
    with pytest.raises(InputError, match=r"cannot fetch http.*Put the files cifar-10-binary\.tar\.gz into"):
        data.cifar10()
    with pytest.raises(InputError, match=r"holds no cifar10; put cifar-10-binary\.tar\.gz there"):
        data.cifar10(home)
    write_archive(home / "a" / cifar.ARCHIVE, {name: rows for name, rows in batches().items() if "4" not in name})
    with pytest.raises(InputError, match=r"data_batch_4\.bin has 0 bytes or is missing; CIFAR-10's have 12,292"):
        data.cifar10(home / "a")
    write_archive(home / "b" / cifar.ARCHIVE, {**batches(), cifar.TEST: np.zeros((5, 3073), np.uint8)})
    with pytest.raises(InputError, match=r"test_batch\.bin has 12,293 bytes or is missing"):
        data.cifar10(home / "b")
    path = home / "a" / cifar.ARCHIVE
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match="cannot be read as a tar archive"):
        data.cifar10(home / "a")
    write_folder(home / "c" / cifar.FOLDER, {**batches(), cifar.TEST: np.full((4, 3073), 11, np.uint8)})
    with pytest.raises(InputError, match="labels range from 11 to 11, but there are 10 classes"):
        data.cifar10(home / "c")
