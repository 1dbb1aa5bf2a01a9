"""Truncated back-propagation through time: gradients stop at a window's edge, the state does not.

A series repeats itself every 40 steps, and the windows that a network trains on are 5 steps long. A network that begins
each window from nothing cannot know where in the series it is; one that carries its state over can, though no gradient
ever runs through more than 5 steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnets as jn

PERIOD, WINDOW, STREAMS = 40, 5, 8
pattern = np.random.default_rng(0).integers(0, 2, PERIOD)
starts = np.arange(STREAMS) * (PERIOD // STREAMS)
series = np.stack([np.roll(np.tile(pattern, 200), -start) for start in starts])  # [B, T], each stream at its own place

network = jn.network(jn.models.RNN, 2, (32,), 2, cell=jn.nn.GRU, embedding=8)
tx = optax.adam(5e-3)


@jax.jit
def step(params, opt_state, carry, window):
    """Take one step on a window [B, WINDOW + 1], from the state that the last one left."""

    def objective(params):
        (logits, last), _ = network.apply(params, {}, jn.models.Continued(window[:, :-1], carry))
        return jn.losses.softmax_cross_entropy(logits, window[:, 1:]).mean(), last

    (loss, last), grads = jax.value_and_grad(objective, has_aux=True)(params)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, last, loss


def train(carried: bool) -> float:
    """Return the mean loss of the last 100 windows."""
    params, _ = network.init(jax.random.key(0))
    opt_state = tx.init(params)
    (_, nothing), _ = network.apply(params, {}, jn.models.Continued(jnp.zeros((STREAMS, 1), int)))
    nothing = jax.tree.map(jnp.zeros_like, nothing)
    carry, losses = nothing, []
    for start in range(0, series.shape[1] - WINDOW, WINDOW):
        window = series[:, start : start + WINDOW + 1]
        params, opt_state, last, loss = step(params, opt_state, carry, window)
        carry = last if carried else nothing
        losses.append(loss)
    return float(np.mean(losses[-100:]))


print(f"windows of {WINDOW} steps of a series that repeats every {PERIOD}")
print(f"each window from nothing:  loss {train(carried=False):.3f}")
print(f"with the state carried on: loss {train(carried=True):.3f}")
