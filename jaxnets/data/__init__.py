"""Data: named arrays, file formats, named data sets, the order of rows, and augmentation."""

from jaxnets.data import augment, datasets, music, subwords, tokens
from jaxnets.data.arrays import Column, Data, Spec, check_alike
from jaxnets.data.batches import Shuffle, padded_batches
from jaxnets.data.catalogue import check_pixels, labelled_images
from jaxnets.data.cifar import cifar10
from jaxnets.data.datasets import Splits, digits, fetch, find_path, idx_folder, mnist, npz_splits
from jaxnets.data.formats import (
    check_table,
    read_csv,
    read_idx,
    read_inputs,
    read_npz,
    read_table,
    read_text,
    write_table,
)
from jaxnets.data.images import image_splits
from jaxnets.data.series import Series, read_series, split_series

__all__ = [
    "Column",
    "Data",
    "Series",
    "Shuffle",
    "Spec",
    "Splits",
    "augment",
    "check_alike",
    "check_pixels",
    "check_table",
    "cifar10",
    "datasets",
    "digits",
    "fetch",
    "find_path",
    "idx_folder",
    "image_splits",
    "labelled_images",
    "mnist",
    "music",
    "npz_splits",
    "padded_batches",
    "read_csv",
    "read_idx",
    "read_inputs",
    "read_npz",
    "read_series",
    "read_table",
    "read_text",
    "split_series",
    "subwords",
    "tokens",
    "write_table",
]
