"""Images with classes, whatever they come from: a named data set, or files of one's own."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from jaxnets.data.arrays import Data, Spec
from jaxnets.data.cifar import cifar10
from jaxnets.data.datasets import Splits, digits, find_path, idx_folder, mnist, npz_splits
from jaxnets.data.images import image_splits
from jaxnets.errors import InputError, nearest


def labelled_images(
    name: str, data_dir: Path | None = None, image_size: tuple[int, int] | None = None, validation: float = 0.0
) -> Splits:
    """Return images [N, H, W, C] and classes [N].

    Args:
        name: digits, mnist or cifar10, or a path: a folder or zip of images, an npz file or a folder of IDX files, here
            or inside the folder that ``JAXNETS_DATA`` names.
        data_dir: where a named data set's files are.
        image_size: height and width to which a folder's or zip's images are resized.
        validation: fraction of the training data held out, if they have no validation part; 0 for none.

    Raises:
        InputError: if there are no such data, or they are no images with classes.
    """
    named = {"digits": digits, "mnist": partial(mnist, data_dir), "cifar10": partial(cifar10, data_dir)}
    images = name not in named
    path = find_path(name) if images else None
    if path is not None and path.is_dir() and any(path.glob("*-ubyte*")):
        images, named[name] = False, partial(idx_folder, path)
    elif path is not None and path.suffix == ".npz":
        images, named[name] = False, partial(npz_splits, path)
    elif path is not None and (path.is_dir() or path.suffix == ".zip"):
        named[name] = partial(image_splits, path, image_size)
    if name not in named:
        raise InputError(
            f"data={name!r} is not {', '.join(named)}, a folder or zip file of images, an npz file or a folder "
            f"of IDX files, here or in JAXNETS_DATA{nearest(name, named)}"
        )
    if image_size is not None and not images:
        raise InputError(f"image_size={image_size} is for folders and zip files of images, not for {name}")
    parts = {part: _as_images(data) for part, data in named[name]()._asdict().items() if data is not None}
    if validation and "validation" not in parts:
        parts["train"], parts["validation"] = parts["train"].split(validation)
    inputs = [part["inputs"] for part in parts.values()]
    limits = {"low": min(array.min() for array in inputs).item(), "high": max(array.max() for array in inputs).item()}
    return Splits(**{name: _with_range(part, limits) for name, part in parts.items()})


def _with_range(part: Data, limits: Mapping[str, float]) -> Data:
    """Return the same data, which know the range of the pixels of all parts if they know none yet."""
    known = {**part.known, "inputs": {**limits, **part.known.get("inputs", {})}}
    return Data(inputs=part["inputs"], labels=part["labels"], classes=part.classes, known=known)


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
    if inputs.ndim != 4 or labels.ndim != 1:
        raise InputError(f"images [N, H, W] or [N, H, W, C] and labels [N] are needed, not {part}")
    if not part.classes:
        raise InputError(
            f"labels of {labels.dtype} from {labels.min()} to {labels.max()} are no classes; "
            "use whole numbers from 0, or text"
        )
    return Data(inputs=inputs, labels=labels, classes=part.classes, known=part.known)
