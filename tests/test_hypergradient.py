"""Gradients through training, against finite differences, and the run that they are of."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_bits, quick, small_learner

import jaxnets as jn
from jaxnets.parameters import by_pattern

CROSS_ENTROPY = jn.losses.softmax_cross_entropy
RATES = {"rate": 0.2, "momentum": 0.7}


def momentum(hyper: Any) -> optax.GradientTransformation:
    return optax.sgd(hyper["rate"], hyper["momentum"])


def decayed(hyper: Any) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(hyper["decay"]), optax.sgd(hyper["rate"]))


def adam(hyper: Any) -> optax.GradientTransformation:
    return optax.adam(hyper["rate"], hyper["b1"], hyper["b2"], eps_root=1e-8)


def adamw(hyper: Any) -> optax.GradientTransformation:
    return optax.adamw(hyper["rate"], weight_decay=hyper["decay"], eps_root=1e-8)


def injected(hyper: Any) -> optax.GradientTransformation:
    return optax.inject_hyperparams(optax.sgd)(learning_rate=hyper["rate"], momentum=hyper["momentum"])


def per_layer(rates: Any) -> optax.GradientTransformation:
    return optax.stateless(lambda grads, _: jax.tree.map(lambda g, r: -r * g, grads, by_pattern(grads, rates, 0.0)))


OPTIMIZERS = {
    "momentum": (momentum, RATES),
    "sgd": (decayed, {"rate": 0.3, "decay": 0.02}),
    "adam": (adam, {"rate": 0.02, "b1": 0.8, "b2": 0.95}),
    "adamw": (adamw, {"rate": 0.02, "decay": 0.5}),
    "injected": (injected, RATES),
    "per layer": (per_layer, {"hidden/**": 0.3, "out/**": 0.1}),
}
# Smooth ones: a finite difference across a kink is of nothing. The LSTM's state is float32.
NETWORKS = {
    "mlp": ((4,), partial(jn.models.MLP, 4, (5,), 3, activation=jnp.tanh), 2**-14),
    "norm": ((4,), partial(jn.models.MLP, 4, (5,), 3, activation=jnp.tanh, norm="batch"), 2**-14),
    "cnn": ((4, 4, 1), partial(jn.models.CNN, (4, 4, 1), (2, "pool"), (4,), 3, activation=jnp.tanh), 2**-14),
    "lstm": ((3, 2), partial(jn.models.RNN, 2, (3,), 3, cell=jn.nn.LSTM, pool="last"), 2**-8),
}


def some(shape: tuple[int, ...], number: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, number)
    return {"inputs": random.normal(labels.reshape(-1, *[1] * len(shape)), 1.0, (number, *shape)), "labels": labels}


def check_derivatives(name: str, tx: Any, hyper: dict[str, float]) -> None:
    """Compare all three kinds of derivatives with differences of the losses of whole runs, in 64 bits."""
    shape, module, step = NETWORKS[name]
    drawn = jn.network(module)
    network = drawn._replace(init=lambda key: jax.tree.map(lambda leaf: leaf.astype(jnp.float64), drawn.init(key)))
    train, validation = some(shape, 16, 0), some(shape, 12, 1)
    rows = jn.data.shuffled(train, 8, 0).rows(0, 5)
    init_key, key = jn.run_keys(0)

    def make(hyper):
        return jn.supervised(network, CROSS_ENTROPY, tx(hyper))

    def exact(learner, state, batch):  # by the batch's own statistics, if there is a norm
        outputs, _ = network.apply(state.params, state.model_state, batch["inputs"], train=True, key=key)
        return CROSS_ENTROPY(outputs, batch["labels"]).mean()

    @jax.jit
    def loss(hyper, params, weights):
        learner, columns = make(hyper), train | {"weights": weights}
        state, _ = jn.unrolled(learner)(learner.init(init_key, jn.Initial(params)), columns, rows, key)
        return exact(learner, state, validation)

    given = (jax.tree.map(jnp.float64, hyper), network.init(init_key)[0], jnp.ones(16))
    columns = train | {"weights": given[2]}
    found = jax.jit(lambda hyper: jn.hypergradient(make, hyper, columns, rows, validation, loss=exact))(given[0])
    np.testing.assert_allclose(found.loss, loss(*given), rtol=1e-6)
    slopes, random = (found.hyper, found.params, found.weights), np.random.default_rng(2)
    along = [(name, 0, {**dict.fromkeys(hyper, 0.0), name: 1.0}) for name in hyper]
    along += [("params", 1, jax.tree.map(lambda leaf: random.normal(size=leaf.shape), given[1]))]
    along += [(f"weight {row}", 2, jnp.zeros(16).at[row].set(1.0)) for row in (rows[0, 0], rows[-1, -1])]
    for what, argument, direction in along:

        def at(move, argument=argument, direction=direction):
            moved = list(given)
            moved[argument] = jax.tree.map(lambda leaf, d: leaf + move * d, given[argument], direction)
            return float(loss(*moved))

        # Of fourth order; weights of rows become float32, which holds 1 and such steps exactly.
        difference = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
        slope = sum(jax.tree.leaves(jax.tree.map(lambda a, b: float((a * b).sum()), slopes[argument], direction)))
        print(f"{what}: {slope:.6f}, relative error {abs(slope / difference - 1):.1e}")
        np.testing.assert_allclose(slope, difference, rtol=1e-3, err_msg=what)


@pytest.mark.parametrize("name", quick(OPTIMIZERS))
def test_derivatives_are_finite_differences(name):
    with jax.enable_x64(True):
        check_derivatives("mlp", *OPTIMIZERS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["norm", "cnn", "lstm"])
def test_derivatives_of_networks_are_finite_differences(name):
    with jax.enable_x64(True):
        check_derivatives(name, *OPTIMIZERS["momentum"])


def make(hyper: Any) -> jn.Learner:
    return small_learner(tx=momentum(hyper))


def rows_of(data: jn.Data, num_steps: int, seed: int = 0) -> np.ndarray:
    return jn.data.shuffled(data, 16, seed).rows(0, num_steps)


@pytest.mark.bits
@pytest.mark.parametrize("num_steps", quick([11, 1, 3, 16]))
def test_the_run_is_that_of_fit(num_steps, blobs):
    """Whatever is left over behind the last whole segment, and with a network that draws."""
    learner, (init_key, key) = small_learner(dropout=0.3, tx=momentum(RATES)), jn.run_keys(3)
    rows, columns = rows_of(blobs, num_steps, 3), {name: jnp.asarray(array) for name, array in blobs.items()}
    state, sums = jax.jit(jn.unrolled(learner))(learner.init(init_key), columns, rows, key)
    fitted = jn.fit(learner, blobs, duration=num_steps, batch_size=16, seed=3, progress=False)
    assert_same_bits(state, fitted.state)
    assert sums["loss"].total.shape == (num_steps,)
    total = jn.no_metrics(learner, state, columns, rows, key)
    _, total = jax.jit(jn.chunk(learner))(learner.init(init_key), total, columns, rows, 0, num_steps, key)
    total = jn.metrics.values_of(total)
    np.testing.assert_allclose(sums["loss"].total.sum(), total["loss"].total, rtol=1e-5)
    assert int(sums["accuracy"].count.sum()) == total["accuracy"].count == 16 * num_steps


def test_one_pass_gives_all(blobs):
    train, validation = blobs.split(0.3)
    rows = rows_of(train, 9, 2)
    found = jax.jit(lambda hyper: jn.hypergradient(make, hyper, train, rows, validation, seed=2))(RATES)
    fitted = jn.fit(make(RATES), train, duration=9, batch_size=16, seed=2, progress=False).state
    assert jax.tree.structure(found.params) == jax.tree.structure(fitted.params) and found.weights is None
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found.state.params, fitted.params)
    loss = jn.evaluate(make(RATES), found.state, validation)["loss"]
    np.testing.assert_allclose(found.loss, loss, rtol=1e-5)
    assert jax.tree.map(float, found.hyper).keys() == RATES.keys()


def growth(run: Any, blobs: jn.Data, sizes: list[int]) -> list[float]:
    """Return how the memory of a gradient's program grows from one number of steps to the next."""
    init_key, key = jn.run_keys(0)
    columns = {name: jnp.asarray(array) for name, array in blobs.items()}

    def loss(rate, rows):
        learner = make(RATES | {"rate": rate})
        state, _ = run(learner)(learner.init(init_key), columns, rows, key)
        return learner.evaluate(state, columns)["loss"].total

    def memory(num_steps):
        program = jax.jit(jax.grad(loss)).lower(0.1, rows_of(blobs, num_steps)).compile()
        return program.memory_analysis().temp_size_in_bytes

    found = [memory(size) for size in sizes]
    return [b / a for a, b in itertools.pairwise(found)]


def kept(learner: jn.Learner) -> Any:
    """Return a run that keeps what every step has left."""

    def run(state, columns, rows, key):
        def take(state, rows):
            batch = {name: column[rows] for name, column in columns.items()}
            return learner.step(state, batch, jn.step_key(key, state.step))

        return jax.lax.scan(take, state, rows)

    return run


@pytest.mark.slow
@pytest.mark.bits
def test_memory_grows_as_the_root_of_the_number_of_steps(blobs):
    small, large = growth(jn.unrolled, blobs, [16, 64, 256])
    print(f"memory from 16 to 64 to 256 steps: {small:.2f}, {large:.2f} times")
    assert small < 2.1 and 1.5 < large < 2.1
    assert growth(kept, blobs, [64, 256])[0] > 3.5


@pytest.mark.slow
def test_forward_mode_gives_the_same_slope(blobs):
    learner_of = lambda rate: make(RATES | {"rate": rate})
    init_key, key = jn.run_keys(0)
    columns, rows = {name: jnp.asarray(array) for name, array in blobs.items()}, rows_of(blobs, 7)

    def loss(rate):
        learner = learner_of(rate)
        state, _ = jn.unrolled(learner)(learner.init(init_key), columns, rows, key)
        return learner.evaluate(state, columns)["loss"].total / 150

    _, forward = jax.jvp(loss, (0.2,), (1.0,))
    found = jn.hypergradient(make, RATES, columns, rows, columns)
    np.testing.assert_allclose(found.hyper["rate"], forward, rtol=1e-4)


@pytest.mark.slow
def test_seeds_and_hyperparameters_are_mapped_over(blobs):
    rows, data = rows_of(blobs, 6), dict(blobs)
    by_rate = lambda rate: jn.hypergradient(make, RATES | {"rate": rate}, data, rows, data)
    by_seed = lambda seed: jn.hypergradient(make, RATES, data, rows, data, seed)
    for function, values in ((by_rate, np.float32([0.1, 0.3])), (by_seed, np.int32([0, 5]))):
        many, compiled = jax.jit(jax.vmap(function))(values), jax.jit(function)
        for i, value in enumerate(values):
            alone = compiled(value)
            for name, slope in alone.hyper.items():
                np.testing.assert_allclose(many.hyper[name][i], slope, rtol=1e-3)


@pytest.mark.slow
def test_an_outer_optimizer_improves_the_held_out_loss(blobs):
    train, validation = map(dict, blobs.split(0.4))
    rows, outer = rows_of(train, 12), optax.adam(0.2)
    tuned = lambda logs: small_learner(tx=optax.sgd(jnp.exp(logs["rate"]), jax.nn.sigmoid(logs["momentum"])))

    def improve(carry, _):
        logs, state = carry
        found = jn.hypergradient(tuned, logs, train, rows, validation)
        updates, state = outer.update(found.hyper, state)
        return (optax.apply_updates(logs, updates), state), found.loss

    logs = {"rate": jnp.log(0.01), "momentum": jnp.zeros(())}
    _, losses = jax.jit(lambda carry: jax.lax.scan(improve, carry, length=15))((logs, outer.init(logs)))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
def test_weights_of_examples_find_false_labels(blobs):
    """What raises the held-out loss by counting more has a positive derivative."""
    train, validation = map(dict, blobs.split(0.4))
    false = np.arange(len(train["labels"])) % 5 == 0
    train["labels"] = np.where(false, (train["labels"] + 1) % 3, train["labels"])
    train["weights"] = np.ones(len(false), np.float32)
    slow = RATES | {"rate": 0.02}
    slopes = np.asarray(jn.hypergradient(make, slow, train, rows_of(train, 30), validation).weights)
    higher = (slopes[false][:, None] > slopes[~false]).mean()  # the area under the ROC curve
    print(f"area under the ROC curve: {higher:.3f}")
    assert slopes.shape == false.shape and higher > 0.8


@pytest.mark.slow
def test_meta_learned_weights_adapt_better():
    """MAML (Finn et al., 2017): sines of any amplitude and phase, ten points each, two steps of descent."""
    learner = jn.supervised(
        jn.network(jn.models.MLP, 1, (40, 40), 1, activation=jnp.tanh), jn.losses.mse, optax.sgd(0.02)
    )
    rows = np.arange(10)[None].repeat(2, 0)

    def tasks(random, number):
        x = random.uniform(-5, 5, (number, 20, 1))
        amplitude, phase = random.uniform(0.1, 5, (number, 1, 1)), random.uniform(0, np.pi, (number, 1, 1))
        both = {"inputs": x.astype(np.float32), "labels": (amplitude * np.sin(x - phase)).astype(np.float32)}
        return [{name: array[:, part] for name, array in both.items()} for part in (slice(10), slice(10, 20))]

    def state_of(params):
        return learner.init(jax.random.key(0), jn.Initial(params))

    def adapted(params, support, query):
        return jn.hypergradient(lambda _: learner, None, support, rows, query, initial=jn.Initial(params))

    def after(params, support, query):
        return jax.vmap(partial(adapted, params))(support, query)

    outer = optax.adam(3e-3)

    @jax.jit
    def step(params, state, support, query):
        found = after(params, support, query)
        updates, state = outer.update(jax.tree.map(lambda leaf: leaf.mean(0), found.params), state)
        return optax.apply_updates(params, updates), state

    random = np.random.default_rng(0)
    params = drawn = learner.init(jax.random.key(0)).params
    state = outer.init(params)
    for _ in range(400):
        params, state = step(params, state, *tasks(random, 16))
    support, query = tasks(np.random.default_rng(1), 200)
    still = jax.vmap(lambda x: learner.predict(state_of(params), x))(query["inputs"]) - query["labels"]
    still = float((still**2).mean())
    meta, fresh = (float(after(start, support, query).loss.mean()) for start in (params, drawn))
    print(f"mean squared error: {still:.2f} without adaptation, {meta:.2f} with, {fresh:.2f} from drawn weights")
    assert meta < 0.6 * still and meta < 0.6 * fresh


def constant(hyper: Any) -> jn.Learner:
    return small_learner(tx=optax.sgd(hyper["rate"], jnp.round(hyper["momentum"])))


def compared(hyper: Any) -> jn.Learner:
    return small_learner(tx=optax.sgd(jnp.where(hyper["momentum"] > 0.5, hyper["rate"], 0.1)))


def adversary(hyper: Any) -> jn.Learner:
    smooth = partial(jn.network, jn.models.MLP, activation=jnp.tanh)
    generator, discriminator = smooth(2, (6,), 4), smooth(4, (6,), 1)
    return jn.adversarial(generator, discriminator, 2, optax.sgd(hyper["rate"]), optax.sgd(hyper["momentum"]))


ROWS = np.arange(12).reshape(3, 4)
WRONG = {
    "make": ({"make": 3}, "make=3 is no function"),
    "no learner": ({"make": lambda hyper: hyper}, "learner is of dict; give a jaxnets.Learner"),
    "population": ({"make": lambda hyper: jn.population(make(hyper), 2, "map")}, "of one run, not of a population"),
    "seeds": ({"seed": [0, 1]}, r"of one run, .* jax.vmap the function over seeds"),
    "flat rows": ({"rows": np.arange(12)}, r"rows of shape \(12,\) and dtype int64 must be row numbers \[num_steps"),
    "uneven rows": ({"rows": [[1, 2], [3]]}, r"rows=\[\[1, 2\], \[3\]\] must be row numbers"),
    "rows of numbers": ({"rows": ROWS / 2}, r"rows of shape \(3, 4\) and dtype float64 must be row numbers"),
    "no steps": ({"rows": ROWS[:0]}, r"rows of shape \(0, 4\) are no steps"),
    "rows outside": ({"rows": ROWS + 140}, "rows from 140 to 151 of 150 examples"),
    "whole number": ({"hyper": RATES | {"rate": 1}}, "hyper/rate=1 is int32, .* give a float, such as 1.0"),
    "a whole number alone": ({"hyper": 1, "make": lambda rate: make(RATES | {"rate": rate})}, "hyper=1 is int32"),
    "text": ({"hyper": RATES | {"name": "sgd"}}, "hyper/name='sgd' is no number; let make close over it"),
    "unused": ({"hyper": RATES | {"decay": 0.1}}, "hyper/decay cannot change the loss"),
    "rounded": ({"make": constant}, "hyper/momentum cannot change the loss"),
    "compared": ({"make": compared}, "hyper/momentum cannot change the loss"),
    "no loss": ({"make": adversary, "loss": 3}, "loss=3 is no function"),
    "initial": ({"initial": {}}, "initial is of dict; give jaxnets.Initial"),
    "no data": ({"validation": np.zeros(3)}, "validation is of ndarray; give named arrays"),
    "lengths": ({"validation": {"inputs": np.zeros((3, 4)), "labels": np.zeros(2)}}, "validation: arrays of shapes"),
    "empty": ({"train": {"inputs": np.zeros((0, 4))}}, "train: arrays of shapes .* one example or more"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told(case, blobs):
    given, message = WRONG[case]
    good = {"make": make, "hyper": RATES, "train": blobs, "rows": ROWS, "validation": blobs}
    with pytest.raises(jn.InputError, match=message):
        jn.hypergradient(**good | given)


def test_states_of_a_population_and_unread_weights_are_refused(blobs):
    many = jn.population(make(RATES), 2, "vmap")
    init_keys, keys = jn.run_keys([0, 1])
    with pytest.raises(jn.InputError, match="of one run, not of a population"):
        jn.unrolled(many)(many.init(init_keys), dict(blobs), ROWS, keys)
    unread = lambda hyper: (learner := make(hyper))._replace(
        step=lambda state, batch, key: learner.step(state, {n: batch[n] for n in ("inputs", "labels")}, key)
    )
    with pytest.raises(jn.InputError, match="weights cannot change the loss"):
        jn.hypergradient(unread, RATES, dict(blobs) | {"weights": np.ones(150, np.float32)}, ROWS, blobs)


def transformed(hyper: Any) -> jn.Learner:
    learner = jn.accumulated(jn.frozen(make(hyper), ["hidden/**/bias"]), 2)
    return jn.averaged(learner, 0.9)


def realism(learner: jn.Learner, state: jn.TrainState, batch: Any) -> jax.Array:
    return ((learner.predict(state, jn.Coded(jnp.ones((5, 2)))).mean(0) - batch["inputs"].mean(0)) ** 2).sum()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["transformed", "adversary"])
def test_any_learner_with_a_step_will_do(case, blobs):
    """Against differences in 32 bits, so at a coarser tolerance."""
    of, options = {"transformed": (transformed, {}), "adversary": (adversary, {"loss": realism})}[case]
    data = dict(blobs) if case == "transformed" else {"inputs": blobs["inputs"]}
    found = jax.jit(lambda hyper: jn.hypergradient(of, hyper, data, rows_of(blobs, 6), data, **options))
    hyper = {"rate": 0.1, "momentum": 0.2}
    slopes = found(hyper).hyper
    for name, value in hyper.items():
        ends = [float(found(hyper | {name: value + move}).loss) for move in (0.004, -0.004)]
        np.testing.assert_allclose(slopes[name], (ends[0] - ends[1]) / 0.008, rtol=0.01)


def test_without_a_loss_of_its_own_a_learner_needs_one(blobs):
    bare = lambda hyper: make(hyper)._replace(evaluate=lambda state, batch: {"hits": jnp.zeros(())})
    with pytest.raises(jn.InputError, match="evaluates hits, and no mean 'loss' to differentiate; give loss="):
        jn.hypergradient(bare, RATES, blobs, ROWS, blobs)


@pytest.mark.slow
def test_initial_values_may_depend_on_hyperparameters(blobs):
    drawn = jn.network(jn.models.MLP, 4, (6,), 3, activation=jnp.tanh)

    def scaled(scale):
        init = lambda key: (jax.tree.map(lambda leaf: scale * leaf, drawn.init(key)[0]), {})
        return jn.supervised(drawn._replace(init=init), CROSS_ENTROPY, optax.sgd(0.1))

    columns = dict(blobs) | {"weights": np.ones(150, np.int32)}  # whole numbers are weights, too
    found = jax.jit(lambda scale: jn.hypergradient(scaled, scale, columns, rows_of(blobs, 4), blobs))
    ends = [float(found(1.0 + move).loss) for move in (0.01, -0.01)]
    np.testing.assert_allclose(found(1.0).hyper, (ends[0] - ends[1]) / 0.02, rtol=5e-3)
    assert found(1.0).weights.dtype == jnp.float32


@pytest.mark.slow
def test_adam_needs_its_root_to_be_differentiable(blobs):
    """A weight of an input that is always 0 has no gradient: the root of its second moment has no slope."""
    data = dict(blobs) | {"inputs": blobs["inputs"] * np.float32([1, 1, 1, 0])}
    for eps_root, finite in ((0.0, False), (1e-8, True)):
        of = lambda rate, eps_root=eps_root: small_learner(tx=optax.adam(rate, eps_root=eps_root))
        assert bool(jnp.isfinite(jn.hypergradient(of, 0.01, data, rows_of(blobs, 4), data).hyper)) == finite
