"""Names of parameters: patterns, weights to begin from, what is frozen, and rates of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import assert_same_bits, quick, small_learner

import jaxnets as jn
from jaxnets.errors import InputError
from jaxnets.options import OptimizerConfig, make_optimizer
from jaxnets.options.optimizer import decayed
from jaxnets.parameters import begun, by_pattern, layer_numbers, matches, matching, paths, without

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("pattern", "path", "hit"),
    [
        ("encoder/**", "encoder/0/kernel", True),
        ("encoder/**", "encoder", False),
        ("encoder/**", "decoder/encoder/kernel", False),
        ("**/bias", "bias", True),
        ("**/bias", "a/b/bias", True),
        ("**/bias", "a/bias/b", False),
        ("head/*/kernel", "head/0/kernel", True),
        ("head/*/kernel", "head/0/1/kernel", False),
        ("a/**/kernel", "a/kernel", True),
        ("a/**/kernel", "a/b/c/kernel", True),
        ("layer?/kernel", "layer1/kernel", True),
        ("layer?/kernel", "layer12/kernel", False),
        ("**", "a/b", True),
        ("a.b/c", "axb/c", False),
    ],
)
def test_patterns(pattern, path, hit):
    assert matches(pattern, path) is hit


def test_a_pattern_that_matches_nothing_names_what_is_near():
    params = {"encoder": {0: {"kernel": np.zeros(2)}}, "head": {"bias": np.zeros(1)}}
    assert list(paths(params)) == ["encoder/0/kernel", "head/bias"]
    assert matching(params, ["head/**"]) == {"encoder": {0: {"kernel": False}}, "head": {"bias": True}}
    with pytest.raises(InputError, match=r"'encodr/\*\*' matches no parameter \(did you mean 'encoder/\*\*'\?\)"):
        matching(params, ["encodr/**"])
    assert matching(params, ["**", "!head/**"]) == {"encoder": {0: {"kernel": True}}, "head": {"bias": False}}
    assert list(without(params, ["head/**"])) == ["encoder/0/kernel"]
    with pytest.raises(InputError, match=r"'!hed/\*\*' matches no parameter"):
        matching(params, ["**", "!hed/**"])
    with pytest.raises(InputError, match=r"patterns !head/\*\* only leave out; name what of"):
        matching(params, ["!head/**"])
    assert by_pattern(params, {"head/bias": 2.0, "**": 1.0}, 0.0)["head"] == {"bias": 2.0}


def two_part_learner(tx=None, dropout=0.5):
    """A network whose encoder has batch statistics and dropout."""

    class Net(nnx.Module):
        def __init__(self, *, rngs):
            self.encoder = jn.models.MLP(4, (8,), 6, norm="batch", dropout=dropout, rngs=rngs)
            self.head = nnx.Linear(6, 3, rngs=rngs)

        def __call__(self, x, *, rngs=None):
            return self.head(self.encoder(x, rngs=rngs))

    tx = tx or optax.adamw(0.1, weight_decay=0.1)
    return jn.supervised(jn.network(Net), jn.losses.softmax_cross_entropy, tx, {"accuracy": jn.metrics.accuracy})


class TestFrozen:
    @pytest.mark.slow
    def test_the_average_of_a_frozen_part_stands_still_with_it(self, blobs):
        learner = jn.frozen(jn.averaged(small_learner(tx=optax.adamw(0.1, weight_decay=0.1)), 0.9), ["hidden/**"])
        state = learner.init(jax.random.key(0))
        batch = {name: array[:12] for name, array in blobs.items()}
        for step in range(5):
            state, _ = learner.step(state, batch, jax.random.key(step))
        average = state.extra["average"]["params"]
        assert_same_bits(average["hidden"], state.params["hidden"])
        assert_same_bits(average["hidden"], learner.init(jax.random.key(0)).params["hidden"])
        assert (np.asarray(average["out"]["kernel"]) != np.asarray(state.params["out"]["kernel"])).any()

    def test_patterns_are_a_list_that_names_something(self):
        with pytest.raises(InputError, match=r"patterns='out/\*\*' must be a list of patterns, such as"):
            jn.frozen(small_learner(), "out/**")
        with pytest.raises(InputError, match="nothing would be frozen"):
            jn.frozen(small_learner(), [])

    @pytest.mark.parametrize("wrap", quick(["averaged", "alone", "accumulated", "population"]))
    def test_frozen_parts_keep_their_bits(self, blobs, wrap):
        """Under decay, momentum, an average, batch statistics and dropout."""
        learner = jn.frozen(two_part_learner(), ["encoder/**"])
        seed = 0
        if wrap == "accumulated":
            learner = jn.accumulated(learner, 2)
        elif wrap == "averaged":
            learner = jn.averaged(learner, 0.9)
        elif wrap == "population":
            learner, seed = jn.population(learner, 2), (0, 1)
        first = learner.init(jn.run_keys(seed)[0])
        last = jn.fit(learner, blobs, duration=20, batch_size=16, seed=seed, progress=False).state
        assert_same_bits(last.params["encoder"], jax.tree.map(np.asarray, first.params["encoder"]))
        assert_same_bits(last.model_state["encoder"], jax.tree.map(np.asarray, first.model_state["encoder"]))
        assert (np.asarray(last.params["head"]["kernel"]) != np.asarray(first.params["head"]["kernel"])).any()
        if wrap == "averaged":
            assert_same_bits(last.extra["average"]["params"]["encoder"], last.params["encoder"])

    def test_all_but_a_head_is_frozen(self, blobs):
        learner = jn.frozen(two_part_learner(), ["**", "!head/**"])
        state = learner.init(KEY)
        new, _ = jax.jit(learner.step)(state, {name: array[:16] for name, array in blobs.items()}, KEY)
        assert_same_bits((new.params["encoder"], new.model_state), (state.params["encoder"], state.model_state))
        assert (np.asarray(new.params["head"]["kernel"]) != state.params["head"]["kernel"]).all()

    def test_a_frozen_part_is_in_evaluation_mode(self, blobs):
        """So the head learns from what the encoder will put out: as it does on features that were computed before."""
        whole = two_part_learner(optax.sgd(0.1))
        learner = jn.frozen(whole, ["encoder/**"])
        state = learner.init(KEY)
        batch = {name: array[:16] for name, array in blobs.items()}
        new, _ = learner.step(state, batch, KEY)

        def loss(head):
            params = {**state.params, "head": head}
            logits = whole.predict(state.replace(params=params), batch["inputs"])
            return jn.losses.softmax_cross_entropy(logits, batch["labels"]).mean()

        grads = jax.grad(loss)(state.params["head"])
        wanted = jax.tree.map(lambda p, g: p - 0.1 * g, state.params["head"], grads)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), new.params["head"], wanted)

    def test_parts_of_a_learner_of_two_networks(self):
        encoder, decoder = jn.network(jn.models.MLP, 6, (5,), 2), jn.network(jn.models.MLP, 2, (5,), 6, dropout=0.5)
        learner = jn.frozen(jn.reconstructing(encoder, decoder, jn.losses.mse, optax.adam(0.1)), ["decoder/**"])
        state = learner.init(KEY)
        new, _ = jax.jit(learner.step)(state, {"inputs": np.random.default_rng(0).normal(size=(8, 6))}, KEY)
        assert_same_bits(new.params["decoder"], state.params["decoder"])
        assert (np.asarray(new.params["encoder"]["out"]["kernel"]) != state.params["encoder"]["out"]["kernel"]).any()

    def test_frozen_gradients_do_not_count_in_a_norm(self, blobs):
        tx = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
        learner = jn.frozen(two_part_learner(tx, dropout=0.0), ["encoder/**"])
        state = learner.init(KEY)
        new, _ = learner.step(state, {name: array[:16] for name, array in blobs.items()}, KEY)
        moved = jax.tree.map(lambda a, b: a - b, new.params["head"], state.params["head"])
        np.testing.assert_allclose(optax.tree.norm(moved), 1e-3, rtol=1e-3)

    def test_refuses(self):
        with pytest.raises(InputError, match="leaves nothing to learn"):
            jn.frozen(small_learner(), ["**"]).init(KEY)
        with pytest.raises(InputError, match="matches no parameter"):
            jn.frozen(small_learner(), ["body/**"]).init(KEY)


class TestInitial:
    @pytest.mark.slow
    def test_begins_from_given_weights_in_part_or_whole(self, blobs):
        learner = jn.averaged(small_learner(), 0.9)
        trained = jn.fit(learner, blobs, duration=30, batch_size=16, progress=False).state
        given = jn.Initial(jax.tree.map(np.asarray, trained.params))
        options = {"duration": 1, "batch_size": 16, "progress": False, "seed": 5}
        first = next(jn.events(learner, blobs, initial=given, duration=1, batch_size=16, seed=5))
        assert_same_bits(first.run_state.train.params, trained.params)
        assert_same_bits(first.run_state.train.extra["average"]["params"], trained.params)
        assert int(first.run_state.train.step) == 0
        part = jn.Initial({"out": given.params["out"]})
        first = next(jn.events(learner, blobs, initial=part, duration=1, batch_size=16, seed=5))
        plain = learner.init(jn.run_keys(5)[0])
        assert_same_bits(first.run_state.train.params["out"], trained.params["out"])
        assert_same_bits(first.run_state.train.params["hidden"], plain.params["hidden"])
        many = jn.fit(jn.population(learner, 2), blobs, initial=given, **(options | {"seed": (5, 6)})).state
        alone = jn.fit(learner, blobs, initial=given, **options).state
        assert_same_bits(jax.tree.map(lambda leaf: leaf[0], many), alone)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"body": {"kernel": np.zeros((2, 2))}}, "there is no 'body/kernel'"),
            ({"out": {"kernel": np.zeros((2, 2), np.float32)}}, r"out/kernel is float32\[2, 2\], not float32\[16, 3\]"),
            ({"out": {"bias": np.zeros(3, np.int32)}}, r"out/bias is int32\[3\], not float32\[3\]"),
        ],
    )
    def test_refuses_before_anything_compiles(self, given, message, blobs):
        with pytest.raises(InputError, match=message):
            next(jn.events(small_learner(), blobs, initial=jn.Initial(given)))

    def test_weights_are_no_constants_of_the_program(self):
        learner = small_learner()
        given = jn.Initial(jax.tree.map(np.asarray, learner.init(KEY).params))
        assert not jax.make_jaxpr(learner.init)(KEY, given).consts

    def test_begun_is_exact(self):
        fresh = {"a": {0: jnp.zeros(2), 1: jnp.ones(3)}}
        assert begun(fresh, None) is fresh
        assert_same_bits(begun(fresh, {"a": {1: np.full(3, 7.0)}}), {"a": {0: jnp.zeros(2), 1: jnp.full(3, 7.0)}})


class TestRates:
    def updates(self, config):
        params = {"head": {"kernel": jnp.ones((2, 2))}, "encoder": {0: {"kernel": jnp.ones((2, 2))}}}
        tx = make_optimizer(config, 10)
        grads = jax.tree.map(lambda leaf: 0.5 * jnp.ones_like(leaf), params)
        return paths(tx.update(grads, tx.init(params), params)[0])

    @pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw", "rmsprop"])
    def test_each_pattern_has_the_update_of_its_rate(self, optimizer):
        options = {"schedule": "constant", "weight_decay": 0.1}
        got = self.updates(OptimizerConfig(optimizer, rates=("head/**=1e-3", "encoder/**=1e-5"), **options))
        for name, rate in (("head/kernel", 1e-3), ("encoder/0/kernel", 1e-5)):
            alone = self.updates(OptimizerConfig(optimizer, learning_rate=rate, **options))
            np.testing.assert_allclose(got[name], alone[name], rtol=1e-5)

    def test_layer_decay(self):
        network = jn.network(jn.models.ViT, (8, 8, 1), 4, 8, 3, 2, 10)
        numbers, end = layer_numbers(network.init(KEY)[0])
        found = paths(numbers)
        assert end == 4 and {number for name, number in found.items() if "/1/" in name} == {2}
        assert (found["transformer/out/kernel"], found["transformer/embed/kernel"]) == (4, 0)
        config = OptimizerConfig("sgd", learning_rate=1.0, schedule="constant", layer_decay=0.5)
        got = self.updates(config)
        np.testing.assert_allclose(got["head/kernel"] / got["encoder/0/kernel"], 2.0)
        with pytest.raises(InputError, match="no numbered layers"):
            layer_numbers({"head": {"kernel": np.zeros(2)}})

    @pytest.mark.parametrize("rates", ["head/**", "=1", "head/**=x", "head/**=-1", "head/**=inf"])
    def test_refuses(self, rates):
        with pytest.raises(InputError, match="is not PATTERN=RATE"):
            OptimizerConfig(rates=(rates,))

    def test_a_pattern_that_matches_nothing(self):
        with pytest.raises(InputError, match=r"heed"):
            self.updates(OptimizerConfig(rates=("heed/**=1",)))


def test_decay_leaves_biases_alone_whatever_their_axes():
    network = jn.network(nnx.MultiHeadAttention, 2, 4, decode=False)
    found = paths(decayed(network.init(KEY)[0]))
    assert found and all(hit == name.endswith("kernel") for name, hit in found.items())
