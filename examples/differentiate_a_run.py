"""A run is a function: here its validation loss is differentiated, through all its steps, by its learning rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_wine

import jaxnets as jn

inputs, labels = load_wine(return_X_y=True)
train, validation = jn.Data(inputs=inputs, labels=labels).split(0.3)
column = train.spec["inputs"]
network = jn.standardized(jn.network(jn.models.MLP, 13, (16,), 3), column.mean, column.std)
rows = jn.data.Shuffle(train.num_examples, 16, seed=0).rows(0, 50)
batches = {name: array[rows] for name, array in train.items()}  # [50, 16, ...]


@jax.jit
def validation_loss(log_rate: jax.Array) -> jax.Array:
    """Return the validation loss after 50 steps at a learning rate."""
    tx = optax.sgd(jnp.exp(log_rate))
    learner = jn.supervised(network, jn.losses.softmax_cross_entropy, tx)

    key = jax.random.key(0)
    state, _ = jax.lax.scan(lambda s, batch: (learner.step(s, batch, key)[0], None), learner.init(key), batches)
    loss = learner.evaluate(state, {name: jnp.asarray(column) for name, column in validation.items()})["loss"]
    return loss.total / loss.count


log_rate = jnp.log(0.003)
for _ in range(6):
    loss, slope = jax.value_and_grad(validation_loss)(log_rate)
    print(f"learning rate {np.exp(log_rate):.4f}: validation loss {loss:.4f}, its slope {slope:+.4f}")
    log_rate -= 2.0 * slope
