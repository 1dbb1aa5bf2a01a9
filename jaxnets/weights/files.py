"""Files of weights: their format is told by their content, and none can run code."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxnets.data.numpy_files import read_npz
from jaxnets.data.unpacking import reading
from jaxnets.errors import InputError, check_kind, short
from jaxnets.weights import gguf
from jaxnets.weights.ctranslate2 import is_ctranslate2, read_ctranslate2
from jaxnets.weights.gguf import read_gguf
from jaxnets.weights.mapped import MOST_HEADER, parse_header
from jaxnets.weights.safetensors_files import is_safetensors, read_safetensors
from jaxnets.weights.torch_files import is_legacy, members, read_torch

_FORMATS = (
    "safetensors, PyTorch's .pth, .pt and .bin, GGUF, CTranslate2's model.bin, npz, an index (.index.json) of such "
    "files, or their folder"
)
_IN_FOLDERS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "model.bin",
)  # fmt: skip
_LFS = b"version https://git-lfs"
_FEW = 8  # names that an error lists


def read_weights(path: Path) -> Mapping[str, np.ndarray]:
    """Return the tensors of a file, or of a folder as model hubs have them, by name.

    They are views of the file, as far as can be, and take memory as they are used; those of GGUF are dequantised each
    time that they are asked for.

    Args:
        path: of a file of safetensors, PyTorch (.pth, .pt, .bin), GGUF, CTranslate2 or npz, whatever its name; of an
            index of such files; or of a folder that holds ``model.safetensors`` or ``pytorch_model.bin``, or their
            index, or ``model.bin``.

    Raises:
        InputError: if it is missing, broken, of another format, or holds code, which is not executed.
    """
    check_kind("path", path, Path, "give a pathlib.Path")
    path = reading(path, "weights", _file_of)
    start = _start(path)
    if start.startswith(b"{") and not is_safetensors(start):
        return _read_index(path)
    return _read_file(path)


def _file_of(path: Path) -> Path:
    """Return a file, or the one that counts in a folder."""
    if path.is_dir():
        found = next((path / name for name in _IN_FOLDERS if (path / name).is_file()), None)
        if found is None:
            raise InputError(f"{path}: holds no weights; one of {', '.join(_IN_FOLDERS)} is wanted, or name a file")
        return found
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    return path


def _start(path: Path) -> bytes:
    def parse(path: Path) -> bytes:
        with path.open("rb") as file:
            return file.read(len(_LFS))

    return reading(path, "weights", parse)


def _read_file(path: Path) -> Mapping[str, np.ndarray]:
    start = _start(path)
    if is_safetensors(start):
        return read_safetensors(path)
    if start.startswith(gguf.MAGIC):
        return read_gguf(path)[1]
    if is_legacy(start):
        return read_torch(path)
    if is_ctranslate2(start):
        return read_ctranslate2(path)
    if start.startswith(b"PK"):
        names = reading(path, "a zip file", members)
        return _read_arrays(path) if all(name.endswith(".npy") for name in names) else read_torch(path)
    if start == _LFS:
        raise InputError(f"{path}: a pointer of Git LFS, not the weights; fetch them with: git lfs pull")
    raise InputError(f"{path}: not weights of a format that is read: {_FORMATS}")


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    arrays = read_npz(path)
    if wrong := [name for name, array in arrays.items() if array.dtype.kind not in "biufc"]:
        raise InputError(f"{path}: {wrong[0]!r} is {arrays[wrong[0]].dtype}, no array of numbers")
    return arrays


def _read_index(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of the files that an index names; each must hold those that it is said to, and no others."""
    shards = reading(path, "an index of weights", _shards)
    found: dict[str, np.ndarray] = {}
    for name, wanted in shards.items():
        tensors = _read_file(path.parent / name)
        if wrong := sorted(wanted ^ tensors.keys()):
            where = f"in the index, not in {name}" if wrong[0] in wanted else f"in {name}, not in the index"
            raise InputError(f"{path}: {short(wrong[0])} is {where}; fetch both anew")
        found |= tensors
    return found


def _shards(path: Path) -> dict[str, set[str]]:
    """Return the tensors that each file beside an index should hold.

    Raises:
        OSError, ValueError: if it is no index, or names what is not beside it.
    """
    with path.open("rb") as file:
        weight_map = parse_header(file.read(MOST_HEADER + 1)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError("it has no weight_map")
    found: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or set(name) & set("/\\\0"):
            raise ValueError(f"{short(tensor)} should be in {short(name)}, which is no name of a file beside it")
        found.setdefault(name, set()).add(tensor)
    if missing := [name for name in found if not (path.parent / name).is_file()]:
        raise ValueError(f"it names files that are not beside it: {', '.join(map(short, missing[:_FEW]))}")
    return found
