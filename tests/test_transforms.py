"""Populations, augmentation and averaged weights, as learners from learners."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_bits, member, quick, small_learner

import jaxnets as jn
from jaxnets.options.optimizer import OptimizerConfig, make_optimizer


@pytest.fixture(scope="module")
def batch(blobs):
    return {name: jnp.asarray(array[:12]) for name, array in blobs.items()}


@pytest.mark.parametrize("how", quick(["vmap", "map"]))
def test_population_evaluates_and_predicts_for_each_member(how, batch):
    learner = small_learner()
    many = jn.population(learner, 3, how)
    keys = jax.random.split(jax.random.key(0), 3)
    states = many.init(keys)
    assert states.step.shape == (3,)
    outputs = many.predict(states, batch["inputs"])
    metrics = many.evaluate(states, batch)
    assert outputs.shape == (3, 12, 3) and metrics["loss"].total.shape == (3,)
    for i in range(3):
        alone = learner.init(keys[i])
        np.testing.assert_allclose(outputs[i], learner.predict(alone, batch["inputs"]), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(metrics["loss"].total[i], learner.evaluate(alone, batch)["loss"].total, rtol=1e-5)


@pytest.mark.parametrize(("backend", "way"), [("cpu", "map"), ("gpu", "vmap"), ("tpu", "vmap")])
def test_members_come_one_after_the_other_on_a_cpu_alone(backend, way, monkeypatch):
    keys = jax.random.split(jax.random.key(0), 2)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    programs = {
        how: str(jax.make_jaxpr(jn.population(small_learner(), 2, how).init)(keys)) for how in (None, "map", "vmap")
    }
    assert programs["map"] != programs["vmap"]
    assert programs[None] == programs[way]


@pytest.mark.slow
def test_in_a_loop_a_member_takes_all_its_steps_before_the_next(blobs):
    """So that what it needs is moved once; batch by batch, a small network took twice as long."""
    many, seeds = jn.population(small_learner(dropout=0.3), 3, "map"), np.arange(3)
    init_keys, keys = jn.run_keys(seeds)
    rows = np.stack([jn.data.Shuffle(150, 16, int(seed)).rows(0, 8) for seed in seeds], 1)
    state, columns = jax.jit(many.init)(init_keys), {name: jnp.asarray(array) for name, array in blobs.items()}
    given = jn.no_metrics(many, state, columns, rows, keys), columns, rows
    assert loops(many, state, *given, 0, 8, keys) == ["scan", "while"]
    with pytest.raises(jn.InputError, match=r"a population of 2 was given an array of shape \(3,\)"):
        jn.chunk(jn.population(small_learner(), 2, "map"))(state, *given, offset=0, num_steps=8, key=keys)
    for i in range(8):
        state, _ = many.step(
            state, {n: column[rows[i]] for n, column in columns.items()}, jn.step_key(keys, state.step)
        )
    options = {"batch_size": 16, "duration": 8, "seed": seeds, "progress": False}
    for on_device in (True, False):
        fitted = jn.fit(many, blobs, on_device=on_device, **options).state
        np.testing.assert_allclose(fitted.params["out"]["kernel"], state.params["out"]["kernel"], rtol=1e-4, atol=1e-6)
    nested = jn.population(jn.population(small_learner(dropout=0.3), 3, "map"), 2, "map")
    both = jn.fit(nested, blobs, **options | {"seed": np.stack([seeds + 1, seeds])}).state
    assert_same_bits(member(both, 1), fitted)
    sums, rows, keys = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), (given[0], jnp.swapaxes(rows, 0, 1), keys))
    assert loops(nested, both, sums, columns, jnp.moveaxis(rows, 2, 0), 0, 8, keys) == ["scan", "scan", "while"]


def loops(learner, *args) -> list[str]:
    """Return the kinds of loops in a chunk, the outermost first: over members (scan) and over steps (while)."""
    program, found = jax.make_jaxpr(jn.chunk(learner))(*args), []
    while inner := [equation for equation in program.eqns if equation.primitive.name in ("scan", "while")]:
        found.append(inner[0].primitive.name)
        program = inner[0].params["jaxpr" if found[-1] == "scan" else "body_jaxpr"]
    return found


@pytest.mark.slow
def test_populations_nest(batch):
    learner = jn.population(jn.population(small_learner(), 2), 3, "vmap")
    states = learner.init(jax.random.split(jax.random.key(0), (3, 2)))
    assert learner.predict(states, batch["inputs"]).shape == (3, 2, 12, 3)


@pytest.mark.parametrize(("size", "how", "message"), [(0, "map", "size=0"), (2, "pmap", "how='pmap'")])
def test_population_refuses(size, how, message):
    with pytest.raises(jn.InputError, match=message):
        jn.population(small_learner(), size, how)


def test_every_member_has_its_own_seed(blobs):
    many = jn.population(small_learner(), 3)
    for learner, seed, message in [
        (many, 0, r"a population of 3 was given an array of shape \(\).*seed=range\(3\)"),
        (many, [0, 1], r"a population of 3 was given an array of shape \(2,\)"),
        (small_learner(), [0, 1], r"2 seeds for a learner of one; train population\(learner, 2\)"),
    ]:
        with pytest.raises(jn.InputError, match=message):
            jn.fit(learner, blobs, seed=seed, progress=False)


@pytest.mark.parametrize("wrap", [lambda many: jn.averaged(many, 0.9), lambda many: jn.augmented(many, lambda k, x: x)])
def test_population_comes_last(wrap, blobs):
    with pytest.raises(jn.InputError, match=r"population comes last, population\((averaged|augmented)"):
        jn.fit(wrap(jn.population(small_learner(), 2)), blobs, seed=range(2), progress=False)


def test_augmented_changes_inputs_in_training_only(batch):
    seen = []

    def augment(key, inputs):
        seen.append(inputs.shape)
        return inputs * 0.0

    learner = jn.augmented(small_learner(), augment)
    state = learner.init(jax.random.key(0))
    learner.evaluate(state, batch)
    assert not seen
    _, sums = learner.step(state, batch, jax.random.key(1))
    blank = learner.evaluate(state, {**batch, "inputs": batch["inputs"] * 0.0})
    assert len(seen) == 1
    np.testing.assert_allclose(sums["loss"].total, blank["loss"].total, rtol=1e-6)


@pytest.mark.slow
def test_windowed_evaluates_the_last_elements():
    network = jn.network(jn.models.RNN, 5, (4,), 5, embedding=3)
    inner = jn.autoregressive(jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1)))
    learner = jn.transforms.windowed(inner, 4)
    state = learner.init(jax.random.key(0))
    rows = jnp.asarray(np.random.default_rng(0).integers(0, 5, (3, 9)))
    mask = jnp.ones((3, 9)).at[0, -2:].set(0)
    whole = learner.evaluate(state, {"inputs": rows, "mask": mask})
    cut = inner.evaluate(state, {"inputs": rows[:, -4:], "mask": mask[:, -4:]})
    assert float(whole["loss"].total) == float(cut["loss"].total) and float(whole["loss"].count) == 7
    learner.check({"inputs": np.asarray(rows)})
    for place in range(9):  # wherever a token is that the vocabulary lacks
        bad = np.asarray(rows).copy()
        bad[1, place] = 7
        with pytest.raises(jn.InputError, match="outside"):
            learner.check({"inputs": bad})


@pytest.mark.slow
def test_averaged_weights_follow_the_formula(batch):
    plain, learner = small_learner(tx=optax.sgd(0.5)), jn.averaged(small_learner(tx=optax.sgd(0.5)), 0.9)
    state, other = learner.init(jax.random.key(0)), plain.init(jax.random.key(0))
    wanted = np.asarray(other.params["out"]["kernel"], np.float64)
    for i in range(30):
        keep = min(0.9, (1 + i) / (10 + i))
        state, _ = learner.step(state, batch, jax.random.key(i))
        other, _ = plain.step(other, batch, jax.random.key(i))
        wanted = keep * wanted + (1 - keep) * np.asarray(other.params["out"]["kernel"])
    assert_same_bits(state.params, other.params)  # training itself is unchanged
    np.testing.assert_allclose(state.extra["average"]["params"]["out"]["kernel"], wanted, rtol=1e-4, atol=1e-6)
    averaged = other.replace(params=state.extra["average"]["params"])
    assert_same_bits(learner.predict(state, batch["inputs"]), plain.predict(averaged, batch["inputs"]))
    assert_same_bits(learner.evaluate(state, batch), plain.evaluate(averaged, batch))


@pytest.mark.slow
def test_averaged_learners_train_in_the_donated_loop(blobs):
    learner = jn.averaged(small_learner(norm="batch"), 0.99)
    result = jn.fit(learner, blobs, batch_size=16, duration="10ep", validation=blobs, progress=False)
    assert result.history[-1]["validation/accuracy"] > 0.8
    many = jn.fit(jn.population(learner, 2), blobs, batch_size=16, duration="10ep", seed=[0, 1], progress=False)
    assert_same_bits(member(many.state, 0), result.state)


CHOICES = [
    {"optimizer": "adamw", "schedule": "cosine", "warmup": 3, "weight_decay": 0.01},
    {"optimizer": "sgd", "schedule": "one-cycle", "clip_norm": 1.0, "average": 0.99},
    {"optimizer": "nesterov", "schedule": "constant", "weight_decay": 0.01, "accumulate": 2},
    {"optimizer": "rmsprop", "schedule": "cosine", "warmup": 3},
    {"optimizer": "adagrad", "schedule": "constant", "clip_norm": 0.5},
    {"optimizer": "adam", "schedule": "cosine", "average": 0.9, "accumulate": 2},
]
KINDS = [
    {"hidden": (8, 6)},
    {"hidden": (7,), "norm": "batch", "activation": jnp.tanh, "dropout": 0.3},
    {"hidden": (33, 16), "norm": "layer", "activation": jax.nn.gelu},
    {"features": (4, "pool", 6), "norm": "batch", "dropout": 0.4},
    {"features": (5, "pool"), "norm": "layer"},
    {"features": (4, "pool", 6), "norm": "batch", "dtype": jnp.bfloat16},
]


# CI tries each network and each optimizer once, a release each network with each optimizer.
PAIRS = [
    pytest.param(kind, choice, marks=[pytest.mark.release] * (i != j))
    for i, kind in enumerate(KINDS)
    for j, choice in enumerate(CHOICES)
]


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize(("kind", "choice"), PAIRS, ids=lambda one: one.get("optimizer", "-".join(map(str, one))))
def test_a_member_has_the_bits_of_a_run_alone(kind, choice):
    """Whatever the layers and the optimizer: what XLA fuses around a step must not change where it rounds."""
    random, options = np.random.default_rng(0), dict(kind)
    images = jn.Data(inputs=random.normal(size=(90, 8, 8, 1)), labels=np.arange(90) % 10)
    if "features" in options:
        network = jn.network(jn.models.CNN, (8, 8, 1), options.pop("features"), (8,), 10, **options)
    else:
        network = jn.network(jn.models.MLP, 64, options.pop("hidden"), 10, **options)
    config = OptimizerConfig(learning_rate=0.01, **choice)
    tx = make_optimizer(config, 30)
    learner = config.around(jn.supervised(network, jn.losses.softmax_cross_entropy, tx))
    run = partial(jn.fit, train=images, batch_size=16, duration=30, progress=False)
    many = run(jn.population(learner, 3), seed=range(3)).state
    assert_same_bits(member(many, 1), run(learner, seed=1).state)


def test_averaged_refuses():
    with pytest.raises(jn.InputError, match=r"decay=1.0 must be in \[0, 1\)"):
        jn.averaged(small_learner(), 1.0)


@pytest.mark.slow
def test_members_of_a_group_learn_from_their_own_data_alone():
    generator = np.random.default_rng(0)
    inputs, labels = generator.normal(size=(12, 2, 4)).astype(np.float32), generator.integers(0, 3, (12, 2))
    mask = np.ones((12, 2), np.uint8)
    mask[8:, 1] = 0  # the second has fewer examples
    learner = small_learner(tx=optax.sgd(0.1))
    group = jn.averaged(jn.grouped(learner, 2), 0.5)
    state = group.init(jax.random.key(0))
    alone = [learner.init(key) for key in jax.random.split(jax.random.key(0))]
    total = 0.0
    for i in range(3):
        key = jax.random.key(i)
        state, sums = group.step(state, {"inputs": inputs, "labels": labels, "mask": mask}, key)
        for m, member_key in enumerate(jax.random.split(key)):
            rows = slice(0, 8 if m else 12)
            batch = {"inputs": inputs[rows, m], "labels": labels[rows, m]}
            alone[m], of_one = learner.step(alone[m], batch, member_key)
            total += float(of_one["loss"].total) if i == 2 else 0.0
    for m in range(2):
        for a, b in zip(jax.tree.leaves(member(state.params, m)), jax.tree.leaves(alone[m].params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert state.step == 3 and sums["loss"].count == 20
    np.testing.assert_allclose(sums["loss"].total, total, rtol=1e-5)
    outputs = jn.grouped(learner, 2).predict(state, inputs[:4, 0])
    assert outputs.shape == (4, 2, 3)
    np.testing.assert_allclose(outputs[:, 1], learner.predict(alone[1], inputs[:4, 0]), rtol=1e-3, atol=1e-5)


def test_a_group_refuses_what_is_not_for_each_member():
    group = jn.grouped(small_learner(), 2)
    batch = {"inputs": np.zeros((4, 3, 4), np.float32), "labels": np.zeros((4, 3), np.int32)}
    with pytest.raises(jn.InputError, match=r"a group of 2 was given inputs of shape \(4, 3, 4\), not \[B, 2, ...\]"):
        group.evaluate(group.init(jax.random.key(0)), batch)
    with pytest.raises(jn.InputError, match="size=0"):
        jn.grouped(small_learner(), 0)
    labels = np.array([[0, 1], [2, 7]], np.int32)  # the second member's are not in range
    with pytest.raises(jn.InputError, match="labels range from 1 to 7"):
        group.check({"inputs": np.zeros((2, 2, 4), np.float32), "labels": labels})
    batch = {"inputs": np.zeros((4, 2, 4), np.float32), "labels": np.zeros((4, 2), np.int32), "mask": np.ones((4, 3))}
    with pytest.raises(jn.InputError, match=r"mask of shape \(4, 3\), not \[B\] or \[B, 2\]"):
        group.evaluate(group.init(jax.random.key(0)), batch)
    with pytest.raises(jn.InputError, match=r"population\(learner, 2\)"):
        group.init(jax.random.split(jax.random.key(0)))
