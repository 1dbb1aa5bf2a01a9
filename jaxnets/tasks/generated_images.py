"""Images that a generator draws from codes, judged by a classifier that is trained for it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import losses
from jaxnets.data import Data, Spec, Splits
from jaxnets.errors import InputError
from jaxnets.learner import TrainState
from jaxnets.learners import supervised
from jaxnets.metrics import frechet_distance
from jaxnets.models import CNN
from jaxnets.network import Coded, Network, network, standardized
from jaxnets.options import GenerateOptions, OptimizerConfig, make_optimizer
from jaxnets.runs import plots
from jaxnets.tasks.drawn import pictured
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
from jaxnets.training.duration import Duration
from jaxnets.training.evaluation import predict
from jaxnets.training.fit import fit

_MEASURED = 10_000  # generated images that are measured
_WATCHED = 12  # codes whose images are drawn at each evaluation


def generated_images(spec: Spec, code_dim: int, conditional: bool) -> Task:
    """Return the task of a generator whose images have pixels from -1 to 1, and of a discriminator's scores.

    Args:
        spec: of the training data.
        code_dim: standard normal numbers in a code.
        conditional: codes end in a one-hot class.
    """
    classes = spec["labels"].classes

    def images(trained: Trained, state: TrainState, labels: np.ndarray, seed: int, scale: float = 1.0) -> np.ndarray:
        """Return images [N, H, W, C], pixels 0 to 1, of these classes if the network is conditional."""
        codes = scale * np.asarray(jax.random.normal(jax.random.key(seed), (len(labels), code_dim)))
        if conditional:
            codes = np.concatenate([codes, np.eye(len(classes), dtype=np.float32)[labels]], 1)
        return (predict(trained.learner, state, Coded(codes)) + 1) / 2

    def score(trained: Trained, examples: Examples) -> np.ndarray:
        return trained.mean(examples.inputs)

    def rows(examples: Examples, made: np.ndarray) -> Sequence[Row]:
        """Return the discriminator's scores: the higher, the more it holds an image for real."""
        return one_row_each(examples, [{"score": float(value)} for value in made])

    def draw(trained: Trained, options: GenerateOptions) -> Generated:
        options.check_no_tokens()
        number = options.length or 64
        if options.prompt and not conditional:
            raise InputError(f"prompt={options.prompt!r}: the network knows no classes; train with --conditional")
        if options.prompt and options.prompt not in classes:
            raise InputError(f"prompt={options.prompt!r} is no class; use one of {', '.join(classes)}")
        one = [classes.index(options.prompt)] if options.prompt else range(len(classes))
        labels = np.resize(np.array(one), number)
        return pictured(images(trained, trained.first, labels, options.seed, options.temperature), options)

    def watch(trained: Trained, step: int, folder: Path) -> None:
        """Keep images of the same few codes."""
        made = images(trained, trained.first, np.arange(_WATCHED) % len(classes), seed=1)
        (folder / "samples").mkdir(exist_ok=True)
        np.save(folder / "samples" / f"{step:08d}.npy", made.astype(np.float16))

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Draw samples, and measure what classes they have and how far from real they are."""
        steps = {f"step {int(path.stem):,}": np.load(path) for path in sorted((folder / "samples").glob("*.npy"))}
        plots.save_image_rows(folder / "samples-by-step.png", {name: steps[name] for name in _spread(list(steps), 12)})
        draw(trained, GenerateOptions(out=folder / "samples", length=100))
        labels = np.arange(_MEASURED) % len(classes)
        untrained = trained.learner.init(jax.random.key(0))
        made = [images(trained, state, labels, seed=2) for state in (*trained.states, untrained)]
        return _measured(splits, made[:-1], made[-1], labels if conditional else None)

    return Task(
        read=reading_files(spec),
        predict=score,
        rows=rows,
        options=FileOptions(),
        generate=draw,
        watch=watch,
        finish=finish,
    )


def _measured(
    splits: Splits, generated: Sequence[np.ndarray], untrained: np.ndarray, asked: np.ndarray | None
) -> Finished:
    """Return what a classifier that is trained here says of generated images, of each seed, beside real ones.

    Args:
        splits: the data.
        generated: images of each seed.
        untrained: images of a generator that has learned nothing.
        asked: the classes that were asked for, if any were.
    """
    train, test = splits.train, splits.test
    assert test is not None
    judge, high = _train_judge(train), np.float32(train.spec["inputs"].high)
    real = judge(test["inputs"] / high)
    number = min(_MEASURED, test.num_examples, train.num_examples)  # of fewer, distances are larger

    def distance(judged: _Judged) -> float:
        return frechet_distance(judged.features[:number], real.features)

    metrics: dict[str, list[float]] = {}
    for images in generated:
        judged = judge(images)
        shares = np.bincount(judged.classes, minlength=len(train.classes)) / len(images)
        values = {
            "test/fid": distance(judged),
            "test/smallest_class_share": float(shares.min()),
            "test/largest_class_share": float(shares.max()),
            "test/clear_share": judged.clear,
        }
        if asked is not None:
            values["test/asked_class_share"] = float((judged.classes == asked).mean())
        for name, value in values.items():
            metrics.setdefault(name, []).append(value)
    rows = np.random.default_rng(0).choice(train.num_examples, number, replace=False)  # data may be in order
    baselines = {
        "test/judge_accuracy": float((real.classes == test["labels"]).mean()),
        "test/fid_of_real_images": distance(judge(train["inputs"][rows] / high)),
        "test/fid_of_untrained": distance(judge(untrained)),
        "test/clear_share_of_real_images": real.clear,
    }
    of = f"of {number:,} images, by a classifier of our own"
    clear = "images of which the classifier is 95% sure"
    about = {"test/fid": of, "test/clear_share": clear, "test/judge_accuracy": "of that classifier"}
    return Finished(metrics, baselines, about)


class _Judged(NamedTuple):
    """What the classifier makes of images: features [N, D], classes [N], and the share that it is 95% sure of."""

    features: np.ndarray
    classes: np.ndarray
    clear: float


def _train_judge(train: Data) -> Callable[[np.ndarray], _Judged]:
    """Return a function that judges images, pixels 0 to 1, by a small CNN that is trained here.

    It is trained for three epochs, or 500 steps if these are more.
    """
    column, num_classes, width = train.spec["inputs"], len(train.classes), 128

    def classifier(out_features: int, dropout: float = 0.0) -> Network:
        layers = (16, "pool", 32, "pool"), (width,), out_features
        return standardized(network(CNN, column.shape, *layers, dropout=dropout), column.mean, column.std)

    batch_size = min(128, train.num_examples)
    optimizer = OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2)
    num_steps = max(500, Duration.parse("3ep").steps(train.num_examples, batch_size) or 0)
    tx = make_optimizer(optimizer, num_steps)
    learner = supervised(classifier(num_classes, dropout=0.4), losses.softmax_cross_entropy, tx)
    state = fit(learner, train, duration=num_steps, batch_size=batch_size, progress=False).state
    # With the identity in place of its last layer, the network returns what stands before it.
    head = {**state.params["head"], "out": {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}}
    before_last = state.replace(params={**state.params, "head": head})
    features_of = supervised(classifier(width), losses.mse, tx)

    def judge(images: np.ndarray) -> _Judged:
        raw = (images * column.high).astype(np.float32)
        logits = predict(learner, state, raw)
        clear = np.asarray(jax.nn.softmax(logits)).max(-1) > 0.95
        return _Judged(predict(features_of, before_last, raw), logits.argmax(-1), float(clear.mean()))

    return judge


def _spread(names: list[str], most: int) -> list[str]:
    """Return names from the first to the last, as evenly as they fall, at most so many."""
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))]
