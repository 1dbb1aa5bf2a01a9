"""A GAN is a learner like any other: two networks, two optimizers, the same loop, on points instead of images.

The data lie in eight small clouds on a circle, the classic test of whether a generator finds all there is or settles
for a part of it. The Wasserstein game is run with several seeds at once.
"""

import jax
import numpy as np
import optax

import jaxnets as jn
from jaxnets.learners.adversarial import WASSERSTEIN

CODE_DIM, SEEDS = 8, 3


def ring(num_points: int) -> jn.Data:
    """Return points near the corners of an octagon."""
    rng = np.random.default_rng(0)
    angles = rng.integers(0, 8, num_points) * np.pi / 4
    corners = np.stack([np.cos(angles), np.sin(angles)], 1)
    return jn.Data(inputs=corners + 0.03 * rng.normal(size=corners.shape))


def main() -> None:
    """Train, and print how much of what is generated lies near each corner."""
    learner = jn.adversarial(
        jn.network(jn.models.MLP, CODE_DIM, (64, 64), 2),
        jn.network(jn.models.MLP, 2, (64, 64), 1),
        CODE_DIM,
        optax.adam(1e-3, b1=0.5),
        optax.adam(1e-3, b1=0.5),
        game=WASSERSTEIN,
        discriminator_steps=4,
    )
    learner = jn.averaged(learner, 0.99)
    many = jn.population(learner, SEEDS, "vmap")
    state = jn.fit(many, ring(4000), duration=3000, batch_size=256, seed=range(SEEDS)).state
    codes = jax.random.normal(jax.random.key(1), (2000, CODE_DIM))
    for seed, points in enumerate(jn.predict(many, state, jn.Coded(codes))):
        corner = np.round(np.arctan2(points[:, 1], points[:, 0]) / (np.pi / 4)).astype(int) % 8
        shares = ", ".join(f"{share:.0%}" for share in np.bincount(corner, minlength=8) / len(points))
        print(f"seed {seed}: {shares}; mean radius {np.linalg.norm(points, axis=1).mean():.2f}")


if __name__ == "__main__":
    main()
