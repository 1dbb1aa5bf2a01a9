"""Data: named arrays, file formats, named data sets, the order of rows, and augmentation."""

from jaxnets.data import augment, augment_boxes, augment_sound, masks, music, paired, speech, subwords, tokens
from jaxnets.data.arrays import FOLD, Column, Data, Spec, check_alike
from jaxnets.data.batches import padded_batches
from jaxnets.data.boxes import box_splits
from jaxnets.data.catalogue import boxed_images, check_pixels, labelled_images
from jaxnets.data.cifar import cifar10
from jaxnets.data.encoder import Encoder, fit_encoder
from jaxnets.data.fetching import fetch, find_path
from jaxnets.data.folds import in_folds
from jaxnets.data.formats import (
    check_table,
    read_csv,
    read_idx,
    read_table,
    read_text,
    write_table,
)
from jaxnets.data.groups import GROUP
from jaxnets.data.histories import Vocabulary, next_splits, rating_splits
from jaxnets.data.images import image_splits
from jaxnets.data.inputs import read_inputs
from jaxnets.data.named import NAMED, digits, find, load, mnist
from jaxnets.data.names import class_weights
from jaxnets.data.numpy_files import read_npy, read_npz
from jaxnets.data.orders import (
    MakeOrder,
    Order,
    Shuffle,
    balanced,
    by_length,
    classes_and_examples,
    episodes,
    shuffled,
    usual,
    weighted,
)
from jaxnets.data.ratings import Ratings, read_ratings
from jaxnets.data.raw import Raw, kinds_of, read_raw
from jaxnets.data.series import Series, read_series, split_series
from jaxnets.data.splits import Splits, idx_folder, npz_splits
from jaxnets.data.tables import Table, read_columns

__all__ = [
    "FOLD",
    "GROUP",
    "NAMED",
    "Column",
    "Data",
    "Encoder",
    "MakeOrder",
    "Order",
    "Ratings",
    "Raw",
    "Series",
    "Shuffle",
    "Spec",
    "Splits",
    "Table",
    "Vocabulary",
    "augment",
    "augment_boxes",
    "augment_sound",
    "balanced",
    "box_splits",
    "boxed_images",
    "by_length",
    "check_alike",
    "check_pixels",
    "check_table",
    "cifar10",
    "class_weights",
    "classes_and_examples",
    "digits",
    "episodes",
    "fetch",
    "find",
    "find_path",
    "fit_encoder",
    "idx_folder",
    "image_splits",
    "in_folds",
    "kinds_of",
    "labelled_images",
    "load",
    "masks",
    "mnist",
    "music",
    "next_splits",
    "npz_splits",
    "padded_batches",
    "paired",
    "rating_splits",
    "read_columns",
    "read_csv",
    "read_idx",
    "read_inputs",
    "read_npy",
    "read_npz",
    "read_ratings",
    "read_raw",
    "read_series",
    "read_table",
    "read_text",
    "shuffled",
    "speech",
    "split_series",
    "subwords",
    "tokens",
    "usual",
    "weighted",
    "write_table",
]
