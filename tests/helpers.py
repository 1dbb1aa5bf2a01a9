"""Small pieces that several tests are made of."""

import importlib.util
import io
import os
import sys
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets import cli


def quick(values: Iterable[Any], number: int = 1) -> list[Any]:
    """Return a test's parameters: the first ``number`` for every run of the suite, the others for CI."""
    return [pytest.param(value, marks=[pytest.mark.slow] * (i >= number)) for i, value in enumerate(values)]


def adam(learning_rate: float) -> optax.GradientTransformation:
    """Return Optax' Adam; inside it dtypes may mix (it raises floats to whole powers) where the suite is strict."""
    init, update = optax.adam(learning_rate)

    def mixed(*args: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return update(*args)

    return optax.GradientTransformation(init, mixed)


def small_learner(dropout: float = 0.0, tx: Any = None, **kwargs: Any) -> jn.Learner:
    """Return a learner for ``blobs``: an MLP of one hidden layer."""
    network = jn.network(jn.models.MLP, 4, (16,), 3, dropout=dropout, **kwargs)
    metrics = {"accuracy": jn.losses.accuracy}
    return jn.supervised(network, jn.losses.softmax_cross_entropy, tx or adam(1e-2), metrics)


def assert_same_bits(a: Any, b: Any) -> None:
    """Assert that two pytrees hold the very same numbers."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        one, other = np.asarray(x), np.asarray(y)
        assert one.dtype == other.dtype and one.shape == other.shape, path
        assert one.tobytes() == other.tobytes(), f"{jax.tree_util.keystr(path)}: up to {np.abs(one - other).max()}"


def keys(seed: int, number: int) -> jax.Array:
    """Return so many keys, made anew at each call: where ``jax_debug_key_reuse`` is on, each serves but once."""
    return jax.random.split(jax.random.key(seed), number)


def member(tree: Any, i: int) -> Any:
    """Return one member of a population's pytree."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


def fails(capsys, *arguments: object) -> str:
    """Return the error that the arguments get, all white space as single spaces."""
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as error:
        status = error.code
    assert status == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return " ".join((printed.err + printed.out).replace("│", " ").split())


def wav(samples: np.ndarray, width: int = 2, rate: int = 8000) -> bytes:
    """Return a WAV file of samples [N] or [N, channels] from -1 to 1, of so many bytes each."""
    samples = samples if samples.ndim == 2 else samples[:, None]
    numbers = np.round(samples * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    if width == 1:
        raw = (numbers + 128).astype(np.uint8).tobytes()
    else:
        raw = numbers.astype("<i8").reshape(-1, 1).view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(samples.shape[1])
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(raw)
    return file.getvalue()


def real(package: str, pattern: str) -> Path:
    """Return a file of a package of real weights, unpacked or installed; skip the test if there is none."""
    folders = [Path(given, package) for given in [os.environ.get("JAXNETS_WEIGHTS")] if given]
    spec = importlib.util.find_spec(package)
    folders += [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    found = [path for folder in folders for path in sorted(folder.rglob(pattern))]
    if not found:
        pytest.skip(f"needs {pattern} of the package {package}: install it, or unpack it into JAXNETS_WEIGHTS")
    return found[0]


MENDED: list[Any] = []  # what torchvision needs, kept alive


def mend_torchvision(torch: Any) -> None:
    """Have torchvision imported, if it is installed, though it may be built for another PyTorch than is.

    Its models are plain Python, once two operators have a signature.
    """
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        MENDED.append(library)
        import torchvision  # noqa: F401
