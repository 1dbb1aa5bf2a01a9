"""A module of one's own, trained in one compiled loop that is called by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxnets as jn


class Fourier(nnx.Module):
    """Random Fourier features, then a linear layer: a smooth function of one number."""

    def __init__(self, num_features: int, *, rngs: nnx.Rngs):
        self.frequencies = nnx.Variable(4 * jax.random.normal(rngs.params(), (1, num_features)))  # not trained
        self.out = nnx.Linear(2 * num_features, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the function's value at each x, [B, 1] -> [B, 1]."""
        phase = x @ self.frequencies[...]
        return self.out(jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1))


x = np.linspace(-3, 3, 400)[:, None]
data = jn.Data(inputs=x, labels=np.sin(2 * x) + 0.3 * x)
learner = jn.supervised(jn.network(Fourier, 64), jn.losses.mse, optax.adam(1e-2))

# ``chunk`` is a pure function of many steps; here one program takes 500 of them, three times.
init_key, key = jn.run_keys(0)
state = learner.init(init_key)
rows = jn.data.Shuffle(data.num_examples, 32, seed=0).rows(0, 1500)
columns = jax.device_put(dict(data))
program = jax.jit(jn.chunk(learner))
for start in (0, 500, 1000):
    sums = jn.no_metrics(learner, state, columns, rows, key)
    state, sums = program(state, sums, columns, rows, start, 500, key)
    metrics = jn.metrics.compute(learner.metrics, jn.metrics.values_of(sums))
    print(f"step {int(state.step)}: mean squared error {metrics['loss']:.5f}")
