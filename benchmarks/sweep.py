"""A sweep beside the same trials one by one: python -m benchmarks.sweep.

Trials of an MLP of two layers of 256 on scikit-learn's digits, which differ in learning rate and weight decay: as one
population, each by a fit of its own, and each by PyTorch's loop, asked for by Optuna. All train on the same rows, as
long, in batches of 64, with AdamW, a cosine and dropout. Wall time includes compilation, and validation at the end.
Run nothing else meanwhile.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
import optuna
import torch

import jaxnets as jn

RATES, DECAYS = np.geomspace(1e-4, 1e-1, 8).tolist(), [0.0, 0.01, 0.1]
TRIALS = [{"rate": rate, "decay": decay} for rate, decay in itertools.product(RATES, DECAYS)]
BATCH, HIDDEN, DROPOUT = 64, 256, 0.2


def learner(values: Mapping[str, Any], num_steps: int) -> jn.Learner:
    """Return the learner of a trial."""
    network = jn.network(jn.models.MLP, 64, (HIDDEN, HIDDEN), 10, dropout=DROPOUT)
    tx = optax.adamw(optax.cosine_decay_schedule(values["rate"], num_steps), weight_decay=values["decay"])
    return jn.supervised(network, jn.losses.softmax_cross_entropy, tx)


def as_one(train: jn.Data, held_out: jn.Data, options: dict[str, Any]) -> list[float]:
    """Train all trials as one population."""
    values = {name: [trial[name] for trial in TRIALS] for name in TRIALS[0]}
    many = jn.varied(lambda given: learner(given, options["duration"]), values)
    fitted = jn.fit(many, train, seed=[0] * len(TRIALS), validation=held_out, **options)
    return fitted.history[-1]["validation/loss"].tolist()


def one_by_one(train: jn.Data, held_out: jn.Data, options: dict[str, Any]) -> list[float]:
    """Train each trial by a fit of its own."""
    fits = (jn.fit(learner(trial, options["duration"]), train, validation=held_out, **options) for trial in TRIALS)
    return [float(fitted.history[-1]["validation/loss"]) for fitted in fits]


def by_optuna(train: jn.Data, held_out: jn.Data, options: dict[str, Any]) -> list[float]:
    """Train each trial by PyTorch, as Optuna's grid asks for them."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    grid = {"rate": RATES, "decay": DECAYS}
    study = optuna.create_study(sampler=optuna.samplers.GridSampler(grid, seed=0))
    parts = [torch.tensor(data[name]) for data in (train, held_out) for name in ("inputs", "labels")]
    inputs, labels, held_inputs, held_labels = (part.long() if part.ndim == 1 else part for part in parts)
    order = np.asarray(jn.data.shuffled(train, BATCH, 0).rows(0, options["duration"]))

    def objective(trial: optuna.Trial) -> float:
        rate, decay = (trial.suggest_float(name, min(values), max(values)) for name, values in grid.items())
        torch.manual_seed(0)
        layers = [torch.nn.Linear(64, HIDDEN), torch.nn.ReLU(), torch.nn.Dropout(DROPOUT)]
        layers += [torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU(), torch.nn.Dropout(DROPOUT)]
        model = torch.nn.Sequential(*layers, torch.nn.Linear(HIDDEN, 10))
        tx = torch.optim.AdamW(model.parameters(), rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(tx, len(order))
        for rows in order:
            tx.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
            tx.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(model(held_inputs), held_labels).item()

    study.optimize(objective, n_trials=len(TRIALS))
    found = {(trial.params["rate"], trial.params["decay"]): float(trial.values[0]) for trial in study.trials}
    return [found[trial["rate"], trial["decay"]] for trial in TRIALS]


WAYS: dict[str, Callable[..., list[float]]] = {
    "one population": as_one,
    "one by one": one_by_one,
    "PyTorch, Optuna": by_optuna,
}


def main() -> None:
    """Time each way, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="of each trial")
    steps = parser.parse_args().steps
    jax.config.update("jax_enable_compilation_cache", False)
    parts = jn.data.digits().parts
    train, held_out = (
        jn.Data(inputs=part["inputs"].reshape(-1, 64).astype(np.float32) / 16, labels=part["labels"])
        for part in (parts["train"], parts["test"])
    )
    options = {"batch_size": BATCH, "duration": steps, "evaluate_every": steps, "progress": False}
    print(f"{len(TRIALS)} trials of {steps:,} steps\n")
    print("| way | seconds | a trial | best held-out loss |\n|---|---|---|---|")
    for name, way in WAYS.items():
        begun = time.perf_counter()
        losses = way(train, held_out, options)
        took = time.perf_counter() - begun
        print(f"| {name} | {took:.1f} | {took / len(TRIALS):.2f} | {np.nanmin(losses):.4f} |", flush=True)


if __name__ == "__main__":
    main()
