"""The compiled loop: the same bits however it is cut, resumed or fed, one trace, and reasons for stopping."""

import re
import sys
import time
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import adam, assert_same_bits, member, quick, small_learner
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnets as jn
from jaxnets.data import Shuffle
from jaxnets.training.chunk import no_metrics
from jaxnets.training.compiling import jit
from jaxnets.training.feed import Feed

OPTIONS = {"batch_size": 16, "duration": 40, "evaluate_every": 10, "progress": False}
LEARNER = small_learner(dropout=0.3)


def without_time(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.fixture(scope="module")
def unbroken(blobs):
    return jn.fit(LEARNER, blobs, validation=blobs, **OPTIONS)


@pytest.mark.bits
class TestBits:
    @settings(max_examples=6, deadline=None)
    @given(cuts=st.lists(st.integers(1, 29), max_size=5))
    def test_steps_at_once_equal_steps_in_pieces(self, cuts, blobs):
        seeds = np.asarray(0, np.int32)
        init_key, key = jn.run_keys(seeds)
        buffer = Feed(blobs, seeds, 16, 30).load(0)
        program = jax.jit(jn.chunk(LEARNER))

        def run(borders):
            state = LEARNER.init(init_key)
            sums = no_metrics(LEARNER, state, buffer.columns, buffer.rows, key)
            for start, end in zip([0, *borders], [*borders, 30], strict=True):
                state, sums = program(state, sums, buffer.columns, buffer.rows, start, end - start, key)
            return state, sums

        assert_same_bits(run(sorted(set(cuts))), run([]))

    def test_randomness_is_derived_from_seed_and_step(self):
        _, key = jn.run_keys(7)
        wanted = jax.random.split(jax.random.key(7))[1]
        assert_same_bits(*map(jax.random.key_data, (key, wanted)))
        assert_same_bits(*map(jax.random.key_data, (jn.step_key(key, jnp.int32(3)), jax.random.fold_in(wanted, 3))))
        _, keys = jn.run_keys([6, 7])
        folded = jn.step_key(keys, jnp.array([1, 3]))
        assert_same_bits(*map(jax.random.key_data, (folded[1], jax.random.fold_in(wanted, 3))))

    def test_chunk_equals_a_scan_by_hand(self, blobs):
        """The loop adds nothing: a plain scan over ``learner.step`` agrees (other engine, other last bits)."""
        init_key, key = jn.run_keys(np.asarray(0, np.int32))
        rows = Shuffle(blobs.num_examples, 16, 0).rows(0, 40)

        def step(state, rows):
            batch = {name: jnp.asarray(array)[rows] for name, array in blobs.items()}
            return LEARNER.step(state, batch, jn.step_key(key, state.step))

        state, _ = jax.jit(lambda state: jax.lax.scan(step, state, rows))(LEARNER.init(init_key))
        fitted = jn.fit(LEARNER, blobs, **OPTIONS)
        chex.assert_trees_all_close(state.params, fitted.state.params, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("stop", [1, 10, 17, 39])
    def test_resumed_equals_unbroken(self, stop, blobs, unbroken, monkeypatch):
        monkeypatch.setattr(sys.modules["jaxnets.training.events"], "CHUNK_SECONDS", 0.0)  # an event every step
        options = {name: value for name, value in OPTIONS.items() if name != "progress"}
        history, saved = [], None
        for event in jn.events(LEARNER, blobs, validation=blobs, **options):
            if event.kind == "evaluation":
                history.append(dict(event.row))
            if event.step == stop:
                saved = jax.tree.map(np.array, event.run_state)
                break
        monkeypatch.undo()
        for event in jn.events(LEARNER, blobs, validation=blobs, resume=saved, **options):
            if event.kind == "evaluation":
                history.append(dict(event.row))
        assert_same_bits(event.run_state.train, unbroken.state)
        assert without_time(history) == without_time(unbroken.history)

    @pytest.mark.parametrize("tx", quick([optax.adam(1e-2), optax.adamw(1e-2)]), ids=["adam", "adamw"])
    def test_a_member_of_a_population_has_the_bits_of_its_own_run(self, blobs, tx):
        learner = small_learner(dropout=0.3, tx=tx)
        many = jn.fit(jn.population(learner, 3), blobs, seed=[5, 6, 7], validation=blobs, **OPTIONS)
        alone = jn.fit(learner, blobs, seed=6, validation=blobs, **OPTIONS)
        assert_same_bits(member(many.state, 1), alone.state)
        assert [row["validation/loss"][1] for row in many.history] == [row["validation/loss"] for row in alone.history]

    def test_vmapped_members_differ_by_rounding_only(self, blobs):
        many = jn.fit(jn.population(LEARNER, 3, "vmap"), blobs, seed=[5, 6, 7], **OPTIONS)
        alone = jn.fit(LEARNER, blobs, seed=6, **OPTIONS)
        chex.assert_trees_all_close(member(many.state, 1).params, alone.state.params, rtol=1e-3, atol=1e-4)


def test_slow_steps_are_taken_four_at_a_time(blobs):
    def slowly(step):
        time.sleep(0.1)
        return np.int32(0)

    def step(state, batch, key):
        zero = jax.pure_callback(slowly, jax.ShapeDtypeStruct((), np.int32), state.step)
        state, metrics = LEARNER.step(state, batch, key)
        return state.replace(step=state.step + zero), metrics

    learner = LEARNER._replace(step=step)
    told = [event.step for event in jn.events(learner, blobs, batch_size=16, duration=9) if event.kind != "end"]
    assert told == [0, 0, 1, 5, 9]


class TestCompiling:
    def test_one_trace_and_one_program_whatever_the_chunks(self, blobs, monkeypatch):
        chex.clear_trace_counter()
        traced = LEARNER._replace(step=chex.assert_max_traces(LEARNER.step, n=1))
        monkeypatch.setattr(sys.modules["jaxnets.training.events"], "CHUNK_SECONDS", 0.0)
        assert len(jn.fit(traced, blobs, **OPTIONS).history) == 4

    def test_nothing_compiles_after_the_first_evaluation(self, blobs):
        """Programs are compiled ahead: another shape is an error, not a compilation."""
        compilations = []
        listen = lambda event, *args, **kwargs: compilations.append("backend_compile" in event)
        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            options = {name: value for name, value in OPTIONS.items() if name != "progress"}
            counts = [
                sum(compilations)
                for event in jn.events(LEARNER, blobs, validation=blobs, **options)
                if event.kind == "evaluation"
            ]
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
        assert counts[0] > 0
        assert counts[0] == counts[-1]

    @pytest.mark.parametrize(("dropout", "draws"), [(0.0, False), (0.3, True)])
    def test_a_loop_calls_no_host_and_draws_only_what_it_needs(self, dropout, draws, blobs):
        learner, seed = small_learner(dropout=dropout), np.asarray(0, np.int32)
        init_key, key = jn.run_keys(seed)
        _, columns, rows = Feed(blobs, seed, 16, 5).load(0)
        state = jax.jit(learner.init)(init_key)
        args = state, no_metrics(learner, state, columns, rows, key), columns, rows
        start, num = jax.device_put((np.int32(0), np.int32(5)))
        program = jit(jn.chunk(learner)).lower(*args, start, num, key).compile()
        with jax.transfer_guard("disallow"):
            state, _ = program(*args, start, num, key)
            with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
                program(*args, np.int32(0), num, key)
        assert int(state.step) == 5
        text = program.as_text()
        assert not re.search(r"infeed|outfeed|callback| send\(| recv\(", text)
        assert (
            bool(re.search(r" xor\(|threefry", text)) == draws
        )  # deriving a step's key took 17% of a small MLP's step

    def test_events_in_order(self, blobs):
        options = {name: value for name, value in OPTIONS.items() if name != "progress"}
        events = list(jn.events(LEARNER, blobs, **options))
        kinds = [event.kind for event in events]
        assert kinds[:2] == ["compiling", "compiled"] and kinds[-1] == "end" and kinds.count("evaluation") == 4
        steps = [event.step for event in events]
        assert steps == sorted(steps) and steps[-1] == 40
        assert events[-1].compile_seconds > 0 and events[-1].examples_per_second > 0


class TestHistory:
    def test_rows(self, unbroken):
        assert [row["step"] for row in unbroken.history] == [10, 20, 30, 40]
        assert unbroken.history[0]["epoch"] == pytest.approx(10 * 16 / 150)
        names = {"step", "epoch", "seconds", "train/loss", "train/accuracy", "validation/loss", "validation/accuracy"}
        assert set(unbroken.history[0]) == names
        assert unbroken.history[-1]["validation/accuracy"] > 0.8

    def test_the_last_row_is_the_last_step(self, blobs):
        options = OPTIONS | {"duration": 25}
        assert [row["step"] for row in jn.fit(LEARNER, blobs, **options).history] == [10, 20, 25]

    def test_epochs(self, blobs):
        options = OPTIONS | {"duration": "2ep", "evaluate_every": "1ep"}
        result = jn.fit(LEARNER, blobs, **options)
        assert [row["step"] for row in result.history] == [10, 19]  # 9.4 steps an epoch, 18.75 in all
        assert result.stop_reason == "completed 19 steps"


class Rows:
    """An order of the same rows in each step."""

    def __init__(self, rows):
        self.same = rows

    def rows(self, start, num_steps):
        return np.repeat(self.same, num_steps, axis=0)


class TestStopping:
    def test_a_metric_that_was_not_measured_is_no_divergence(self, blobs):
        """Nothing counts in the first batch, and of class 2 there is nothing for a while."""
        weights = (np.arange(150) >= 16).astype(np.float32)
        data = jn.Data(inputs=blobs["inputs"], labels=blobs["labels"], weights=weights)
        of_two = jn.Metric(lambda outputs, labels, weights: jn.metrics.mean_of((labels == 2) * 1.0, labels == 2))
        network, loss = jn.network(jn.models.MLP, 4, (16,), 3), jn.losses.softmax_cross_entropy
        learner = jn.supervised(network, loss, adam(1e-2), {"accuracy": jn.metrics.accuracy, "two": of_two})
        order = lambda *args: Rows(np.arange(16)[None])
        result = jn.fit(learner, data, order=order, **OPTIONS | {"duration": 6, "batch_size": 16, "evaluate_every": 3})
        assert result.stop_reason == "completed 6 steps" and np.isnan(result.history[0]["train/loss"])
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.state.params))

    def test_time(self, blobs):
        learner = small_learner(tx=optax.sgd(0.1))
        result = jn.fit(learner, blobs, **OPTIONS | {"duration": "0.2s", "evaluate_every": "20ep"})
        assert "reached the time limit of 0.2 s" in result.stop_reason and len(result.history) >= 1

    def test_early(self, blobs):
        """A rate that is far too high makes the validation loss worse: the first weights are kept."""
        learner = small_learner(tx=optax.sgd(lambda step: jnp.where(step < 10, 0.1, 3.0)))
        rule = jn.EarlyStopping(patience=2)
        result = jn.fit(learner, blobs, validation=blobs, early_stopping=rule, **OPTIONS | {"duration": 1000})
        losses = [row["validation/loss"] for row in result.history]
        best = int(np.argmin(losses))
        assert len(losses) == best + 3
        assert result.state.step == result.history[best]["step"]
        assert jn.evaluate(learner, result.state, blobs)["loss"] == pytest.approx(losses[best], rel=1e-6)
        assert "stopped early at step" in result.stop_reason
        assert f"kept the weights of step {result.history[best]['step']:,}" in result.stop_reason

    def test_min_delta_and_maximize(self, blobs):
        rule = jn.EarlyStopping(patience=1, min_delta=10.0, monitor="validation/accuracy", maximize=True)
        result = jn.fit(LEARNER, blobs, validation=blobs, early_stopping=rule, **OPTIONS)
        assert len(result.history) == 2  # the second is not better by 10

    def test_which_values_of_a_function_are_better_has_to_be_said(self, blobs):
        def right(logits, labels):
            return (logits.argmax(-1) == labels).astype(jnp.float32)

        def fit(metric, **rule):
            network, loss = jn.network(jn.models.MLP, 4, (16,), 3), jn.losses.softmax_cross_entropy
            learner = jn.supervised(network, loss, adam(1e-2), {"right": metric})
            stopping = jn.EarlyStopping(patience=1, monitor="validation/right", **rule)
            return jn.fit(learner, blobs, validation=blobs, early_stopping=stopping, **OPTIONS | {"duration": 2})

        with pytest.raises(jn.InputError, match=r"monitor='validation/right': whether higher or lower .* say so"):
            fit(right)
        assert fit(right, maximize=True).state.step == fit(jn.metrics.per_example(right, "higher")).state.step == 2

    @pytest.mark.slow
    def test_each_member_stops_for_itself(self, blobs):
        learner = small_learner(tx=optax.adam(0.05))
        rule = jn.EarlyStopping(patience=2)
        options = OPTIONS | {"duration": 400, "early_stopping": rule, "validation": blobs.take(slice(40))}
        train = blobs.take(slice(40, None))
        many = jn.fit(jn.population(learner, 3), train, seed=range(3), **options)
        for seed in range(3):
            assert_same_bits(member(many.state, seed), jn.fit(learner, train, seed=seed, **options).state)

    def test_resumed_early_stopping_equals_unbroken(self, blobs):
        learner = small_learner(tx=optax.adam(0.05))
        options = {
            "batch_size": 16,
            "duration": 400,
            "evaluate_every": 10,
            "early_stopping": jn.EarlyStopping(2),
            "validation": blobs.take(slice(40)),
        }
        train = blobs.take(slice(40, None))
        whole = list(jn.events(learner, train, **options))[-1]
        for event in jn.events(learner, train, **options):
            if event.kind == "evaluation" and event.step == 20:
                saved = jax.tree.map(np.array, event.run_state)
                break
        again = list(jn.events(learner, train, resume=saved, **options))[-1]
        assert_same_bits(again.run_state.train, whole.run_state.train)
        assert again.reason == whole.reason

    def test_divergence(self, blobs):
        learner = small_learner(tx=optax.sgd(1e30))
        result = jn.fit(learner, blobs, **OPTIONS)
        assert "diverged at step" in result.stop_reason and "lower learning rate" in result.stop_reason
        assert result.history[-1]["step"] < 40


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"batch_size": 151}, "batch_size=151 exceeds the 150 training examples; use --batch-size 150 or less"),
            ({"batch_size": 0}, "batch_size=0"),
            ({"duration": "ten"}, "duration 'ten' is not understood"),
            ({"evaluate_every": "5s"}, "must be in steps or epochs"),
            ({"seed": -1}, "seed=-1 must be a whole number"),
            ({"seed": []}, r"seed=\[\] must be"),
            ({"early_stopping": jn.EarlyStopping(1)}, "needs validation data"),
        ],
    )
    def test_arguments(self, options, message, blobs):
        with pytest.raises(jn.InputError, match=message):
            jn.fit(LEARNER, blobs, **OPTIONS | options)

    def test_labels(self, blobs):
        wrong = jn.Data(inputs=blobs["inputs"], labels=blobs["labels"] + 1)
        for options in ({}, {"validation": wrong}):
            with pytest.raises(jn.InputError, match=r"labels range from 1 to 3, outside 0..2"):
                jn.fit(LEARNER, blobs if options else wrong, **OPTIONS | options)

    @pytest.mark.parametrize("name", ["validation/los", "train/validation/loss"])
    def test_monitor(self, name, blobs):
        options = OPTIONS | {"early_stopping": jn.EarlyStopping(1, monitor=name), "validation": blobs}
        del options["progress"]
        with pytest.raises(jn.InputError, match=r"is none of train/accuracy, .*did you mean 'validation/loss'"):
            next(jn.events(LEARNER, blobs, **options))

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"batch_size": 0}, "batch_size=0 must be a whole number of 1 or more"),
            ({"batch_size": 8.5}, "batch_size=8.5 must be a whole number"),
            ({"early_stopping": 3}, "early_stopping=3 must be a rule, such as EarlyStopping"),
            ({"initial": {"out": {}}}, r"initial is of dict; give jaxnets.Initial\(params\)"),
            ({"validation": (1, 2)}, r"validation is of tuple; give jaxnets.Data\(inputs=\.\.\., labels"),
            ({"order": "balanced"}, "order='balanced' must be a function that makes one"),
            ({"order": lambda data, size, seed: None}, "made NoneType, which has no rows"),
            ({"order": lambda *args: Rows(np.full((1, 16), 150))}, r"rows 150 to 150 are not all in 0\.\.149"),
            ({"order": lambda *args: Rows(np.full((1, 16), -1))}, "rows -1 to -1 are not all"),
            ({"order": lambda *args: Rows(np.zeros((1, 16)))}, r"are float64\[1, 16\], not whole numbers \[1, 16\]"),
            ({"order": lambda *args: Rows(np.zeros((16,), int))}, r"are int64\[16\], not whole numbers"),
        ],
    )
    def test_arguments_of_another_kind(self, blobs, option, message):
        with pytest.raises(jn.InputError, match=message):
            jn.fit(LEARNER, blobs, **OPTIONS | {"duration": 2, "batch_size": 16} | option)

    def test_training_data_of_another_kind(self):
        data: Any = {"inputs": np.zeros((4, 4)), "labels": np.zeros(4, int)}
        with pytest.raises(jn.InputError, match="train is of dict"):
            jn.fit(LEARNER, data)

    def test_a_learner_may_measure_other_things_in_evaluation(self, blobs):
        other = LEARNER._replace(evaluate=lambda *args: {"score": LEARNER.evaluate(*args)["loss"]})
        rule = jn.EarlyStopping(1, monitor="validation/score", maximize=False)
        result = jn.fit(other, blobs, validation=blobs, early_stopping=rule, **OPTIONS)
        assert "validation/score" in result.history[-1]

    def test_validation_data_of_another_shape(self, blobs):
        other = jn.Data(inputs=blobs["inputs"][:, :3], labels=blobs["labels"])
        with pytest.raises(jn.InputError, match=r"validation data are .*make 'inputs' the same in both"):
            jn.fit(LEARNER, blobs, validation=other, **OPTIONS)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"patience": 0}, "patience=0"),
            ({"patience": 1, "min_delta": -1}, "min_delta=-1"),
            ({"patience": 1, "min_delta": float("nan")}, "min_delta=nan"),
        ],
    )
    def test_early_stopping(self, values, message):
        with pytest.raises(jn.InputError, match=message):
            jn.EarlyStopping(**values)


def test_a_state_given_to_resume_is_not_taken_away(blobs):
    options = {name: value for name, value in OPTIONS.items() if name != "progress"}
    first = next(iter(jn.events(LEARNER, blobs, **options))).run_state
    list(jn.events(LEARNER, blobs, resume=first, **options))
    assert all(not leaf.is_deleted() for leaf in jax.tree.leaves(first) if isinstance(leaf, jax.Array))


def test_any_pair_of_functions_trains(blobs):
    """A learner need not come from a network: here a logistic regression written by hand, with its own step."""

    def init(key):
        params = jnp.zeros((4, 3))
        return jn.TrainState(jnp.int32(0), params, (), ())

    def predict(state, inputs):
        return inputs @ state.params

    def evaluate(state, batch):
        return {
            "loss": jn.metrics.mean_of(
                jn.losses.softmax_cross_entropy(predict(state, batch["inputs"]), batch["labels"]), batch.get("mask")
            )
        }

    def step(state, batch, key):
        grads = jax.grad(lambda params: evaluate(state.replace(params=params), batch)["loss"].total / 16)(state.params)
        return state.replace(step=state.step + 1, params=state.params - 0.5 * grads), evaluate(state, batch)

    learner = jn.Learner(init, step, evaluate, predict)
    result = jn.fit(learner, blobs, **OPTIONS)
    assert (jn.predict(learner, result.state, blobs["inputs"]).argmax(-1) == blobs["labels"]).mean() > 0.8
