"""Masks: losses, augmentation with images, tiles and flips, measures of regions, and a run from the outside."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.ndimage
import sklearn.metrics as sk
from helpers import fails, quick
from PIL import Image
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax

from jaxnets import cli, metrics
from jaxnets.data import Data, paired
from jaxnets.errors import InputError
from jaxnets.inference.tiling import flipped, tiled
from jaxnets.learners import segmentation
from jaxnets.models import UNet
from jaxnets.network import network
from jaxnets.tasks.masks import measure

random = np.random.default_rng(0)
LOGITS = random.normal(size=(3, 5, 4, 3)).astype(np.float32)
LABELS = random.integers(0, 3, (3, 5, 4)).astype(np.int32)
LABELS[0] = np.where(LABELS[0] == 2, 0, LABELS[0])  # an image without one of the classes
OUT = random.random(LABELS.shape) < 0.2
MARKED = np.where(OUT, -1, LABELS)


def flat(image):
    """Return probabilities [N, C], their logarithms and labels [N] of an image's pixels that count."""
    kept = ~OUT[image]
    logits = LOGITS[image][kept].astype(np.float64)
    return softmax(logits, -1), log_softmax(logits, -1), LABELS[image][kept]


def reference(name, image):
    p, logs, y = flat(image)
    own = logs[np.arange(len(y)), y]
    if name == "cross_entropy":
        return -own.mean()
    if name == "focal":
        return -((1 - np.exp(own)) ** 2 * own).mean()
    if name == "dice_loss":
        return 1 - np.mean([(2 * p[y == c, c].sum() + 1) / (p[:, c].sum() + (y == c).sum() + 1) for c in range(3)])
    return np.mean([lovasz_of(np.abs((y == c) - p[:, c]), y == c) for c in range(3) if (y == c).any()])


def lovasz_of(errors, target):
    """Return the Lovász extension by its definition: the integral over thresholds of 1 less the Jaccard index.

    At each threshold the pixels whose errors are above it are taken as wrong.
    """
    total, levels = 0.0, np.sort(np.append(errors, 0.0))
    for low, high in itertools.pairwise(levels):
        wrong = errors > low
        total += (high - low) * (1 - (target & ~wrong).sum() / (target | wrong).sum())
    return total


@pytest.mark.parametrize("name", quick(["cross_entropy", "focal", "dice_loss", "lovasz"]))
def test_losses_equal_their_definitions_and_skip_pixels(name):
    loss = getattr(segmentation, name)
    got, grads = jax.value_and_grad(lambda x: loss(x, jnp.asarray(MARKED)).sum())(jnp.asarray(LOGITS))
    values = loss(jnp.asarray(LOGITS), jnp.asarray(MARKED))
    np.testing.assert_allclose(values, [reference(name, image) for image in range(3)], rtol=2e-5)
    assert got == pytest.approx(values.sum()) and not grads[OUT].any() and grads[~OUT].any(-1).all()


@pytest.mark.slow
def test_gradients_of_losses_equal_pytorchs():
    """Lovász by finite differences: it is piecewise linear in the probabilities."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    logits = torch.tensor(LOGITS.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    labels = torch.tensor(LABELS.astype(np.int64))
    p = torch.softmax(logits, 1)
    y = torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2)
    nats = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    dice = 1 - (((2 * (p * y).sum((2, 3)) + 1) / ((p + y).sum((2, 3)) + 1)).mean(1))
    both = (nats.mean((1, 2)) + dice + ((1 - torch.exp(-nats)) ** 2 * nats).mean((1, 2))).sum()
    both.backward()
    loss = segmentation.total([segmentation.cross_entropy, segmentation.dice_loss, segmentation.focal])
    got = jax.grad(lambda x: loss(x, jnp.asarray(LABELS)).sum())(jnp.asarray(LOGITS))
    assert logits.grad is not None
    np.testing.assert_allclose(got, logits.grad.permute(0, 2, 3, 1), atol=1e-5)

    towards = random.normal(size=LOGITS.shape).astype(np.float32)
    slope = jax.jvp(lambda x: segmentation.lovasz(x, jnp.asarray(LABELS)), (jnp.asarray(LOGITS),), (towards,))[1]
    with jax.enable_x64(True):
        moved = (jnp.asarray(LOGITS + h * towards.astype(float)) for h in (-1e-6, 1e-6))
        sides = [np.asarray(segmentation.lovasz(logits, jnp.asarray(LABELS))) for logits in moved]
    np.testing.assert_allclose(slope, (sides[1] - sides[0]) / 2e-6, atol=1e-3)


def test_what_losses_refuse():
    with pytest.raises(InputError, match=r"dice_loss: logits \(3, 5, 4, 3\) and labels float32"):
        segmentation.dice_loss(jnp.asarray(LOGITS), jnp.asarray(LABELS, jnp.float32))
    with pytest.raises(InputError, match=r"losses=\(\) must name one"):
        segmentation.total([])


# Augmentation: positions are told by the pixels themselves.
ROWS, COLUMNS = np.meshgrid(np.arange(40), np.arange(50), indexing="ij")
PLACES = np.broadcast_to(np.stack([ROWS, COLUMNS], -1)[None], (6, 40, 50, 2)).astype(np.float32)
MASKS = {"labels": jnp.asarray(np.broadcast_to((50 * ROWS + COLUMNS)[None], (6, 40, 50)).astype(np.int32))}


def changed(augment, images=PLACES, seed=0):
    images, masks = jax.jit(augment)(jax.random.key(seed), jnp.asarray(images), MASKS)
    return np.asarray(images), np.asarray(masks["labels"])


@pytest.mark.parametrize("augment", [paired.crop(16), paired.chain(paired.crop(16), paired.flips()), paired.warp(16)])
def test_crops_and_flips_move_images_and_masks_alike(augment):
    images, labels = changed(augment)
    assert images.shape == (6, 16, 16, 2) and labels.shape == (6, 16, 16)
    np.testing.assert_array_equal(images[..., 0] * 50 + images[..., 1], labels)
    for image in labels:
        assert image.max() - image.min() == 15 * 51  # a square
    assert len({image.min() for image in labels}) > 3


def test_all_eight_flips_are_drawn():
    square = np.arange(16, dtype=np.int32).reshape(1, 4, 4, 1)
    eight = {np.rot90(s, turns).tobytes() for s in (square[0], square[0][:, ::-1]) for turns in range(4)}
    images, _ = paired.flips()(jax.random.key(0), jnp.asarray(np.repeat(square, 200, 0)), {})
    drawn = [image.tobytes() for image in np.asarray(images)]
    assert set(drawn) == eight and min(drawn.count(one) for one in eight) > 10


def test_warps_are_affine_and_masks_follow():
    """From where each pixel comes is an affine map of where it is; the determinant is that of zoom alone."""
    augment = paired.warp(9, rotate=30, zoom=1.3, shear=0.2)
    grid = np.stack(np.meshgrid(np.arange(9), np.arange(9), indexing="ij"), -1).reshape(-1, 2)
    design = np.concatenate([grid, np.ones((len(grid), 1))], 1)
    matrices = []
    for image, label in [pair for seed in range(4) for pair in zip(*changed(augment, seed=seed), strict=True)]:
        at = image.reshape(-1, 2)
        if (at < 1).any() or (at > [38, 48]).any():
            continue  # mirrored in part
        fitted, *_ = np.linalg.lstsq(design, at, rcond=None)
        np.testing.assert_allclose(design @ fitted, at, atol=1e-3)
        matrices.append(fitted[:2])
        assert np.abs(np.stack([label // 50, label % 50], -1).reshape(-1, 2) - at).max() <= 0.5 + 1e-3
    assert len(matrices) > 6
    assert len({round(float(m[0, 1]), 3) for m in matrices}) == len(matrices)
    determinants = np.array([np.linalg.det(m) for m in matrices])
    assert (determinants < 1.3**2 + 1e-3).all() and (determinants > 1.3**-2 - 1e-3).all()


@pytest.mark.slow
def test_a_warped_image_equals_scipys_at_the_same_places():
    texture = np.repeat(random.uniform(0, 255, (1, 40, 50, 1)), 6, 0).astype(np.float32)
    augment = paired.warp(24, rotate=45, zoom=1.5, elastic=3.0, spacing=8)
    places, _ = changed(augment, np.concatenate([PLACES, texture], -1))
    for image in places:  # beyond the edges the coordinates are mirrored as the pixels are
        at = image[..., :2].reshape(-1, 2).T
        inside = (at[0] > 0.01) & (at[0] < 38.9) & (at[1] > 0.01) & (at[1] < 48.9)
        wanted = scipy.ndimage.map_coordinates(texture[0, ..., 0], at, order=1, mode="mirror")
        np.testing.assert_allclose(image[..., 2].ravel()[inside], wanted[inside], atol=0.5)
        assert inside.mean() > 0.3


def test_what_is_outside_is_the_mirror_image():
    got = paired._bilinear(jnp.asarray(PLACES[0]), jnp.asarray([[[-2.5, 41.0]], [[10.0, -3.25]]]))
    np.testing.assert_allclose(got[0], [[2.5, 10.0], [37.0, 3.25]], atol=1e-5)


@pytest.mark.slow
def test_elastic_displacements_have_their_deviation_and_are_smooth():
    bends = np.stack([paired._bends(jax.random.key(seed), 64, 3.0, 16) for seed in range(60)])
    assert np.sqrt((bends**2).mean()) == pytest.approx(3.0, rel=0.1)
    assert np.abs(np.diff(bends, axis=-1)).max() < 2.0


@pytest.mark.slow
def test_whole_numbers_stay_whole_and_constant_images_constant():
    image = jnp.full((2, 20, 20, 1), 200, jnp.uint8)
    got, masks = paired.warp(16, rotate=90, elastic=4.0)(
        jax.random.key(0), image, {"mask": jnp.ones((2, 20, 20), jnp.uint8)}
    )
    assert got.dtype == jnp.uint8 and (got == 200).all() and (masks["mask"] == 1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: paired.crop(41)(jax.random.key(0), jnp.asarray(PLACES), MASKS), "crop=41 of images of 40 x 50"),
        (lambda: paired.warp(41)(jax.random.key(0), jnp.asarray(PLACES), MASKS), "crop=41 of images of 40 x 50"),
        (lambda: paired.warp(4, zoom=0.5), "zoom=0.5 must be 1 or more"),
        (lambda: paired.flips()(jax.random.key(0), jnp.asarray(PLACES[:, :9]), MASKS), "labels of shape"),
    ],
)
def test_what_augmentation_refuses(make, message):
    with pytest.raises(InputError, match=message):
        make()


# Tiles and flips.


@pytest.mark.parametrize(("shape", "tile", "overlap"), [((40, 50), 16, 5), ((16, 16), 16, 0), ((10, 33), 16, 15)])
def test_tiles_of_a_function_of_each_pixel_are_the_whole(shape, tile, overlap):
    image = random.normal(size=(*shape, 2)).astype(np.float32)
    made = tiled(lambda tiles: np.concatenate([tiles, tiles**2], -1), image, tile, overlap)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, np.concatenate([image, image**2], -1), rtol=1e-6)


def test_tiles_join_without_a_seam():
    """Each tile says a number of its own; the largest step from pixel to pixel is that of a smooth window."""
    made = tiled(lambda tiles: np.arange(len(tiles))[:, None, None, None] + 0 * tiles, np.zeros((64, 64, 1)), 32, 16)
    assert len(np.unique(made.round(6))) > 20
    assert np.abs(np.diff(made[:, :, 0], axis=1)).max() < 0.15
    hard = tiled(lambda tiles: np.arange(len(tiles))[:, None, None, None] + 0 * tiles, np.zeros((64, 64, 1)), 32, 0)
    assert np.abs(np.diff(hard[:, :, 0], axis=1)).max() == 1


def test_flips_make_any_function_symmetric():
    images = random.normal(size=(2, 8, 8, 1)).astype(np.float32)
    weights = random.normal(size=(1, 8, 8, 1)).astype(np.float32)
    mean = flipped(lambda x: x * weights)
    made = mean(images)
    np.testing.assert_allclose(np.rot90(made, 1, (1, 2)), mean(np.rot90(images, 1, (1, 2))), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made[:, ::-1], mean(images[:, ::-1]), rtol=1e-5, atol=1e-6)
    eight = [np.rot90(w, k, (1, 2)) for w in (weights, weights[:, :, ::-1]) for k in range(4)]
    np.testing.assert_allclose(made, images * np.mean(eight, 0), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match=r"overlap=16 must be from 0 to 15"):
        tiled(mean, images[0], 16, 16)


# Measures of regions.


def blobs(seed, shape=(30, 26)):
    noise = np.random.default_rng(seed).normal(size=shape)
    return scipy.ndimage.gaussian_filter(noise, 2.5) > 0.02


@pytest.mark.parametrize("seed", range(5))
def test_hausdorff_distance_equals_brute_force(seed):
    one, other = blobs(seed), blobs(seed + 100)

    def border(mask):
        padded = np.pad(mask, 1)
        around = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~around)

    distances = cdist(border(one), border(other))
    wanted = max(np.percentile(distances.min(axis), 95) for axis in (0, 1))
    assert metrics.hausdorff95(one, other) == pytest.approx(wanted)
    assert metrics.hausdorff95(one, one) == 0
    assert np.isnan(metrics.hausdorff95(one, np.zeros_like(one)))


@pytest.mark.parametrize("seed", range(5))
def test_rand_error_equals_scikit_learns_pairs(seed):
    """A pixel of the predicted border is an object of its own there."""
    true, guess = metrics.instances(blobs(seed)), metrics.instances(blobs(seed) & blobs(seed + 50))
    kept = true > 0
    alone = np.where(guess > 0, guess, 1000 + np.arange(guess.size).reshape(guess.shape))
    (_, only_guess), (only_true, both) = sk.pair_confusion_matrix(true[kept], alone[kept])
    found = metrics.rand_error(guess, true)
    precision, recall = both / (both + only_guess), both / (both + only_true)
    assert found.precision == pytest.approx(precision) and found.recall == pytest.approx(recall)
    assert found.error == pytest.approx(1 - 2 * precision * recall / (precision + recall))
    assert metrics.rand_error(true, true).error == 0
    merged = metrics.rand_error((true > 0).astype(np.int32), true)
    assert merged.recall == 1 and (merged.precision < 1) == (true.max() > 1)


def test_instances_are_connected_across_sides_alone():
    mask = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 1]], bool)
    numbers = metrics.instances(mask)
    assert numbers.max() == 3 and numbers[0, 0] == numbers[1, 0] != numbers[2, 1] == numbers[2, 2]


def test_what_measures_refuse():
    with pytest.raises(InputError, match=r"hausdorff95: int64\[2, 2\] and bool"):
        metrics.hausdorff95(np.ones((2, 2), int), np.ones((2, 2), bool))
    with pytest.raises(InputError, match="no pixel is of a true object"):
        metrics.rand_error(np.ones(3, int), np.zeros(3, int))


# The model and the learner.


def test_a_u_net_refuses_other_channels():
    with pytest.raises(InputError, match=r"UNet\(in_features=1\) got inputs of shape \(1, 8, 8, 2\)"):
        net = network(UNet, 1, (4, 8), 2)
        jax.eval_shape(lambda key: net.apply(*net.init(key), jnp.zeros((1, 8, 8, 2))), jax.random.key(0))
    with pytest.raises(InputError, match="one level or more"):
        network(UNet, 1, (), 2)


# A run.


def write(folder, number=10, size=(40, 48), values=(0, 255)):
    """Write images of bright disks, in a little noise, and their masks."""
    draw = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    rows, columns = np.indices(size)
    for i in range(number):
        disks = np.zeros(size, bool)
        for y, x in draw.uniform(8, min(size) - 8, (3, 2)):
            disks |= (rows - y) ** 2 + (columns - x) ** 2 < 30
        pixels = np.where(disks, 180, 60) + draw.normal(0, 20, size)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{i}.png")
        Image.fromarray(np.where(disks, values[1], values[0]).astype(np.uint8)).save(folder / "masks" / f"{i}.png")
    return folder


SMALL = "--patch 1 --features 6 8 --crop 32 --batch-size 4 --duration 20ep --evaluate-every 10ep --tile 32 --overlap 8"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run on files of one's own, two seeds."""
    folder = tmp_path_factory.mktemp("segmentation")
    data = ["--data", str(write(folder / "disks")), "--class-names", "ground", "disk", "--instances", "disk"]
    arguments = ["train", "membranes", *data, *SMALL.split(), "--seeds", "2", "--out", str(folder / "run")]
    assert cli.main(arguments) == 0
    return folder / "run"


@pytest.mark.slow
def test_a_run_learns_measures_and_draws(run):
    result = json.loads((run / "result.json").read_text())
    found = {name: value["mean"] for name, value in result["metrics"].items()}
    assert found["test/dice_of_disk"] > 0.85 and found["test/tiled_pixel_accuracy"] > 0.95
    assert found["test/pixel_accuracy"] > result["baselines"]["test/pixel_accuracy_of_one_class"] + 0.02
    assert found["test/hd95"] < 3 and found["test/rand_error"] < 0.2 and found["test/instance_count_error"] < 0.5
    assert (run / "masks.png").stat().st_size > 20_000


@pytest.mark.slow
def test_predictions_are_masks_of_images_of_any_size(run, tmp_path, capsys):
    write(tmp_path / "more", 2, size=(50, 90))
    capsys.readouterr()
    given = [str(tmp_path / "more" / "images")]
    assert cli.main(["predict", str(run), *given, "--json", "--out", str(tmp_path / "found")]) == 0
    rows = json.loads(capsys.readouterr().out)
    for row, name in zip(rows, ("0", "1"), strict=True):
        mask = Image.open(tmp_path / "found" / f"{name}.png")
        true = np.asarray(Image.open(tmp_path / "more" / "masks" / f"{name}.png")) > 0
        assert mask.mode == "P" and mask.size == (90, 50)
        assert sk.f1_score(true.ravel(), np.asarray(mask).ravel()) > 0.8
        assert row["disk"] == pytest.approx(np.asarray(mask).mean()) and row["instances"] >= 1
    assert "out=" in fails(capsys, "predict", run, *given, "--out", tmp_path / "found.png")


@pytest.mark.slow
def test_pixels_that_do_not_count_are_left_out_of_a_run(tmp_path):
    """A value that is to be ignored is no class; the masks that are written have the values of those given."""
    folder = write(tmp_path / "disks", values=(7, 200))
    for path in (folder / "masks").iterdir():
        pixels = np.array(Image.open(path))
        pixels[:9] = 255
        Image.fromarray(pixels).save(path)
    out = ["--out", str(tmp_path / "run")]
    data = ["--data", str(folder), "--ignore", "255", "--instances", "200", "--duration", "2ep", "--warmup", "0"]
    assert cli.main(["train", "membranes", *SMALL.split(), *data, *out]) == 0
    said = json.loads((tmp_path / "run" / "result.json").read_text())["baselines"]
    true = np.stack([np.array(Image.open(folder / "masks" / f"{i}.png")) for i in (8, 9)])
    assert said["test/pixel_accuracy_of_one_class"] == pytest.approx((true[:, 9:] == 7).mean())
    found = tmp_path / "found"
    assert cli.main(["predict", str(tmp_path / "run"), str(folder / "images" / "9.png"), "--out", str(found)]) == 0
    assert set(np.unique(Image.open(found / "9.png"))) <= {7, 200}


def test_a_mask_of_pixels_is_checked():
    learner = segmentation.segmenting(network(UNet, 1, (4, 8), 2), segmentation.cross_entropy, optax.sgd(0.1))
    arrays = {"inputs": np.zeros((3, 8, 8, 1), np.float32), "labels": np.zeros((3, 8, 8), np.int32)}
    mask = np.ones((3, 8, 8), np.uint8)
    learner.check({**arrays, "mask": mask})
    for wrong in (2 * mask, mask[:, :4]):
        with pytest.raises(InputError, match="a mask of shape"):
            learner.check({**arrays, "mask": wrong})


def test_the_worst_errors_are_measured():
    """A class that is missed, or found where there is none, is the diagonal off; false objects count in any image."""
    true = np.zeros((2, 3, 4), np.int32)
    true[0, 0, :2] = 1
    found = np.zeros_like(true)
    found[1, 0, ::2] = 1
    test = Data(inputs=np.zeros((2, 3, 4, 1), np.uint8), labels=true, classes=("ground", "disk"))
    said = measure(list(found), test, ("ground", "disk"), "disk")
    ground = [metrics.hausdorff95(found[row] == 0, true[row] == 0) for row in (0, 1)]
    assert said["hd95"] == pytest.approx(np.mean([*ground, 5.0, 5.0]))
    assert said["instance_count_error"] == (1 + 2) / 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--losses", "dice", "dice"), "losses=('dice', 'dice') must name one or more"),
        (("--overlap", "512"), "overlap=512 must be from 0 to less than tile=512"),
        (("--zoom", "0.5"), "zoom=0.5 must be 1 or more"),
        (("--class-names", "a", "a"), "names a class twice"),
        (("--ignore", "300"), "ignore=(300,) must be values from 0 to 255"),
    ],
)
def test_flags_out_of_range(capsys, flags, message):
    assert message in fails(capsys, "train", "membranes", *flags)
