"""An ensemble knows what it does not know: digits against letters, noise, scrambled digits and pieces of photographs.

Where members agree on a digit, the entropy of their mean prediction is low; where each guesses another, it is high
(Lakshminarayanan et al., 2017). Their disagreement alone is the mutual information of prediction and member.
"""

from pathlib import Path

import jax
import matplotlib as mpl
import numpy as np
import optax
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score

import jaxnets as jn

ENSEMBLES, MEMBERS = 5, 10
LETTERS = "ACEFHKLMNPRTUVWXY"  # those that look like no digit
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono")


def counted(bitmaps: np.ndarray) -> np.ndarray:
    """Return the pixels that are set of each 4 x 4 block, as the digits were made: [N, 32, 32] -> [N, 8, 8, 1]."""
    return bitmaps.reshape(-1, 8, 4, 8, 4).sum((2, 4))[..., None].astype(np.uint8)


def letters() -> np.ndarray:
    """Return letters of matplotlib's fonts, each as large as a digit."""
    drawn = []
    for name in FONTS:
        font = ImageFont.truetype(str(Path(mpl.get_data_path(), "fonts", "ttf", f"{name}.ttf")), 60)
        for letter in LETTERS:
            ImageDraw.Draw(image := Image.new("L", (120, 120))).text((30, 20), letter, fill=255, font=font)
            drawn.append(np.asarray(image.crop(image.getbbox()).resize((24, 32))) > 127)
    return counted(np.pad(np.stack(drawn), ((0, 0), (0, 0), (4, 4))))


def photographs(random: np.random.Generator, number: int) -> np.ndarray:
    """Return pieces of scikit-learn's two photographs, grey, with the digits' range."""
    grey = np.stack([image[:427, :640].mean(-1) for image in load_sample_images().images])
    rows, columns = random.integers(0, 427 - 32, number), random.integers(0, 640 - 32, number)
    cut = [grey[i % 2, r : r + 32 : 4, c : c + 32 : 4] for i, (r, c) in enumerate(zip(rows, columns, strict=True))]
    return (np.stack(cut)[..., None] / 255 * 16).round().astype(np.uint8)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropies of distributions over the last axis, in nats."""
    return -(probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(-1)


digits, random = jn.data.load("digits"), np.random.default_rng(0)
test, column = digits.test, digits.train.spec["inputs"]
assert test is not None
network = jn.standardized(jn.network(jn.models.MLP, 64, (64, 64), 10), column.mean, column.std)
learner = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.adam(2e-3))
many = jn.population(learner, ENSEMBLES * MEMBERS, "vmap")
state = jn.fit(many, digits.train, duration="15ep", seed=range(ENSEMBLES * MEMBERS), progress=False).state


def scores(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each member's entropies [E, M, N], each ensemble's [E, N], and its disagreement [E, N]."""
    members = np.asarray(jax.nn.softmax(jn.predict(many, state, inputs))).reshape(ENSEMBLES, MEMBERS, len(inputs), 10)
    own, joint = entropy(members), entropy(members.mean(1))
    return own, joint, joint - own.mean(1)


scrambled = test["inputs"].reshape(-1, 64)[:, random.permutation(64)].reshape(-1, 8, 8, 1)
noise = random.integers(0, 17, (400, 8, 8, 1), np.uint8)
others = {"letters": letters(), "noise": noise, "scrambled digits": scrambled, "photographs": photographs(random, 400)}
known = scores(test["inputs"])
print(f"AUROC against digits   a member's entropy   the ensemble's   its disagreement   ({ENSEMBLES} of {MEMBERS})")
for name, inputs in others.items():
    truth, row = np.repeat([0, 1], [test.num_examples, len(inputs)]), []
    for inside, outside in zip(known, scores(inputs), strict=True):
        both = np.concatenate([inside, outside], -1).reshape(ENSEMBLES, -1, len(truth))
        values = np.array([np.mean([roc_auc_score(truth, one) for one in ensemble]) for ensemble in both])
        row.append(f"{values.mean():.3f} ± {values.std(ddof=1):.3f}")
    print(f"{name:23}", "      ".join(row))
