"""The pieces without ``fit``: a network without a learner, and a learner's step in a loop of one's own."""

import jax
import numpy as np
import optax
from sklearn.datasets import load_wine

import jaxnets as jn

inputs, labels = load_wine(return_X_y=True)
data = jn.Data(inputs=inputs, labels=labels)
column = data.spec["inputs"]

# A network is two pure functions.
network = jn.standardized(jn.network(jn.models.MLP, 13, (32,), 3), column.mean, column.std)
params, model_state = network.init(jax.random.key(0))
logits, _ = network.apply(params, model_state, data["inputs"])
print("a network that has learnt nothing:", logits.shape)

# A learner is a few more; its step takes a state and returns the next.
learner = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.adam(1e-2), {"accuracy": jn.losses.accuracy})
state = learner.init(jax.random.key(0))
step = jn.jit(learner.step, donate_argnums=(0,))  # jax.jit, with options of XLA where they help
random = np.random.default_rng(0)
for i in range(200):
    rows = random.choice(data.num_examples, 32)
    batch = {name: column[rows] for name, column in data.items()}
    state, metrics = step(state, batch, jax.random.key(i))
    if i % 50 == 49:
        print(f"step {i + 1}: loss {metrics['loss'].total / metrics['loss'].count:.4f}")

print(f"training accuracy {jn.evaluate(learner, state, data)['accuracy']:.1%}")
