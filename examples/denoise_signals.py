"""A denoising autoencoder of signals: noise is an argument of the learner, drawn anew in every step.

Waves of random frequency and phase are learned from noisy copies of themselves. It is judged on noise that was drawn
once: batches hold the noisy signals as "inputs" and what they were as "clean".
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnets as jn

LENGTH, NOISE = 64, 0.5


def waves(number: int, seed: int) -> np.ndarray:
    """Return sine waves [number, LENGTH]."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(1, 4, (number, 1)), rng.uniform(0, 2 * np.pi, (number, 1))
    return np.sin(frequency * np.linspace(0, 2 * np.pi, LENGTH) + phase).astype(np.float32)


def noisy(key: jax.Array, signals: jax.Array) -> jax.Array:
    """Return the signals with Gaussian noise."""
    return signals + NOISE * jax.random.normal(key, signals.shape)


def main() -> None:
    """Train, and print the errors of noisy and of cleaned signals."""
    encoder = jn.network(jn.models.MLP, LENGTH, (128,), 8)
    decoder = jn.network(jn.models.MLP, 8, (128,), LENGTH)
    learner = jn.reconstructing(encoder, decoder, jn.losses.mse, optax.adam(2e-3), corrupt=noisy)
    clean = waves(500, seed=1)
    test = jn.Data(inputs=np.asarray(noisy(jax.random.key(0), jnp.asarray(clean))), clean=clean)
    result = jn.fit(learner, jn.Data(inputs=waves(4000, seed=0)), duration="30ep", batch_size=64)
    made = jn.predict(learner, result.state, test["inputs"])
    print(f"codes: {made.codes.shape}")
    print(f"mean squared error of the noisy signals: {np.square(test['inputs'] - clean).mean():.4f}")
    print(f"of the cleaned signals:                  {jn.evaluate(learner, result.state, test)['loss']:.4f}")


if __name__ == "__main__":
    main()
