"""Forecasts with an interval: eight seeds trained in one program, and their errors on windows that none has seen."""

import numpy as np
import optax

import jaxnets as jn
from jaxnets.data import Series, split_series
from jaxnets.nn import GRU

HISTORY, HORIZON, SEEDS = 48, 24, 8


def gru(num_patches: int, patch: int, horizon: int, **options) -> jn.models.RNN:
    """Return what the columns share: a GRU over patches."""
    return jn.models.RNN(patch, (16,), horizon, cell=GRU, pool="last", **options)


# A daily wave on a trend, with noise: 60 days of hours.
hours = np.arange(1440.0)
noise = np.random.default_rng(0).normal(0, 0.5, len(hours))
values = hours / 100 + 3 * np.sin(2 * np.pi * hours / 24) + noise
series = Series(hours, values[:, None], ("load",), "hour")
parts = split_series(series, HISTORY, HORIZON, (0.6, 0.2, 0.2))
train, validation, test = parts.train, parts.validation, parts.test
assert validation is not None and test is not None

network = jn.network(jn.models.Forecaster, HISTORY, HORIZON, gru, patch=6, linear=True)
learner = jn.population(jn.supervised(network, jn.losses.mse, optax.adam(5e-3)), SEEDS, "vmap")
result = jn.fit(learner, train, duration="15ep", batch_size=32, seed=range(SEEDS), progress=False)

column = train.spec["inputs"]  # which knows the units
seen, unseen = ((jn.predict(learner, result.state, part["inputs"]), part["labels"]) for part in (validation, test))
errors = seen[0].mean(0) - seen[1]  # [N, H, 1]
half = np.quantile(np.abs(errors), 0.9, axis=0)  # [H, 1]: nine errors in ten were smaller
forecast = unseen[0].mean(0)
inside = np.abs(forecast - unseen[1]) <= half
scale = column.std[0]

print("hours ahead   90% interval   spread of the seeds   truth inside")
for ahead in (1, 6, 12, 24):
    spread = unseen[0].std(0, ddof=1)[:, ahead - 1].mean() * scale
    print(f"{ahead:11}   ±{half[ahead - 1, 0] * scale:11.2f}   {spread:19.2f}   {inside[:, ahead - 1].mean():12.0%}")
print(f"the seeds alone would claim too much: their spread knows nothing of the noise, {noise.std():.2f}")
