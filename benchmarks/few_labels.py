"""Accuracy from 100 labels of MNIST, by a run that learned without labels, beside the same network alone.

    jaxnets train mnist-vicreg --out runs/features
    python -m benchmarks.few_labels runs/features

Ten labels a class, drawn anew five times. "frozen" is a linear classifier of the run's features, "tuned" the run's
network trained on, "alone" the same network from the start, which sees the same changes of its images and takes as many
steps as the tuned one. The command prints a table. It is for an encoder that is a CNN.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import jaxnets as jn
from jaxnets import cli
from jaxnets.data import labelled_images
from jaxnets.inference.similarity import normalized
from jaxnets.tasks.representations import Features, drawn_of_each, few_labels

DRAWS, LABELS_EACH = 5, 10  # as the run's own report has them


def accuracy(folder: Path, command: list[str], data: Path) -> float:
    """Return the test accuracy of a command's run on some data."""
    flags = ["--data", str(data), "--validation", "0", "--out", str(folder)]
    if cli.main([*command, *flags]):
        raise SystemExit(f"{' '.join(command)}: did not end well")
    return 100 * json.loads((folder / "result.json").read_text())["metrics"]["test/accuracy"]["mean"]


def alone(run: Path) -> list[str]:
    """Return the command that trains the run's network from the start, as fine-tuning does."""
    config = jn.open_run(run).config
    sizes = [str(width) for width in (*config.features, "--hidden", *config.hidden)]
    views = ["--shift", str(int(config.views.shift)), "--rotate", str(config.views.rotate)]
    rule = ["--learning-rate", "1e-3", "--weight-decay", "1e-2", "--warmup", "0", "--dropout", "0"]
    length = ["--duration", "600", "--evaluate-every", "100", "--batch-size", "32"]
    return ["train", "mnist-cnn", "--features", *sizes, *views, *rule, *length]


def main() -> None:
    """Train all for each draw, and print the table."""
    run, found = Path(sys.argv[1]), []
    splits = labelled_images("mnist")
    assert splits.test is not None
    opened = jn.open_run(run)
    known, asked = (
        Features(normalized(opened.predict(part["inputs"])), part["labels"]) for part in (splits.train, splits.test)
    )
    for draw in range(DRAWS):
        with tempfile.TemporaryDirectory() as name:
            folder, few = Path(name), splits.train.take(drawn_of_each(splits.train["labels"], LABELS_EACH, draw))
            arrays: dict[str, Any] = {"inputs": few["inputs"], "labels": few["labels"]}
            arrays |= {"test_inputs": splits.test["inputs"], "test_labels": splits.test["labels"]}
            np.savez(folder / "few.npz", **arrays)
            commands = {"tuned": ["finetune", str(run)], "alone": alone(run)}
            trained = [accuracy(folder / n, command, folder / "few.npz") for n, command in commands.items()]
            found.append([100 * few_labels(known, asked, draw), *trained])
    print("draw of labels | frozen | tuned | alone")
    for draw, row in enumerate(found):
        print(f"{draw:14} | {' | '.join(f'{value:.2f}%' for value in row)}")
    means, spreads = np.mean(found, 0), np.std(found, 0, ddof=1)
    print("mean ± std     | " + " | ".join(f"{m:.2f} ± {s:.2f}%" for m, s in zip(means, spreads, strict=True)))


if __name__ == "__main__":
    main()
