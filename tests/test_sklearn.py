"""The estimators, as scikit-learn checks its own, beside its own, and in its pipelines and searches."""

import pickle
import re
from typing import Any

import numpy as np
import pytest
from helpers import assert_same_bits
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, make_friedman1
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import jaxnets as jn
from jaxnets import InputError
from jaxnets.sklearn import Classifier, Regressor, _program

# Beside what needs pandas or another variable of the environment, and is skipped.
LACKS = {
    "check_sample_weight_equivalence_on_dense_data": "weights and repeated rows agree to what float32 rounds "
    "(test_weights_are_repeated_rows), and it asks for a relative 1e-7",
}


def lacks(estimator):
    return LACKS


@pytest.mark.slow
@parametrize_with_checks([Classifier(), Regressor()], expected_failed_checks=lacks)
def test_the_defaults_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def points(number=60, features=4, seed=0):
    """Return inputs and the labels of three classes that can be told apart, but not by a hair."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(number, features))
    return inputs, np.array(["no", "perhaps", "yes"])[(inputs[:, :2] > 0).sum(1)]


def quick(kind: Any = Classifier, **options: Any) -> Any:
    sizes = {} if "network" in options else {"hidden_layer_sizes": 16}
    return kind(**{**sizes, "max_iter": 20, "learning_rate": 2e-2, "random_state": 0, **options})


def normalised(shape, num_outputs):
    return jn.network(jn.models.MLP, int(np.prod(shape)), (8,), num_outputs, norm="batch")


def test_digits_as_well_as_scikit_learn():
    parts = train_test_split(*load_digits(return_X_y=True), test_size=0.25, random_state=0)
    train, test, train_labels, test_labels = parts
    ours = Classifier(max_iter=10, random_state=0).fit(train, train_labels)
    theirs = make_pipeline(MinMaxScaler(), MLPClassifier(max_iter=10, learning_rate_init=3e-3, random_state=0))
    with pytest.warns(UserWarning, match="Maximum iterations"):
        theirs.fit(train, train_labels)
    assert ours.score(test, test_labels) > max(0.96, theirs.score(test, test_labels) - 0.01)


def test_regression():
    inputs, targets = make_friedman1(400, noise=1.0, random_state=0)
    model = Regressor(random_state=0).fit(inputs[:300], 1000 + 50 * targets[:300])
    assert model.score(inputs[300:], 1000 + 50 * targets[300:]) > 0.8
    assert Regressor(random_state=0, early_stopping=True).fit(*load_diabetes(return_X_y=True)).n_iter_ < 100


def test_several_targets_each_in_its_units():
    inputs, _ = points(200)
    targets = np.stack([inputs[:, 0] * 1e6, inputs[:, 1] * 1e-6 + 1], axis=1)
    model = quick(Regressor, max_iter=50).fit(inputs, targets)
    assert model.predict(inputs).shape == targets.shape and model.predict(inputs).dtype == np.float64
    assert model.score(inputs, targets) > 0.95


def test_classes_are_what_they_were():
    inputs, labels = points(200)
    model = quick().fit(inputs, labels)
    assert model.classes_.tolist() == ["no", "perhaps", "yes"] and model.score(inputs, labels) > 0.85
    probabilities = model.predict_proba(inputs)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (model.classes_[probabilities.argmax(1)] == model.predict(inputs)).all()
    assert model.loss_curve_[-1] < model.loss_curve_[0] and model.n_iter_ == len(model.loss_curve_) == 20


def test_the_same_seed_gives_the_same_bits():
    inputs, labels = points()
    first, second = quick(random_state=3).fit(inputs, labels), quick(random_state=3).fit(inputs, labels)
    assert_same_bits(first.params_, second.params_)
    drawn = quick(random_state=np.random.RandomState(3)).fit(inputs, labels)
    assert_same_bits(first.params_, drawn.params_)
    np.random.seed(3)  # noqa: NPY002  (what scikit-learn's random_state=None stands for)
    assert_same_bits(first.params_, quick(random_state=None).fit(inputs, labels).params_)
    assert (first.predict_proba(inputs) != quick(random_state=4).fit(inputs, labels).predict_proba(inputs)).any()


class TestWeights:
    def test_a_row_of_weight_0_is_absent(self):
        inputs, labels = points()
        weights = np.where(np.arange(60) < 40, 2.5, 0)
        weighted = quick().fit(inputs, labels, sample_weight=weights)
        assert_same_bits(weighted.params_, quick().fit(inputs[:40], labels[:40]).params_)

    def test_weights_are_repeated_rows(self):
        """All rows in every step; both sums are float32's."""
        inputs, labels = points()
        weights = np.arange(60) % 4
        whole = {"batch_size": 200, "max_iter": 50}
        repeated = quick(**whole).fit(inputs.repeat(weights, axis=0), labels.repeat(weights))
        weighted = quick(**whole).fit(inputs, labels, sample_weight=weights)
        np.testing.assert_allclose(weighted.predict_proba(inputs), repeated.predict_proba(inputs), atol=1e-5)

    def test_they_shift_the_regression(self):
        inputs, targets = np.zeros((40, 1)), np.arange(40) % 2
        found = quick(Regressor).fit(inputs, targets, sample_weight=1 + 3 * targets).predict(inputs[:1])
        assert found == pytest.approx(0.8, abs=0.1)

    def test_early_stopping_counts_them(self):
        inputs, labels = points(200)
        weights = np.random.default_rng(0).uniform(0.1, 3, 200)
        assert quick(early_stopping=True).fit(inputs, labels, sample_weight=weights).score(inputs, labels) > 0.8


def test_clones_are_alike_and_untrained():
    model = quick(Regressor, network=normalised).fit(points()[0], points()[0])
    copy: Any = clone(model)
    assert copy.get_params() == model.get_params() and not hasattr(copy, "params_")


def test_early_stopping_keeps_the_best_weights(capsys):
    inputs, _ = points(100)
    labels = np.random.default_rng(0).integers(0, 2, 100)  # nothing to be learned
    model = quick(early_stopping=True, n_iter_no_change=3, max_iter=50, verbose=True).fit(inputs, labels)
    best = int(np.argmin(model.validation_loss_curve_))
    assert model.n_iter_ == best + 1 + 3 < 50
    assert len(re.findall(r"epoch \d+/50  train loss \d", capsys.readouterr().out)) == model.n_iter_


def test_pickles_predict_the_same_bits():
    inputs, labels = points()
    model = quick(network=normalised).fit(inputs, labels)
    copy = pickle.loads(pickle.dumps(model))
    assert_same_bits(copy.predict_proba(inputs), model.predict_proba(inputs))
    assert isinstance(model.params_["out"]["kernel"], np.ndarray) and model.model_state_


def test_a_row_is_predicted_alike_alone_and_among_others():
    inputs, labels = points(150)
    model = quick().fit(inputs, labels)
    assert_same_bits(model.predict_proba(inputs)[7:8], model.predict_proba(inputs[7:8]))


def test_a_search_over_a_pipeline_compiles_once():
    inputs, labels = points(120)
    _program.cache_clear()
    grid = {"classifier__learning_rate": [1e-6, 3e-2], "classifier__max_iter": [5, 50]}
    grid["classifier__weight_decay"] = [0, 1]
    search = GridSearchCV(make_pipeline(MinMaxScaler(), quick()), grid, cv=3).fit(inputs, labels)
    assert search.best_params_["classifier__learning_rate"] == 3e-2 and search.best_score_ > 0.75
    assert _program.cache_info().misses == 1
    assert _program(*search.best_estimator_[-1]._model).epoch._cache_size() == 1  # of 80 rows and of 120


@pytest.mark.slow
def test_images_for_a_network_of_ones_own():
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1)[:200]
    shapes = []

    def make(shape, num_outputs):
        shapes.append((shape, num_outputs))
        return normalised(shape, num_outputs)

    model = quick(network=make).fit(images, labels[:200])
    assert shapes == [((8, 8, 1), 10)] and model.score(images, labels[:200]) > 0.9
    with pytest.raises(InputError, match=r"X has rows of shape \(8, 4, 2\), but fit had \(8, 8, 1\)"):
        model.predict(images.reshape(-1, 8, 4, 2))


def test_tokens_reach_the_network_as_they_are():
    tokens = np.random.default_rng(0).integers(0, 5, (100, 6))

    def make(shape, num_outputs):
        return jn.network(
            jn.models.Transformer, 5, 16, 1, 2, num_outputs, max_length=shape[0], tokens=True, pool="mean"
        )

    model = quick(network=make, standardize=False).fit(tokens, tokens[:, 0] > 2)
    assert model.predict(tokens).dtype == bool
    with pytest.raises(InputError, match="5"):
        quick(network=make, standardize=False).fit(tokens + 1, tokens[:, 0] > 2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_iter": 0}, "max_iter=0 must be a whole number of 1 or more"),
        ({"batch_size": 2.5}, "batch_size=2.5 must be a whole number of 1 or more"),
        ({"hidden_layer_sizes": (8, 0)}, "hidden_layer_sizes=(8, 0) must be whole numbers of 1 or more"),
        ({"learning_rate": "fast"}, "learning_rate='fast' must be a number greater than 0, such as"),
        ({"weight_decay": -1}, "weight_decay=-1 must be a number of 0 or more"),
        ({"dropout": 1}, "dropout=1 must be a number in [0, 1), such as 0.2"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0 must be a number in (0, 1)"),
        ({"network": "mlp"}, "network='mlp' must be a function (shape, num_outputs) -> jaxnets.Network"),
        ({"network": normalised, "dropout": 0.5}, "dropout=0.5 must be left out, for a network of one's own is given"),
        ({"network": lambda shape, num: None}, "returned NoneType; return jaxnets.network(Module, ...)"),
        ({"learning_rate": 1e30}, "learning_rate=1e+30 must be lower: the loss of epoch"),
    ],
)
def test_errors_name_the_argument_and_the_remedy(option, message):
    with pytest.raises(InputError, match=re.escape(message)):
        quick(Regressor, **option).fit(points()[0], points()[0][:, 0])


def test_weights_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match=r"[Zz]ero"):
        quick().fit(*points(), sample_weight=np.zeros(60))
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        quick().fit(*points(), sample_weight=-np.ones(60))
