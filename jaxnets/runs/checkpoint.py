"""One state, one commit: a folder of arrays and a manifest that appears whole or not at all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jaxnets.errors import InputError
from jaxnets.parameters import paths

KEEP = 2  # checkpoints that are kept

T = TypeVar("T")


def save(folder: Path, step: int, state: Any, facts: dict[str, Any], *, newest: bool = False) -> Path:
    """Save ``state`` as ``folder/<step>``, and remove all but the newest checkpoints.

    Arrays and manifest are written to a temporary folder, synced, and renamed into place.

    Args:
        folder: of the checkpoints.
        step: names the checkpoint.
        state: any pytree of arrays.
        facts: JSON values to be kept beside it.
        newest: remove those of later steps.
    """
    target = folder / f"{step:010d}"
    partial = folder / f".{target.name}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    arrays = {path: np.asarray(leaf) for path, leaf in paths(state).items()}
    save_file(arrays, partial / "state.safetensors")
    (partial / "manifest.json").write_text(json.dumps({"step": step, **facts}))
    for file in (*partial.iterdir(), partial):
        _sync(file)
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    _sync(folder)
    for old in [n for n in steps(folder) if newest and n > step] + [n for n in steps(folder) if n <= step][:-KEEP]:
        shutil.rmtree(folder / f"{old:010d}")
    return target


def steps(folder: Path) -> list[int]:
    """Return the steps that were saved, oldest first."""
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if (path / "manifest.json").is_file())


def restore(folder: Path, template: T, part: str = "") -> tuple[T, dict[str, Any]]:
    """Return the newest checkpoint, or a part of it, as a pytree like ``template``, and its facts.

    Args:
        folder: of the checkpoints.
        template: a pytree of arrays or shapes; every leaf must be there with its very shape and dtype, and no other.
        part: path of the part, such as "train"; all of it if empty.

    Raises:
        InputError: if there is no checkpoint, it cannot be read, or its leaves are others; it lists them.
    """
    if not steps(folder):
        raise InputError(f"{folder}: holds no checkpoint")
    target = folder / f"{steps(folder)[-1]:010d}"
    try:
        arrays = load_file(target / "state.safetensors")
        facts = json.loads((target / "manifest.json").read_text())
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{target}: cannot be read: {error}") from error
    if part:
        arrays = {path.removeprefix(f"{part}/"): array for path, array in arrays.items() if path.startswith(f"{part}/")}
    wanted = paths(template)
    wrong = [f"{path} is missing" for path in wanted if path not in arrays]
    wrong += [f"{path} is left over" for path in arrays if path not in wanted]
    wrong += [
        f"{path} is {arrays[path].dtype}{list(arrays[path].shape)}, not {leaf.dtype}{list(leaf.shape)}"
        for path, leaf in wanted.items()
        if path in arrays and (arrays[path].shape, arrays[path].dtype) != (leaf.shape, leaf.dtype)
    ]
    if wrong:
        raise InputError(f"{target}: does not fit this run: {'; '.join(wrong[:8])}")
    return jax.tree.unflatten(jax.tree.structure(template), [arrays[path] for path in wanted]), facts


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
