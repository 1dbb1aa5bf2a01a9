"""Accuracy by number of photographs a class: a head on EfficientNet-Lite0's features beside a CNN from scratch.

    python -m benchmarks.few_examples

Photographs are CIFAR-10's (JPEG), 5 to 100 a class, drawn anew for each of five seeds; accuracy is that of the first
2,000 test images. Prints a table, and draws it in benchmarks/few_examples.png.
"""

import time
from pathlib import Path

import numpy as np
import optax

import jaxnets as jn
from jaxnets.data import Data, labelled_images
from jaxnets.network import standardized

NUMBERS, SEEDS, TEST, SIDE = (5, 10, 20, 50, 100), range(5), 2000, 96
PICTURE = Path(__file__).with_name("few_examples.png")


def drawn(labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Return rows of so many examples of each class."""
    draw = np.random.default_rng(seed)
    return np.concatenate([draw.choice(np.flatnonzero(labels == label), number, False) for label in range(10)])


def accuracy(network: jn.Network, train: Data, test: Data, epochs: int, rate: float, seed: int) -> float:
    """Return the accuracy on test data of a network that is trained from the start."""
    tx = optax.adamw(optax.cosine_decay_schedule(rate, epochs * train.num_examples // 32), weight_decay=1e-2)
    learner = jn.supervised(network, jn.losses.softmax_cross_entropy, tx, {"accuracy": jn.metrics.accuracy})
    fit = jn.fit(learner, train, duration=f"{epochs}ep", batch_size=32, seed=seed, progress=False)
    return jn.evaluate(learner, fit.state, test)["accuracy"]


def main() -> None:
    """Train both for each number and seed, print the table and draw it."""
    start = time.perf_counter()
    splits = labelled_images("cifar10-jpeg.zip")
    assert splits.test is not None
    images, test = splits.train, splits.test.take(np.arange(TEST))
    rows = {(n, seed): drawn(images["labels"], n, seed) for n in NUMBERS for seed in SEEDS}
    used = np.unique(np.concatenate(list(rows.values())))
    model = jn.pretrained("efficientnet-lite0", shape=(SIDE, SIDE, 3))
    weights = model.params, model.model_state
    known, held_out = (jn.featurized(model.body, *weights, data, keep=True) for data in (images.take(used), test))
    pixels = images.spec["inputs"]
    cnn = jn.network(jn.models.CNN, pixels.shape, (16, "pool", 32, "pool", 48, "pool"), (64,), 10, dropout=0.3)
    scratch = standardized(cnn, pixels.mean, pixels.std)
    features = known.spec["inputs"]
    head = standardized(jn.network(jn.models.MLP, features.shape[0], (), 10), features.mean, features.std)
    found: dict[str, list[list[float]]] = {"pretrained": [], "scratch": []}
    print("photographs a class | pretrained features | from scratch")
    for n in NUMBERS:
        both = [
            (
                accuracy(head, known.take(np.searchsorted(used, rows[n, s])), held_out, 40, 1e-3, s),
                accuracy(scratch, images.take(rows[n, s]), test, 80, 2e-3, s),
            )
            for s in SEEDS
        ]
        for name, values in zip(found, zip(*both, strict=True), strict=True):
            found[name].append([100 * float(value) for value in values])
        cells = [f"{np.mean(found[name][-1]):.1f} ± {np.std(found[name][-1], ddof=1):.1f}%" for name in found]
        print(f"{n:19} | {cells[0]:>19} | {cells[1]:>12}", flush=True)
    print(f"{time.perf_counter() - start:.0f} s, five seeds")
    draw(found)


def draw(found: dict[str, list[list[float]]]) -> None:
    """Draw accuracy by number of photographs."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure((6, 4), layout="constrained")
    axes = figure.subplots()
    names = {"pretrained": "a head on EfficientNet-Lite0's features", "scratch": "a CNN from scratch"}
    for name, values in found.items():
        means, spreads = np.mean(values, 1), np.std(values, 1, ddof=1)
        axes.errorbar(NUMBERS, means, spreads, marker="o", capsize=3, label=names[name])
    axes.axhline(10, color="grey", linewidth=1, linestyle=":")
    axes.text(NUMBERS[0], 11, "chance", color="grey")
    axes.set(xscale="log", xlabel="photographs a class (CIFAR-10, JPEG)", ylabel="test accuracy, %", ylim=(0, 100))
    axes.set_xticks(NUMBERS, [str(n) for n in NUMBERS])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
