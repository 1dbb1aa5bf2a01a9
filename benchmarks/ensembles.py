"""What an ensemble gains over its mean member: python -m benchmarks.ensembles.

MNIST by an MLP of two layers of 256, and scikit-learn's breast cancer data, a table, by one of 64: ensembles of ten
members that differ in the seed alone, on held-out examples; five ensembles each, on MNIST of the same test set, on the
table each on a fifth that is held out. MNIST is fetched, or read from $JAXNETS_DATA.
"""

import argparse
from typing import Any

import jax
import numpy as np
import optax
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold

import jaxnets as jn

MEMBERS, ENSEMBLES = 10, 5


def gains(hidden: int, train: jn.Data, test: jn.Data, seed: int, options: dict[str, Any]) -> dict[str, list[float]]:
    """Return by metric: the mean of the members, and the ensemble's."""
    network = jn.network(jn.models.MLP, int(np.prod(train["inputs"].shape[1:])), (hidden, hidden), options["classes"])
    num_steps = options["epochs"] * train.num_examples // 64
    tx = optax.adam(optax.cosine_decay_schedule(2e-3, num_steps))
    many = jn.population(jn.supervised(network, jn.losses.softmax_cross_entropy, tx), MEMBERS)
    seeds = range(seed * MEMBERS, (seed + 1) * MEMBERS)
    fitted = jn.fit(many, train, duration=num_steps, batch_size=64, seed=seeds, progress=False)
    found = jn.ensemble_metrics(jn.predict(many, fitted.state, test["inputs"]), test["labels"])
    return {name: [float(members.mean()), together] for name, (members, together) in found.items()}


def of_mnist() -> list[dict[str, list[float]]]:
    """Return the gains of five ensembles on MNIST."""
    parts = jn.data.mnist().parts
    train, test = (
        jn.Data(
            inputs=(parts[name]["inputs"].reshape(parts[name].num_examples, -1) / 255).astype(np.float32),
            labels=parts[name]["labels"],
        )
        for name in ("train", "test")
    )
    options = {"epochs": 5, "classes": 10}
    return [gains(256, train, test, seed, options) for seed in range(ENSEMBLES)]


def of_a_table() -> list[dict[str, list[float]]]:
    """Return the gains of five ensembles on breast cancer data, each on a fifth that it did not see."""
    table: Any = load_breast_cancer()
    found = []
    folds = StratifiedKFold(ENSEMBLES, shuffle=True, random_state=0).split(table.data, table.target)
    for seed, (rows, held_out) in enumerate(folds):
        mean, std = table.data[rows].mean(0), table.data[rows].std(0)
        inputs = ((table.data - mean) / std).astype(np.float32)
        train, test = (jn.Data(inputs=inputs[part], labels=table.target[part]) for part in (rows, held_out))
        found.append(gains(64, train, test, seed, {"epochs": 40, "classes": 2}))
    return found


def main() -> None:
    """Measure both, and print a table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{len(jax.devices())} x {jax.devices()[0].device_kind}, {MEMBERS} members, {ENSEMBLES} ensembles")
    print("| data | metric | mean member | ensemble | gain |\n|---|---|---|---|---|")
    for data, found in (("MNIST", of_mnist()), ("breast cancer", of_a_table())):
        for name in found[0]:
            values = np.array([row[name] for row in found])  # [ensembles, 2]
            columns = (*values.T, values[:, 1] - values[:, 0])
            cells = [f"{column.mean():.4f} ± {column.std(ddof=1):.4f}" for column in columns]
            print(f"| {data} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
