"""Folders and zip files of images, one folder a class."""

import os
import re
import stat
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.decoding import IMAGES, decode_image
from jaxnets.data.names import spelled
from jaxnets.data.splits import Splits
from jaxnets.data.telling import tell
from jaxnets.data.unpacking import most_unpacked, reading
from jaxnets.errors import InputError

SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
SPLITS |= {"training": "train", "testing": "test"}  # in capitals or not
# What no honest set of images that is to be held in memory exceeds; a zip file can claim anything.
_MOST_BYTES_A_FILE = 64 << 20
_MOST_BYTES = 8 << 30
_EXPANSION = 1000  # pixels that come of a byte: a drawing of one bit a pixel packs well
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LISTED = 20  # broken images that are told
_BLOCK = 256  # images that a thread decodes in one go
_LARGE = 1 << 13  # bytes of a file above which threads gain: decoding then takes longer than Python around it

T = TypeVar("T")
Parts = tuple[str, ...]  # of a path: ("train", "frog", "1463.jpg")
_File = tuple[Parts, Callable[[], bytes]]


class _OtherSizeError(InputError):
    """An image that has another size than the others."""


class Tree(NamedTuple):
    """What is below a folder or in a zip file: how each image is read, its bytes, folders, and files that are none."""

    images: dict[Parts, Callable[[], bytes]]
    sizes: dict[Parts, int]
    folders: set[Parts]
    others: dict[Parts, Callable[[], bytes]]


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
    parts = image_parts(path, size)
    if "test" not in parts:
        parts["train"], parts["test"] = parts["train"].split(0.2, seed=0)
    return Splits(parts["train"], parts.get("validation"), parts["test"])


def image_parts(path: Path, size: tuple[int, int] | None = None) -> dict[str, Data]:
    """Return the images of a folder or a zip file by part, as they lie there: without parts, all are of "train".

    Arguments, images and errors are those of ``image_splits``.
    """
    if size is not None and min(size) < 1:
        raise InputError(f"image_size={size} must be a height and a width of 1 or more")
    return with_tree(path, lambda tree: _read(path, tree, size))


def with_tree(path: Path, use: Callable[[Tree], T]) -> T:
    """Return ``use(tree)`` of what is below a folder or in a zip file, which is open meanwhile.

    Raises:
        InputError: if a zip file is broken, encrypted, holds links or names that lead out of it, or is too large.
    """
    if path.is_dir():
        return use(_folder_tree(path))

    def parse(path: Path) -> T:
        with zipfile.ZipFile(path) as archive:
            return use(_zip_tree(path, archive))

    return reading(path, "a zip file", parse)


def _folder_tree(root: Path) -> Tree:
    tree = Tree({}, {}, set(), {})
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.is_dir():
            tree.folders.add(parts)
        elif is_image(parts):
            tree.images[parts], tree.sizes[parts] = path.read_bytes, path.stat().st_size
        elif not _is_hidden(parts):
            tree.others[parts], tree.sizes[parts] = path.read_bytes, path.stat().st_size
    return tree


def _zip_tree(path: Path, archive: zipfile.ZipFile) -> Tree:
    tree = Tree({}, {}, set(), {})
    total = 0
    for member in archive.infolist():
        name = member.filename.replace("\\", "/")  # as some programs of Windows write them
        parts = PurePosixPath(name).parts
        problem = None
        if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", name):
            problem = "its name leads out of the archive"
        elif stat.S_ISLNK(member.external_attr >> 16):
            problem = "a link"
        elif member.flag_bits & 1:
            problem = "encrypted; decrypt it first"
        elif member.compress_type not in _PACKINGS:
            problem = "packed in another way than zip files usually are; pack it anew"
        elif parts in tree.images or parts in tree.others:
            problem = "it is there twice"
        elif member.file_size > _MOST_BYTES_A_FILE:
            problem = f"{member.file_size:,} bytes unpacked; at most {_MOST_BYTES_A_FILE:,} are read"
        if problem:
            raise InputError(f"{path}: {member.filename!r}: {problem}")
        if name.endswith("/"):
            tree.folders.add(parts)
        elif is_image(parts):
            total += member.file_size
            tree.folders.update(parts[:i] for i in range(1, len(parts)))
            tree.images[parts] = lambda member=member: archive.read(member)
            tree.sizes[parts] = member.compress_size
        elif not _is_hidden(parts):
            tree.others[parts] = lambda member=member: archive.read(member)
            tree.sizes[parts] = member.file_size
    if total > _MOST_BYTES:
        raise InputError(f"{path}: its images are {total:,} bytes unpacked; at most {_MOST_BYTES:,} are read")
    return tree


def is_image(parts: Parts) -> bool:
    """Return whether a path, below a folder of images, is one of an image by its name, and not hidden."""
    return not _is_hidden(parts) and PurePosixPath(parts[-1]).suffix.lower() in IMAGES


def _is_hidden(parts: Parts) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def _tell_others(path: Path, tree: Tree) -> None:
    """Print which files that lie beside images are left out, for they are none by their names."""
    beside = {parts[:-1] for parts in tree.images}
    suffixes = Counter(PurePosixPath(parts[-1]).suffix or parts[-1] for parts in tree.others if parts[:-1] in beside)
    if suffixes:
        counts = ", ".join(f"{number} {suffix}" for suffix, number in suffixes.most_common(_LISTED))
        tell(f"{path}: left out files that are no images by their names: {counts}")


def _read(path: Path, tree: Tree, size: tuple[int, int] | None) -> dict[str, Data]:
    members = _by_split_and_class(path, tree)
    files = [file for classes in members.values() for found in classes.values() for file in found]
    _tell_others(path, tree)
    pixels = _decoded(
        path, [(file, tree.images[file]) for file in files], sum(tree.sizes[file] for file in files), size
    )
    names = list(members["train"])
    parts, start = {}, 0
    for split, classes in members.items():
        labels = np.repeat([names.index(name) for name in classes], [len(found) for found in classes.values()])
        inputs = pixels[start : start + len(labels)]
        parts[split] = Data(inputs=inputs, labels=labels, classes=names, known={"inputs": {"low": 0, "high": 255}})
        start += len(labels)
    return parts


def _by_split_and_class(path: Path, tree: Tree) -> dict[str, dict[str, list[Parts]]]:
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
        members.setdefault(split, {}).setdefault("/".join(map(spelled, file[top + has_splits : -1])), []).append(file)
    filled = {file[:-1] for file in files}
    for folder in sorted(tree.folders):
        if len(folder) == depth - 1 and folder not in filled and is_image((*folder, "x.png")):
            raise InputError(f"{path}: the class folder {'/'.join(folder)} holds no images; fill or remove it")
    if "train" not in members:
        raise InputError(f"{path}: holds {sorted(layout)} but no 'train'")
    if len(members["train"]) < 2:
        raise InputError(f"{path}: holds one class, {next(iter(members['train']))!r}; give each class a folder")
    for split, classes in members.items():
        if unknown := sorted(set(classes) - set(members["train"])):
            raise InputError(f"{path}: {split} has the classes {', '.join(unknown[:5])}, of which train has no image")
    return {split: members[split] for split in ("train", "validation", "test") if split in members}


def _decoded(path: Path, files: Sequence[_File], packed: int, size: tuple[int, int] | None) -> np.ndarray:
    """Return all images, [N, H, W, 1 or 3] uint8, of files of so many bytes; large ones are decoded by threads."""

    def decode(file: _File) -> np.ndarray | InputError:
        try:
            return decode_image(f"{path}: {'/'.join(file[0])}", file[1], size)
        except InputError as error:
            return error

    good = ((file, image) for file in files if isinstance(image := decode(file), np.ndarray))
    (first, _), sample = next(good, (files[0], np.empty((1, 1, 1), np.uint8)))
    height, width = sample.shape[:2]
    check_total(path, len(files), sample, packed)

    def checked(file: _File) -> np.ndarray | InputError | _OtherSizeError:
        image = decode(file)
        if isinstance(image, np.ndarray) and image.shape[:2] != (height, width):
            return _OtherSizeError(
                f"{path}: {'/'.join(file[0])} has {image.shape[0]} x {image.shape[1]} pixels (height x width), "
                f"{'/'.join(first)} {height} x {width}; use --image-size {height} {width} to resize all"
            )
        return image

    starts = range(0, len(files), _BLOCK)
    with ThreadPoolExecutor(os.cpu_count() if packed > _LARGE * len(files) else 1) as threads:
        try:
            decoded = threads.map(lambda start: [checked(file) for file in files[start : start + _BLOCK]], starts)
            blocks = list(with_progress(f"reading {path.name}", decoded, len(starts)))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    _raise_errors(path, [image for block in blocks for image in block])
    channels = max(image.shape[2] for block in blocks for image in block)
    pixels = np.empty((len(files), height, width, channels), np.uint8)
    for start, block in zip(starts, blocks, strict=True):
        for i, image in enumerate(block):
            pixels[start + i] = image  # grey broadcasts to RGB
    return pixels


def check_total(path: Path, number: int, image: np.ndarray, packed: int) -> None:
    """Check, before the others are decoded, what so many images like this one take in memory.

    Raises:
        InputError: if it is more than may be held, or than may come of so many bytes of files.
    """
    height, width, channels = image.shape
    for total, most in (
        (number * height * width * 3, _MOST_BYTES),
        (number * height * width * channels, most_unpacked(packed, _EXPANSION)),
    ):
        if total > most:
            raise InputError(
                f"{path}: {number} images of {height} x {width} pixels are more than the {most:,} bytes "
                f"that are held in memory (of {packed:,} bytes of files); use a smaller --image-size H W"
            )


def _raise_errors(path: Path, images: Sequence[Any]) -> None:
    """Raise what went wrong with any of the images: the broken ones all at once, else the first of another size."""
    errors = [image for image in images if isinstance(image, InputError)]
    broken = [error for error in errors if not isinstance(error, _OtherSizeError)]
    if len(broken) > 1:
        told = [str(error).removeprefix(f"{path}: ") for error in broken[:_LISTED]]
        more = [f"... and {len(broken) - _LISTED:,} more"] if len(broken) > _LISTED else []
        raise InputError("\n  ".join([f"{path}: {len(broken):,} images to mend or remove:", *told, *more]))
    if errors:
        raise (broken or errors)[0]


def with_progress(what: str, blocks: Iterable[Any], total: int) -> Iterator[Any]:
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
