"""CIFAR-10 in its original, binary version (Krizhevsky, 2009)."""

import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.fetching import Remote, located, places
from jaxnets.data.splits import Splits
from jaxnets.errors import InputError

ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
CIFAR10 = {
    ARCHIVE: Remote(
        f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    )
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = "test_batch.bin"
_RECORD = 1 + 3 * 32 * 32  # the label, then a plane of each colour
_RECORDS = 10_000


def cifar10(data_dir: Path | None = None) -> Splits:
    """Return CIFAR-10: 50,000 images for training and 10,000 for testing, [N, 32, 32, 3] uint8.

    Args:
        data_dir: where the archive (cifar-10-binary.tar.gz) or its unpacked folder (cifar-10-batches-bin) is, or a
            folder "cifar10" with one of them. If absent, ``JAXNETS_DATA`` is taken for it, then the cache folder; as a
            last resort the archive (170 MB) is fetched into that.

    Raises:
        InputError: if it is not there and cannot be fetched, or is broken.
    """
    for place in places("cifar10", data_dir):
        for folder in (place, place / FOLDER):
            if all((folder / name).is_file() for name in (*TRAIN, TEST)):
                return _splits({name: (folder / name).read_bytes() for name in (*TRAIN, TEST)}, folder)
    archive = located("cifar10", CIFAR10, data_dir)[ARCHIVE]
    return _splits(_unpacked(archive), archive)


def _unpacked(path: Path) -> dict[str, bytes]:
    """Return the archive's batches by name; nothing is written to disk, and other members are passed over."""
    names = {f"{FOLDER}/{name}": name for name in (*TRAIN, TEST)}
    batches = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() and member.name in names else None
                if file is not None:
                    batches[names[member.name]] = file.read(_RECORDS * _RECORD + 1)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise InputError(f"{path}: cannot be read as a tar archive: {error}") from error
    return batches


def _splits(batches: dict[str, bytes], path: Path) -> Splits:
    for name in (*TRAIN, TEST):
        if (size := len(batches.get(name, b""))) != _RECORDS * _RECORD:
            raise InputError(f"{path}: {name} has {size:,} bytes or is missing; CIFAR-10's have {_RECORDS * _RECORD:,}")

    def part(names: Sequence[str]) -> Data:
        records = np.concatenate([np.frombuffer(batches[name], np.uint8).reshape(-1, _RECORD) for name in names])
        planes = records[:, 1:].reshape(-1, 3, 32, 32)
        images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        return Data(inputs=images, labels=records[:, 0].astype(np.int32), classes=CLASSES)

    return Splits(part(TRAIN), test=part([TEST]))
