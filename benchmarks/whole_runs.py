"""Whole training runs beside PyTorch's, eager and compiled: python -m benchmarks.whole_runs TASK --out FILE.png.

``gpt`` is nanoGPT's configuration for CPUs on Shakespeare's characters (4 layers and heads, 128 wide, 64 characters,
batches of 12, 2,000 steps; its rate and warm-up too, but not its clipping and second momentum), ``cnn`` convolutions of
32 and 64 and a dense layer of 128 on MNIST (3 epochs of batches of 128). All start from the same weights and use the
same optimizer and schedule; which rows come when is each library's own affair. The same held-out data are evaluated as
often. Time runs from the first call to the last evaluation, compilation included: every run is a new process whose
caches are empty. Losses that differ by more than 5% at the end make the exit status 1.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.learner import Learner
from jaxnets.options import ImageAugmentation, LayerConfig, OptimizerConfig, TrainingConfig

LIBRARIES = ("ours", "torch", "torch-compile")
Curve = list[tuple[float, int, float]]  # seconds, step, held-out loss


class Task(NamedTuple):
    """What is trained on what, for all libraries.

    Attributes:
        learner: this library's.
        splits: the data; the last part is held out.
        training: steps, batch size, and how often to evaluate.
        optimizer: AdamW's settings.
    """

    learner: Learner
    splits: Any
    training: TrainingConfig
    optimizer: OptimizerConfig


def gpt(duration: str) -> Task:
    """Return nanoGPT's task, with its optimizer's rate and warm-up."""
    from jaxnets.recipes import language_modelling as recipe  # noqa: PLC0415  (each task loads its own recipe)

    config = recipe.PRESETS["shakespeare-gpt"].config
    optimizer = OptimizerConfig(learning_rate=1e-3, warmup=100, weight_decay=0.1)
    training = TrainingConfig(duration, batch_size=12, evaluate_every="250")
    transformer = replace(config.transformer, positions="learned")
    config = replace(config, optimizer=optimizer, transformer=transformer, training=training)
    splits = recipe.load(config)
    return Task(recipe.build(config, splits.train.spec), splits, training, optimizer)


def cnn(duration: str) -> Task:
    """Return a small CNN on MNIST."""
    from jaxnets.recipes import image_classification as recipe  # noqa: PLC0415

    config, optimizer = recipe.PRESETS["mnist-cnn"].config, OptimizerConfig(learning_rate=1e-3)
    training = TrainingConfig(duration, batch_size=128, evaluate_every="1ep")
    plain = {"layers": LayerConfig(), "dropout": 0.0, "augmentation": ImageAugmentation(), "optimizer": optimizer}
    config = replace(config, features=(32, "pool", 64, "pool"), training=training, **plain)
    splits = recipe.load(config)
    return Task(recipe.build(config, splits.train.spec), splits, training, optimizer)


TASKS: dict[str, Callable[[str], Task]] = {"gpt": gpt, "cnn": cnn}
DURATIONS = {"gpt": "2000", "cnn": "3ep"}


def train_ours(task: Task) -> Curve:
    """Train by the loop of ``fit``; the clock is read as each evaluation comes."""
    from jaxnets.training.events import events  # noqa: PLC0415  (only one library a process)

    start, splits = time.perf_counter(), task.splits
    run = events(task.learner, splits.train, validation=splits.validation, **task.training.options())
    return [
        (time.perf_counter() - start, event.step, float(event.row["validation/loss"]))
        for event in run
        if event.kind == "evaluation"
    ]


def train_torch(task: Task, name: str, *, compiled: bool) -> Curve:
    """Train by a loop such as PyTorch's users write, on the same weights."""
    import jax  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from torch.nn.functional import cross_entropy  # noqa: PLC0415

    from jaxnets.bench.torch_peer import CNN, GPT  # noqa: PLC0415
    from jaxnets.training.chunk import run_keys  # noqa: PLC0415
    from jaxnets.training.plan import check  # noqa: PLC0415

    data = {"gpt": _Characters, "cnn": _Images}[name](task.splits)
    params = jax.tree.map(np.asarray, task.learner.init(run_keys(0)[0]).params)
    plan = check(task.learner, task.splits.train, **task.training.options(), seed=0, validation=task.splits.validation)
    num_steps, warmup = plan.num_steps or 0, task.optimizer.warmup
    held_out = [tuple(map(torch.from_numpy, batch)) for batch in data.held_out()]

    def rate(step: int) -> float:
        rise = step / warmup if step < warmup else 1.0
        return min(rise, 0.5 + 0.5 * np.cos(np.pi * max(0, step - warmup) / (num_steps - warmup)))

    start, curve = time.perf_counter(), []
    model = {"gpt": GPT, "cnn": CNN}[name](params)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": task.optimizer.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, task.optimizer.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def loss_of(inputs: Any, labels: Any) -> Any:
        return cross_entropy(model(inputs).flatten(0, -2), labels.flatten())

    forward = torch.compile(loss_of) if compiled else loss_of
    for step in range(1, num_steps + 1):
        inputs, labels = map(torch.from_numpy, data.batch(task.training.batch_size))
        loss = forward(inputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % plan.every == 0 or step == num_steps:
            total, count = 0.0, 0.0
            with torch.no_grad():
                for x, y, mask in held_out:
                    losses = cross_entropy(model(x).flatten(0, -2), y.flatten(), reduction="none")
                    total, count = total + float((losses * mask.flatten()).sum()), count + float(mask.sum())
            curve.append((time.perf_counter() - start, step, total / count))
    return curve


class _Characters:
    """Windows of a text at random places, and its end, each character once."""

    def __init__(self, splits: Any):
        self.stretches, self.splits = np.asarray(splits.train["inputs"], np.int64), splits
        self.length, self.random = self.stretches.shape[1] // 2, np.random.default_rng(0)

    def batch(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.random.integers(0, len(self.stretches), (size, 1))
        places = self.random.integers(0, self.length, (size, 1)) + np.arange(self.length)
        return self.stretches[rows, places], self.stretches[rows, np.minimum(places + 1, 2 * self.length - 1)]

    def held_out(self) -> list[tuple[np.ndarray, ...]]:
        tokens = np.asarray(self.splits.validation["inputs"], np.int64)[:, -self.length - 1 :]
        mask = np.asarray(self.splits.validation["mask"], np.float32)[:, -self.length :]
        return [
            (tokens[i : i + 500, :-1], tokens[i : i + 500, 1:], mask[i : i + 500]) for i in range(0, len(mask), 500)
        ]


class _Images:
    """Standardised images, channels first, in an order that is drawn anew in each epoch."""

    def __init__(self, splits: Any):
        spec, self.random = splits.train.spec["inputs"], np.random.default_rng(0)
        (self.inputs, self.labels), self.test = (
            (
                ((part["inputs"].astype(np.float32) - spec.mean) / spec.std).transpose(0, 3, 1, 2).astype(np.float32),
                part["labels"].astype(np.int64),
            )
            for part in (splits.train, splits.validation)
        )
        self.order = np.empty(0, np.int64)

    def batch(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        if len(self.order) < size:
            self.order = np.concatenate([self.order, self.random.permutation(len(self.labels))])
        rows, self.order = self.order[:size], self.order[size:]
        return self.inputs[rows], self.labels[rows]

    def held_out(self) -> list[tuple[np.ndarray, ...]]:
        inputs, labels = self.test
        ones = np.ones(len(labels), np.float32)
        return [(inputs[i : i + 500], labels[i : i + 500], ones[i : i + 500]) for i in range(0, len(labels), 500)]


def run(name: str, library: str, duration: str) -> Curve:
    """Return the curve of a run in a new process, with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        variables = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor"}
        command = [sys.executable, "-m", "benchmarks.whole_runs", name, "--library", library, "--duration", duration]
        done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def draw(path: Path, curves: dict[str, list[Curve]], title: str) -> None:
    """Draw the held-out loss of every run over its time."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for number, (library, runs) in enumerate(curves.items()):
        for i, curve in enumerate(runs):
            seconds, _, losses = zip(*curve, strict=True)
            axes.plot(seconds, losses, f"C{number}.-", label=library if i == 0 else None, linewidth=1)
    axes.set_xlabel("seconds from the first call, compilation and evaluation included")
    axes.set_ylabel("held-out loss, nats")
    axes.set_title(title, loc="left")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> int:
    """Run all libraries in turn, print the ratios, draw the curves, and return 1 if the losses differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", help="another length: steps (60) or epochs (1ep)")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--library", choices=LIBRARIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 1 or (options.out and not options.out.parent.is_dir()):
        parser.error(f"rounds={options.rounds} must be 1 or more, and the folder of out={options.out} be there")
    duration = options.duration or DURATIONS[options.task]
    if options.library:  # the new process
        task = TASKS[options.task](duration)
        compiled = options.library == "torch-compile"
        ours = options.library == "ours"
        print(json.dumps(train_ours(task) if ours else train_torch(task, options.task, compiled=compiled)))
        return 0
    curves: dict[str, list[Curve]] = {library: [] for library in LIBRARIES}
    for number in range(options.rounds):
        for library in LIBRARIES[:: -1 if number % 2 else 1]:
            curves[library].append(run(options.task, library, duration))
            seconds, steps, loss = curves[library][-1][-1]
            print(
                f"{options.task} {library:<14}{seconds:7.1f} s for {steps} steps, held-out loss {loss:.4f}", flush=True
            )
    for library in LIBRARIES[1:]:
        ratios = [theirs[-1][0] / ours[-1][0] for theirs, ours in zip(curves[library], curves["ours"], strict=True)]
        spread = f"({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} rounds)"
        print(f"{options.task}: {library} takes {statistics.median(ratios):.2f} times as long {spread}")
    if options.out:
        draw(options.out, curves, f"{options.task}, {os.cpu_count()} cores")
    means = [statistics.mean(curve[-1][2] for curve in runs) for runs in curves.values()]
    return int(max(means) > 1.05 * min(means))


if __name__ == "__main__":
    sys.exit(main())
