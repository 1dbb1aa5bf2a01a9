"""Detection: cells and boxes, suppression, losses, mirror images and augmentation, each beside plain steps; a run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import fails
from PIL import Image

import jaxnets as jn
from jaxnets import cli
from jaxnets.data import augment_boxes
from jaxnets.errors import InputError
from jaxnets.learners import boxes as learners_boxes
from jaxnets.learners import detection, flipped
from jaxnets.learners.detection import assigned, detection_loss, mirrored_cells, quality_focal
from jaxnets.models import EfficientNet
from jaxnets.models.detector import Detector, EfficientNetBackbone
from jaxnets.models.efficientnet import LITE
from jaxnets.parameters import paths
from jaxnets.tasks.boxes import count_classes, count_error, surest_counts
from jaxnets.transforms import augmented_batches
from jaxnets.transforms.features import features

STRIDE = 4


def iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(sides, 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def some_boxes(random, *shape):
    corner = random.uniform(0, 20, (*shape, 2))
    return np.concatenate([corner, corner + random.uniform(2, 15, (*shape, 2))], -1).astype(np.float32)


@pytest.mark.parametrize("overlap", [0.3, 0.6])
def test_suppression_keeps_what_a_greedy_loop_keeps(overlap):
    random = np.random.default_rng(0)
    boxes, classes = some_boxes(random, 5, 60), random.integers(0, 2, (5, 60))
    got = jax.jit(learners_boxes.suppressed, static_argnums=2)(boxes, classes, overlap)
    for row, of_image, of_class in zip(np.asarray(got), boxes, classes, strict=True):
        kept: list[int] = []
        for i, box in enumerate(of_image):
            if all(of_class[i] != of_class[j] or iou(of_image[j], box) <= overlap for j in kept):
                kept.append(i)
        assert np.flatnonzero(row).tolist() == kept and 1 < len(kept) < 60


def test_a_chain_of_boxes_needs_as_many_rounds_as_it_is_long():
    boxes = np.stack([[i, 0, i + 3, 1] for i in range(40)]).astype(np.float32)[None]
    kept = learners_boxes.suppressed(boxes, jnp.zeros((1, 40)), 0.4)
    assert np.flatnonzero(kept[0]).tolist() == list(range(0, 40, 2))


def outputs(random, batch=2, height=5, width=6, num_classes=2):
    logits = random.normal(-2, 2, (batch, height, width, num_classes))
    return np.concatenate([logits, random.normal(0.3, 0.4, (batch, height, width, 4))], -1).astype(np.float32)


def test_detections_are_those_of_plain_steps():
    made = outputs(np.random.default_rng(1))
    got = np.asarray(learners_boxes.detections(jnp.asarray(made), STRIDE, (20, 24), 0.5))
    assert got.shape == (2, 100, 6)
    for rows, of_image in zip(got, made.astype(np.float64), strict=True):
        every = []
        for (y, x), _ in np.ndenumerate(of_image[..., 0]):
            left, top, right, bottom = STRIDE * np.exp(of_image[y, x, 2:])
            cx, cy = (x + 0.5) * STRIDE, (y + 0.5) * STRIDE
            box = np.clip([cx - left, cy - top, cx + right, cy + bottom], 0, [24, 20, 24, 20])
            every += [(1 / (1 + np.exp(-of_image[y, x, c])), c, box) for c in range(2)]
        kept: list = []
        for score, number, box in sorted(every, key=lambda one: -one[0]):
            if all(number != other or iou(box, at) <= 0.5 for _, other, at in kept):
                kept.append((score, number, box))
        assert (rows[:, 5] >= 0).sum() == len(kept) and (rows[len(kept) :] == [0, 0, 0, 0, 0, -1]).all()
        for row, (score, number, box) in zip(rows, kept, strict=False):
            np.testing.assert_allclose(row, [*box, score, number], atol=1e-4)


def test_the_focal_loss():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    logits, targets = random.normal(0, 3, 50), random.uniform(0, 1, 50).round(random.integers(0, 2))
    x, y = torch.tensor(logits, requires_grad=True), torch.tensor(targets)
    wanted = (y - x.sigmoid()).abs() ** 2 * torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none")
    wanted.sum().backward()
    got, grads = jax.value_and_grad(lambda x: quality_focal(x, jnp.asarray(targets, jnp.float32)).sum())(
        jnp.asarray(logits, jnp.float32)
    )
    assert float(got) == pytest.approx(wanted.sum().item(), rel=1e-5)
    np.testing.assert_allclose(grads, x.grad, atol=1e-5)


def labels_of(random, batch=2, most=4):
    boxes = some_boxes(random, batch, most)
    classes = random.integers(0, 2, (batch, most, 1)).astype(np.float32)
    classes[:, -1] = -1
    return np.concatenate([boxes, classes], -1)


def by_hand(made, labels, radius):
    """Return the loss of one image, in plain steps."""
    total, seeing = 0.0, 0
    for (y, x), _ in np.ndenumerate(made[..., 0]):
        centre = (np.array([x, y]) + 0.5) * STRIDE
        left, top, right, bottom = STRIDE * np.exp(made[y, x, 2:])
        box = np.array([centre[0] - left, centre[1] - top, centre[0] + right, centre[1] + bottom])
        fitting = []
        for label in labels:
            truth, number = label[:4], label[4]
            away, half = np.abs(centre - (truth[:2] + truth[2:]) / 2), (truth[2:] - truth[:2]) / 2
            if number >= 0 and ((away < np.minimum(half, radius * STRIDE)).all() or (away <= STRIDE / 2).all()):
                fitting.append((np.prod(2 * half), truth, int(number)))
        wanted = np.zeros(2)
        if fitting:
            _, truth, number = min(fitting, key=lambda one: one[0])
            seeing += 1
            wanted[number] = iou(box, truth)
            hull = np.prod(np.maximum(box[2:], truth[2:]) - np.minimum(box[:2], truth[:2]))
            covered = np.prod(box[2:] - box[:2]) + np.prod(truth[2:] - truth[:2])
            covered -= wanted[number] * covered / (1 + wanted[number])
            total += 3.0 * (1 - wanted[number] + (hull - covered) / hull)
        p = 1 / (1 + np.exp(-made[y, x, :2]))
        total += (np.abs(wanted - p) ** 2 * -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p))).sum()
    return total / max(seeing, 1)


@pytest.mark.slow
def test_the_loss_is_that_of_plain_steps():
    random = np.random.default_rng(2)
    made, labels = outputs(random), labels_of(random)
    labels[1, :, 4] = -1  # an image with nothing in it
    got = detection_loss(jnp.asarray(made), jnp.asarray(labels), stride=STRIDE, radius=1.5, box_weight=3.0)
    for value, one, truth in zip(np.asarray(got), made.astype(np.float64), labels.astype(np.float64), strict=True):
        assert value == pytest.approx(by_hand(one, truth, 1.5), rel=1e-5)
    grads = jax.grad(lambda made: detection_loss(made, jnp.asarray(labels), stride=STRIDE).sum())(jnp.asarray(made))
    assert np.isfinite(grads).all() and float(jnp.abs(grads[0, ..., 2:]).sum()) > 0 == float(
        jnp.abs(grads[1, ..., 2:]).sum()
    )


def test_a_box_smaller_than_a_cell_is_seen_by_one():
    centres = learners_boxes.cell_centres(5, 6, STRIDE)
    labels = jnp.asarray([[8.5, 9.0, 9.5, 9.5, 1.0], [0, 0, 24, 20, 0]])
    target, sees = assigned(centres, labels, stride=STRIDE, radius=0.6)
    seen = np.asarray(jnp.where(sees, target[:, 4], -1)).reshape(5, 6)
    assert seen[2, 2] == 1 and (seen == 1).sum() == 1 and (seen == 0).sum() >= 1 and (seen == -1).sum() > 20


def test_mirror_images_say_the_same_of_a_mirrored_network():
    made = jnp.asarray(outputs(np.random.default_rng(3)))
    _, boxes = learners_boxes.cell_boxes(made, STRIDE)
    for axes in ((2,), (1,), (1, 2)):
        _, mirrored = learners_boxes.cell_boxes(mirrored_cells(jnp.flip(made, axes), axes), STRIDE)
        back = np.array(mirrored).reshape(2, 5, 6, 4)
        back = np.flip(back, axes).reshape(2, -1, 4)
        wanted = np.array(boxes)
        if 2 in axes:
            back = np.stack([24 - back[..., 2], back[..., 1], 24 - back[..., 0], back[..., 3]], -1)
        if 1 in axes:
            back = np.stack([back[..., 0], 20 - back[..., 3], back[..., 2], 20 - back[..., 1]], -1)
        np.testing.assert_allclose(back, wanted, atol=1e-3)

    def apply(params, model_state, inputs, *, train=False, key=None):  # it sees where the brightness is
        return jnp.pad(inputs[:, ::STRIDE, ::STRIDE], ((0, 0), (0, 0), (0, 0), (0, 5))), model_state

    images = jnp.kron(jax.random.normal(jax.random.key(0), (2, 5, 6, 1)), jnp.ones((1, STRIDE, STRIDE, 1)))
    network = jn.Network(lambda key: ({}, {}), apply)
    plain, _ = network.apply({}, {}, images)
    both, _ = flipped(network).apply({}, {}, images)
    np.testing.assert_allclose(both, plain, atol=1e-6)


def painted(random, batch=16, height=24, width=32):
    """Return images in which one box each is filled with a colour of its own, and their boxes."""
    images, labels = np.zeros((batch, height, width, 3), np.uint8), np.zeros((batch, 5, 5), np.float32)
    labels[..., 4] = -1
    for image, rows in zip(images, labels, strict=True):
        left, top = random.integers(2, 16), random.integers(2, 10)
        right, bottom = left + random.integers(6, 14), top + random.integers(6, 12)
        image[top:bottom, left:right] = 255
        rows[0] = [left, top, right, bottom, 1]
    return {"inputs": images, "labels": labels, "mask": np.ones(batch, np.int32)}


AUGMENTS = {
    "flip": augment_boxes.flip(),
    "vertical": augment_boxes.flip(vertical=True),
    "zoom": augment_boxes.zoom(1.5),
    "mosaic": augment_boxes.mosaic(0.5),
    "colour": augment_boxes.colour(0.2),
    "chain": augment_boxes.chain(augment_boxes.flip(), augment_boxes.zoom(1.3)),
}


@pytest.mark.parametrize("name", AUGMENTS)
def test_boxes_follow_their_images(name):
    batch = painted(np.random.default_rng(0))
    got = jax.jit(AUGMENTS[name])(jax.random.key(0), batch)
    number, most = batch["labels"].shape[:2]
    assert got["inputs"].dtype == np.uint8
    assert got["labels"].shape == (number, 4 * most if name == "mosaic" else most, 5)
    changed = 0
    pairs = zip(np.asarray(got["inputs"]), np.asarray(got["labels"]), batch["inputs"], strict=True)
    for image, rows, before in pairs:
        changed += (image != before).any()
        bright = image.mean(-1) > 160
        covered = np.zeros(bright.shape, bool)
        for left, top, right, bottom, number in rows:
            if number >= 0:
                covered[round(top) : round(bottom), round(left) : round(right)] = True
        differing = (bright != covered).sum() / max(covered.sum(), 1)
        assert differing < (0.2 if name in ("zoom", "chain") else 0.3 if name == "mosaic" else 0.01)
    assert 3 < changed <= (16 if name in ("colour", "zoom", "chain") else 14)
    again = AUGMENTS[name](jax.random.key(0), batch)
    np.testing.assert_allclose(again["labels"], got["labels"], atol=1e-3)


def test_a_mosaic_keeps_the_boxes_of_all_four():
    """Each image has a small box in one of its quarters; put together, one image shows those of all four."""
    corners = [(1, 1), (13, 13), (1, 13), (13, 1)]
    labels = np.array([[[x, y, x + 2, y + 2, i]] for i, (x, y) in enumerate(corners)], np.float32)
    batch = {"inputs": np.zeros((4, 16, 16, 1), np.uint8), "labels": labels}
    found = np.asarray(augment_boxes.mosaic(1.0)(jax.random.key(0), batch)["labels"])
    assert found.shape == (4, 4, 5)
    first = next(rows for rows in found if (rows[:, 4] >= 0).all())
    assert sorted(first[:, 4]) == [0, 1, 2, 3]


def test_a_learner_trains_on_batches_that_are_changed():
    seen = lambda state, batch, key: (state, batch)
    learner = jn.supervised(jn.network(jn.models.MLP, 1, (), 1), jn.losses.mse, optax.sgd(1.0))._replace(step=seen)
    batch = {name: jnp.asarray(array) for name, array in painted(np.random.default_rng(0)).items()}
    state = learner.init(jax.random.key(0))
    _, got = augmented_batches(learner, augment_boxes.flip()).step(state, batch, jax.random.key(1))
    assert (got["labels"] != batch["labels"]).any() and (got["inputs"] != batch["inputs"]).any()


def test_too_little_of_a_box_is_none():
    batch = {
        "inputs": np.zeros((1, 8, 8, 1), np.uint8),
        "labels": np.array([[[0.0, 0, 2, 2, 0], [0, 0, 8, 8, 1]]], np.float32),
    }
    keys = jax.random.split(jax.random.key(0), 40)
    labels = np.asarray(jax.vmap(lambda key: augment_boxes.zoom(2.0)(key, batch)["labels"])(keys))[:, 0]
    there = labels[..., 4] >= 0
    assert 5 < there[:, 0].sum() < 40 and (labels[~there] == [0, 0, 0, 0, -1]).all()
    sides = labels[there][:, 2:4] - labels[there][:, :2]
    assert (sides > 0).all() and (labels[..., :4] >= 0).all() and (labels[..., :4] <= 8).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment_boxes.zoom(0.5), "most=0.5 must be a factor"),
        (lambda: augment_boxes.mosaic(2.0), "share=2.0 must be"),
        (lambda: augment_boxes.colour(1.0), "most=1.0 must be"),
        (lambda: augment_boxes.chain(3), "augment=3 is no function"),
        (lambda: augment_boxes.flip()(jax.random.key(0), {"inputs": jnp.zeros(3), "labels": jnp.zeros(3)}), "boxes"),
    ],
)
def test_what_cannot_be_changed(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_labels_that_a_learner_cannot_have():
    network = jn.network(jn.models.Detector, (8, 8, 1), 2, stride=2, widths=(4,), features=4)
    learner = detection(network, optax.sgd(1.0), ("a", "b"), (8, 8), stride=2)
    labels = np.array([[[0, 0, 4, 4, 2]]] * 3, np.float32)
    images = np.zeros((3, 8, 8, 1), np.float32)
    with pytest.raises(InputError, match="labels have the class 2, but there are 2"):
        learner.check(jn.Data(inputs=images, labels=labels))
    with pytest.raises(InputError, match=r"labels of shape \(3, 1, 4\); give boxes and their classes"):
        learner.check(jn.Data(inputs=images, labels=labels[..., :4]))
    with pytest.raises(InputError, match="stride=16 must be one of"):
        jn.network(jn.models.Detector, (8, 8, 1), 2, stride=16)


def test_counts():
    labels = np.array([[[0, 0, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, -1]]], np.float32)
    found = np.array([[[0, 0, 1, 1, 0.9, 0], [0, 0, 1, 1, 0.8, 0], [0, 0, 1, 1, 0.04, 1], [0, 0, 0, 0, 0, -1]]])
    assert count_classes(labels, 2).tolist() == [[1, 1]] and count_classes(found, 2, 0.3).tolist() == [[2, 0]]
    assert count_error(found, labels, 2, 0.3) == 2 and count_error(found, labels, 2, 0.85) == 1
    assert surest_counts(found, labels, 2) == 0.81  # the lowest score from which one box of two is found


SMALL = [
    "--widths",
    "8",
    "16",
    "24",
    "--features",
    "16",
    "--duration",
    "2ep",
    "--evaluate-every",
    "1ep",
    "--warmup",
    "9",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory, mnist_folder):
    """Return the folder of a short run."""
    folder = tmp_path_factory.mktemp("detection") / "run"
    assert cli.main(["train", "digits-detect", *SMALL, "--out", str(folder)]) == 0
    return folder


@pytest.mark.slow
def test_a_run_learns_measures_and_draws(run):
    result = json.loads((run / "result.json").read_text())
    values = {name: value["mean"] for name, value in result["metrics"].items()}
    assert values["test/map50"] > 0.03
    for name in ("map", "map50", "map_small", "ap_7"):
        assert values[f"test/coco_{name}"] == pytest.approx(values[f"test/{name}"], abs=1e-2)
    assert min((run / name).stat().st_size for name in ("boxes.png", "precision-recall.png", "counts.png")) > 15_000
    assert values["test/count_error"] > 0 and result["baselines"]["test/count_error_of_mean"] > 0


@pytest.mark.slow
def test_predictions_are_boxes_in_the_pixels_of_the_file(run, tmp_path, capsys):
    image = jn.data.load("scattered-digits").test["inputs"][0, ..., 0]
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image).resize((128, 64)).save(tmp_path / "wide.png")

    def rows(*flags):
        capsys.readouterr()
        assert cli.main(["predict", str(run), str(tmp_path), "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    every = rows("--threshold", "0")
    assert {row["file"] for row in every} == {str(tmp_path / "a.png"), str(tmp_path / "wide.png")}
    assert 64 < max(row["right"] for row in every) <= 128 and max(row["bottom"] for row in every) <= 64
    rows("--out", str(tmp_path / "drawn.pdf"))
    assert (tmp_path / "drawn.pdf").stat().st_size > 5000
    middle = sorted(row["score"] for row in every)[len(every) // 2]
    some = rows("--threshold", str(middle))
    assert 0 < len(some) < len(every) and min(row["score"] for row in some) >= middle
    coco = rows("--threshold", str(middle), "--coco")
    assert {"image_id", "category_id", "bbox", "score"} < set(coco[0]) and len(coco) == len(some)
    left, top, width, height = coco[0]["bbox"]
    first = [some[0][name] for name in ("left", "top", "right", "bottom")]
    np.testing.assert_allclose([left, top, left + width, top + height], first, atol=0.02)
    numbers = {row["file"]: row["image_id"] for row in coco}
    assert numbers == {str(tmp_path / name): number for number, name in enumerate(("a.png", "wide.png"))}
    whole = {
        "images": [{"id": 70, "file_name": "val/wide.png"}, {"id": 7, "file_name": "a.png"}],
        "annotations": [],
        "categories": [{"id": 90 - number, "name": str(number)} for number in range(10)],
    }
    ids = tmp_path.parent / "ids.json"
    ids.write_text(json.dumps(whole))
    for row, same in zip(rows("--threshold", str(middle), "--coco", "--ids", str(ids)), coco, strict=True):
        assert row["image_id"] == {0: 7, 1: 70}[same["image_id"]] and row["category_id"] == 90 - same["category_id"]
    ids.write_text(json.dumps(whole | {"images": whole["images"][:1]}))
    assert "does not name an image called a.png" in fails(capsys, "predict", run, tmp_path, "--coco", "--ids", ids)
    ids.write_text(json.dumps(whole | {"images": [*whole["images"], {"id": 8, "file_name": "train/a.png"}]}))
    assert "names two images called a.png" in fails(capsys, "predict", run, tmp_path, "--coco", "--ids", ids)
    assert "changes nothing without --coco" in fails(capsys, "predict", run, tmp_path, "--ids", ids)
    assert [row["class"] for row in rows("--threshold", "1")] == [None, None]
    assert "smaller --threshold" in fails(capsys, "predict", run, tmp_path, "--coco", "--threshold", "1")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--nms-iou", "1"), "nms_iou=1.0 must be in (0, 1)"),
        (("--sizes", "9", "3"), "sizes=(9.0, 3.0) must be two rising sides"),
        (("--widths", "8"), "a width for every halving of the image up to the stride of 4"),
        (("--mosaic", "2"), "mosaic=2.0 must be a share"),
        (("--image-size", "64", "64"), "image_size=(64, 64) is for files of images"),
        (("--data", "mnist"), "a named data set of images"),
    ],
)
def test_flags_that_do_not_suit(capsys, flags, message):
    assert message in fails(capsys, "train", "digits-detect", *flags)


@pytest.mark.slow
def test_the_backbone_of_efficientnet_has_its_maps():
    shape = (64, 96, 3)
    whole = jn.network(EfficientNet, shape, 5, **LITE["lite0"]._asdict(), momentum=0.9)
    backbone = jn.network(EfficientNetBackbone, shape)
    params, state = whole.init(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (1, *shape))

    def part(tree):
        return {name: tree[name] for name in ("stem", "blocks")}

    maps, _ = jax.jit(backbone.apply)(part(params), part(state), images)
    assert [x.shape[1:] for x in maps] == [(32, 48, 16), (16, 24, 24), (8, 12, 40), (4, 6, 112), (2, 3, 320)]
    for made, end in zip(maps, (0, 2, 4, 10, 15), strict=True):
        wanted, _ = jax.jit(features(whole, f"blocks/{end}").apply)(params, state, images)
        np.testing.assert_allclose(made, wanted, atol=1e-5)


@pytest.mark.slow
def test_classes_and_boxes_have_convolutions_of_their_own():
    network = jn.network(Detector, (16, 16, 1), 3, stride=4, widths=(4, 4), features=4)
    params, state = network.init(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
    for part, own, other in ((slice(3), "class", "box"), (slice(3, None), "box", "class")):
        grads = jax.grad(lambda params, part=part: network.apply(params, state, images)[0][..., part].sum())(params)
        seen = {name: np.abs(leaf).max() for name, leaf in paths(grads).items() if name.endswith("kernel")}
        assert all(seen[name] > 0 for name in seen if name.startswith((f"{own}_head", "smooth", "backbone")))
        assert not any(seen[name] for name in seen if name.startswith(f"{other}_head"))
        assert sum(name.startswith((f"{own}_head", f"{other}_head")) for name in seen) == 4
