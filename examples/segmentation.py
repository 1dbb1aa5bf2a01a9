"""Find the ink in noisy pictures: a U-Net, a loss of pixels and one of regions, pictures turned with their masks."""

import numpy as np
import optax

import jaxnets as jn
from jaxnets.data import paired
from jaxnets.learners import segmentation

rest, held_out = jn.data.digits().train.split(0.2)
random = np.random.default_rng(0)


def noisy(images: np.ndarray) -> jn.Data:
    """Return the pictures under noise, and where their ink is."""
    ink = (images[..., 0] > 6).astype(np.int32)
    return jn.Data(inputs=images / 16 + random.normal(0, 0.5, images.shape), labels=ink, classes=["paper", "ink"])


train, test = noisy(rest["inputs"]), noisy(held_out["inputs"])
loss = segmentation.total([segmentation.cross_entropy, segmentation.dice_loss])
metrics = {"pixel_accuracy": jn.metrics.pixel_accuracy(), "dice": jn.metrics.dice(2)}
learner = jn.segmenting(jn.network(jn.models.UNet, 1, (16, 32), 2), loss, optax.adam(3e-3), metrics)
learner = jn.augmented_pairs(learner, paired.flips())
result = jn.fit(learner, train, validation=test, duration="5ep", batch_size=64)
by_threshold = ((test["inputs"][..., 0] > 0.4) == test["labels"]).mean()
found = result.history[-1]["validation/pixel_accuracy"]
print(f"a threshold finds {by_threshold:.1%} of the pixels, the network {found:.1%}")

some, true = test["inputs"][:6], test["labels"][:6] > 0
masks = jn.predict(learner, result.state, some).argmax(-1) > 0
for title, pictures in {"noisy": some[..., 0] > 0.4, "found": masks, "true": true}.items():
    print(title)
    for row in range(8):
        print("   ".join("".join(".#"[int(pixel)] for pixel in picture[row]) for picture in pictures))
