"""Images with boxes: a folder or a zip file of them, with annotations in VOC's, COCO's, YOLO's or KITTI's format."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.box_formats import Box, Size, is_coco, is_names, read_coco, read_lines, read_names, read_voc
from jaxnets.data.decoding import decode_image, resized
from jaxnets.data.images import SPLITS, Parts, Tree, with_progress, with_tree
from jaxnets.data.splits import Splits
from jaxnets.data.telling import tell
from jaxnets.data.unpacking import decoded
from jaxnets.errors import InputError

CORNERS = ("left", "top", "right", "bottom", "class")  # what the numbers of a box are
ABSENT = -1  # the class of a box that only fills up its image's row
_FORMATS = {"annotations", "images", "image_2", "jpegimages", "labels", "label_2"}  # folders that say what is in them
_MOST_TEXT = 256 << 20  # bytes of all annotations
_MOST_BOXES = 1000  # of an image
_MOST_BYTES = 8 << 30  # of all images
_LISTED = 5  # boxes or files that are named
_OVER = 1.0  # pixels by which a box may lie outside of its image, as rounding has it, before it is told


class Labels(NamedTuple):
    """What annotations say.

    Attributes:
        boxes: of each image that is annotated.
        relative: corners are shares of an image's sides, not pixels.
        classes: their names; those of the boxes, sorted, where no file lists them.
        splits: the part of the data that an image belongs to, where a list says so.
        sizes: width and height of the images of which annotations say them.
    """

    boxes: dict[Parts, list[Box]]
    relative: bool
    classes: list[str]
    splits: dict[str, str]
    sizes: Mapping[Parts, Size] = MappingProxyType({})


def box_splits(path: Path, size: tuple[int, int] | None = None) -> Splits:
    """Return the images of a folder or a zip file, [N, H, W, 1 or 3] uint8, and their boxes.

    "labels" are float32 [N, M, 5]: left, top, right and bottom in pixels of the images as they are returned (edges, so
    that right - left is the width), and the number of the class; rows that only fill up have the class -1. Annotations
    belong to the image of the same name (``labels/train/7.txt`` to ``images/train/7.jpg``), or are one JSON file of
    COCO's a part. The parts are those of VOC's ``ImageSets/Main``, or of folders or JSON files called train, valid or
    test; where there are none, a fifth is held out as the test part.

    Boxes are cut at the edges of their image, and those that reach over one by more than a pixel counted and named;
    what has no area then is left out, counted and named. So are images without annotations, and annotations without an
    image.

    Args:
        path: the folder, or the zip file, which is read in place.
        size: (H, W) to resize every image to, whatever its proportions.

    Raises:
        InputError: if there are no images with boxes, a file is broken, or images have different sizes, or another
            size than their annotations say.
    """
    if size is not None and min(size) < 1:
        raise InputError(f"image_size={size} must be a height and a width of 1 or more")
    return with_tree(path, lambda tree: _read(path, tree, size))


def _read(path: Path, tree: Tree, size: tuple[int, int] | None) -> Splits:
    labels = _annotations(path, tree)
    members = _by_split(path, labels)
    files = [file for of_split in members.values() for file in of_split]
    images, sides = _decoded(path, tree, files, size)
    _check_sizes(path, files, labels, sides)
    rows = _rows(path, files, labels, sides, images.shape[1:3])
    known = {"inputs": {"low": 0, "high": 255}, "labels": {"classes": tuple(labels.classes), "features": CORNERS}}
    parts, start = {}, 0
    for split, of_split in members.items():
        stop = start + len(of_split)
        parts[split] = Data(inputs=images[start:stop], labels=rows[start:stop], known=known)
        start = stop
    if "test" not in parts:
        parts["train"], parts["test"] = parts["train"].split(0.2, seed=0)
    return Splits(**parts)


def _annotations(path: Path, tree: Tree) -> Labels:
    """Return what all annotations say, and tell what has no counterpart."""
    if not tree.images:
        raise InputError(f"{path}: holds no images; put them beside their annotations")
    if (total := sum(tree.sizes[parts] for parts in tree.others)) > _MOST_TEXT:
        raise InputError(f"{path}: {total:,} bytes beside the images; at most {_MOST_TEXT:,} of annotations are read")
    by_key: dict[Parts, Parts] = {}
    for parts in tree.images:
        if (twin := by_key.setdefault(_key(parts), parts)) != parts:
            raise InputError(f"{path}: {'/'.join(twin)} and {'/'.join(parts)} would share annotations; rename one")
    suffixes = {suffix: [p for p in tree.others if p[-1].endswith(suffix)] for suffix in (".xml", ".json", ".txt")}
    coco = {parts: content for parts in suffixes[".json"] if is_coco(content := tree.others[parts]())}
    if coco:
        labels = _coco(path, tree, coco)
    elif suffixes[".xml"]:
        read = {parts: read_voc(_name(path, parts), tree.others[parts]()) for parts in suffixes[".xml"]}
        found = {parts: boxes for parts, (boxes, _) in read.items()}
        sizes = {by_key[_key(parts)]: size for parts, (_, size) in read.items() if size and _key(parts) in by_key}
        labels = Labels(_matched(path, found, by_key), False, [], _image_sets(tree), sizes)
    else:
        labels = _text(path, tree, suffixes[".txt"], by_key)
    if not any(labels.boxes.values()):
        raise InputError(
            f"{path}: holds {len(tree.images):,} images and no boxes of them: give VOC's XML, COCO's JSON, or "
            "YOLO's or KITTI's text files"
        )
    _tell_left_out(path, "images without annotations", ["/".join(p) for p in tree.images if p not in labels.boxes])
    names = {box.name for boxes in labels.boxes.values() for box in boxes}
    return labels._replace(classes=labels.classes or sorted(names))


def _text(path: Path, tree: Tree, files: Sequence[Parts], by_key: Mapping[Parts, Parts]) -> Labels:
    names = read_names(tree.others)
    wanted = [parts for parts in files if not is_names(parts) and (_key(parts) in by_key or _key(parts)[1:])]
    wanted = [parts for parts in wanted if "imagesets" not in (part.lower() for part in parts)]
    kinds, found = set(), {}
    for parts in wanted:
        if _key(parts) not in by_key and not {part.lower() for part in parts} & _FORMATS:
            continue  # a README or the like
        found[parts], kind = read_lines(_name(path, parts), tree.others[parts](), names)
        kinds |= {kind} - {None}
    if len(kinds) > 1:
        raise InputError(f"{path}: holds annotations of YOLO's and of KITTI's layout; use one")
    relative = kinds == {"yolo"}
    numbers = {int(box.name) for boxes in found.values() for box in boxes} if relative and not names else set()
    classes = names if relative else []
    return Labels(
        _matched(path, found, by_key), relative, classes or [str(i) for i in range(max(numbers, default=-1) + 1)], {}
    )


def _coco(path: Path, tree: Tree, files: Mapping[Parts, bytes]) -> Labels:
    boxes: dict[Parts, list[Box]] = {}
    splits: dict[str, str] = {}
    classes: list[str] = []
    sizes: dict[Parts, Size] = {}
    missing, crowds = [], 0
    by_name: dict[str, list[Parts]] = {}
    for parts in tree.images:
        by_name.setdefault(parts[-1], []).append(parts)
    for parts, content in files.items():
        found = read_coco(_name(path, parts), content)
        crowds += found.crowds
        classes += [name for name in found.classes if name not in classes]
        split = _split_of((*parts[:-1], *re.split(r"[._-]", PurePosixPath(parts[-1]).stem)))
        for file, of_image in found.boxes.items():
            named = PurePosixPath(file.replace("\\", "/")).parts
            fitting = [image for image in by_name.get(named[-1] if named else "", []) if image[-len(named) :] == named]
            near = [image for image in fitting if split is not None and _split_of(image) == split] or fitting
            if len(near) != 1:
                missing.append(file)
                continue
            boxes.setdefault(near[0], []).extend(of_image)
            sizes |= {near[0]: found.sizes[file]} if file in found.sizes else {}
            if split is not None:
                splits["/".join(near[0])] = split
    _tell_left_out(path, "annotated images that are not there", missing)
    if crowds:
        tell(f"{path}: left out {crowds:,} annotations of crowds")
    return Labels(boxes, False, classes, splits, sizes)


def _key(parts: Parts) -> Parts:
    """Return what a file's path and that of its annotations have in common."""
    return (*(part for part in parts[:-1] if part.lower() not in _FORMATS), PurePosixPath(parts[-1]).stem)


def _matched(path: Path, found: Mapping[Parts, list[Box]], by_key: Mapping[Parts, Parts]) -> dict[Parts, list[Box]]:
    """Return the boxes by image, and tell which annotations have none."""
    _tell_left_out(
        path, "annotations without an image", ["/".join(parts) for parts in found if _key(parts) not in by_key]
    )
    return {by_key[_key(parts)]: boxes for parts, boxes in found.items() if _key(parts) in by_key}


def _image_sets(tree: Tree) -> dict[str, str]:
    """Return the part that VOC's ``ImageSets/Main/train.txt`` and the like put an image into, by its stem."""
    splits = {}
    for parts, read in tree.others.items():
        part = SPLITS.get(PurePosixPath(parts[-1]).stem.lower())
        if part and len(parts) > 2 and parts[-3].lower() == "imagesets" and parts[-2].lower() == "main":
            for line in decoded(read(), "/".join(parts)).splitlines():
                splits |= dict.fromkeys(line.split()[:1], part)
    return splits


def _split_of(parts: Sequence[str]) -> str | None:
    """Return the part of the data that a folder in a path names, such as train or val2017."""
    names = (re.sub(r"\d{4}$", "", part.lower()) for part in parts)
    return next((SPLITS[name] for name in names if name in SPLITS), None)


def _by_split(path: Path, labels: Labels) -> dict[str, list[Parts]]:
    """Return the annotated images of each part, in the order of their names."""
    members: dict[str, list[Parts]] = {}
    unlisted = []
    for parts in sorted(labels.boxes):
        listed = labels.splits.get("/".join(parts), labels.splits.get(PurePosixPath(parts[-1]).stem))
        if labels.splits and listed is None:
            unlisted.append("/".join(parts))
            continue
        members.setdefault(listed or _split_of(parts[:-1]) or "train", []).append(parts)
    _tell_left_out(path, "images that no list of a part names", unlisted)
    if "train" not in members:
        raise InputError(f"{path}: holds {sorted(members)} but no 'train'")
    return {split: members[split] for split in ("train", "validation", "test") if split in members}


def _decoded(
    path: Path, tree: Tree, files: Sequence[Parts], size: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the images, [N, H, W, 1 or 3] uint8, and the height and width that each had in its file, [N, 2]."""

    def decode(file: Parts) -> tuple[np.ndarray, tuple[int, int]]:
        image = decode_image(_name(path, file), tree.images[file])
        return (image if size is None else resized(image, size)), image.shape[:2]

    first, _ = decode(files[0])
    height, width, _ = first.shape
    if (total := len(files) * height * width * 3) > _MOST_BYTES:
        raise InputError(
            f"{path}: {len(files)} images of {height} x {width} pixels take {total:,} bytes; at most {_MOST_BYTES:,} "
            "are held in memory: use a smaller --image-size H W"
        )
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        try:
            found = list(with_progress(f"reading {path.name}", threads.map(decode, files), len(files)))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    for file, (image, _) in zip(files, found, strict=True):
        if image.shape[:2] != (height, width):
            raise InputError(
                f"{_name(path, file)} has {image.shape[0]} x {image.shape[1]} pixels (height x width), "
                f"{'/'.join(files[0])} {height} x {width}; use --image-size {height} {width} to resize all"
            )
    channels = max(image.shape[2] for image, _ in found)
    images = np.stack([np.broadcast_to(image, (height, width, channels)) for image, _ in found])
    return images, np.array([sides for _, sides in found])


def _check_sizes(path: Path, files: Sequence[Parts], labels: Labels, sides: np.ndarray) -> None:
    """Check that images have the height and width, [N, 2], that their annotations say; else boxes would be wrong."""
    for file, (height, width) in zip(files, sides.tolist(), strict=True):
        if (stated := labels.sizes.get(file, (width, height))) != (width, height):
            raise InputError(
                f"{_name(path, file)} has {height} x {width} pixels (height x width), but its annotations are of "
                f"{stated[1]:g} x {stated[0]:g}; put back the image that was annotated, or mend the annotations"
            )


def _rows(path: Path, files: Sequence[Parts], labels: Labels, sides: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the boxes of all images as "labels" has them, in pixels of images of a size; tell which are left out."""
    kept, flat, over = [], [], []
    for file, (height, width) in zip(files, sides.tolist(), strict=True):
        boxes = labels.boxes[file]
        if len(boxes) > _MOST_BOXES:
            raise InputError(f"{_name(path, file)}: {len(boxes):,} boxes; at most {_MOST_BOXES:,} an image are taken")
        given = np.array([box[1:] for box in boxes], np.float64).reshape(-1, 2, 2)
        whole = 1.0 if labels.relative else np.array([width, height], np.float64)
        inside = np.clip(given / whole, 0.0, 1.0)
        beyond = np.abs(given / whole - inside) * np.array([width, height], np.float64)  # in pixels of the file
        corners = inside * np.array(size[::-1])
        good = np.all(corners[:, 1] - corners[:, 0] > 1e-6, axis=1)
        cut = good & (beyond.max((1, 2), initial=0.0) > _OVER)
        numbers = [labels.classes.index(box.name) for box in boxes]
        kept.append(np.column_stack([corners.reshape(-1, 4), np.array(numbers, np.float64)])[good])
        flat += [_described(file, box) for box, fine in zip(boxes, good, strict=True) if not fine]
        over += [_described(file, box) for box, wide in zip(boxes, cut, strict=True) if wide]
    _tell_counted(path, "cut", "boxes that reach over the edge of their image", over)
    _tell_left_out(path, "boxes of no area inside their image", flat)
    most = max(1, *map(len, kept))
    rows = np.zeros((len(files), most, 5), np.float32)
    rows[..., 4] = ABSENT
    for row, found in zip(rows, kept, strict=True):
        row[: len(found)] = found
    return rows


def _described(file: Parts, box: Box) -> str:
    corners = " ".join(f"{corner:g}" for corner in box[1:])
    return f"{'/'.join(file)} ({box.name} at {corners})"


def _name(path: Path, parts: Iterable[str]) -> str:
    return f"{path}: {'/'.join(parts)}"


def _tell_left_out(path: Path, what: str, names: Sequence[str]) -> None:
    """Print how many of something were left out, and the first of them."""
    _tell_counted(path, "left out", what, names)


def _tell_counted(path: Path, done: str, what: str, names: Sequence[str]) -> None:
    if names:
        more = f", and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
        tell(f"{path}: {done} {len(names):,} {what}: {', '.join(names[:_LISTED])}{more}")
