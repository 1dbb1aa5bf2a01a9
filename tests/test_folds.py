"""Cross-validation in one program, against the same done by hand."""

import jax
import numpy as np
import optax
import pytest
from helpers import fails
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

import jaxnets as jn
from jaxnets import cli
from jaxnets.data import Splits, in_folds
from jaxnets.errors import InputError
from jaxnets.models import MLP

LEARNER = jn.supervised(
    jn.network(MLP, 4, (8,), 3), jn.losses.softmax_cross_entropy, optax.adam(0.02), {"accuracy": jn.metrics.accuracy}
)
OPTIONS = {"duration": 40, "batch_size": 20, "evaluate_every": 20, "progress": False}


@pytest.fixture(scope="module")
def splits(blobs):
    return Splits(*(blobs.take(slice(a, b)) for a, b in ((0, 100), (100, 130), (130, 150))))


def cross_validated(splits, folds, how=None, first=0):
    split = in_folds(splits, folds, first)
    learner = jn.folded(LEARNER, folds, how)
    seeds = range(first, first + folds)
    given = {"validation": split.validation, "order": split.order, **OPTIONS}
    return learner, split, jn.fit(learner, split.train, seed=seeds, **given)


def test_folds_are_of_equal_size_and_of_all_classes(splits):
    whole = in_folds(splits, 5).train
    assert whole.num_examples == 130
    counts = np.array([np.bincount(whole["labels"][whole["fold"] == i], minlength=3) for i in range(5)])
    assert counts.sum(1).tolist() == [26] * 5 and np.ptp(counts, 0).max() <= 1
    assert not np.array_equal(whole["fold"], in_folds(splits, 5, 7).train["fold"])


def test_a_member_takes_no_row_of_its_fold_and_all_others(splits):
    split = in_folds(splits, 5, 3)
    for fold in range(5):
        rows = split.order(split.train, 26, 3 + fold).rows(0, 4)  # an epoch of the 104 others
        assert sorted(rows.ravel()) == np.flatnonzero(split.train["fold"] != fold).tolist()


@pytest.mark.parametrize("how", ["map", pytest.param("vmap", marks=pytest.mark.slow)])
def test_a_member_is_a_run_without_its_fold_measured_on_it(splits, how):
    learner, split, fitted = cross_validated(splits, 3, how, first=4)
    for fold in range(3):
        left = split.train["fold"] == fold
        whole = jn.Data(inputs=split.train["inputs"], labels=split.train["labels"])
        train, held_out = whole.take(np.flatnonzero(~left)), whole.take(np.flatnonzero(left))
        alone = jn.fit(LEARNER, train, seed=4 + fold, validation=held_out, **OPTIONS)
        mine = jax.tree.map(lambda leaf, i=fold: leaf[i], fitted.state.params)
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(alone.state.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        for name in ("validation/loss", "validation/accuracy"):
            np.testing.assert_allclose(fitted.history[-1][name][fold], alone.history[-1][name], rtol=1e-4)
    everywhere = jn.evaluate(learner, fitted.state, split.test)  # a test set is measured whole by all
    assert everywhere["accuracy"].shape == (3,)
    one = jax.tree.map(lambda leaf: leaf[0], fitted.state)
    np.testing.assert_allclose(everywhere["loss"][0], jn.evaluate(LEARNER, one, split.test)["loss"], rtol=1e-5)


def test_what_is_no_cross_validation(splits):
    for folds, message in ((1, "folds=1"), (131, "use 130 or fewer")):
        with pytest.raises(InputError, match=message):
            in_folds(splits, folds)
    with pytest.raises(InputError, match="exceeds the 65 examples outside a fold"):
        split = in_folds(splits, 2)
        jn.fit(jn.folded(LEARNER, 2), split.train, seed=[0, 1], batch_size=70, order=split.order, progress=False)


@pytest.mark.parametrize(
    ("folds", "options", "message"),
    [
        (4, {"seed": range(7, 11)}, "is of no fold"),
        (4, {"seed": [3, 2, 1, 0]}, "give seeds in their order"),
        (4, {"order": jn.data.usual}, "need the order that leaves one out"),
        (8, {"seed": range(8)}, "the data are in 4 folds"),
    ],
)
def test_members_that_would_see_their_own_fold(splits, folds, options, message):
    split = in_folds(splits, 4)
    given = {"validation": split.validation, "order": split.order, "seed": range(4), **OPTIONS, **options}
    with pytest.raises(InputError, match=message):
        jn.fit(jn.folded(LEARNER, folds), split.train, **given)


def test_masks_and_weights_that_one_part_has_are_ones_of_the_other(splits):
    weighted = Splits(splits.train.replaced(weights=np.full(100, 2.0, np.float32)), splits.validation)
    assert np.bincount(in_folds(weighted, 4).train["weights"].astype(int)).tolist() == [0, 30, 100]


def test_the_command_is_resumed_and_evaluated(tmp_path, capsys):
    out = tmp_path / "run"
    flags = ("--model", "mlp", "--hidden", "8", "--duration", "2ep", "--folds", "4")
    assert cli.main(["train", "digits-cnn", *flags, "--out", str(out)]) == 0
    assert "mean ± std of 4 folds" in capsys.readouterr().out
    assert cli.main(["evaluate", str(out)]) == 0
    assert "validation accuracy" in capsys.readouterr().out
    assert cli.main(["resume", str(out), "--duration", "3ep"]) == 0
    assert "leave --seeds out" in fails(capsys, "train", "digits-cnn", "--folds", 3, "--seeds", 2)
    assert "folds=1 must be a whole number of 2 or more" in fails(capsys, "train", "digits-cnn", "--folds", 1)


PATIENTS = np.random.default_rng(0).integers(0, 60, 400)
GROUPED = jn.Data(
    inputs=np.random.default_rng(1).normal(size=(400, 4)).astype(np.float32),
    labels=np.random.default_rng(2).integers(0, 3, 60)[PATIENTS],
    group=PATIENTS,
)


def spread(labels, part):
    """Return how far the shares of the classes in the parts are from those of all."""
    counts = np.array([np.bincount(labels[part == i], minlength=3) for i in np.unique(part)])
    return np.abs(counts / counts.sum(0) - 1 / len(counts)).max()


def test_folds_hold_each_group_whole_and_classes_as_evenly_as_scikit_learns(splits):
    split = in_folds(Splits(GROUPED), 5, 3)
    fold = split.train["fold"]
    assert all(len(np.unique(fold[patient == PATIENTS])) == 1 for patient in np.unique(PATIENTS))
    assert set(fold) == set(range(5)) and not np.array_equal(fold, in_folds(Splits(GROUPED), 5, 4).train["fold"])
    theirs = np.empty(400, int)
    method = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for i, (_, held_out) in enumerate(method.split(GROUPED["inputs"], GROUPED["labels"], PATIENTS)):
        theirs[held_out] = i
    assert spread(GROUPED["labels"], fold) <= spread(GROUPED["labels"], theirs) + 0.02
    given = {"validation": split.validation, "order": split.order, "seed": range(3, 8), **OPTIONS, "duration": 4}
    assert np.isfinite(jn.fit(jn.folded(LEARNER, 5), split.train, **given).history[-1]["validation/loss"]).all()


def test_a_split_holds_each_group_whole():
    rest, held_out = GROUPED.split(0.25)
    assert not set(rest["group"]) & set(held_out["group"])
    assert held_out.num_examples == pytest.approx(100, abs=10)
    few = jn.Data(inputs=np.zeros((30, 1)), labels=np.arange(30) % 2, group=np.repeat([5, 7, 9], 10))
    rest, held_out = few.split(0.1)  # one group at least
    assert (rest.num_examples, held_out.num_examples) == (20, 10)
    result = jn.fit(LEARNER, GROUPED.split(0.25)[0], validation=GROUPED.split(0.25)[1].take(slice(50)), **OPTIONS)
    assert result.history
    with pytest.raises(InputError, match="of 3 groups, too few for 4 parts"):
        in_folds(Splits(few), 4)
    with pytest.raises(InputError, match="group is float32"):
        few.replaced(group=np.ones(30, np.float32)).split(0.5)


@pytest.mark.slow
def test_it_finds_what_scikit_learn_finds(splits):
    split = in_folds(splits, 5)
    learner = jn.folded(
        jn.supervised(
            jn.network(MLP, 4, (), 3),
            jn.losses.softmax_cross_entropy,
            optax.adam(0.05),
            {"accuracy": jn.metrics.accuracy},
        ),
        5,
    )
    given = {"validation": split.validation, "order": split.order, **OPTIONS, "duration": 400}
    found = jn.fit(learner, split.train, seed=range(5), **given).history[-1]["validation/accuracy"]
    from sklearn.linear_model import LogisticRegression

    by_others = cross_val_score(LogisticRegression(C=100), split.train["inputs"], split.train["labels"], cv=5)
    assert abs(found.mean() - by_others.mean()) < 0.04
