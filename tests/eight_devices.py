"""Tests of meshes that need eight devices; ``test_sharded.py`` runs them in a process that has so many."""

import re
from functools import partial

import jax
import numpy as np
import optax
import pytest
from helpers import fails, small_learner

import jaxnets as jn
from jaxnets.parameters import paths
from jaxnets.runs import checkpoint
from jaxnets.runs.folder import Run

RANDOM = np.random.default_rng(0)
VECTORS = jn.Data(inputs=RANDOM.normal(size=(150, 16)).astype(np.float32), labels=RANDOM.integers(0, 4, 150))
HELD_OUT = jn.Data(inputs=RANDOM.normal(size=(45, 16)).astype(np.float32), labels=RANDOM.integers(0, 4, 45))
IMAGES = jn.Data(inputs=RANDOM.normal(size=(96, 8, 8, 1)).astype(np.float32), labels=RANDOM.integers(0, 4, 96))
TEXT = jn.Data(inputs=RANDOM.integers(0, 32, (96, 17)).astype(np.int32))
UNLABELLED = jn.Data(inputs=VECTORS["inputs"])
OPTIONS = {"duration": 6, "batch_size": 32, "evaluate_every": 3, "progress": False}


def classifier(model, *args, tx=None, **kwargs):
    network = jn.network(model, *args, 4, **kwargs)
    metrics = {"accuracy": jn.metrics.accuracy}
    return jn.supervised(network, jn.losses.softmax_cross_entropy, tx or optax.adamw(1e-2), metrics)


mlp = partial(classifier, jn.models.MLP, 16, (64, 64))
cnn = partial(classifier, jn.models.CNN, (8, 8, 1), (8, "pool", 16), (64,))


def gpt(vocabulary=32, **kwargs):
    network = jn.network(
        jn.models.Transformer, vocabulary, 32, 2, 4, vocabulary, max_length=16, tokens=True, causal=True, **kwargs
    )
    return jn.autoregressive(jn.supervised(network, jn.losses.softmax_cross_entropy, optax.adam(1e-2)))


def gan():
    networks = jn.network(jn.models.MLP, 4, (64,), 16), jn.network(jn.models.MLP, 16, (64,), 1)
    return jn.adversarial(*networks, 4, optax.adam(1e-3), optax.adam(1e-3))


CASES = {
    "mlp, data": (mlp(dropout=0.2), "data=8", False, VECTORS),
    "mlp, fully": (mlp(), "data=8", True, VECTORS),
    "mlp, tensor": (mlp(norm="batch"), "data=4,model=2", False, VECTORS),
    "cnn, data": (cnn(norm="batch"), "data=8", False, IMAGES),
    "cnn, both": (cnn(), "data=4,model=2", True, IMAGES),
    "gpt, data": (gpt(), "data=8", False, TEXT),
    "gpt, fully": (gpt(33), "data=8", True, TEXT),
    "gpt, tensor": (gpt(num_kv_heads=2), "data=4,model=2", False, TEXT),
    "gpt, both": (gpt(tied=True, dropout=0.1), "data=4,model=2", True, TEXT),
    "accumulated": (jn.accumulated(mlp(), 2), "data=8", False, VECTORS),
    "averaged": (jn.averaged(jn.accumulated(mlp(), 2), 0.9), "data=4,model=2", True, VECTORS),
    "frozen": (jn.frozen(mlp(), ["hidden/0/**"]), "data=8", True, VECTORS),
    "factored": (mlp(tx=optax.adafactor(1e-2, min_dim_size_to_factor=8)), "data=4,model=2", True, VECTORS),
    "gan": (gan(), "data=8", True, UNLABELLED),
    "grouped": (
        jn.grouped(mlp(), 2),
        "data=8",
        False,
        jn.Data(**{name: np.stack([column, column[::-1]], 1) for name, column in VECTORS.items()}),
    ),
    "population": (jn.population(mlp(), 4, "vmap"), "members=4,data=2", False, VECTORS),
}


# much like others, which CI tries
TWINS = {"mlp, fully", "cnn, data", "gpt, data", "gpt, fully", "accumulated"}


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.release] * (case in TWINS)) for case in CASES])
def test_losses_are_those_of_one_device(case):
    learner, mesh, fully, train = CASES[case]
    more = {"validation": HELD_OUT} if train is VECTORS else {}
    more |= {"seed": range(4)} if case == "population" else {}
    alone = jn.fit(learner, train, **OPTIONS, **more)
    spread = jn.fit(jn.sharded(learner, jn.make_mesh(mesh), fully=fully), train, **OPTIONS, **more)
    assert len(spread.history) == len(alone.history) == 2
    for row, right in zip(spread.history, alone.history, strict=True):
        for name in right.keys() - {"seconds"}:
            np.testing.assert_allclose(row[name], right[name], rtol=1e-6, atol=1e-9, err_msg=name)


def parts(tree) -> dict[str, tuple[int, ...]]:
    """Return the shapes that each device has of the arrays which are not whole on it."""
    found = {name: {shard.data.shape for shard in leaf.addressable_shards} for name, leaf in paths(tree).items()}
    assert all(len(shapes) == 1 for shapes in found.values())
    return {name: shape for name, (shape,) in found.items() if shape != paths(tree)[name].shape}


def test_parameters_and_what_optimizers_keep_of_them_are_split():
    key = jax.random.key(0)
    state = jn.sharded(mlp(), jn.make_mesh("data=8")).init(key)
    assert parts(state) == {}
    assert len(state.params["out"]["bias"].sharding.device_set) == 8
    state = jn.sharded(jn.averaged(mlp(), 0.9), jn.make_mesh("data=8"), fully=True).init(key)
    split = {"hidden/0/layer/kernel": (16, 8), "hidden/1/layer/kernel": (8, 64)}
    assert parts(state.params) == split
    moments = {f"0/{moment}/{name}": shape for moment in ("mu", "nu") for name, shape in split.items()}
    assert parts(state.opt_state) == moments
    assert parts(state.extra) == {f"average/params/{name}": shape for name, shape in split.items()}
    state = jn.sharded(gan(), jn.make_mesh("data=8"), fully=True).init(key)
    assert parts(state.params) == {"generator/out/kernel": (8, 16), "discriminator/hidden/0/layer/kernel": (16, 8)}
    assert set(parts(state.opt_state)) == {
        f"{player}/0/{moment}/{name}"
        for player, name in (("generator", "out/kernel"), ("discriminator", "hidden/0/layer/kernel"))
        for moment in ("mu", "nu")
    }
    fitted = jn.fit(jn.sharded(gpt(), jn.make_mesh("data=2,model=4")), TEXT, **OPTIONS).state
    found = parts(fitted.params)
    assert found["embed/embedding"] == (8, 32)
    assert found["blocks/0/attention/q/kernel"] == (32, 8) and found["blocks/0/attention/q/bias"] == (8,)
    assert found["blocks/1/attention/out/kernel"] == (8, 32) and "blocks/1/attention/out/bias" not in found
    assert found["blocks/1/feed_forward/up/kernel"] == (32, 32)
    assert found["blocks/1/feed_forward/down/kernel"] == (32, 32)
    assert {f"0/mu/{name}": shape for name, shape in found.items()}.items() <= parts(fitted.opt_state).items()
    many = jn.population(mlp(), 8, "vmap")
    keys = jax.random.split(key, 8)
    assert all(
        leaf.addressable_shards[0].data.shape[0] == 1
        for leaf in jax.tree.leaves(jn.sharded(many, jn.make_mesh("members=8")).init(keys))
    )


def test_rules_of_ones_own():
    mesh = jn.make_mesh({"rows": 2, "model": 4})
    rules = {"out/kernel": (("rows", "model"),), "**/kernel": (None, "model")}
    state = jn.sharded(mlp(), mesh, rules, batch_axis="rows").init(jax.random.key(0))
    split = {"hidden/0/layer/kernel": (16, 16), "hidden/1/layer/kernel": (64, 16), "out/kernel": (8, 4)}
    assert parts(state.params) == split


def gathered(learner, train) -> set[tuple[int, ...]]:
    """Return the shapes of all that the compiled loop gathers."""
    init_key, key = jn.run_keys(0)
    rest = learner.placement.of_rest
    state, columns = learner.init(init_key), jax.device_put(dict(train), rest)
    rows = jax.device_put(np.zeros((8, 32), np.int32), rest)
    sums = jax.device_put(jn.no_metrics(learner, state, columns, rows, key), rest)
    where = jax.tree.map(lambda leaf: leaf.sharding, (state, sums))
    program = jax.jit(jn.chunk(learner), out_shardings=where).lower(state, sums, columns, rows, 0, 4, key).compile()
    lines = re.findall(r"= (.*?) (all-gather|all-to-all)(?:-start)?\(", program.as_text())
    assert re.search(r" all-reduce(-start)?\(", program.as_text())
    shapes = [shape for result, _ in lines for shape in re.findall(r"\w+\[([\d,]*)\]", result)]
    return {tuple(int(size) for size in shape.split(",") if size) for shape in shapes}


@pytest.mark.parametrize(
    ("learner", "train"), [(mlp(), VECTORS), (cnn(), IMAGES), (gpt(), TEXT)], ids=["mlp", "cnn", "gpt"]
)
def test_gradients_alone_are_exchanged(learner, train):
    assert gathered(jn.sharded(learner, jn.make_mesh("data=8")), train) == set()
    assert gathered(jn.sharded(learner, jn.make_mesh("data=4,model=2")), train) == set()


def test_fully_sharded_weights_are_gathered_one_by_one_and_nothing_else_is():
    learner = gpt(33)  # a vocabulary that does not divide, so that the embedding is split by features
    shapes = {leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(learner.init, jax.random.key(0)).params)}
    both = {shape[::-1] for shape in shapes} | shapes
    assert gathered(jn.sharded(learner, jn.make_mesh("data=8"), fully=True), TEXT) <= both
    halves = {(a // 2, b) for a, b in (s for s in both if len(s) == 2)}
    found = gathered(jn.sharded(learner, jn.make_mesh("data=4,model=2"), fully=True), TEXT)
    whole = {(32, 33), (33, 32)}  # the head and the embedding, which "model" does not split
    assert found <= whole | halves | {shape[::-1] for shape in halves}


@pytest.mark.parametrize(
    ("learner", "mesh", "seed"),
    [(mlp(), "data=4,model=2", 0), (jn.population(mlp(), 8, "vmap"), "members=4,data=2", range(8))],
    ids=["one", "many"],
)
def test_rows_that_are_sent_in_parts_are_those_that_are_kept_whole(learner, mesh, seed):
    spread = jn.sharded(learner, jn.make_mesh(mesh))
    kept, sent = (jn.fit(spread, VECTORS, seed=seed, on_device=place, **OPTIONS).state for place in (True, False))
    jax.tree.map(np.testing.assert_array_equal, kept, sent)


def end_of(learner, **options):
    *_, last = jn.events(learner, VECTORS, batch_size=32, evaluate_every=3, duration=6, validation=HELD_OUT, **options)
    return last.run_state


def test_checkpoints_go_on_on_another_mesh(tmp_path):
    learner, devices = mlp(), jax.devices()
    on = {
        1: learner,
        2: jn.sharded(learner, jn.make_mesh("model=2", devices[:2])),
        8: jn.sharded(learner, jn.make_mesh("data=4,model=2"), fully=True),
    }
    stopping = jn.EarlyStopping(5)
    whole = end_of(learner, early_stopping=stopping)
    given = {"batch_size": 32, "evaluate_every": 3, "duration": 6, "validation": HELD_OUT, "early_stopping": stopping}
    for before, after in ((8, 1), (1, 8), (2, 8)):
        events = jn.events(on[before], VECTORS, **given)
        half = next(event.run_state for event in events if event.kind == "evaluation")
        host = jax.tree.map(np.array, half)
        folder = tmp_path / f"{before}-{after}"
        folder.mkdir()
        checkpoint.save(folder, 3, host, {})
        restored, _ = checkpoint.restore(folder, host)
        assert checkpoint.digest(paths(restored)) == checkpoint.digest(paths(host))
        begun = next(jn.events(on[after], VECTORS, resume=restored, **given)).run_state
        assert checkpoint.digest(paths(jax.tree.map(np.array, begun))) == checkpoint.digest(paths(host))
        assert bool(parts(begun.train)) == (after == 8) and bool(parts(begun.best.state)) == (after == 8)
        end = end_of(on[after], early_stopping=stopping, resume=restored)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), end.train, whole.train)


def test_bad_steps_are_left_out():
    inputs = VECTORS["inputs"].copy()
    inputs[7] = 3e38
    train = jn.Data(inputs=inputs, labels=VECTORS["labels"])
    spread = jn.sharded(mlp(), jn.make_mesh("data=4,model=2"), fully=True)
    alone, notes = (
        [event.reason for event in jn.events(learner, train, duration=12, batch_size=32) if event.kind == "skipped"]
        for learner in (mlp(), spread)
    )
    assert notes == alone != []


def test_states_of_the_host_are_evaluated_and_predicted_from():
    learner = jn.averaged(mlp(), 0.9)
    spread = jn.sharded(learner, jn.make_mesh("data=4,model=2"), fully=True)
    state = jax.tree.map(np.array, spread.init(jax.random.key(0)))
    metrics, right = (jn.evaluate(each, state, HELD_OUT, batch_size=7) for each in (spread, learner))
    np.testing.assert_allclose(metrics["loss"], right["loss"], rtol=1e-6)
    assert metrics["accuracy"] == right["accuracy"]
    outputs, right = (jn.predict(each, state, HELD_OUT["inputs"], batch_size=7) for each in (spread, learner))
    np.testing.assert_allclose(outputs, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("learner", "mesh", "options", "message"),
    [
        (mlp(), "members=8", {}, "members=8 splits nothing of this learner .there is no population."),
        (classifier(jn.models.MLP, 16, ()), "model=8", {}, "model=8 splits nothing of this learner .no rule"),
        (mlp(), "data=8", {"rules": {"hiden/**": ("data",)}}, "'hiden/..' matches no parameter .did you mean 'hidden"),
        (mlp(), "data=8", {"rules": {"out/kernel": (None, "data")}}, "out/kernel of shape .64, 4. cannot be split by"),
        (mlp(), "data=8", {"rules": {"out/kernel": (None, "dta")}}, "no axis 'dta' .did you mean 'data'"),
        (mlp(), "data=8", {"rules": {"out/bias": (None, "data")}}, "names more axes than it has"),
        (mlp(), "data=8", {"rules": {"out/kernel": ("data", "data")}}, "names 'data' twice"),
        (mlp(), "model=8", {"fully": True}, "batch_axis='data' is none of the mesh's model"),
        (mlp(), "model=8", {"batch_axis": "rows"}, "batch_axis='rows' is none of the mesh's model"),
        (jn.population(mlp(), 8, "map"), "members=8", {}, 'use how="vmap"'),
    ],
)
def test_what_cannot_be_is_said(learner, mesh, options, message):
    with pytest.raises(jn.InputError, match=message):
        jn.sharded(learner, jn.make_mesh(mesh), **options).init(jax.random.key(0))


def test_what_does_not_divide_is_said():
    mesh = jn.make_mesh("data=8")
    with pytest.raises(jn.InputError, match="a batch has 30 examples, no multiple of the mesh's data=8; use 24 or 32"):
        jn.fit(jn.sharded(mlp(), mesh), VECTORS, **OPTIONS | {"batch_size": 30})
    with pytest.raises(jn.InputError, match="each part of an accumulated batch has 4 examples"):
        jn.fit(jn.sharded(jn.accumulated(mlp(), 8), mesh), VECTORS, **OPTIONS)
    many = jn.sharded(jn.population(mlp(), 3, "vmap"), jn.make_mesh("members=8"))
    with pytest.raises(jn.InputError, match="a population of 3 is no multiple of the mesh's members=8; train 8"):
        jn.fit(many, VECTORS, seed=range(3), **OPTIONS)
    with pytest.raises(jn.InputError, match="sharded comes last"):
        jn.population(jn.sharded(small_learner(), mesh), 2)
    with pytest.raises(jn.InputError, match="Explicit axes"):
        jn.sharded(mlp(), jax.make_mesh((8,), ("data",)))


def test_from_the_command_line(tmp_path, capsys):
    from jaxnets import cli

    run = str(tmp_path / "run")
    train = ["train", "digits-mlp", "--duration", "20", "--evaluate-every", "20"]
    assert cli.main([*train, "--mesh", "data=4,model=2", "--fully-sharded", "--out", run]) == 0
    assert "mesh data=4,model=2, fully sharded" in capsys.readouterr().out
    assert cli.main([*train, "--out", str(tmp_path / "alone")]) == 0
    (row,), (right,) = (Run(tmp_path / name).history() for name in ("run", "alone"))
    assert row["validation/loss"] == pytest.approx(right["validation/loss"], rel=1e-6)
    assert cli.main(["evaluate", run]) == 0
    assert cli.main(["resume", run, "--mesh", "data=8", "--duration", "40"]) == 0
    assert Run(tmp_path / "run").config.mesh == "data=8"
    many = str(tmp_path / "many")
    assert cli.main([*train, "--seeds", "8", "--mesh", "members=8", "--out", many]) == 0
    assert np.shape(Run(tmp_path / "many").history()[0]["validation/loss"]) == (8,)
    for flags, said in (
        ("dta=8", "'dta' is none of the axes data, model, members (did you mean 'data'?)"),
        ("data=4", "mesh data=4 is of 4 devices, and there are 8"),
        ("model=8 --fully-sharded", "add data=N"),
        ("data=8 --batch-size 60", "use 56 or 64"),
        ("members=8 --seeds 6", "train 8 members"),
        ("data=4,model=2 --hidden 63", "hidden/0/layer/bias of shape (63,) cannot be split by model=2"),
    ):
        assert said in fails(capsys, *train, "--out", tmp_path / "none", "--mesh", *flags.split())
    heads = fails(capsys, "train", "digits-cnn", "--model", "vit", "--mesh", "model=8", "--out", tmp_path / "none")
    assert "num_heads=4 is no multiple of the mesh's model=8" in heads
