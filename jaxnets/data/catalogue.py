"""Images with classes or boxes, whatever they come from: a named data set, or files of one's own."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxnets.data.arrays import Data, Spec
from jaxnets.data.boxes import box_splits
from jaxnets.data.images import image_splits
from jaxnets.data.named import NAMED, find, load
from jaxnets.data.splits import Splits, idx_folder, npz_splits
from jaxnets.errors import InputError

_FILES = "a folder or zip file of images, an npz file or a folder of IDX files"
_BOXED = "a folder or zip file of images with their annotations"
_VALIDATION = 0.1  # held out of files of one's own


def labelled_images(
    data: str,
    data_dir: Path | None = None,
    image_size: tuple[int, int] | None = None,
    validation: float | None = None,
    usual_size: tuple[int, int] | None = None,
) -> Splits:
    """Return images [N, H, W, C] and classes [N].

    Args:
        data: digits, mnist, fashion-mnist or cifar10, or a path: a folder or zip of images, an npz file or a folder of
            IDX files, here or inside the folder that ``JAXNETS_DATA`` names.
        data_dir: where a named data set's files are.
        image_size: height and width to which a folder's or zip's images are resized.
        validation: fraction of the training data held out; 0 for no validation part, None for the usual one.
        usual_size: stands for ``image_size`` of a folder's or zip's images, if that is not given.

    Raises:
        InputError: if there are no such data, they are no images with classes, or a fraction is given although they
            have a validation part.
    """
    path = find("images", data, data_dir, _FILES)
    if path is not None and (path.suffix == ".zip" or (path.is_dir() and not any(path.glob("*-ubyte*")))):
        splits = image_splits(path, image_size or usual_size)
    elif image_size is not None:
        raise InputError(f"image_size={image_size} is for folders and zip files of images, not for {data}")
    elif path is None:
        splits = load(data, data_dir)
    elif path.is_dir():
        splits = idx_folder(path)
    elif path.suffix == ".npz":
        splits = npz_splits(path)
    else:
        raise InputError(f"data={data!r} is no {_FILES.removeprefix('a ')}; its suffix is {path.suffix or 'none'}")
    parts = {part: _as_images(found) for part, found in splits.parts.items()}
    parts = _held_out(data, parts, validation)
    inputs = [part["inputs"] for part in parts.values()]
    limits = {"low": min(array.min() for array in inputs).item(), "high": max(array.max() for array in inputs).item()}
    if limits["low"] == limits["high"]:
        raise InputError(f"{data}: all pixels of all images are {limits['low']:g}: nothing is to be seen")
    parts = {name: _with_range(part, limits) for name, part in parts.items()}
    return Splits(parts["train"], parts.get("validation"), parts.get("test"))


def boxed_images(
    data: str,
    data_dir: Path | None = None,
    image_size: tuple[int, int] | None = None,
    validation: float | None = None,
) -> Splits:
    """Return images [N, H, W, C] uint8 with boxes, as ``box_splits`` has them.

    Args:
        data: bccd or scattered-digits, or the path of a folder or zip file.
        data_dir: where a named data set's files are.
        image_size: height and width to which images are resized.
        validation: fraction of the training data held out, where there is no validation part; 0 for none: then one that
            there is, is trained on.

    Raises:
        InputError: if there are no such data, or a fraction is given although they have a validation part.
    """
    path = find("boxes", data, data_dir, _BOXED)
    if path is not None:
        splits = box_splits(path, image_size)
    elif image_size is None:
        splits = load(data, data_dir)
    elif data == "bccd":
        splits = load(data, data_dir, image_size=image_size)
    else:
        raise InputError(f"image_size={image_size} is for files of images, not for {data}")
    if validation == 0 and splits.validation is not None:
        whole = {name: np.concatenate([array, splits.validation[name]]) for name, array in splits.train.items()}
        return Splits(splits.train.replaced(**whole), test=splits.test)
    parts = _held_out(data, splits.parts, validation)
    return Splits(parts["train"], parts.get("validation"), parts.get("test"))


def _held_out(data: str, parts: dict[str, Data], validation: float | None) -> dict[str, Data]:
    """Return the parts with a validation part, if there is to be one."""
    if "validation" in parts and validation:
        raise InputError(f"validation={validation}, but {data} has a validation part; leave --validation out")
    if validation == 0:
        return {name: part for name, part in parts.items() if name != "validation"}
    if "validation" not in parts:
        usual = NAMED[data].validation if data in NAMED else _VALIDATION
        parts["train"], parts["validation"] = parts["train"].split(validation or usual)
    return parts


def _with_range(part: Data, limits: Mapping[str, float]) -> Data:
    """Return the same data, which know the range of the pixels of all parts if they know none yet."""
    known = {**part.known, "inputs": {**limits, **part.known.get("inputs", {})}}
    return Data(classes=part.classes, known=known, **part)


def check_pixels(spec: Spec) -> None:
    """Check that pixels are in the range 0 to high, and not all 0.

    Raises:
        InputError: if they are not.
    """
    column = spec["inputs"]
    if column.low < 0 or column.high <= 0:
        raise InputError(f"pixels range from {column.low:g} to {column.high:g}; shift them to begin at 0, none below")


def _as_images(part: Data) -> Data:
    """Return [N, H, W] images as [N, H, W, 1], with labels [N]."""
    inputs, labels = part["inputs"], part["labels"]
    inputs = inputs[..., None] if inputs.ndim == 3 else inputs
    if inputs.ndim == 4 and inputs.shape[1] in (1, 3) and min(inputs.shape[2:]) > 4:
        raise InputError(
            f"images of shape {inputs.shape[1:]} look as if their channels came first; give [N, H, W, C], as "
            "images.transpose(0, 2, 3, 1) does"
        )
    if inputs.ndim != 4 or labels.ndim != 1:
        raise InputError(f"images [N, H, W] or [N, H, W, C] and labels [N] are needed, not {part}")
    if not part.classes:
        raise InputError(
            f"labels of {labels.dtype} from {labels.min()} to {labels.max()} are no classes; "
            "use whole numbers from 0, or text"
        )
    return part.replaced(inputs=inputs)
