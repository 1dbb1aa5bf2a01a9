"""Losses of embeddings against plain loops in PyTorch, with their gradients; and the learner of embeddings."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import adam, keys, quick

import jaxnets as jn
from jaxnets.data import classes_and_examples
from jaxnets.errors import InputError
from jaxnets.learners import arcface, contrastive, embedding, mirrored, supervised_contrastive, triplet
from jaxnets.learners.contrastive import normalized
from jaxnets.metrics import equal_error_rate, pair_auc

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 3, 0, 1])
COUNTS = np.array([1, 1, 1, 1, 1, 1, 1, 1, 0, 0], bool)  # the last two are padding
DIRECTIONS = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)


def vectors(spread: float) -> np.ndarray:
    """Return vectors [10, 5], the tighter about their class's the smaller the spread."""
    random = np.random.default_rng(0)
    return (random.normal(size=(4, 5))[LABELS] + spread * random.normal(size=(10, 5))).astype(np.float32)


def positives(i: int, labels) -> list[int]:
    return [j for j in range(len(labels)) if j != i and labels[j] == labels[i]]


def negatives(i: int, labels) -> list[int]:
    return [j for j in range(len(labels)) if labels[j] != labels[i]]


def plain_contrastive(z, labels, directions):
    total, count = 0.0, 0
    for i in range(len(labels)):
        if not (pos := positives(i, labels)):
            continue
        near = sum((z[i] - z[j]).square().sum() for j in pos) / len(pos)
        neg = negatives(i, labels)
        far = sum((1.0 - (z[i] - z[j]).norm()).clamp(min=0).square() for j in neg) / len(neg)
        total, count = total + near + far, count + 1
    return total / count


def plain_triplet(z, labels, directions):
    total, count = 0.0, 0
    for i in range(len(labels)):
        distance = (z[i] - z).square().sum(1)
        for j in positives(i, labels):
            farther = [distance[k] for k in negatives(i, labels) if distance[k] > distance[j]]
            other = min(farther) if farther else max(distance[k] for k in negatives(i, labels))
            total, count = total + (distance[j] - other + 0.2).clamp(min=0), count + 1
    return total / count


def plain_supervised_contrastive(z, labels, directions):
    total, count = 0.0, 0
    for i in range(len(labels)):
        if pos := positives(i, labels):
            of_all = sum(math.e ** (z[i] @ z[k] / 0.1) for k in range(len(labels)) if k != i)
            total -= sum((math.e ** (z[i] @ z[j] / 0.1) / of_all).log() for j in pos) / len(pos)
            count += 1
    return total / count


def plain_arcface(z, labels, directions):
    total = 0.0
    for i, label in enumerate(labels):
        cosines = z[i] @ (directions / directions.norm(dim=0))
        angle = cosines[label].arccos()
        turned = (angle + 0.5).cos() if angle + 0.5 < math.pi else cosines[label] - 0.5 * math.sin(0.5)
        logits = 30 * cosines.clone()
        logits[label] = 30 * turned
        total -= logits.log_softmax(0)[label]
    return total / len(labels)


LOSSES = {
    "contrastive": (contrastive(1.0), plain_contrastive),
    "triplet": (triplet(0.2), plain_triplet),
    "supervised_contrastive": (supervised_contrastive(0.1), plain_supervised_contrastive),
    "arcface": (arcface(4, 5), plain_arcface),
}


@pytest.mark.slow
@pytest.mark.parametrize("spread", quick([0.3, 2.0]))
@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_equal_plain_loops(name, spread):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[bench]'")
    ours, plain = LOSSES[name]
    given = vectors(spread)
    params = {"directions": jnp.asarray(DIRECTIONS)} if name == "arcface" else {}

    def mean(vectors, params):
        found = ours.measure(params, jnp.int32(0), normalized(vectors), jnp.asarray(LABELS), jnp.asarray(COUNTS))
        return found.total / found.count.astype(jnp.float32)

    value, (by_vectors, by_params) = jax.value_and_grad(mean, (0, 1))(jnp.asarray(given), params)
    x, directions = (torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in (given, DIRECTIONS))
    counted = x[COUNTS]
    wanted = plain(counted / counted.norm(dim=1, keepdim=True), LABELS[COUNTS], directions)
    wanted.backward()
    np.testing.assert_allclose(value, wanted.item(), rtol=2e-5)
    np.testing.assert_allclose(by_vectors, x.grad.numpy(), atol=2e-4 if name == "arcface" else 5e-5)
    assert not np.asarray(by_vectors)[~COUNTS].any()
    if params:
        np.testing.assert_allclose(by_params["directions"], directions.grad.numpy(), atol=2e-4)


def test_the_margin_of_arcface_rises():
    labels, counts = jnp.asarray(LABELS), jnp.asarray(COUNTS)
    params, z = {"directions": jnp.asarray(DIRECTIONS)}, normalized(jnp.asarray(vectors(0.3)))

    def at(step, **options):
        return arcface(4, 5, **options).measure(params, jnp.int32(step), z, labels, counts).total

    values = [float(at(step, warmup=9)) for step in (0, 4, 9, 50)]
    assert values[0] < values[1] < values[2] == values[3] == pytest.approx(float(at(0)))
    assert at(0, warmup=9) == pytest.approx(float(at(0, margin=0.05)), rel=1e-5)


@pytest.mark.slow
def test_examples_that_coincide_have_finite_gradients():
    same = jnp.ones((4, 3))
    for name, (loss, _) in LOSSES.items():
        params = {"directions": jnp.ones((3, 4))} if name == "arcface" else {}

        def total(x, loss=loss, params=params):
            labels = jnp.array([0, 0, 1, 1])
            return loss.measure(params, jnp.int32(0), normalized(x), labels, jnp.ones(4, bool)).total

        assert np.isfinite(jax.grad(total)(same)).all(), name


def people(number: int, seed: int) -> jn.Data:
    """Return six examples of each of so many classes, which differ in half of their numbers."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(number), 6)
    marks = random.normal(size=(number, 4))[labels] + 0.1 * random.normal(size=(len(labels), 4))
    return jn.Data(inputs=np.concatenate([marks, 2 * random.normal(size=marks.shape)], 1), labels=labels)


@pytest.mark.parametrize("name", quick(["triplet", "contrastive", "supervised_contrastive", "arcface"], 0))
def test_embeddings_are_learned_for_classes_that_are_not_trained_on(name):
    train, new = people(40, 0), people(10, 1)
    loss = {**LOSSES, "arcface": (arcface(40, 8, 0.2, 8.0, warmup=50), None)}[name][0]
    network = jn.network(jn.models.MLP, 8, (), 8)
    metrics = {"auc": pair_auc(), "eer": equal_error_rate()}
    learner = embedding(network, loss, adam(1e-2), metrics, block=60)
    options = {"batch_size": 32, "order": classes_and_examples(8, 4), "progress": False}
    before = jn.evaluate(learner, learner.init(keys(0, 1)[0]), new)
    fitted = jn.fit(learner, train, duration=300, evaluate_every=100, validation=new, **options)
    after = jn.evaluate(learner, fitted.state, new)
    assert after["auc"] > 0.93 > before["auc"] and after["eer"] < 0.15 and ("loss" in after) == (name != "arcface")
    assert fitted.history[-1]["validation/auc"] == after["auc"]  # of whole blocks in both
    np.testing.assert_allclose(np.linalg.norm(jn.predict(learner, fitted.state, new["inputs"]), axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_evaluation_sees_whole_blocks():
    new = people(10, 1)
    network = jn.network(jn.models.MLP, 8, (4,), 3)
    learners = [embedding(network, triplet(), adam(1e-3), {"auc": pair_auc()}, block=block) for block in (1, 60, 128)]
    state = learners[0].init(keys(0, 1)[0])
    parts, whole, padded = (jn.evaluate(learner, state, new, batch_size=12)["auc"] for learner in learners)
    assert whole == padded != parts


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: triplet(0.0), r"margin=0.0 must be in \(0, 4\)"),
        (lambda: contrastive(3.0), r"margin=3.0 must be in \(0, 2\]"),
        (lambda: supervised_contrastive(-1), "temperature=-1 must be a number greater than 0"),
        (lambda: arcface(1, 4), "num_classes=1 must be a whole number of 2 or more"),
        (lambda: arcface(3, 4, margin=2.0), r"margin=2.0 must be in \[0, pi / 2\)"),
        (lambda: embedding(jn.network(jn.models.MLP, 8, (4,), 3), jn.losses.mse, adam(1e-3)), "give an EmbeddingLoss"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_an_image_and_its_mirror_image_have_one_embedding():
    plain = jn.network(jn.models.CNN, (6, 5, 2), (4,), (), 3)
    both, (params, state) = mirrored(plain), plain.init(keys(0, 1)[0])
    images = np.random.default_rng(0).normal(size=(7, 6, 5, 2)).astype(np.float32)
    found, other = (both.apply(params, state, x)[0] for x in (images, images[:, :, ::-1]))
    np.testing.assert_allclose(found, other, atol=1e-6)
    parts = [np.asarray(plain.apply(params, state, x)[0], np.float64) for x in (images, images[:, :, ::-1])]
    expected = sum(part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    trained, _ = both.apply(params, state, images, train=True)
    np.testing.assert_array_equal(trained, plain.apply(params, state, images, train=True)[0])


def test_refuses_data_that_make_no_pairs():
    learner = embedding(jn.network(jn.models.MLP, 8, (4,), 3), triplet(), adam(1e-3))
    x = np.zeros((4, 8), np.float32)
    with pytest.raises(InputError, match="weights"):
        learner.check({"inputs": x, "labels": np.arange(4), "weights": np.ones(4)})
    with pytest.raises(InputError, match=r"labels are float32\[4\]; give whole numbers of classes"):
        learner.check({"inputs": x, "labels": np.zeros(4, np.float32)})
    with pytest.raises(InputError, match="would part rows that belong together"):
        jn.folded(learner._replace(block=8), 2)
