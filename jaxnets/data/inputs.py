"""Files of inputs for a model that was trained: what they hold, as the training data were, or an error."""

import math
from pathlib import Path

import numpy as np

from jaxnets.data.arrays import Column, Data
from jaxnets.data.decoding import IMAGES, decode_image
from jaxnets.data.formats import features
from jaxnets.data.names import column_order, spelled
from jaxnets.data.numpy_files import read_npy, read_npz
from jaxnets.data.separated import read_sheet
from jaxnets.errors import InputError

_FACTOR = 4  # by which pixels may be above all that the training data held


def read_inputs(path: Path, column: Column, *, invert: bool = False) -> np.ndarray:
    """Return what a file holds as inputs for a model, [N, *column.shape] of ``column.dtype``.

    An image becomes one example: grey or RGB as the model needs, resized. Its bytes are taken as they are, unless the
    data set says which number stands for white (``column.white``): then they are scaled to that. An npy or CSV file
    holds one example, or one a row, in its shape or flat; so does an npz file, under "inputs" or as its only array.
    Columns of a CSV file go by their names, if the model's have names.

    Args:
        path: a .npy, .npz, .csv or image file.
        column: what the model was trained on.
        invert: swap dark and bright in an image, for a model that was trained on white ink over black.

    Raises:
        InputError: if the file cannot be read, is of another type, or its shape, columns or numbers do not suit.
    """
    if path.suffix.lower() in IMAGES:
        given = _image(path, column, invert)
    else:
        given = _shaped(path, _array(path, column), column)
    with np.errstate(invalid="ignore"):
        inputs = given.astype(column.dtype)
    if (inputs != given).any():
        raise InputError(
            f"{path}: numbers from {given.min():g} to {given.max():g} do not fit {column.dtype}; the model was trained "
            f"on {column.low:g} to {column.high:g}: bring them to that range"
        )
    _check_range(path, given, column)
    return inputs


def _array(path: Path, column: Column) -> np.ndarray:
    match path.suffix.lower():
        case ".npy":
            return read_npy(path)
        case ".npz":
            arrays = read_npz(path)
            if "inputs" not in arrays and len(arrays) != 1:
                raise InputError(f"{path}: holds {sorted(arrays)}; name the one to use 'inputs'")
            return arrays.get("inputs", next(iter(arrays.values())))
        case ".csv":
            sheet = read_sheet(path)
            sheet.check_names()
            names = sheet.header
            if column.features:
                order = column_order([spelled(name) for name in names], column.features, str(path))
                names = [names[at] for at in order]
            return features(sheet, names)
        case suffix:
            raise InputError(f"{path}: a {suffix or 'nameless'} file is not read; give .npy, .npz, .csv or an image")


def _shaped(path: Path, array: np.ndarray, column: Column) -> np.ndarray:
    """Return an array that holds one example or several, flat or in the model's shape, as [N, *column.shape]."""
    shape = column.shape
    shapes = {shape, (math.prod(shape),)} | ({shape[:-1]} if shape[-1:] == (1,) else set())
    if not array.size or not (array.shape in shapes or array.shape[1:] in shapes):
        raise InputError(f"{path}: an array of shape {array.shape}; the model takes examples of shape {shape}, or flat")
    return Data(inputs=array.reshape(-1, *shape))["inputs"]


def _image(path: Path, column: Column, invert: bool) -> np.ndarray:
    if len(column.shape) != 3 or column.shape[-1] not in (1, 3):
        raise InputError(f"{path}: an image, but the model takes examples of shape {column.shape}")
    whole = np.dtype(column.dtype).kind in "iu"
    if not whole and column.white is None:
        raise InputError(
            f"{path}: the model was trained on {column.dtype} from {column.low:g} to {column.high:g}, and which "
            "of them stands for white is not known; give the pixels as .npy, in the units of the training data"
        )
    height, width, channels = column.shape
    pixels = decode_image(str(path), path.read_bytes, (height, width), channels)[None]
    pixels = 255 - pixels if invert else pixels
    if column.white is None:
        return pixels
    scaled = pixels.astype(np.float32) / 255.0 * np.float32(column.white)
    return np.round(scaled) if whole else scaled


def _check_range(path: Path, given: np.ndarray, column: Column) -> None:
    """Check that pixels are in the units of those that the model was trained on."""
    if len(column.shape) != 3 or column.shape[-1] not in (1, 3):
        return
    most = _FACTOR * column.high if column.white is None else column.white
    if given.max() > most > 0:
        raise InputError(
            f"{path}: pixels from {given.min():g} to {given.max():g}, but the model was trained on {column.low:g} to "
            f"{column.high:g}; bring them to that range"
        )
