"""Gradual unfreezing: when each layer begins, what stands still until then, and its flag."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from helpers import assert_same_bits, member, quick, small_learner

import jaxnets as jn
from jaxnets.errors import InputError
from jaxnets.options import OptimizerConfig, TrainingConfig
from jaxnets.parameters import paths
from jaxnets.recipes.recipe import find

KEY = jax.random.key(0)


def decaying(**options):
    return small_learner(tx=optax.adamw(0.01, weight_decay=0.1), **options)


def two_layers():
    network = jn.network(jn.models.MLP, 4, (8, 6), 3)
    return jn.supervised(network, jn.losses.softmax_cross_entropy, optax.adamw(0.01, weight_decay=0.1))


def moves(learner, batch, steps):
    """Return the names of the parameters that each step has moved."""
    step, state, found = jax.jit(learner.step), learner.init(KEY), []
    for i in range(steps):
        new, _ = step(state, batch, jax.random.key(i))
        before, after = paths(state.params), paths(new.params)
        found.append({name for name in before if (np.asarray(before[name]) != np.asarray(after[name])).any()})
        state = new
    assert step._cache_size() == 1  # one program, from the first step to the last
    return found


@pytest.fixture(scope="module")
def batch(blobs):
    return {name: array[:16] for name, array in blobs.items()}


def test_the_head_comes_first_and_each_layer_after_the_one_behind_it(batch):
    head, second, first = ({f"{layer}/{leaf}" for leaf in ("kernel", "bias")} for layer in LAYERS)
    assert moves(jn.unfrozen(two_layers(), 2), batch, 6) == [
        head,
        head,
        head | second,
        head | second,
        head | second | first,
        head | second | first,
    ]


LAYERS = ("out", "hidden/1/layer", "hidden/0/layer")


def test_patterns_say_when_a_parameter_begins(batch):
    learner = jn.unfrozen(two_layers(), {"hidden/1/**": 1, "hidden/**": 3})
    found = moves(learner, batch, 4)
    assert [any(name.startswith("hidden/1") for name in step) for step in found] == [False, True, True, True]
    assert [any(name.startswith("hidden/0") for name in step) for step in found] == [False, False, False, True]


@pytest.mark.parametrize("wrap", quick(["averaged", "alone", "accumulated", "population", "averaged within"]))
def test_what_has_not_begun_keeps_its_bits(blobs, wrap):
    """Under decay, momentum and an average; in a run that is compiled once."""
    starts, seed = {"hidden/**": 10}, 0
    learner = jn.unfrozen(decaying(), starts)
    if wrap == "accumulated":
        learner = jn.accumulated(learner, 2)
    elif wrap == "averaged":
        learner = jn.averaged(learner, 0.9)
    elif wrap == "averaged within":
        learner = jn.unfrozen(jn.averaged(decaying(), 0.9), starts)
    elif wrap == "population":
        learner, seed = jn.population(learner, 2), (0, 1)
    first = jax.tree.map(np.asarray, learner.init(jn.run_keys(seed)[0]).params)
    for duration, still in ((10, True), (11, False)):
        state = jn.fit(learner, blobs, duration=duration, batch_size=16, seed=seed, progress=False).state
        (now, *_), (before, *_) = (jax.tree.leaves(params["hidden"][0]["layer"]) for params in (state.params, first))
        assert np.array_equal(now, before) is still
        assert (np.asarray(state.params["out"]["kernel"]) != first["out"]["kernel"]).any()
        if wrap.startswith("averaged"):
            average = jax.tree.leaves(state.extra["average"]["params"]["hidden"][0]["layer"])[0]
            assert np.array_equal(average, before) is still


def test_a_member_has_the_bits_of_its_run_alone(blobs):
    learner = jn.unfrozen(decaying(dropout=0.2), 5)
    options = {"duration": 12, "batch_size": 16, "progress": False}
    many = jn.fit(jn.population(learner, 2, "map"), blobs, **options, seed=(0, 1)).state
    assert_same_bits(member(many, 1), jn.fit(learner, blobs, **options, seed=1).state)


def test_a_layer_begins_with_moments_that_are_warm(batch):
    """They have followed the gradients, so its first update is the one that it would have had."""
    plain, late = decaying(), jn.unfrozen(decaying(), {"hidden/**": 3})
    state = late.init(KEY)
    for i in range(3):
        state, _ = late.step(state, batch, jax.random.key(i))
    new, _ = late.step(state, batch, KEY)
    assert_same_bits(new, plain.step(state, batch, KEY)[0])
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(state.opt_state[0].mu["hidden"]))


def test_refuses():
    for starts, message in (
        (0, "starts=0 must be a whole number of 1 or more"),
        (True, "starts=True must be a whole number"),
        (2.5, "starts is of float; give a number of steps, or the first step by pattern"),
        ({}, "starts are none, and all would learn at once"),
        ({"out/**": -1}, r"starts\['out/\*\*'\]=-1 must be a whole number of 0 or more"),
        ({"ou/**": 1}, r"'ou/\*\*' matches no parameter \(did you mean 'out/\*\*'\?\)"),
        ({"**": 4}, "nothing would learn before step 4"),
    ):
        with pytest.raises(InputError, match=message):
            jn.unfrozen(small_learner(), starts).init(KEY)
    flat = jn.supervised(jn.network(jn.models.MLP, 4, (), 3), jn.losses.softmax_cross_entropy, optax.sgd(0.1))
    with pytest.raises(InputError, match="there are no numbered layers among out/bias, out/kernel"):
        jn.unfrozen(flat, 5).init(KEY)
    with pytest.raises(InputError, match=r"population comes last, population\(unfrozen"):
        jn.fit(jn.unfrozen(jn.population(small_learner(), 2), 5), DATA, seed=(0, 1), progress=False)


DATA = jn.Data(inputs=np.zeros((32, 4), np.float32), labels=np.zeros(32, np.int32))


class TestFlag:
    def test_steps_or_epochs_from_a_layer_to_the_one_before(self, batch):
        def run(every, duration):
            training = TrainingConfig(duration=duration, batch_size=16)
            return OptimizerConfig(unfreeze_every=every).unfreezing(two_layers(), training, 32)

        for every in ("1ep", "2"):
            assert [len(names) for names in moves(run(every, "5ep"), batch, 5)] == [2, 2, 4, 4, 6]
        with pytest.raises(InputError, match=r"'1ep': .* at step 4, and the run has 4; use 1 or less"):
            run("1ep", "2ep")
        assert run("1ep", "1h").descent is not None  # of a time, nobody knows the steps

    @pytest.mark.parametrize("every", ["3x", "10s", "0"])
    def test_refuses(self, every):
        with pytest.raises(InputError, match="unfreeze_every"):
            OptimizerConfig(unfreeze_every=every)

    def test_reaches_a_recipes_learner(self):
        recipe = find("digits-mlp")
        spec = recipe.load(recipe.config).train.spec
        given = replace(recipe.config, optimizer=replace(recipe.config.optimizer, unfreeze_every="2ep"))
        learner = recipe._replace(config=given).learner(spec)
        assert learner.descent is not None and learner.descent != recipe.learner(spec).descent
        with pytest.raises(InputError, match="what comes first would begin to learn at step"):
            far = replace(given, optimizer=replace(given.optimizer, unfreeze_every="1000ep"))
            recipe._replace(config=far).learner(spec)
