"""Find the ink in noisy pictures: an encoder, and a decoder that up-samples back to one logit a pixel."""

import jax
import numpy as np
import optax
from flax import nnx

import jaxnets as jn
from jaxnets.models.blocks import Block
from jaxnets.models.resnet import ResidualBlock
from jaxnets.nn import Conv, ConvTranspose


class Segmenter(nnx.Module):
    """Halve the picture, look at it with a residual block, double it again; the fine details skip ahead."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        options = {"norm": "batch", "activation": nnx.relu, "rngs": rngs}
        self.fine = Block(Conv(1, features, (3, 3), rngs=rngs), **options)
        self.coarse = ResidualBlock(features, 2 * features, strides=2, rngs=rngs)
        self.larger = Block(ConvTranspose(2 * features, features, (4, 4), 2, rngs=rngs), **options)
        self.out = Conv(features, 1, (3, 3), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return a logit for each pixel, [B, H, W, 1] -> [B, H, W, 1]."""
        fine = self.fine(x)
        return self.out(fine + self.larger(self.coarse(fine)))


rest, held_out = jn.data.digits().train.split(0.2)
random = np.random.default_rng(0)


def noisy(images: np.ndarray) -> jn.Data:
    """Return the pictures under noise, and where their ink is."""
    return jn.Data(inputs=images / 16 + random.normal(0, 0.5, images.shape), labels=(images > 6).astype(np.int32))


train, test = noisy(rest["inputs"]), noisy(held_out["inputs"])
learner = jn.supervised(
    jn.network(Segmenter, 16), jn.losses.sigmoid_cross_entropy, optax.adam(3e-3), {"accuracy": jn.losses.accuracy}
)
result = jn.fit(learner, train, validation=test, duration="5ep", batch_size=64)
by_threshold = ((test["inputs"] > 0.4) == test["labels"]).mean()
print(
    f"a threshold finds {by_threshold:.1%} of the pixels, the network {result.history[-1]['validation/accuracy']:.1%}"
)

found = jn.predict(learner, result.state, test["inputs"][:6]) > 0
for title, pictures in {"noisy": test["inputs"][:6] > 0.4, "found": found, "true": test["labels"][:6] > 0}.items():
    print(title)
    for row in range(8):
        print("   ".join("".join(".#"[int(pixel)] for pixel in picture[row, :, 0]) for picture in pictures))
