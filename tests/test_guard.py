"""Bad steps: found, left out, counted and named; healthy runs know nothing of it."""

from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets.training import events
from jaxnets.training.chunk import chunk, no_metrics, run_keys
from jaxnets.training.compiling import jit
from jaxnets.training.guard import LIMIT

SIZE, WIDTH, STEPS = 8, 3, 20


def data(*poisoned: int) -> jn.Data:
    """Return points with their sums, a batch for each step; some batches (by number) hold a row that is poison."""
    inputs = np.random.default_rng(0).normal(size=(STEPS * SIZE, WIDTH)).astype(np.float32)
    poison = np.zeros(len(inputs), np.float32)
    poison[[batch * SIZE + 3 for batch in poisoned]] = 1.0
    return jn.Data(inputs=inputs, labels=np.stack([inputs.sum(1), poison], 1))


def bad_loss(outputs, labels):
    """Return squared errors; that of poison is NaN."""
    return jnp.square(outputs[:, 0] - labels[:, 0]) + jnp.where(labels[:, 1] > 0, jnp.nan, 0.0)


def bad_gradient(outputs, labels):
    """Return squared errors; that of poison is finite, and its gradient is not."""
    nothing = outputs[:, 0] - jax.lax.stop_gradient(outputs[:, 0])
    return jnp.square(outputs[:, 0] - labels[:, 0]) + 0.0 * jnp.sqrt(jnp.where(labels[:, 1] > 0, nothing, 1.0))


@cache
def learner(loss=bad_loss):
    """Return a learner of a small network."""
    return jn.supervised(jn.network(jn.models.MLP, WIDTH, (8,), 1), loss, optax.adam(1e-2))


class InOrder:
    """Rows as they stand: step s takes the batch s, for another seed that many batches further."""

    def __init__(self, data, batch_size, seed):
        self.batches = np.roll(np.arange(data.num_examples, dtype=np.int32).reshape(-1, batch_size), -seed, 0)

    def rows(self, start, num):
        """Return the rows of some steps."""
        return self.batches[np.arange(start, start + num) % len(self.batches)]


def seen(data, learner=None, **options):
    """Train on rows in order, and return all events."""
    options = {"duration": STEPS, "batch_size": SIZE, "order": InOrder, "evaluate_every": 5} | options
    return list(jn.events(learner or globals()["learner"](), data, **options))


def said(told):
    """Return what was said of steps that were left out."""
    return [event.reason for event in told if event.kind == "skipped"]


def taken(learner, data, without=(), seed=0):
    """Return the state after the steps of a run that leaves out some, one compiled call a step."""
    init_key, key = run_keys(seed)
    state, rows = jax.jit(learner.init)(init_key), jnp.asarray(InOrder(data, SIZE, seed).rows(0, STEPS))
    program = jit(chunk(learner))
    nothing = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), no_metrics(learner, state, dict(data), rows, key)
    )
    for step in range(STEPS):
        if step in without:
            state = state.replace(step=state.step + 1)
        else:
            state, _ = program(state, nothing, dict(data), rows, np.int32(step), np.int32(1), key)
    return state


@pytest.mark.parametrize("loss", [bad_loss, bad_gradient])
@pytest.mark.parametrize("bad", [(), (0,), (3, 7, 8, 19)])
def test_the_result_is_that_of_a_run_without_the_bad_batches(loss, bad):
    told = seen(data(*bad), learner(loss))
    chex.assert_trees_all_equal(told[-1].run_state.train, taken(learner(loss), data(*bad), bad))
    name = {bad_loss: "train/loss", bad_gradient: "params/hidden/0/layer/bias"}[loss]
    assert said(told) == [
        f"left out step {step + 1}: {name} is not finite after it; it took rows {SIZE * step}, {SIZE * step + 1}, "
        f"{SIZE * step + 2}, {SIZE * step + 3} and 4 more ({number} left out so far)"
        for number, step in enumerate(bad, start=1)
    ]
    assert told[-1].reason == f"completed 20 steps{f'; {len(bad)} bad steps were left out' if bad else ''}"
    assert all(np.isfinite(event.row["train/loss"]) for event in told if event.kind == "evaluation")


def test_the_curves_are_means_over_the_good_steps_since_the_last_evaluation():
    bad = (3, 7, 8, 19)
    rows = [event.row["train/loss"] for event in seen(data(*bad)) if event.kind == "evaluation"]
    state, key = jax.jit(learner().init)(run_keys(0)[0]), run_keys(0)[1]
    order, losses, step = InOrder(data(*bad), SIZE, 0), {}, jax.jit(learner().step)
    for number in set(range(STEPS)) - set(bad):
        batch = {name: array[order.rows(number, 1)[0]] for name, array in data(*bad).items()}
        state, sums = step(state.replace(step=jnp.int32(number)), batch, jax.random.fold_in(key, number))
        losses[number] = float(sums["loss"].total / sums["loss"].count)
    windows = [[losses[i] for i in range(start, start + 5) if i in losses] for start in range(0, STEPS, 5)]
    np.testing.assert_allclose(rows, [np.mean(window) for window in windows], rtol=1e-4)


def test_steps_left_out_are_counted_against_all_that_were_taken():
    """And not against those until the best weights, which are kept."""
    rule = jn.EarlyStopping(patience=5, maximize=True)  # the worst, which are the first
    told = seen(data(12, 13, 14), validation=data(), early_stopping=rule)
    assert "kept the weights of step 5," in told[-1].reason
    assert told[-1].reason.startswith("completed 20 steps") and told[-1].reason.endswith("3 bad steps were left out")


def test_it_matters_not_how_a_run_is_cut(monkeypatch):
    whole = seen(data(3, 7, 8, 19))
    monkeypatch.setattr(events, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(events, "FEW", 1)
    step_by_step = seen(data(3, 7, 8, 19))
    assert said(whole) == said(step_by_step)
    chex.assert_trees_all_equal(whole[-1].run_state, step_by_step[-1].run_state)


def test_a_run_goes_on_in_the_midst_of_bad_steps():
    run = jn.events(learner(), data(*range(4, 9)), duration=STEPS, batch_size=SIZE, order=InOrder, evaluate_every=5)
    states = {event.step: jax.device_get(event.run_state) for event in run}  # each while it is valid
    whole, half = states[STEPS], states[5]
    assert half.skipped.in_a_row == 1
    resumed = seen(data(*range(4, 9)), resume=half)[-1]
    chex.assert_trees_all_equal(resumed.run_state, whole)
    assert resumed.reason == "completed 20 steps; 5 bad steps were left out"


def test_a_run_that_is_bad_for_long_is_given_up_with_its_last_good_weights():
    told = seen(data(*range(5, 20)))
    good = taken(learner(), data(*range(5, 20)), range(5, 20))
    chex.assert_trees_all_equal(told[-1].run_state.train.params, good.params)
    assert told[-1].step == told[-1].run_state.train.step == 5 + LIMIT
    assert told[-1].reason == (
        "diverged at step 15: 10 steps in a row were not finite; the weights before them are kept; try a lower "
        "learning rate, or clip gradients"
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", ["map", "vmap"])
def test_members_are_judged_each_by_itself(how):
    bad = (3, 8)
    told = seen(data(*bad), jn.population(learner(), 2, how), seed=[0, 6])
    each = [taken(learner(), data(*bad), without, seed) for seed, without in [(0, {3, 8}), (6, {2, 17})]]
    same = chex.assert_trees_all_equal if how == "map" else partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-7)
    same(told[-1].run_state.train, jax.tree.map(lambda *leaves: jnp.stack(leaves), *each))
    assert [text.partition(":")[0] for text in said(told)] == [
        f"left out step {step} of seed {seed}" for step, seed in [(3, 6), (4, 0), (9, 0), (18, 6)]
    ]
    assert told[-1].reason == "completed 20 steps; 4 bad steps were left out (seed 0, 6)"


@pytest.mark.slow
def test_a_member_that_is_given_up_leaves_the_others_alone():
    bad = range(6, 19)  # of seed 0 all steps from the seventh on, of seed 12 the first and the last
    told = seen(data(*bad), jn.population(learner(), 2, "map"), seed=[0, 12])
    params = told[-1].run_state.train.params
    for member, (seed, without) in enumerate([(0, range(6, 20)), (12, {*range(7), 14, 15, 16, 17, 18, 19})]):
        alone = taken(learner(), data(*bad), without, seed).params
        chex.assert_trees_all_equal(jax.tree.map(lambda leaf, i=member: leaf[i], params), alone)
    assert told[-1].reason.startswith("diverged at step 20: 10 steps in a row were not finite (seed 0); ")
    assert told[-1].reason.endswith("; completed 20 steps")


def test_a_short_run_of_bad_steps_is_not_completed():
    told = seen(data(0, 1), duration=3)
    assert told[-1].reason.startswith("diverged at step 3: 2 of 3 steps were not finite and left out; ")


def test_an_end_without_a_validation_loss_is_not_completed():
    rule = jn.EarlyStopping(patience=2)
    told = seen(data(), validation=data(4), early_stopping=rule)
    assert told[-1].reason == (
        "diverged at step 10: validation/loss is not finite; try a lower learning rate, or clip gradients; stopped "
        "early at step 10: no better validation/loss in 2 evaluations; kept the weights of step 10, where "
        "validation/loss was best or, if it never was a number, the last"
    )


def test_what_is_infinite_from_the_start_may_be():
    tx = optax.chain(optax.adam(1e-2), optax.contrib.reduce_on_plateau())
    assert np.isinf(tx.init({"a": jnp.zeros(2)})[1].best_value)
    state = seen(data(), jn.supervised(jn.network(jn.models.MLP, WIDTH, (8,), 1), bad_loss, _with_value(tx)))
    assert state[-1].reason == "completed 20 steps"


def _with_value(tx):
    """Return the optimizer, told of a loss of 1 at each step."""
    return optax.GradientTransformation(
        tx.init, lambda grads, state, params: tx.update(grads, state, params, value=1.0)
    )


def test_few_bad_steps_are_told_of_one_by_one(capsys):
    jn.fit(learner(), data(1, 3, 5, 7, 9, 11, 13), duration=STEPS, batch_size=SIZE, order=InOrder)
    text = capsys.readouterr().err
    assert text.count("left out step") == 5
    assert "of more, the number is told at the end" in text and "7 bad steps were left out" in text
