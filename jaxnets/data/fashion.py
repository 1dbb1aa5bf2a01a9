"""Fashion-MNIST: pictures of clothes in MNIST's layout, and harder."""

from pathlib import Path

from jaxnets.data.arrays import Data
from jaxnets.data.fetching import Remote, located
from jaxnets.data.splits import Splits, idx_folder

_SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
_HOME = "https://github.com/zalandoresearch/fashion-mnist/raw/b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion"
FASHION_MNIST = {name: Remote(f"{_HOME}/{name}", sha256) for name, sha256 in _SHA256.items()}
_CLASSES = (
    "T-shirt or top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def fashion_mnist(data_dir: Path | None = None) -> Splits:
    """Return Fashion-MNIST (Xiao et al., 2017): 60,000 pictures of clothes to train on and 10,000 to test.

    Images are [N, 28, 28, 1] uint8, of ten classes.

    Args:
        data_dir: folder of the four IDX files, gzipped or not, or one with a folder "fashion-mnist" that holds them. If
            absent, ``JAXNETS_DATA`` is taken for it, then the cache folder, into which they are fetched.

    Raises:
        InputError: if the files are not there and cannot be fetched, or are broken.
    """
    found = idx_folder(next(iter(located("fashion-mnist", FASHION_MNIST, data_dir).values())).parent)
    return found.mapped(lambda part: Data(inputs=part["inputs"], labels=part["labels"], classes=_CLASSES))
