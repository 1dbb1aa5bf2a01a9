"""Folders and zip files of images, one folder a class."""

import os
import re
import stat
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.decoding import IMAGES, decode_image
from jaxnets.data.splits import Splits
from jaxnets.errors import InputError

SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
SPLITS |= {"training": "train", "testing": "test"}  # in capitals or not
# What no honest set of images that is to be held in memory exceeds; a zip file can claim anything.
_MOST_BYTES_A_FILE = 64 << 20
_MOST_BYTES = 8 << 30
_BLOCK = 256  # images that a thread decodes in one go
_LARGE = 1 << 13  # bytes of a file above which threads gain: decoding then takes longer than Python around it

Parts = tuple[str, ...]  # of a path: ("train", "frog", "1463.jpg")


class _Tree(NamedTuple):
    """The images below a folder or in a zip file: how each is read, and which folders there are."""

    images: dict[Parts, Callable[[], bytes]]
    folders: set[Parts]


def image_splits(path: Path, size: tuple[int, int] | None = None) -> Splits:
    """Return the images of a folder or a zip file, [N, H, W, 1 or 3] uint8, and their classes.

    The layout is ``train/<class>/x.png`` and, optionally, ``test/...`` and ``validation/...``; or ``<class>/x.png``, of
    which a stratified 20% is held out as the test part (as of ``train`` where there is no ``test``). The classes are
    the sorted names of train's folders; classes in folders of folders are named by their path. Files that are no images
    by their names are left out. All images must have one size, unless ``size`` is given.

    Grey images stay grey, unless there are colour images as well: then all become RGB. ``decode_image`` tells the rest.

    Args:
        path: the folder, or the zip file, which is read in place.
        size: (H, W) to resize every image to, whatever its proportions.

    Raises:
        InputError: if there are no images, a class has none or is not in train, an image is broken, transparent, of
            more than 8 bits, or of another size; or if a zip file is broken, encrypted, holds links or names that
            lead out of it, or is too large.
    """
    if size is not None and min(size) < 1:
        raise InputError(f"image_size={size} must be a height and a width of 1 or more")
    if path.is_dir():
        return _read(path, _folder_tree(path), size)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, _zip_tree(path, archive), size)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as a zip file: {error}") from error


def _folder_tree(root: Path) -> _Tree:
    tree = _Tree({}, set())
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.is_dir():
            tree.folders.add(parts)
        elif _is_image(parts):
            tree.images[parts] = path.read_bytes
    return tree


def _zip_tree(path: Path, archive: zipfile.ZipFile) -> _Tree:
    tree = _Tree({}, set())
    total = 0
    for member in archive.infolist():
        name = PurePosixPath(member.filename)
        parts = name.parts
        problem = None
        if name.is_absolute() or ".." in parts or "\\" in member.filename or re.match("[A-Za-z]:", member.filename):
            problem = "its name leads out of the archive"
        elif stat.S_ISLNK(member.external_attr >> 16):
            problem = "a link"
        elif member.flag_bits & 1:
            problem = "encrypted; decrypt it first"
        elif member.file_size > _MOST_BYTES_A_FILE:
            problem = f"{member.file_size:,} bytes unpacked; at most {_MOST_BYTES_A_FILE:,} are read"
        if problem:
            raise InputError(f"{path}: {member.filename!r}: {problem}")
        if member.is_dir():
            tree.folders.add(parts)
        elif _is_image(parts):
            total += member.file_size
            tree.folders.update(parts[:i] for i in range(1, len(parts)))
            tree.images[parts] = lambda member=member: archive.read(member)
    if total > _MOST_BYTES:
        raise InputError(f"{path}: its images are {total:,} bytes unpacked; at most {_MOST_BYTES:,} are read")
    return tree


def _is_image(parts: Parts) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not hidden and PurePosixPath(parts[-1]).suffix.lower() in IMAGES


def _read(path: Path, tree: _Tree, size: tuple[int, int] | None) -> Splits:
    members = _by_split_and_class(path, tree)
    files = [file for classes in members.values() for found in classes.values() for file in found]
    pixels = _decoded(path, [(file, tree.images[file]) for file in files], size)
    names = list(members["train"])
    parts, start = {}, 0
    for split, classes in members.items():
        labels = np.repeat([names.index(name) for name in classes], [len(found) for found in classes.values()])
        inputs = pixels[start : start + len(labels)]
        parts[split] = Data(inputs=inputs, labels=labels, classes=names, known={"inputs": {"low": 0, "high": 255}})
        start += len(labels)
    if "test" not in parts:
        parts["train"], parts["test"] = parts["train"].split(0.2, seed=0)
    return Splits(**parts)


def _by_split_and_class(path: Path, tree: _Tree) -> dict[str, dict[str, list[Parts]]]:
    """Return the files of each class of each split, everything in the order of its names."""
    if not tree.images:
        raise InputError(f"{path}: holds no images ({', '.join(sorted(IMAGES))}); put them in a folder for each class")
    files = sorted(tree.images)
    folders = min(len(file) for file in files) - 2
    top = 0  # folders around everything
    while top < folders and files[0][top].lower() not in SPLITS and len({file[top] for file in files}) == 1:
        top += 1
    layout = {file[top].lower() for file in files}
    depth = len(files[0])
    has_splits = bool(layout & set(SPLITS)) and depth > top + 2  # else a train may be a class, beside ship and truck
    if not has_splits and depth == top + 2 and layout <= set(SPLITS):
        raise InputError(f"{path}: {'/'.join(files[0])} is in no class folder; use {files[0][top]}/CLASS/IMAGE")
    members: dict[str, dict[str, list[Parts]]] = {}
    for file in files:
        if len(file) != depth or len(file) < top + 2 + has_splits:
            raise InputError(
                f"{path}: {'/'.join(file)} does not lie as {'/'.join(files[0])} does; "
                "use train/CLASS/IMAGE and test/CLASS/IMAGE, or CLASS/IMAGE"
            )
        if has_splits and file[top].lower() not in SPLITS:
            raise InputError(f"{path}: {file[top]!r} beside {sorted(layout & set(SPLITS))} is none of {list(SPLITS)}")
        split = SPLITS[file[top].lower()] if has_splits else "train"
        members.setdefault(split, {}).setdefault("/".join(file[top + has_splits : -1]), []).append(file)
    filled = {file[:-1] for file in files}
    for folder in sorted(tree.folders):
        if len(folder) == depth - 1 and folder not in filled and _is_image((*folder, "x.png")):
            raise InputError(f"{path}: the class folder {'/'.join(folder)} holds no images; fill or remove it")
    if "train" not in members:
        raise InputError(f"{path}: holds {sorted(layout)} but no 'train'")
    if len(members["train"]) < 2:
        raise InputError(f"{path}: holds one class, {next(iter(members['train']))!r}; give each class a folder")
    for split, classes in members.items():
        if unknown := sorted(set(classes) - set(members["train"])):
            raise InputError(f"{path}: {split} has the classes {', '.join(unknown[:5])}, of which train has no image")
    return {split: members[split] for split in ("train", "validation", "test") if split in members}


def _decoded(
    path: Path, files: Sequence[tuple[Parts, Callable[[], bytes]]], size: tuple[int, int] | None
) -> np.ndarray:
    """Return all images, [N, H, W, 1 or 3] uint8; large ones are decoded by several threads."""
    first = decode_image(f"{path}: {'/'.join(files[0][0])}", files[0][1], size)
    height, width = first.shape[:2]
    if len(files) * height * width * 3 > _MOST_BYTES:
        raise InputError(
            f"{path}: {len(files)} images of {height} x {width} pixels are more than the {_MOST_BYTES:,} bytes that "
            "are held in memory; use a smaller --image-size H W"
        )

    def decode(start: int) -> list[np.ndarray]:
        block = files[start : start + _BLOCK]
        images = [decode_image(f"{path}: {'/'.join(file)}", read, size) for file, read in block]
        for image, (file, _) in zip(images, block, strict=True):
            if image.shape[:2] != first.shape[:2]:
                raise InputError(
                    f"{path}: {'/'.join(file)} has {image.shape[0]} x {image.shape[1]} pixels (height x width), "
                    f"{'/'.join(files[0][0])} {height} x {width}; use --image-size {height} {width} to resize all"
                )
        return images

    starts = range(0, len(files), _BLOCK)
    with ThreadPoolExecutor(os.cpu_count() if len(files[0][1]()) > _LARGE else 1) as threads:
        try:
            blocks = list(_with_progress(f"reading {path.name}", threads.map(decode, starts), len(starts)))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    channels = max(image.shape[2] for block in blocks for image in block)
    pixels = np.empty((len(files), height, width, channels), np.uint8)
    for start, block in zip(starts, blocks, strict=True):
        for i, image in enumerate(block):
            pixels[start + i] = image  # grey broadcasts to RGB
    return pixels


def _with_progress(what: str, blocks: Iterable[Any], total: int) -> Iterator[Any]:
    """Yield the blocks, and show a bar once it has taken two seconds."""
    from rich.progress import Progress  # noqa: PLC0415

    progress = Progress()
    task = progress.add_task(what, total=total)
    start = time.monotonic()
    try:
        for block in blocks:
            yield block
            progress.advance(task)
            if time.monotonic() - start > 2 and not progress.live.is_started:
                progress.start()
    finally:
        if progress.live.is_started:
            progress.stop()
