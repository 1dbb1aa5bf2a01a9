"""Populations whose members differ in hyperparameters, and compete."""

from functools import partial

import jax
import numpy as np
import optax
import pytest
from helpers import assert_same_bits

import jaxnets as jn
from jaxnets.errors import InputError
from jaxnets.models import MLP
from jaxnets.training.selection import Halving, PopulationBased

RATES = [1e-3, 1e-2, 1e-1]
VALUES = {"rate": RATES, "dropout": [0.0, 0.2, 0.4], "smoothing": [0.0, 0.1, 0.2], "decay": [0.0, 0.01, 0.1]}


def make(values):
    loss = partial(jn.losses.softmax_cross_entropy, label_smoothing=values["smoothing"])
    model = jn.network(MLP, 4, (8,), 3, dropout=values["dropout"])
    return jn.supervised(model, loss, optax.adamw(values["rate"], weight_decay=values["decay"]))


def by_rate(values):
    return jn.supervised(jn.network(MLP, 4, (8,), 3), jn.losses.softmax_cross_entropy, optax.sgd(values["rate"]))


def fails(call, message):
    with pytest.raises(InputError, match=message):
        call()


def fit(learner, blobs, seeds, **options):
    given = {"duration": 24, "evaluate_every": 4, "validation": blobs, "batch_size": 16, "progress": False}
    return jn.fit(learner, blobs, seed=seeds, **given | options)


def member(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


@pytest.mark.slow
@pytest.mark.bits
def test_a_member_has_the_bits_of_a_population_of_it_alone(blobs):
    whole = fit(jn.varied(make, VALUES, "map"), blobs, [5, 6, 7])
    for i in range(3):
        alone = fit(jn.varied(make, {name: [value[i]] for name, value in VALUES.items()}, "map"), blobs, [5 + i])
        assert_same_bits(member(whole.state, i), member(alone.state, 0))


@pytest.mark.parametrize("how", ["map", pytest.param("vmap", marks=pytest.mark.slow)])
def test_a_member_is_the_learner_with_its_values(blobs, how):
    whole = fit(jn.varied(make, VALUES, how), blobs, [5, 6, 7])
    for i in range(3):
        alone = fit(make({name: value[i] for name, value in VALUES.items()}), blobs, 5 + i)
        for a, b in zip(
            jax.tree.leaves(member(whole.state.params, i)), jax.tree.leaves(alone.state.params), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)
        np.testing.assert_allclose(whole.history[-1]["validation/loss"][i], alone.history[-1]["validation/loss"], 1e-5)


def test_a_member_that_breaks_leaves_its_neighbours_their_bits(blobs):
    learner = jn.varied(by_rate, {"rate": [0.1, 1e38, 0.2]}, "map")
    broken = fit(learner, blobs, [0, 1, 2])
    assert "seed 1" in broken.stop_reason and broken.stop_reason.startswith("diverged")
    good = fit(jn.varied(by_rate, {"rate": [0.1, 0.1, 0.2]}, "map"), blobs, [0, 1, 2])
    for i in (0, 2):
        assert_same_bits(member(broken.state.params, i), member(good.state.params, i))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(broken.state.params))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give one of each hyperparameter a member"),
        ({"rate": [0.1, 0.2], "decay": [0.1]}, "give one of each hyperparameter a member"),
        ({"rate": [0.1, np.nan]}, "must be a list of numbers"),
        ({"rate": 0.1}, "must be a list of numbers"),
    ],
)
def test_values_that_are_not_one_a_member(values, message):
    fails(lambda: jn.varied(by_rate, values), message)


def test_a_value_that_decides_the_program_is_refused():
    def wide(values):
        width = 8 if values["width"] > 5 else 4
        model = jn.network(MLP, 4, (width,), 3)
        return jn.supervised(model, jn.losses.softmax_cross_entropy, optax.sgd(0.1))

    fails(lambda: jn.varied(wide, {"width": [4.0, 8.0]}), "decides what is compiled")


@pytest.mark.parametrize("how", ["map", pytest.param("vmap", marks=pytest.mark.slow)])
def test_halving_drops_the_worse_and_leaves_the_best_as_it_was(blobs, how):
    rates = np.geomspace(1e-4, 1.0, 9)
    learner = jn.varied(by_rate, {"rate": rates}, how)
    whole = fit(learner, blobs, [0] * 9, duration=36)
    halved = fit(learner, blobs, [0] * 9, duration=36, selection=Halving(3))
    trained = [np.isfinite(row["train/loss"]).sum() for row in halved.history]
    assert trained == [9, 3, 3, 1, 1, 1, 1, 1, 1]  # rungs at steps 4 and 12
    best = int(np.flatnonzero(np.isfinite(halved.history[-1]["train/loss"]))[0])
    rows = [row["validation/loss"] for row in halved.history]
    assert best in np.argsort(rows[0])[:3] and rows[2][best] == np.nanmin(rows[2])
    check = assert_same_bits if how == "map" else partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-5))
    check(member(halved.state.params, best), member(whole.state.params, best))
    dropped = int(np.argmax(rows[0]))
    assert all(row[dropped] == rows[0][dropped] for row in rows[1:])  # it stayed as it was


def test_trials_of_several_seeds_are_halved_by_their_mean(blobs):
    learner = jn.varied(by_rate, {"rate": np.repeat([1e-3, 0.3, 1e-4, 1e-2], 2)})
    halved = fit(learner, blobs, [0, 1] * 4, duration=16, evaluate_every=1, selection=Halving(2, members=2))
    assert np.isfinite(halved.history[-1]["train/loss"]).tolist() == [False, False, True, True] + [False] * 4


def test_population_based_training_is_a_function_of_its_seed_and_improves_the_worst(blobs):
    learner = jn.varied(by_rate, {"rate": np.geomspace(1e-4, 1.0, 8)})
    runs = [fit(learner, blobs, list(range(8)), selection=PopulationBased(seed=seed)) for seed in (0, 0, 1)]
    assert_same_bits(runs[0].state, runs[1].state)
    rates = [run.history[-1]["varied/rate"] for run in runs]
    assert not np.array_equal(rates[0], rates[2]) and rates[0].min() > 1e-4
    plain = fit(learner, blobs, list(range(8)))
    assert runs[0].history[-1]["validation/loss"].max() < plain.history[-1]["validation/loss"].max()


def test_a_member_that_was_given_up_goes_on_from_a_better_one(blobs):
    rates = [0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1, 1e38]
    learner = jn.varied(by_rate, {"rate": rates})
    given = {"duration": 60, "evaluate_every": 20, "batch_size": 16, "validation": blobs}
    *_, last = jn.events(learner, blobs, seed=list(range(8)), selection=PopulationBased(monitor="train/loss"), **given)
    assert last.run_state.skipped.num[7] >= 10 and last.run_state.skipped.in_a_row[7] == 0
    assert last.run_state.train.extra["varied"]["rate"][7] < 1
    assert last.row == {} and not last.reason.startswith("diverged")


@pytest.mark.slow
def test_a_run_whose_members_compete_goes_on_with_its_bits(blobs):
    learner = jn.varied(by_rate, {"rate": np.geomspace(1e-4, 1.0, 8)}, "map")
    for selection in (Halving(2), PopulationBased()):
        given = {"duration": 24, "evaluate_every": 3, "validation": blobs, "batch_size": 16, "selection": selection}
        states = {}
        for event in jn.events(learner, blobs, seed=list(range(8)), **given):
            states[event.step] = jax.tree.map(np.array, event.run_state)
        *_, last = jn.events(learner, blobs, seed=list(range(8)), resume=states[12], **given)
        assert_same_bits(last.run_state.train, states[24].train)


@pytest.mark.parametrize(
    ("selection", "options", "message"),
    [
        (Halving(2), {"seed": 0}, "give several seeds"),
        (Halving(2, members=3), {}, "do not divide the population of 4"),
        (Halving(2), {"duration": "3s"}, "not in time"),
        (Halving(2), {"evaluate_every": 20}, "evaluate every 6 steps"),
        (Halving(2, monitor="validation/los"), {}, "did you mean 'validation/loss'"),
        (PopulationBased(share=0.1), {}, "train more"),
        (PopulationBased(), {"early_stopping": jn.EarlyStopping(3)}, "leave patience out"),
    ],
)
def test_a_competition_that_does_not_suit(blobs, selection, options, message):
    learner = jn.varied(by_rate, {"rate": [0.1, 0.2, 0.3, 0.4]})
    given = {"seed": range(4), "duration": 24, "evaluate_every": 4, "validation": blobs, "batch_size": 16}
    if options.get("seed") == 0:
        learner = by_rate({"rate": 0.1})
    fails(lambda: jn.fit(learner, blobs, **given | options, selection=selection, progress=False), message)


def test_population_based_training_needs_members_that_differ(blobs):
    learner = jn.population(by_rate({"rate": 0.1}), 4)
    given = {"validation": blobs, "selection": PopulationBased(), "progress": False}
    fails(lambda: jn.fit(learner, blobs, seed=range(4), **given), "members that differ")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Halving(1), "factor=1"),
        (lambda: Halving(3, 0), "members=0"),
        (lambda: PopulationBased(0.7), "share=0.7"),
        (lambda: PopulationBased(factors=(1.1, 1.2)), "factors"),
    ],
)
def test_rules_out_of_range(build, message):
    fails(build, message)
