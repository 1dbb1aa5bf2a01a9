"""Data: named arrays, file formats, named data sets, the order of rows, and augmentation."""

from jaxnets.data import augment, datasets, music, tokens
from jaxnets.data.arrays import Column, Data, Spec, check_alike
from jaxnets.data.batches import Shuffle, padded_batches
from jaxnets.data.datasets import Splits, digits, fetch, idx_folder, mnist, npz_splits
from jaxnets.data.formats import read_csv, read_idx, read_inputs, read_npz, read_text

__all__ = [
    "Column",
    "Data",
    "Shuffle",
    "Spec",
    "Splits",
    "augment",
    "check_alike",
    "datasets",
    "digits",
    "fetch",
    "idx_folder",
    "mnist",
    "music",
    "npz_splits",
    "padded_batches",
    "read_csv",
    "read_idx",
    "read_inputs",
    "read_npz",
    "read_text",
    "tokens",
]
