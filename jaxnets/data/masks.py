"""Folders and zip files of images with masks: a class for each pixel."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from jaxnets.data.arrays import Data
from jaxnets.data.decoding import decode_image, decode_mask
from jaxnets.data.images import SPLITS, Parts, Tree, check_total, with_progress, with_tree
from jaxnets.data.splits import Splits
from jaxnets.data.telling import tell
from jaxnets.errors import InputError

_IMAGES = {"image", "images", "img", "imgs", "jpegimages"}  # folders' names, in capitals or not
_MASKS = {"mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "segmentationclass"}
_MOST_CLASSES = 64  # different values of masks; more are of a photograph, or a mask that was saved as JPEG
_LISTED = 5
TEST = 0.2  # of the images, the last ones, where there are none for testing


class _Pair(NamedTuple):
    """An image, the mask of the same name, and what they are called."""

    image: Parts
    mask: Parts
    split: str
    key: tuple


def masked_images(
    path: Path,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] = (),
    ignore: Sequence[int] = (),
) -> Splits:
    """Return images [N, H, W, 1 or 3] uint8, "labels" [N, H, W] int32, and, with ``ignore``, a "mask" [N, H, W].

    An image and its mask have one name (but for the suffix) in two folders: ``images`` and ``masks`` (or image, img,
    and mask, label, segmentation, ...), below ``train``, ``validation`` and ``test`` or above them. Without a ``test``
    the last fifth of the images is held out, in the order of their names (2 before 10): slices and frames that lie
    next to each other are alike, and would tell what a random part of them hides.

    A mask holds grey values, or numbers of a palette. Each value that the training masks hold is a class, in rising
    order; they are told with their shares of the pixels. Resized images are averaged; masks take the nearest pixel's
    value.

    Args:
        path: the folder, or the zip file, which is read in place.
        size: (H, W) to resize every image and mask to.
        classes: names of the values; the values themselves if none are given.
        ignore: values of pixels that do not count, such as 255 on the border of objects in PASCAL VOC.

    Raises:
        InputError: if an image has no mask or a mask no image, sizes differ, a mask is in colours or of 16 bits, has a
            value that no training mask has, or holds too many; or for what ``image_splits`` refuses.
    """
    if size is not None and min(size) < 1:
        raise InputError(f"image_size={size} must be a height and a width of 1 or more")

    def read(tree: Tree) -> Splits:
        pairs = _pairs(path, tree)
        images, values = _decoded(path, tree, pairs, size)
        return _splits(path, pairs, images, values, classes, ignore)

    return with_tree(path, read)


def _pairs(path: Path, tree: Tree) -> list[_Pair]:
    """Return the images with their masks, in the order of their names."""
    found: dict[str, dict[tuple, Parts]] = {"image": {}, "mask": {}}
    for parts in tree.images:
        kind = [name for name, folders in (("image", _IMAGES), ("mask", _MASKS)) for part in parts[:-1]
                if part.lower() in folders]  # fmt: skip
        if len(kind) != 1:
            raise InputError(
                f"{path}: {'/'.join(parts)} lies neither in images nor in masks; use images/NAME.png and "
                "masks/NAME.png, below train and test or not"
            )
        rest = [part for part in parts[:-1] if part.lower() not in _IMAGES | _MASKS]
        key = (*rest, PurePosixPath(parts[-1]).stem)
        if key in found[kind[0]]:
            raise InputError(f"{path}: {'/'.join(parts)} and {'/'.join(found[kind[0]][key])}: two of one name")
        found[kind[0]][key] = parts
    images, masks = found["image"], found["mask"]
    for those, others, other in ((images, masks, "mask"), (masks, images, "image")):
        if lone := sorted("/".join(parts) for key, parts in those.items() if key not in others):
            listed = ", ".join(lone[:_LISTED]) + (", ..." if len(lone) > _LISTED else "")
            raise InputError(f"{path}: {len(lone)} without {other} of the same name: {listed}; add or remove them")
    if not images:
        raise InputError(f"{path}: holds no images; put them into images/ and their masks into masks/")
    pairs = [_Pair(images[key], masks[key], _split_of(key), _natural(key)) for key in images]
    return sorted(pairs, key=lambda pair: pair.key)


def _split_of(key: tuple) -> str:
    splits = [SPLITS[part.lower()] for part in key[:-1] if part.lower() in SPLITS]
    return splits[-1] if splits else "train"


def _natural(key: tuple) -> tuple:
    """Return what sorts a name's numbers as such: 2 before 10."""
    pieces = re.split(r"(\d+)", "/".join(key))
    return tuple((int(piece), "") if i % 2 else (-1, piece) for i, piece in enumerate(pieces))


def _decoded(
    path: Path, tree: Tree, pairs: Sequence[_Pair], size: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return all images, [N, H, W, 1 or 3], and the values of their masks, [N, H, W]."""
    images, masks = [], []
    packed = sum(tree.sizes[pair.image] for pair in pairs)
    for pair in with_progress(f"reading {path.name}", pairs, len(pairs)):
        name = f"{path}: {'/'.join(pair.image)}"
        image = decode_image(name, tree.images[pair.image])
        mask = decode_mask(f"{path}: {'/'.join(pair.mask)}", tree.images[pair.mask])
        if mask.shape != image.shape[:2]:
            raise InputError(
                f"{path}: {'/'.join(pair.mask)} has {mask.shape[0]} x {mask.shape[1]} pixels (height x width), its "
                f"image {image.shape[0]} x {image.shape[1]}; give both one size"
            )
        if size is not None:
            image, mask = decode_image(name, tree.images[pair.image], size), _nearest(mask, size)
        if not images:
            check_total(path, len(pairs), image, packed)
        elif image.shape[:2] != images[0].shape[:2]:
            raise InputError(
                f"{name} has {image.shape[0]} x {image.shape[1]} pixels (height x width), {'/'.join(pairs[0].image)} "
                f"{images[0].shape[0]} x {images[0].shape[1]}; use --image-size H W to resize all"
            )
        images.append(image)
        masks.append(mask)
    channels = max(image.shape[2] for image in images)
    return np.stack([np.broadcast_to(image, (*image.shape[:2], channels)) for image in images]), np.stack(masks)


def _nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[rows][:, columns]


def _splits(
    path: Path,
    pairs: Sequence[_Pair],
    images: np.ndarray,
    values: np.ndarray,
    classes: Sequence[str],
    ignore: Sequence[int],
) -> Splits:
    rows: dict[str, list[int]] = {}
    for row, pair in enumerate(pairs):
        rows.setdefault(pair.split, []).append(row)
    if "train" not in rows:
        raise InputError(f"{path}: holds {', '.join(rows)}, but nothing to train on; name a folder train")
    if "test" not in rows:
        kept = len(rows["train"]) - held_out(len(rows["train"]), TEST, path)
        rows["train"], rows["test"] = rows["train"][:kept], rows["train"][kept:]
    of_training = values[rows["train"]]
    known, pixels = np.unique(of_training[~np.isin(of_training, ignore)], return_counts=True)
    _check_values(path, known, classes, ignore)
    unknown = ~np.isin(values, [*known, *ignore])
    if unknown.any():
        row = int(unknown.any((1, 2)).argmax())
        raise InputError(
            f"{path}: {'/'.join(pairs[row].mask)} has the values {_list(np.unique(values[row][unknown[row]]))}, which "
            f"no training mask has; those have {_list(known)}: mend it, leave the pixels out by --ignore, or move a "
            "mask that has them to the training part"
        )
    names = list(classes) or [str(value) for value in known]
    shares = [f"{name} {share:.1%}" for name, share in zip(names, pixels / pixels.sum(), strict=True)]
    tell(f"{path}: classes, by their share of the training masks' pixels: {', '.join(shares)}")
    parts = {part: _part(images[of], values[of], known, names, ignore) for part, of in rows.items()}
    return Splits(parts["train"], parts.get("validation"), parts["test"])


def _check_values(path: Path, known: np.ndarray, classes: Sequence[str], ignore: Sequence[int]) -> None:
    if not 2 <= len(known) <= _MOST_CLASSES:
        raise InputError(
            f"{path}: the training masks hold {len(known)} values but for ignore={tuple(ignore)}, {_list(known)}; "
            f"each is a class, and there must be 2 to {_MOST_CLASSES}: save masks as PNG, a number for each class"
        )
    if classes and len(classes) != len(known):
        raise InputError(
            f"class_names={tuple(classes)} for the {len(known)} values {_list(known)}; name each, in rising order"
        )


def _part(
    images: np.ndarray, values: np.ndarray, known: np.ndarray, names: Sequence[str], ignore: Sequence[int]
) -> Data:
    counts = ~np.isin(values, ignore)
    labels = np.where(counts, np.searchsorted(known, values), 0).astype(np.int32)
    arrays: Mapping[str, np.ndarray] = {"mask": counts.astype(np.uint8)} if ignore else {}
    return Data(inputs=images, labels=labels, classes=names, known={"inputs": {"low": 0, "high": 255}}, **arrays)


def last(data: Data, fraction: float, path: object) -> tuple[Data, Data]:
    """Return the rest, and the last ``fraction`` of the rows, one at least.

    Raises:
        InputError: if nothing is left.
    """
    kept = data.num_examples - held_out(data.num_examples, fraction, path)
    return data.take(slice(kept)), data.take(slice(kept, None))


def held_out(number: int, fraction: float, path: object) -> int:
    """Return how many images a fraction of them is, one at least.

    Raises:
        InputError: if nothing is left.
    """
    chosen = max(1, round(fraction * number))
    if chosen >= number:
        raise InputError(
            f"{path}: {number} images to train on, of which {fraction:g} would be held out; give more images"
        )
    return chosen


def _list(values: np.ndarray) -> str:
    shown = ", ".join(map(str, values[:_LISTED].tolist()))
    return f"{shown}, ..." if len(values) > _LISTED else shown or "none"
