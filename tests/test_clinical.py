"""What a clinician reads: measures against scikit-learn's, intervals that hold, costs, calibration, the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
from helpers import fails
from scipy.special import softmax
from sklearn.calibration import calibration_curve

from jaxnets import cli, open_run
from jaxnets.data import FOLD, Splits, in_folds
from jaxnets.errors import InputError
from jaxnets.inference import clinical
from jaxnets.recipes.recipe import find

random = np.random.default_rng(0)
POSITIVE = random.random(300) < 0.3
SCORES = np.round(random.normal(size=300) + 1.5 * POSITIVE, 1)  # with ties
FOUND = clinical.decisions(SCORES, POSITIVE)


def test_curves_and_areas_equal_scikit_learns():
    alarms, hits, thresholds = sk.roc_curve(POSITIVE, SCORES, drop_intermediate=False)
    np.testing.assert_allclose(1 - FOUND.specificity, alarms, atol=1e-12)
    np.testing.assert_allclose(FOUND.sensitivity, hits, atol=1e-12)
    np.testing.assert_array_equal(FOUND.thresholds, thresholds)
    precision, recall, _ = sk.precision_recall_curve(POSITIVE, SCORES)
    np.testing.assert_allclose(FOUND.precision[::-1], precision, atol=1e-12)
    np.testing.assert_allclose(FOUND.sensitivity[::-1], recall, atol=1e-12)
    assert clinical.auroc(FOUND) == pytest.approx(sk.roc_auc_score(POSITIVE, SCORES), abs=1e-12)
    assert clinical.average_precision(FOUND) == pytest.approx(sk.average_precision_score(POSITIVE, SCORES), abs=1e-12)


def test_weights_count_as_repeated_rows():
    times = random.integers(0, 3, (4, 300))
    found = clinical.decisions(SCORES, POSITIVE, times)
    for row, weights in enumerate(times):
        wanted = sk.roc_auc_score(POSITIVE, SCORES, sample_weight=weights)
        assert clinical.auroc(found)[row] == pytest.approx(wanted, abs=1e-12)
        wanted = sk.average_precision_score(POSITIVE, SCORES, sample_weight=weights)
        assert clinical.average_precision(found)[row] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.9, 0.999, 1.0])
def test_sensitivity_at_a_specificity(specificity):
    alarms, hits, _ = sk.roc_curve(POSITIVE, SCORES, drop_intermediate=False)
    wanted = hits[1 - alarms >= specificity - 1e-12].max()
    assert clinical.sensitivity_at(FOUND, specificity) == pytest.approx(wanted)
    threshold = clinical.threshold_at(FOUND, specificity)
    assert sk.recall_score(POSITIVE, threshold <= SCORES) == pytest.approx(wanted)
    assert sk.recall_score(~POSITIVE, threshold > SCORES) >= specificity - 1e-12


@pytest.mark.parametrize("threshold", [-9.0, 0.0, 0.55, 1.3, 9.0])
def test_rates_at_a_threshold(threshold):
    said = threshold <= SCORES
    (true_negative, false_alarm), (missed, hit) = sk.confusion_matrix(POSITIVE, said)
    found = clinical.rates(FOUND, threshold)
    assert found.sensitivity == pytest.approx(hit / (hit + missed))
    assert found.specificity == pytest.approx(true_negative / (true_negative + false_alarm))
    assert found.accuracy == pytest.approx((said == POSITIVE).mean())
    np.testing.assert_allclose(
        [found.positive_predictive_value, found.negative_predictive_value],
        [POSITIVE[said].mean() if said.any() else np.nan, (~POSITIVE[~said]).mean() if (~said).any() else np.nan],
    )


@pytest.mark.parametrize("costs", [(1, 1), (10, 1), (1, 5)])
def test_the_threshold_by_cost_is_the_cheapest_of_all(costs):
    missed, alarm = costs
    each = [
        (missed * (POSITIVE & (at > SCORES)).sum() + alarm * (~POSITIVE & (at <= SCORES)).sum()) / 300
        for at in FOUND.thresholds
    ]
    np.testing.assert_allclose(clinical.costs(FOUND, missed, alarm), each)
    assert clinical.threshold_by_cost(FOUND, missed, alarm) == FOUND.thresholds[np.argmin(each)]


def test_calibration_equals_scikit_learns():
    probabilities = random.random(500)
    probabilities[:11] = np.linspace(0, 1, 11)
    happened = random.random(500) < probabilities**2
    found = clinical.calibration(probabilities, happened)
    observed, predicted = calibration_curve(happened, probabilities, n_bins=10)
    np.testing.assert_allclose(found.observed, observed)
    np.testing.assert_allclose(found.predicted, predicted)
    assert found.brier == pytest.approx(sk.brier_score_loss(happened, probabilities))
    assert found.counts.sum() == 500 and 0.1 < found.error < 0.25
    sure = clinical.calibration(probabilities, random.random(500) < probabilities)
    assert sure.error < 0.08


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of normal scores the area is known; 95% of 200 intervals hold it, give or take."""
    truth = scipy.stats.norm.cdf(1.2 / np.sqrt(2))
    held = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        positive = np.arange(150) < 60
        found = clinical.bootstrap(draw.normal(size=150) + 1.2 * positive, positive, clinical.auroc, samples=200)
        held += found.low <= truth <= found.high
    assert 0.90 <= held / 200 <= 0.985


def test_groups_are_drawn_whole():
    """With ten copies of each patient intervals are as wide as without copies; drawn one by one, much narrower."""
    copies, who = np.tile(SCORES, 10), np.tile(np.arange(300), 10)
    wide, narrow, alone = (
        clinical.bootstrap(scores, positive, clinical.auroc, groups, samples=300)
        for scores, positive, groups in (
            (copies, np.tile(POSITIVE, 10), who),
            (copies, np.tile(POSITIVE, 10), None),
            (SCORES, POSITIVE, None),
        )
    )
    assert wide.high - wide.low == pytest.approx(alone.high - alone.low, rel=0.25)
    assert narrow.high - narrow.low < 0.5 * (alone.high - alone.low)
    assert wide.value == pytest.approx(alone.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: clinical.decisions([1.0, 2.0], [1, 0]), "booleans"),
        (lambda: clinical.decisions([1.0, np.nan], [True, False]), "1 of 2 scores are NaN"),
        (lambda: clinical.decisions([1.0, 2.0], [True, True]), "all 2 examples are positive"),
        (lambda: clinical.costs(FOUND, 0, 1), "missed=0 must be a cost above 0"),
        (lambda: clinical.threshold_at(FOUND, 1.5), "specificity=1.5 must be from 0 to 1"),
        (lambda: clinical.calibration(np.array([1.5]), np.array([True])), "from 0 to 1"),
        (lambda: clinical.bootstrap(SCORES, POSITIVE, clinical.auroc, samples=1), "samples=1"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(InputError, match=message):
        make()


RECIPE = Path(__file__).parent.parent / "examples" / "diagnosis.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of two runs: of two seeds, and of three folds."""
    folder = tmp_path_factory.mktemp("clinical")
    for name, flags in (("seeds", ["--seeds", "2"]), ("folds", ["--folds", "3"])):
        short = ["--duration", "10ep", "--evaluate-every", "10ep", "--out", str(folder / name)]
        assert cli.main(["train", str(RECIPE), *flags, *short]) == 0
    return folder


def data_of():
    recipe = find(str(RECIPE))
    return recipe.load(recipe.config)


def evaluated(capsys, run, *flags):
    capsys.readouterr()
    assert cli.main(["evaluate", str(run), "--recipe", str(RECIPE), "--clinical", *flags]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_evaluate_says_what_scikit_learn_does(folder, tmp_path, capsys):
    said = json.loads(evaluated(capsys, folder / "seeds", "--json", "--costs", "5", "1", "--specificity", "0.8"))
    run = open_run(folder / "seeds", recipe=RECIPE)
    splits = data_of()
    probabilities, positive = {}, {}
    for part in ("validation", "test"):
        logits = np.asarray(run.predict(splits.parts[part]["inputs"]), float)  # [2, N, 2]
        probabilities[part] = softmax(logits, -1)[..., 1].mean(0)
        positive[part] = splits.parts[part]["labels"] == 1
    assert (said["part"], said["thresholds_of"], said["positive"]) == ("test", "validation", "malignant")
    measured = said["measures"]["auroc"]
    assert measured["value"] == pytest.approx(sk.roc_auc_score(positive["test"], probabilities["test"]), abs=1e-9)
    assert measured["low"] < measured["value"] <= measured["high"]
    assert said["brier"] == pytest.approx(sk.brier_score_loss(positive["test"], probabilities["test"]))
    threshold = said["thresholds"]["specificity 0.8"]
    negatives, scores = probabilities["validation"][~positive["validation"]], np.sort(probabilities["validation"])
    lowest = next(score for score in scores if (negatives < score).mean() >= 0.8)  # of the validation data's own
    assert threshold == pytest.approx(lowest, rel=1e-9)
    rates = said["rates"]["specificity 0.8"]
    found = probabilities["test"] >= threshold
    assert rates["sensitivity"]["value"] == pytest.approx(sk.recall_score(positive["test"], found))
    assert rates["positive_predictive_value"]["value"] == pytest.approx(sk.precision_score(positive["test"], found))
    benign = json.loads(evaluated(capsys, folder / "seeds", "--json", "--positive", "benign"))
    assert benign["measures"]["auroc"]["value"] == pytest.approx(measured["value"], abs=1e-9)
    assert benign["prevalence"] == pytest.approx(1 - said["prevalence"])
    printed = evaluated(capsys, folder / "seeds", "--out", str(tmp_path / "curves.png"))
    assert "area under the ROC curve" in printed and "chosen on the validation data" in printed
    assert (tmp_path / "curves.png").stat().st_size > 20_000


@pytest.mark.slow
def test_of_folds_each_example_is_judged_by_the_member_that_has_not_seen_it(folder, capsys, monkeypatch):
    """Where no test data are, the folds themselves are measured."""
    recipe, whole = find(str(RECIPE)), data_of()
    rest = Splits(whole.train, whole.validation)
    monkeypatch.setattr("jaxnets.commands.evaluate.data_again", lambda run, *_: (recipe, in_folds(rest, 3)))
    said = json.loads(evaluated(capsys, folder / "folds", "--json"))
    data = in_folds(rest, 3).train
    run = open_run(folder / "folds", recipe=RECIPE)
    logits = np.asarray(run.predict(data["inputs"]), float)
    own = softmax(logits, -1)[data[FOLD], np.arange(data.num_examples), 1]
    assert said["part"] == "validation"
    assert said["measures"]["auroc"]["value"] == pytest.approx(sk.roc_auc_score(data["labels"], own), abs=1e-9)


@pytest.mark.slow
def test_a_table_of_patients_with_several_rows_each(tmp_path, capsys):
    draw = np.random.default_rng(0)
    lines = ["patient,size,site,Class"]
    for patient in range(60):
        ill = patient % 3 == 0
        lines += [
            f"P{patient},{draw.normal() + 2 * ill:.3f},{draw.choice(['left', 'right'])},{'ill' if ill else 'well'}"
        ] * 3
    (tmp_path / "patients.csv").write_text("\n".join(lines))
    table = ["--data", str(tmp_path / "patients.csv"), "--groups", "patient"]
    short = ["--duration", "5ep", "--evaluate-every", "5ep", "--out", str(tmp_path / "run")]
    assert cli.main(["train", str(RECIPE), *table, *short]) == 0
    spec = open_run(tmp_path / "run", recipe=RECIPE).spec
    assert spec["inputs"].features == ("size", "site=left", "site=right") and spec["labels"].classes == ("ill", "well")
    assert "by bootstrap of groups" in evaluated(capsys, tmp_path / "run", "--positive", "ill")
    assert "groups='who' is no column" in fails(capsys, "train", RECIPE, *table[:2], "--groups", "who", "--dry-run")


@pytest.mark.slow
def test_what_the_command_refuses(folder, capsys, tmp_path):
    command = ["evaluate", folder / "seeds", "--recipe", RECIPE]
    for flags, message in (
        (["--specificity", "0.8"], "specificity=0.8 changes nothing without --clinical"),
        (["--clinical", "--specificity", "1.5"], "specificity=1.5 must be in (0, 1]"),
        (["--clinical", "--costs", "0", "1"], "costs=(0.0, 1.0) must be two costs above 0"),
        (["--clinical", "--positive", "malignent"], "did you mean 'malignant'?"),
        (["--clinical", "--ensemble", "--out", tmp_path / "x.png"], "give one of them"),
        (["--clinical", "--out", tmp_path / "x.txt"], "its suffix must be one of"),
    ):
        assert message in fails(capsys, *command, *flags)
    out = ["--out", str(tmp_path / "digits"), "--duration", "2", "--evaluate-every", "2"]
    assert cli.main(["train", "digits-mlp", *out]) == 0
    assert "has 10 classes; --clinical is for two" in fails(capsys, "evaluate", tmp_path / "digits", "--clinical")
