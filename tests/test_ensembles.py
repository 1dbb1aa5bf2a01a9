"""Ensembles of classifiers, against scikit-learn and formulas written out."""

import json

import jax
import numpy as np
import optax
import pytest
from helpers import fails
from sklearn.metrics import log_loss

import jaxnets as jn
from jaxnets import cli
from jaxnets.errors import InputError
from jaxnets.models import MLP


@pytest.fixture(scope="module")
def said():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    return random.normal(size=(5, 200, 3)) + 2.0 * np.eye(3)[labels], labels


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_what_the_members_say_together(said):
    logits, _ = said
    found, each = jn.ensemble(logits), softmax(logits)
    np.testing.assert_allclose(found.probabilities, each.mean(0), rtol=1e-5)
    entropy = -(each.mean(0) * np.log(each.mean(0))).sum(-1)
    np.testing.assert_allclose(found.entropy, entropy, rtol=1e-5)
    divergence = (each * np.log(each / each.mean(0))).sum(-1).mean(0)  # the same by another formula
    np.testing.assert_allclose(found.disagreement, divergence, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.agreement, (logits.argmax(-1) == each.mean(0).argmax(-1)).mean(0))
    alike = jn.ensemble(np.stack([logits[0]] * 4))
    assert alike.disagreement.max() < 1e-6 and (alike.agreement == 1).all()


def test_metrics_of_members_and_of_the_ensemble(said):
    logits, labels = said
    found = jn.ensemble_metrics(logits, labels)
    members, whole = found["log_loss"]
    np.testing.assert_allclose(members, [log_loss(labels, softmax(own)) for own in logits], rtol=1e-5)
    np.testing.assert_allclose(whole, log_loss(labels, softmax(logits).mean(0)), rtol=1e-5)
    assert whole < members.mean()  # by Jensen's inequality, always
    members, whole = found["accuracy"]
    np.testing.assert_allclose(members, (logits.argmax(-1) == labels).mean(-1))
    np.testing.assert_allclose(whole, (softmax(logits).mean(0).argmax(-1) == labels).mean())
    half = jn.ensemble_metrics(logits, labels, np.arange(200) < 100)
    np.testing.assert_allclose(
        half["log_loss"][1], jn.ensemble_metrics(logits[:, :100], labels[:100])["log_loss"][1], 1e-5
    )


def test_a_reliability_diagram_adds_up_to_accuracy_and_calibration_error(said):
    logits, labels = said
    probabilities = softmax(logits).mean(0)
    found = jn.reliability(probabilities, labels)
    some = found.share > 0
    np.testing.assert_allclose((found.share * found.accuracy)[some].sum(), (probabilities.argmax(-1) == labels).mean())
    gap = (found.share * np.abs(found.accuracy - found.confidence))[some].sum()
    np.testing.assert_allclose(gap, jn.ensemble_metrics(logits, labels)["calibration_error"][1], rtol=1e-4)


@pytest.mark.parametrize("shape", [(200, 3), (1, 200, 3), (5, 200, 1)])
def test_logits_of_no_ensemble(shape):
    with pytest.raises(InputError, match="two or more members and classes"):
        jn.ensemble(np.zeros(shape))
    with pytest.raises(InputError, match="give one a row"):
        jn.ensemble_metrics(np.zeros((2, 5, 3)), np.zeros(4, int))


def test_what_is_no_input_of_a_diagram(said):
    logits, labels = said
    for call, message in (
        (lambda: jn.reliability(logits[0], labels), "logits take their softmax"),
        (lambda: jn.reliability(softmax(logits[0]), labels[:9]), "give one a row"),
        (lambda: jn.ensemble_metrics(logits, labels + 7), "outside the 3 classes of"),
        (lambda: jn.ensemble_metrics(logits, labels, np.ones(3)), "weights of shape"),
        (lambda: jn.ensemble(np.full((2, 3, 4), np.nan)), "not all finite"),
    ):
        with pytest.raises(InputError, match=message):
            call()


@pytest.mark.slow
def test_a_population_is_an_ensemble(blobs):
    learner = jn.supervised(jn.network(MLP, 4, (8,), 3), jn.losses.softmax_cross_entropy, optax.adam(0.01))
    learner = jn.population(learner, 4)
    fitted = jn.fit(learner, blobs, seed=range(4), duration=40, progress=False)
    found = jn.ensemble_metrics(jn.predict(learner, fitted.state, blobs["inputs"]), blobs["labels"])
    for value in jax.tree.leaves(found):
        assert np.isfinite(value).all()
    np.testing.assert_allclose(found["log_loss"][0], jn.evaluate(learner, fitted.state, blobs)["loss"], rtol=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("ensemble") / "run"
    flags = ("--model", "mlp", "--hidden", "16", "--duration", "2ep", "--seeds", "3", "--out", str(out))
    assert cli.main(["train", "digits-cnn", *flags]) == 0
    return out


def test_the_command_compares_members_with_the_ensemble(run, tmp_path, capsys):
    picture = tmp_path / "reliability.png"
    assert cli.main(["evaluate", str(run), "--ensemble", "--json", "--out", str(picture)]) == 0
    found = json.loads(capsys.readouterr().out)
    alone = json.loads((run / "result.json").read_text())["metrics"]["test/accuracy"]["values"]
    np.testing.assert_allclose(found["test/accuracy"]["members"]["values"], alone, atol=1e-6)
    assert found["test/log_loss"]["ensemble"] < found["test/log_loss"]["members"]["mean"]
    assert picture.stat().st_size > 10_000
    assert cli.main(["evaluate", str(run), "--ensemble"]) == 0
    assert "the ensemble" in capsys.readouterr().out


def test_predictions_say_how_far_the_seeds_agree(run, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8, 1), np.uint8))
    assert cli.main(["predict", str(run), str(tmp_path / "x.npy"), "--ensemble", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2 and all(row["agreement"] in (1 / 3, 2 / 3, 1) and row["disagreement"] >= 0 for row in rows)


def test_one_seed_is_no_ensemble(tmp_path, capsys):
    flags = ("--model", "mlp", "--hidden", "4", "--duration", "2", "--out", str(tmp_path / "one"))
    assert cli.main(["train", "digits-cnn", *flags]) == 0
    capsys.readouterr()
    assert "one seed, which makes no ensemble" in fails(capsys, "evaluate", tmp_path / "one", "--ensemble")
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8, 1), np.uint8))
    assert "has one seed" in fails(capsys, "predict", tmp_path / "one", tmp_path / "x.npy", "--ensemble")
    assert "give one of them, too" in fails(capsys, "evaluate", tmp_path / "one", "--out", tmp_path / "a.png")
