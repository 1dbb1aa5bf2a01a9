"""Arrays that a learner reads, masks, weights and labels, checked before anything compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets import Data, InputError
from jaxnets.losses import accuracy, binary_accuracy
from jaxnets.training.plan import check

X, CLASSES = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3
ONES, ONE_HOT = np.ones(12), np.eye(3)[CLASSES]


def learner(outputs=3, loss=jn.losses.softmax_cross_entropy, metrics=None):
    return jn.supervised(jn.network(jn.models.MLP, 4, (), outputs), loss, optax.sgd(0.1), metrics)


def own(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], -1)[:, 0]


def squared(outputs, labels):
    return (outputs - labels) ** 2


CLASSIFIER, OWN, BINARY = learner(), learner(loss=own), learner(1, jn.losses.sigmoid_cross_entropy)
SQUARED, MEAN = learner(1, squared), learner(1, lambda outputs, labels: squared(outputs, labels).mean())
METRIC = learner(1, jn.losses.mse, {"far": lambda outputs, labels: abs(outputs[:, 0] - labels)})
YES_NO = learner(3, jn.losses.sigmoid_cross_entropy, {"accuracy": jn.metrics.accuracy})


@pytest.mark.parametrize(
    ("tried", "arrays", "message"),
    [
        (CLASSIFIER, {"sample_weight": ONES}, r"hold sample_weight, which no part .* reads \(did you mean 'weights'"),
        (
            CLASSIFIER,
            {"mask": ONES / 2},
            r"a mask of shape \(12,\) from 0.5 to 0.5 .* how much they count is for weights=",
        ),
        (CLASSIFIER, {"mask": 2 * CLASSES}, "from 0 to 4"),
        (CLASSIFIER, {"mask": np.ones((12, 3))}, r"a mask of shape \(12, 3\) from 1 to 1 for labels of shape \(12,\)"),
        (CLASSIFIER, {"weights": -ONES}, r"weights of shape \(12,\) from -1.0 to -1.0"),
        (CLASSIFIER, {"weights": np.full(12, np.nan)}, "weights of shape"),
        (OWN, {"labels": CLASSES - 1}, r"labels range from -1 to 1, outside 0..2: .* need a mask="),
        (OWN, {"labels": CLASSES + 1}, r"labels range from 1 to 3, outside 0..2: the network has 3 outputs"),
        (SQUARED, {"labels": CLASSES * 1.0}, r"squared gives values of shape \[N, N\] .* shapes \[N, 1\], \[N\]"),
        (METRIC, {"labels": CLASSES[:, None]}, r"gives values of shape \[N, N\] .* shapes \[N, 1\], \[N, 1\]"),
        (MEAN, {"labels": CLASSES[:, None]}, r"gives values of shape \[\]"),
        (YES_NO, {"labels": ONE_HOT}, r"labels of shape \(12, 3\) are one-hot; give the number of each class"),
    ],
)
def test_refuses(tried, arrays, message):
    with pytest.raises(InputError, match=message):
        tried.check({"inputs": X, "labels": CLASSES, **arrays})


@pytest.mark.parametrize(
    ("tried", "arrays"),
    [
        (CLASSIFIER, {"mask": np.arange(12) > 3, "weights": ONES / 2, "lengths": ONES}),
        (CLASSIFIER, {"labels": np.where(CLASSES == 2, -100, CLASSES), "mask": CLASSES != 2}),
        (OWN, {"labels": np.where(CLASSES == 2, -100, CLASSES), "weights": (CLASSES != 2) / 3}),
        (OWN, {}),
        (SQUARED, {"labels": CLASSES[:, None] - 1.0}),
        (YES_NO, {"labels": 1 - ONE_HOT}),
    ],
)
def test_takes(tried, arrays):
    tried.check(Data(**{"inputs": X, "labels": CLASSES, **arrays}))


@pytest.mark.parametrize("name", ["labels", "targets", "sample_weight"])
def test_sequences_have_no_arrays_that_nobody_reads(name):
    network = jn.network(jn.models.RNN, 5, (4,), 5, embedding=3)
    inner = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1))
    with pytest.raises(InputError, match=f"hold {name}, which no part of the learner reads"):
        jn.autoregressive(inner).check({"inputs": np.ones((2, 3), np.int32), name: np.ones(2)})


def test_images_of_an_autoencoder_may_have_labels():
    parts = jn.network(jn.models.MLP, 4, (), 2), jn.network(jn.models.MLP, 2, (), 4)
    tried = jn.reconstructing(*parts, jn.losses.mse, optax.sgd(0.1))
    tried.check(Data(inputs=X, labels=CLASSES))
    with pytest.raises(InputError, match="hold noisy, which no part of the learner reads"):
        tried.check(Data(inputs=X, noisy=X))


def test_accuracy_of_one_hot_labels():
    logits = jnp.asarray(X[:, :3])
    with pytest.raises(InputError, match=r"one-hot; give the number of each class, labels.argmax\(-1\), or"):
        accuracy(logits, jnp.asarray(ONE_HOT))
    wanted = (X[:, :3].argmax(-1) == CLASSES).mean()
    assert float(accuracy(logits, jnp.asarray(ONE_HOT).argmax(-1)).mean()) == pytest.approx(wanted)
    yes = ((X[:, :3] > 0) == (ONE_HOT > 0)).mean()
    assert float(binary_accuracy(logits, jnp.asarray(ONE_HOT)).mean()) == pytest.approx(yes)


def normalised(parts=1, norm="batch"):
    network = jn.network(jn.models.MLP, 4, (8,), 3, norm=norm)
    tried = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1))
    return jn.accumulated(tried, parts) if parts > 1 else tried


@pytest.mark.parametrize(("parts", "batch_size"), [(1, 1), (4, 4)])
def test_batch_normalisation_over_one_value_is_refused(parts, batch_size):
    data = Data(inputs=X, labels=CLASSES)
    with pytest.raises(InputError, match=r"hidden/0/norm.*: a batch normalisation trained on one example at a time"):
        check(normalised(parts), data, batch_size=batch_size)
    check(normalised(parts), data, batch_size=2 * batch_size)
    check(normalised(parts, "layer"), data, batch_size=batch_size)
