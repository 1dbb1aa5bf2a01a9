"""File formats: IDX, text and CSV, each read with one kind of error that names the file."""

import math
from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from jaxnets.data.arrays import Data, Spec
from jaxnets.data.names import spelled
from jaxnets.data.separated import Sheet, read_sheet
from jaxnets.data.unpacking import decoded, reading, unpacked
from jaxnets.errors import InputError

_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """Return the array in an IDX file (the format of MNIST), gzipped or not.

    Raises:
        InputError: if the file is missing, no IDX file, cut short, or longer than its header says.
    """
    return reading(path, "an IDX file", _parse_idx)


def _parse_idx(path: Path) -> np.ndarray:
    with unpacked(path) as file:
        head = file.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_DTYPES or not 1 <= head[3] <= 4:
            raise InputError(f"{path}: not an IDX file: its first bytes are {head.hex(' ') or 'missing'}")
        dtype = np.dtype(_IDX_DTYPES[head[2]])
        sizes = file.read(4 * head[3])
        if len(sizes) < 4 * head[3]:
            raise InputError(f"{path}: cut short inside its header, at byte {4 + len(sizes)}")
        shape = np.frombuffer(sizes, ">u4").tolist()
        wanted = math.prod(shape) * dtype.itemsize
        body = _read_exactly(file, wanted, path, f"{shape} numbers of {dtype.itemsize} bytes")
    return np.frombuffer(body, dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def _read_exactly(file: BufferedIOBase, wanted: int, path: Path, what: str) -> bytearray:
    """Read ``wanted`` bytes and no more, a block at a time, so that a lying header cannot claim memory."""
    read = bytearray()
    while len(read) < wanted and (block := file.read(min(1 << 20, wanted - len(read)))):
        read += block
    if len(read) < wanted:
        raise InputError(f"{path}: cut short: its header promises {wanted} bytes ({what}), it holds {len(read)}")
    if file.read(1):
        raise InputError(f"{path}: longer than its header says ({what})")
    return read


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, gzipped or not.

    Raises:
        InputError: if the file is missing, broken or not UTF-8.
    """

    def parse(path: Path) -> str:
        with unpacked(path) as file:
            return decoded(file.read(), path)

    return reading(path, "UTF-8 text", parse)


def read_csv(
    path: Path, label: str | None = None, *, weights: str | None = None, like: Data | Spec | None = None
) -> Data:
    """Return a CSV file with a header line as ``Data``: "labels" are one column, "inputs" the features in the others.

    Args:
        path: the file.
        label: the column of the labels, text or numbers; the last one if absent.
        weights: the column that says how much each row counts, if there is one.
        like: the training data, or their spec: columns are found by its names, and classes numbered as there.

    Raises:
        InputError: if the file is missing or empty, lines differ in length, a feature is not a number, a label is
            empty, or a column or a class is not as in ``like``.
    """
    sheet = read_sheet(path)
    label = sheet.header[-1] if label is None else label
    sheet.check_names(label, *([] if weights is None else [weights]))
    stripped = [spelled(text) for text in sheet.column(label)]
    texts = sheet.padded(label, np.array(stripped, sheet.blocks[0].dtype))
    if (empty := texts == "").any():
        raise InputError(f"{sheet.at(label, int(empty.argmax()))}: the label is empty; remove the row")
    labels = sheet.numbers(texts.astype(sheet.blocks[0].dtype))
    if labels is None:
        labels = texts
    elif (labels == np.round(labels)).all():
        labels = labels.astype(np.int64)
    names = [name for name in sheet.header if name not in (label, weights)]
    arrays = {"inputs": features(sheet, names), "labels": labels}
    if weights is not None:
        arrays["weights"] = features(sheet, [weights])[:, 0]
    data = Data(known={"inputs": {"features": tuple(map(spelled, names))}}, **arrays)
    try:
        return data if like is None else data.like(like)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_table(path: Path) -> tuple[list[str], np.ndarray]:
    """Return a CSV file's header, and the rows below it as text [N, columns] (NumPy's ``StringDType``).

    Raises:
        InputError: if the file is missing or empty, has no header, or lines differ in length.
    """
    sheet = read_sheet(path)
    return sheet.header, np.concatenate(sheet.blocks)


def features(sheet: Sheet, names: Sequence[str]) -> np.ndarray:
    """Return the columns as features [N, names]; what is no number is an error that says where it is."""
    sheet.check_names()
    sheet.check_named(names)
    features = np.empty((len(sheet.lines), len(names)), np.float32)
    for to, name in enumerate(names):
        texts = sheet.column(name)
        numbers = sheet.numbers(texts)
        if numbers is None:
            raise InputError(sheet.no_number(name, texts))
        features[:, to] = numbers
    return features


def check_table(path: Path) -> None:
    """Check that a table of numbers can be written there.

    Raises:
        InputError: if the folder is not there, or the suffix is none of a table.
    """
    if path.suffix not in (".npy", ".npz", ".csv"):
        raise InputError(f"out={path}: its suffix must be .npy, .npz or .csv")
    if not path.parent.is_dir():
        raise InputError(f"out={path}: there is no folder {path.parent}")


def write_table(path: Path, rows: np.ndarray, header: Sequence[str]) -> None:
    """Write numbers [N, D] as .npy, as .npz (under "inputs") or, with a header, as .csv."""
    match path.suffix:
        case ".npy":
            np.save(path, rows)
        case ".npz":
            np.savez(path, inputs=rows)
        case _:
            np.savetxt(path, rows, delimiter=",", header=",".join(header), comments="", fmt="%.9g")
