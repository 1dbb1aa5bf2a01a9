"""Reconstructions: images that an autoencoder makes of those it is given, of codes, and of chance."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets.data import Data, Spec, Splits
from jaxnets.errors import InputError
from jaxnets.learner import Learner
from jaxnets.learners import Autoencoded
from jaxnets.network import Coded
from jaxnets.options import GenerateOptions
from jaxnets.runs import plots
from jaxnets.tasks.drawn import check_images, pictured, save_images
from jaxnets.tasks.task import (
    Examples,
    FileOptions,
    Finished,
    Generated,
    Row,
    Task,
    Trained,
    one_row_each,
    reading_files,
)
from jaxnets.training.evaluation import evaluate, predict

_MAPPED = 1000  # test images whose codes are drawn as a map


def reconstructions(spec: Spec, code_dim: int, likelihood: tuple[Learner, str] | None = None) -> Task:
    """Return the task of an autoencoder of images, pixels 0 to the spec's ``high``; its outputs are logits.

    Args:
        spec: of the training data.
        code_dim: numbers in a code.
        likelihood: of a variational one, whose codes can be drawn: the learner that measures "nll", and how it does.
    """
    high = np.float32(spec["inputs"].high)

    def make(trained: Trained, examples: Examples) -> np.ndarray:
        return trained.mean(examples.inputs, _images)

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        errors = np.square(made - examples.inputs / high).mean((-3, -2, -1))
        return one_row_each(examples, [{"mse": float(error)} for error in errors])

    def encode(trained: Trained, examples: Examples) -> np.ndarray:
        return predict(trained.learner, trained.first, examples.inputs).codes

    def draw(trained: Trained, options: GenerateOptions) -> Generated:
        options.check_no_tokens()
        if options.prompt:
            raise InputError(f"prompt={options.prompt!r}: images of no class are drawn; leave it out")
        codes = np.asarray(jax.random.normal(jax.random.key(options.seed), (options.length or 64, code_dim)))
        made = predict(trained.learner, trained.first, Coded(options.temperature * codes))
        return pictured(_images(made), options)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        assert splits.test is not None
        _draw(folder, splits.test, float(high), trained)
        if likelihood is None:
            return _beside_pca(trained, splits, code_dim)
        draw(trained, GenerateOptions(out=folder / "samples", length=100))
        learner, how = likelihood
        measured = [float(evaluate(learner, state, splits.test)["nll"]) for state in trained.states]
        return Finished({"test/nll": measured}, about={"test/nll": how})

    return Task(
        read=reading_files(spec),
        predict=make,
        rows=rows,
        options=FileOptions(),
        save=save_images,
        check_save=check_images,
        encode=encode,
        generate=None if likelihood is None else draw,
        finish=finish,
    )


def _images(coded: Autoencoded) -> np.ndarray:
    """Return the images that are predicted, pixels 0 to 1."""
    return np.asarray(jax.nn.sigmoid(coded.outputs))


def _beside_pca(trained: Trained, splits: Splits, code_dim: int) -> Finished:
    """Return the test error over that of a principal component analysis with as many numbers a code."""
    train, test = splits.train, splits.test
    assert test is not None
    high = np.float32(train.spec["inputs"].high)
    clean = test.get("clean", test["inputs"]) / high
    metrics: dict[str, list[float]] = {}
    baselines: dict[str, float] = {}
    if code_dim < min(train.num_examples, int(np.prod(clean.shape[1:]))):  # else it leaves nothing out
        made = principal_components(train["inputs"] / high, test["inputs"] / high, code_dim)
        baselines["test/mse_of_pca"] = pca = float(np.square(made - clean).mean())
        errors = (float(evaluate(trained.learner, state, test)["mse"]) for state in trained.states)
        metrics["test/mse_over_pca"] = [mse / pca for mse in errors]
    if "clean" in test:
        baselines["test/mse_of_noisy_images"] = float(np.square(test["inputs"] / high - clean).mean())
    return Finished(metrics, baselines, {"test/mse_of_pca": f"with {code_dim} components"})


def _draw(folder: Path, test: Data, high: float, trained: Trained) -> None:
    """Write reconstructions.png, walk.png and codes.png."""

    def make(inputs: Any) -> Autoencoded:
        return predict(trained.learner, trained.first, inputs)

    some = test["inputs"][:12]
    rows = {"given": some / high, "reconstructed": _images(make(some))}
    if "clean" in test:
        rows["without noise"] = test["clean"][:12] / high
    plots.save_image_rows(folder / "reconstructions.png", rows)
    codes = np.asarray(make(test["inputs"][:_MAPPED]).codes)
    _draw_walk(folder / "walk.png", codes, lambda codes: _images(make(Coded(codes))))
    if len(codes) >= 10:  # of fewer there is no map
        plots.save_map(folder / "codes.png", codes, test["labels"][:_MAPPED], test.classes)


def _draw_walk(path: Path, codes: np.ndarray, decode: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write what is between the codes of some images."""
    half = min(6, len(codes) // 2)
    share = np.linspace(0.0, 1.0, 12, dtype=np.float32)[:, None]
    walks = {
        f"from the code of image {i + 1} to that of image {i + half + 1}": decode(
            (1 - share) * codes[i] + share * codes[i + half]
        )
        for i in range(half)
    }
    if walks:
        plots.save_image_rows(path, walks)


def principal_components(train: np.ndarray, inputs: np.ndarray, number: int) -> np.ndarray:
    """Return the inputs [N, ...] as a principal component analysis of the training data reconstructs them."""
    from sklearn.decomposition import PCA  # noqa: PLC0415  (slow to import)

    method = PCA(number, random_state=0).fit(train.reshape(len(train), -1))
    codes = method.transform(inputs.reshape(len(inputs), -1))
    return method.inverse_transform(codes).reshape(inputs.shape)
