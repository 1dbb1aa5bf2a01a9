"""A learning rate for each layer, found by descent on the held-out loss through all 100 steps of training.

The slopes by all four rates come out of one backward pass a run; a grid of six values for each would be 1,296 runs a
seed. It begins from the best of six single rates, and is told beside it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnets as jn

STEPS, BATCH, SEEDS, UPDATES = 100, 32, 4, 30
LAYERS = ("hidden/0/**", "hidden/1/**", "hidden/2/**", "out/**")

digits = jn.data.load("digits")
train, validation = digits.train.split(0.25)
test = digits.test
assert test is not None
column = train.spec["inputs"]
module = jn.network(jn.models.MLP, 64, (32, 32, 32), 10, activation=jax.nn.sigmoid)
network = jn.standardized(module, column.mean, column.std)


def make(log_rates: dict[str, Any]) -> jn.Learner:
    """Return the learner whose layers have rates of their own, by patterns of their names."""

    def scaled(updates, params):
        rates = jn.parameters.by_pattern(params, log_rates, 0.0)
        return jax.tree.map(lambda update, rate: -jnp.exp(rate) * update, updates, rates)

    tx = optax.chain(optax.trace(0.9), optax.stateless(scaled))
    return jn.supervised(network, jn.losses.softmax_cross_entropy, tx, {"accuracy": jn.metrics.accuracy})


columns, held_out, unseen = (jax.device_put(dict(data)) for data in (train, validation, test))


@jax.jit
def mapped(log_rates, seeds, rows, held_out):
    """Return what comes of a run for each seed: the held-out loss and its slopes, [seeds]."""
    return jax.vmap(lambda seed, rows: jn.hypergradient(make, log_rates, columns, rows, held_out, seed))(seeds, rows)


def runs(log_rates, first: int, data) -> jn.Hypergradient:
    """Return what comes of the runs with the seeds from ``first`` on."""
    seeds = np.arange(first, first + SEEDS)
    rows = np.stack([jn.data.shuffled(train, BATCH, int(seed)).rows(0, STEPS) for seed in seeds])
    return mapped(log_rates, seeds, rows, data)


grid = {rate: dict.fromkeys(LAYERS, np.float32(np.log(rate))) for rate in (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)}
losses = {rate: float(runs(rates, 0, held_out).loss.mean()) for rate, rates in grid.items()}
best = min(losses, key=lambda rate: losses[rate])
print("one rate for all:", ", ".join(f"{rate:g}: {loss:.3f}" for rate, loss in losses.items()))

rates: Any = grid[best]
outer = optax.adam(0.1)
state = outer.init(rates)
for _ in range(UPDATES):
    slopes = jax.tree.map(lambda leaf: leaf.mean(0), runs(rates, 0, held_out).hyper)
    updates, state = outer.update(slopes, state)
    rates = optax.apply_updates(rates, updates)
print("one for each layer:", ", ".join(f"{name}: {np.exp(rate):.3f}" for name, rate in rates.items()))

print(f"losses after {STEPS} steps      validation     test, other seeds   (mean ± std of {SEEDS} seeds)")
for name, found in ((f"before, all {best:g}", grid[best]), ("after", rates)):
    both = [np.asarray(runs(found, first, data).loss) for first, data in ((0, held_out), (SEEDS, unseen))]
    print(f"{name:20}", "    ".join(f"{loss.mean():8.3f} ± {loss.std(ddof=1):.3f}" for loss in both))
