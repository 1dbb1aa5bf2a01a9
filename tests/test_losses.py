"""Losses and metrics against float64 formulas, scikit-learn and PyTorch; and what they refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from jax.test_util import check_grads
from scipy.special import log_softmax

from jaxnets import InputError, losses

random = np.random.default_rng(0)
LOGITS = random.normal(size=(7, 5)).astype(np.float32)
LABELS = random.integers(0, 5, 7)
BINARY = LABELS % 2


def test_softmax_cross_entropy():
    got = losses.softmax_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    wanted = -log_softmax(LOGITS.astype(np.float64), axis=-1)[np.arange(7), LABELS]
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    probabilities = np.exp(log_softmax(LOGITS.astype(np.float64), axis=-1))
    np.testing.assert_allclose(got.mean(), sklearn.metrics.log_loss(LABELS, probabilities, labels=range(5)), rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing(smoothing):
    got = losses.softmax_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS), label_smoothing=smoothing)
    target = (1 - smoothing) * np.eye(5)[LABELS] + smoothing / 5
    np.testing.assert_allclose(got, -(target * log_softmax(LOGITS.astype(np.float64), axis=-1)).sum(-1), rtol=1e-5)


def test_label_smoothing_equals_pytorch_and_is_checked():
    smoothed = functools.partial(losses.softmax_cross_entropy, label_smoothing=0.1)
    losses.check_labels(smoothed, jax.ShapeDtypeStruct((1, 5), jnp.float32), LABELS)
    with pytest.raises(InputError, match=r"outside 0\.\.4"):
        losses.check_labels(smoothed, jax.ShapeDtypeStruct((1, 5), jnp.float32), LABELS + 1)
    with pytest.raises(InputError, match=r"label_smoothing=1\.0 must be in \[0, 1\)"):
        losses.softmax_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS), label_smoothing=1.0)
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    wanted = torch.nn.functional.cross_entropy(
        torch.tensor(LOGITS), torch.tensor(LABELS), label_smoothing=0.1, reduction="none"
    )
    np.testing.assert_allclose(smoothed(jnp.asarray(LOGITS), jnp.asarray(LABELS)), wanted, rtol=1e-5)


def test_softmax_cross_entropy_of_sequences():
    logits, labels = jnp.asarray(LOGITS).reshape(1, 7, 5), jnp.asarray(LABELS).reshape(1, 7)
    np.testing.assert_allclose(
        losses.softmax_cross_entropy(logits, labels)[0], losses.softmax_cross_entropy(logits[0], labels[0]), rtol=1e-6
    )


def test_extreme_logits_stay_finite():
    logits = jnp.array([[1e4, -1e4, 0.0]])
    assert jnp.isfinite(losses.softmax_cross_entropy(logits, jnp.array([1]))).all()
    assert jnp.isfinite(losses.sigmoid_cross_entropy(logits, jnp.array([[0, 1, 0.5]]))).all()


def test_sigmoid_cross_entropy():
    scores = LOGITS[:, 0].astype(np.float64)
    p = 1 / (1 + np.exp(-scores))
    for labels in (BINARY, BINARY.astype(np.float32), np.full(7, 0.3)):
        wanted = -(labels * np.log(p) + (1 - labels) * np.log(1 - p))
        got = losses.sigmoid_cross_entropy(jnp.asarray(LOGITS[:, 0]), jnp.asarray(labels))
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_bernoulli_nll():
    logits, labels = jnp.asarray(LOGITS), jnp.asarray(random.integers(0, 2, LOGITS.shape))
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    wanted = -np.log(np.where(labels == 1, p, 1 - p)).sum(-1)
    np.testing.assert_allclose(losses.bernoulli_nll(logits, labels), wanted, rtol=1e-5)
    with pytest.raises(InputError, match=r"outside 0\.\.1"):
        losses.check_labels(losses.bernoulli_nll, jax.ShapeDtypeStruct((1, 5), jnp.float32), np.array([[2]]))
    with pytest.raises(InputError, match="bernoulli_nll: outputs of shape"):
        losses.bernoulli_nll(logits, labels[:, 0])


def test_mse():
    got = losses.mse(jnp.asarray(LOGITS), jnp.asarray(LOGITS[::-1].copy()))
    np.testing.assert_allclose(got.mean(), sklearn.metrics.mean_squared_error(LOGITS, LOGITS[::-1]), rtol=1e-5)


def test_mae():
    got = losses.mae(jnp.asarray(LOGITS), jnp.asarray(LOGITS[::-1].copy()))
    np.testing.assert_allclose(got.mean(), sklearn.metrics.mean_absolute_error(LOGITS, LOGITS[::-1]), rtol=1e-5)


@pytest.mark.parametrize("delta", [0.5, 1.0])
def test_huber(delta):
    got = losses.huber(jnp.asarray(LOGITS), jnp.zeros((7, 5)), delta)
    size = np.abs(LOGITS.astype(np.float64))
    np.testing.assert_allclose(got, np.where(size < delta, size**2 / 2, delta * (size - delta / 2)), rtol=1e-5)


@pytest.mark.parametrize("labels", [BINARY, 2 * BINARY - 1, BINARY.astype(bool)], ids=["0/1", "-1/1", "bool"])
def test_hinge(labels):
    got = losses.hinge(jnp.asarray(LOGITS[:, 0]), jnp.asarray(labels))
    np.testing.assert_allclose(got.mean(), sklearn.metrics.hinge_loss(2 * BINARY - 1, LOGITS[:, 0]), rtol=1e-5)


def test_multiclass_hinge():
    got = losses.multiclass_hinge(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    wanted = sklearn.metrics.hinge_loss(LABELS, LOGITS, labels=range(5))
    np.testing.assert_allclose(got.mean(), wanted, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (losses.softmax_cross_entropy, LABELS),
        (losses.multiclass_hinge, LABELS),
        (losses.mse, LOGITS + 1),
        (losses.mae, LOGITS + 1),
        (losses.huber, np.zeros((7, 5))),
        (losses.sigmoid_cross_entropy, np.full((7, 5), 0.3)),
        (losses.hinge, np.sign(LOGITS) * -1),
    ],
)
def test_gradients_against_finite_differences(loss, labels):
    with jax.enable_x64(True):
        logits = jnp.asarray(LOGITS, jnp.float64) + 0.01
        check_grads(lambda x: loss(x, jnp.asarray(labels)).mean(), (logits,), order=1, eps=1e-6, atol=1e-5, rtol=1e-5)


def test_accuracy():
    got = losses.accuracy(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    assert got.mean() == pytest.approx(sklearn.metrics.accuracy_score(LABELS, LOGITS.argmax(-1)))
    assert losses.accuracy(jnp.full((2, 3), jnp.nan), jnp.array([0, 1])).tolist() == [0, 0]
    assert losses.accuracy(jnp.array([jnp.nan, 1.0]), jnp.array([0, 1])).tolist() == [0, 1]
    got = losses.accuracy(jnp.asarray(LOGITS[:, 0]), jnp.asarray(2 * BINARY - 1))
    assert got.mean() == pytest.approx(sklearn.metrics.accuracy_score(BINARY, LOGITS[:, 0] > 0))


def test_equal_pytorch():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    logits, labels = torch.tensor(LOGITS), torch.tensor(LABELS)
    scores, binary = logits[:, 0], torch.tensor(BINARY, dtype=torch.float32)
    functional = torch.nn.functional
    pairs = [
        (losses.softmax_cross_entropy(LOGITS, LABELS), functional.cross_entropy(logits, labels, reduction="none")),
        (
            losses.sigmoid_cross_entropy(LOGITS[:, 0], BINARY),
            functional.binary_cross_entropy_with_logits(scores, binary, reduction="none"),
        ),
        (losses.mse(LOGITS, LOGITS + 2), functional.mse_loss(logits, logits + 2, reduction="none")),
    ]
    for got, wanted in pairs:
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "outputs", "labels", "message"),
    [
        (losses.mse, (5, 1), (5,), r"\(5, 1\) against labels of shape \(5,\)"),
        (losses.mae, (5, 1), (5,), r"\(5, 1\) against labels of shape \(5,\)"),
        (losses.huber, (5, 1), (5,), r"\(5, 1\) against labels of shape \(5,\)"),
        (losses.sigmoid_cross_entropy, (5, 1), (5,), r"\(5, 1\) against"),
        (losses.hinge, (5,), (5, 1), r"\(5,\) against"),
        (losses.softmax_cross_entropy, (5, 3), (5, 1), r"need labels of shape \(5,\), not \(5, 1\)"),
        (losses.multiclass_hinge, (5, 3), (3,), r"need labels of shape \(5,\)"),
        (losses.accuracy, (5, 3), (5, 1), r"need labels of shape \(5,\)"),
    ],
)
def test_shapes_that_would_broadcast_are_errors(loss, outputs, labels, message):
    with pytest.raises(InputError, match=message):
        loss(jnp.zeros(outputs), jnp.zeros(labels, jnp.int32))


def test_class_labels_must_be_integers():
    with pytest.raises(InputError, match="labels are float32, not integers"):
        losses.softmax_cross_entropy(jnp.zeros((5, 3)), jnp.zeros(5))


@pytest.mark.parametrize(
    ("loss", "labels", "message"),
    [
        (losses.softmax_cross_entropy, [0, 3], r"from 0 to 3, outside 0..2: the network has 3 outputs"),
        (losses.softmax_cross_entropy, [-1, 2], r"from -1 to 2"),
        (losses.multiclass_hinge, [0, 3], r"from 0 to 3"),
        (functools.partial(losses.softmax_cross_entropy), [0, 3], r"from 0 to 3"),
        (losses.sigmoid_cross_entropy, [0.0, 1.5], r"outside 0..1: give 0, 1 or a probability"),
    ],
)
def test_labels_out_of_range_are_errors(loss, labels, message):
    outputs = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    losses.check_labels(loss, outputs, np.array([0, 1]))
    with pytest.raises(InputError, match=message):
        losses.check_labels(loss, outputs, np.array(labels))


def test_nothing_is_known_of_a_users_loss():
    losses.check_labels(lambda outputs, labels: outputs, jax.ShapeDtypeStruct((2, 3), jnp.float32), np.array([99.0]))
