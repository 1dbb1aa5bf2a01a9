"""One state, one commit: arrays, and a manifest with their checksum that appears whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jaxnets.errors import InputError
from jaxnets.parameters import paths
from jaxnets.runs.console import warn

KEEP = 2  # checkpoints that are kept
SCHEMA = 1
_MANIFEST = "manifest.json"

T = TypeVar("T")


class DamagedError(InputError):
    """A checkpoint that is not as it was saved."""


def _none(steps: Iterable[int]) -> Sequence[int]:
    return ()


def save(
    folder: Path,
    step: int,
    state: Any,
    facts: dict[str, Any],
    *,
    newest: bool = False,
    keep: int = KEEP,
    also: Callable[[Sequence[int]], Collection[int]] = _none,
) -> Path:
    """Save ``state`` as ``folder/<step>``, and remove all but the newest checkpoints.

    Arrays are written and synced first, under a name that their SHA-256 makes; the manifest that names them is renamed
    into place, and that is the commit. Killed before, the step is as it was: not there, or what it was.

    Args:
        folder: of the checkpoints; it is there.
        step: names the checkpoint.
        state: any pytree of arrays.
        facts: JSON values to be kept beside it.
        newest: remove those of later steps.
        keep: how many are kept.
        also: which of the others' steps are kept, too.

    Raises:
        InputError: if it cannot be written; what was saved before is unharmed.
    """
    target = folder / f"{step:010d}"
    try:
        _write(target, {path: np.asarray(leaf) for path, leaf in paths(state).items()}, facts)
        _sync(folder)
        later, old = [n for n in steps(folder) if n > step], [n for n in steps(folder) if n <= step][:-keep]
        kept = set(also(old))
        _remove(folder, [*(later if newest else []), *(n for n in old if n not in kept)])
    except (OSError, SafetensorError) as error:
        if not folder.is_dir():
            raise InputError(f"{folder}: is no longer there; was the run's folder removed, or moved?") from error
        with suppress(OSError):  # what was written in vain takes no room
            _sweep(folder)
        raise InputError(f"{target}: cannot be saved: {error}; older checkpoints are unharmed") from error
    return target


def _write(target: Path, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    target.mkdir(exist_ok=True)
    partial = target / ".state.part"
    save_file(arrays, partial)
    digest = _sha256(partial)
    file = target / f"state-{digest[:16]}.safetensors"
    partial.replace(file)
    body = {"schema": SCHEMA, "step": int(target.name), "state": file.name, "sha256": digest, "facts": facts}
    manifest = target / ".manifest.part"
    manifest.write_text(json.dumps({"body": body, "sha256": _digest_of(body)}))
    for path in (file, manifest, target):
        _sync(path)
    manifest.replace(target / _MANIFEST)
    _sync(target)
    for other in target.iterdir():
        if other.name not in (file.name, _MANIFEST):
            other.unlink()


def _sweep(folder: Path) -> None:
    """Remove what saves and removals that were killed, or failed, have left behind."""
    for path in [path for path in folder.iterdir() if path.is_dir()]:
        if path.name.startswith(".") or (path.name.isdigit() and not (path / _MANIFEST).exists()):
            shutil.rmtree(path)


def _remove(folder: Path, old: list[int]) -> None:
    _sweep(folder)
    for step in old:
        removed = (folder / f"{step:010d}").rename(folder / f".{step:010d}.removed")
        shutil.rmtree(removed)


def steps(folder: Path) -> list[int]:
    """Return the steps that were saved, oldest first."""
    return sorted(int(path.parent.name) for path in folder.glob(f"*/{_MANIFEST}") if path.parent.name.isdigit())


def restore(
    folder: Path, template: T, part: str = "", older: Mapping[str, np.ndarray] = {}, step: int | None = None
) -> tuple[T, dict[str, Any]]:
    """Return the newest checkpoint that is sound, or a part of it, as a pytree like ``template``, and its facts.

    Args:
        folder: of the checkpoints.
        template: a pytree of arrays or shapes; every leaf must be there with its very shape and dtype, and no other.
        part: path of the part, such as "train"; all of it if empty.
        older: leaves by path that older checkpoints lack, as they are to be taken then.
        step: of the one that is wanted; no other is taken in its place.

    Raises:
        InputError: if there is no checkpoint, none is sound, or its leaves are others; it lists them.
    """
    if not steps(folder):
        raise InputError(f"{folder}: holds no checkpoint")
    candidates, damages = [step] if step is not None else steps(folder)[::-1], []
    for candidate in candidates:
        try:
            arrays, facts = read(folder, candidate)
            break
        except DamagedError as damaged:
            damages.append(str(damaged))
            if candidate != candidates[-1]:
                warn(f"{damaged}; the checkpoint before it is looked at")
    else:
        raise InputError(f"no checkpoint is sound: {'; '.join(damages)}")
    if part:
        arrays = {path.removeprefix(f"{part}/"): array for path, array in arrays.items() if path.startswith(f"{part}/")}
    arrays = {**older, **arrays}
    wanted = paths(template)
    wrong = [f"{path} is missing" for path in wanted if path not in arrays]
    wrong += [f"{path} is left over" for path in arrays if path not in wanted]
    wrong += [
        f"{path} is {arrays[path].dtype}{list(arrays[path].shape)}, not {leaf.dtype}{list(leaf.shape)}"
        for path, leaf in wanted.items()
        if path in arrays and (arrays[path].shape, arrays[path].dtype) != (leaf.shape, leaf.dtype)
    ]
    if wrong:
        raise InputError(f"{folder / f'{candidate:010d}'}: does not fit this run: {'; '.join(wrong[:8])}")
    return jax.tree.unflatten(jax.tree.structure(template), [arrays[path] for path in wanted]), facts


def read(folder: Path, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a checkpoint by path, and its facts with its step, once all checksums were found right.

    Raises:
        DamagedError: if anything is not as it was saved.
    """
    target = folder / f"{step:010d}"
    try:
        manifest = json.loads((target / _MANIFEST).read_text())
        if "body" not in manifest and manifest.get("step") == step:  # as it was before there were checksums
            return load_file(target / "state.safetensors"), manifest
        body = manifest["body"]
        if manifest["sha256"] != _digest_of(body):
            raise DamagedError(f"{target / _MANIFEST}: is not what was saved (its SHA-256 is another)")
        if body["schema"] > SCHEMA:
            raise InputError(f"{target}: was saved by a newer jaxnets (schema {body['schema']}, this one has {SCHEMA})")
        file = target / body["state"]
        if _sha256(file) != body["sha256"]:
            raise DamagedError(f"{file}: is not what was saved (its SHA-256 is another)")
        return load_file(file), {**body["facts"], "step": body["step"]}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise DamagedError(f"{target}: cannot be read: {error}") from error


def digest(arrays: dict[str, np.ndarray]) -> str:
    """Return a SHA-256 of the arrays' names, dtypes, shapes and bytes: equal for equal states, wherever they are."""
    found = hashlib.sha256()
    for path, array in sorted(arrays.items()):
        found.update(f"{path} {array.dtype} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _digest_of(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
