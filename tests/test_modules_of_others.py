"""Modules as others write them: tables that are no variables, stacked layers, several inputs, keywords of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from helpers import adam, assert_same_bits, member

import jaxnets as jn
from jaxnets.errors import InputError

X = jnp.ones((2, 4))


class Positions(nnx.Module):
    """Tables that are plain arrays, made in the constructor: one of its own, one in a list, a mask of a layer's."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.embed, self.out = nnx.Embed(10, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
        self.table = jnp.sin(jnp.arange(6.0)[:, None] * jnp.arange(8.0))
        self.more = nnx.List([jnp.ones(8), jnp.tril(jnp.ones((6, 6), bool))])
        self.drop = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = (self.embed(x) + self.table[None]) * self.more[0][None, None]
        x = jnp.einsum("ts,bsd->btd", self.more[1].astype(x.dtype), x)
        return self.out(self.drop(x)).mean(1)


class WeightNormed(nnx.Module):
    """A scale that a layer around another makes in its constructor."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(10, 8, rngs=rngs)
        self.out = nnx.WeightNorm(nnx.Linear(8, 3, rngs=rngs), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(self.embed(x).mean(1))


class Residual(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.linear, self.drop = nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.drop(nnx.relu(self.linear(x)))


class Stacked(nnx.Module):
    """Layers with dropout inside, made by one vmap and run by one scan: each has its own key in one stacked stream."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.embed, self.out = nnx.Embed(10, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
        make = nnx.vmap(lambda rngs: Residual(rngs=rngs), in_axes=(0,), out_axes=0)
        self.layers = nnx.split_rngs(splits=4)(make)(rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        run = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return self.out(run(self.embed(x), self.layers).mean(1))


TOKENS = np.random.default_rng(0).integers(0, 10, (32, 6)).astype(np.int32)
CLASSIFIED = jn.Data(inputs=TOKENS, labels=TOKENS.sum(1) % 3)
STATES = {Positions: {"table", "more"}, WeightNormed: None, Stacked: set()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Positions, *(pytest.param(kind, marks=pytest.mark.slow) for kind in STATES)])
def test_modules_of_any_make_compute_what_flax_computes(kind):
    network = jn.network(kind)
    params, model_state = network.init(jax.random.key(0))
    assert STATES[kind] in (None, set(model_state))
    own = kind(rngs=nnx.Rngs(jax.random.key(0)))
    own.eval()
    np.testing.assert_allclose(network.apply(params, model_state, TOKENS)[0], own(TOKENS), rtol=2e-4, atol=2e-5)
    train = lambda key: network.apply(params, model_state, TOKENS, train=True, key=jax.random.key(key))[0]
    if kind is not WeightNormed:
        assert_same_bits(train(1), train(1))
        assert (train(1) != train(2)).any()


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize("kind", list(STATES))
def test_modules_of_any_make_train_resume_and_are_members(kind):
    learner = jn.supervised(jn.network(kind), jn.losses.softmax_cross_entropy, adam(1e-2))
    run = {"duration": 12, "batch_size": 16, "evaluate_every": 6}
    *_, begun, _, whole = jn.events(learner, CLASSIFIED, **run)
    for event in jn.events(learner, CLASSIFIED, **run):
        if event.kind == "evaluation":
            begun = jax.tree.map(np.asarray, event.run_state)
            break
    *_, resumed = jn.events(learner, CLASSIFIED, **run, resume=begun)
    assert_same_bits(resumed.run_state.train, whole.run_state.train)
    *_, members = jn.events(jn.population(learner, 2), CLASSIFIED, **run, seed=[0, 1])
    assert_same_bits(member(members.run_state.train, 0), whole.run_state.train)
    before, after = learner.init(jn.run_keys(0)[0]), whole.run_state.train
    assert (before.params["embed"]["embedding"] != after.params["embed"]["embedding"]).any()
    assert_same_bits(before.model_state, after.model_state)


def test_each_of_stacked_layers_has_its_own_key():
    class Masks(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs):
            make = nnx.vmap(lambda rngs: nnx.Dropout(0.5, rngs=rngs), in_axes=(0,), out_axes=0)
            self.drops = nnx.split_rngs(splits=3)(make)(rngs)

        def __call__(self, x):
            return nnx.vmap(lambda drop, x: drop(x), in_axes=(0, None))(self.drops, x)

    network = jn.network(Masks)
    masks, _ = network.apply(*network.init(jax.random.key(0)), jnp.ones(64), train=True, key=jax.random.key(1))
    assert len({bytes(np.asarray(mask)) for mask in masks}) == 3


@pytest.mark.slow
def test_inputs_of_several_parts_go_to_the_arguments_of_their_names():
    class Two(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs):
            self.out = nnx.Linear(4, 3, rngs=rngs)

        def __call__(self, image, *, text, train=False):
            return self.out(image + text.astype(image.dtype))

    class LinenTwo(linen.Module):
        @linen.compact
        def __call__(self, image, *, text, train=False):
            return linen.Dense(3)(image + text.astype(image.dtype))

    image, text = np.random.default_rng(0).normal(size=(12, 4)), np.arange(48).reshape(12, 4)
    data = jn.Data(inputs={"image": image, "text": text}, labels=np.arange(12) % 3)
    assert set(data) == {"inputs/image", "inputs/text", "labels"}
    for network in (jn.network(Two), jn.linen_network(LinenTwo(), data["inputs"])):
        learner = jn.supervised(network, jn.losses.softmax_cross_entropy, adam(1e-2))
        learner.check(data)
        state = learner.init(jax.random.key(0))
        made = jn.predict(learner, state, data["inputs"], batch_size=5)
        np.testing.assert_allclose(made, network.apply(state.params, {}, data["inputs"])[0], rtol=1e-5)
    state = jn.fit(learner, data, duration=2, batch_size=4, progress=False, validation=data).state
    assert (state.params["Dense_0"]["kernel"] != learner.init(jn.run_keys(0)[0]).params["Dense_0"]["kernel"]).any()


def test_a_list_is_predicted_as_an_array():
    learner = jn.supervised(jn.network(jn.models.MLP, 4, (), 3), jn.losses.softmax_cross_entropy, adam(1e-2))
    state = learner.init(jax.random.key(0))
    rows = np.arange(8.0, dtype=np.float32).reshape(2, 4)
    assert_same_bits(jn.predict(learner, state, rows.tolist()), jn.predict(learner, state, rows))


def test_inputs_of_several_parts_go_by_position_in_a_tuple_and_as_one_where_a_module_takes_one():
    class Differ(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs): ...

        def __call__(self, a, b, train=False):
            return a - b

    class Whole(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs): ...

        def __call__(self, pair):
            return pair["a"] - pair["b"] if isinstance(pair, dict) else pair[0] - pair[1]

    pair = jnp.arange(3), jnp.ones(3, int)
    for kind in (Differ, Whole):
        for inputs in (pair, dict(zip("ab", pair, strict=True))):
            assert_same_bits(jn.network(kind).apply({}, {}, inputs)[0], pair[0] - pair[1])


def test_an_unusual_keyword_is_named_or_given():
    class Odd(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs): ...

        def __call__(self, x, in_training: bool = False):
            return 2 * x if in_training else x

    with pytest.raises(InputError, match=r"Odd takes in_training=.*call_with=lambda train: \{'in_training': train\}"):
        jn.network(Odd)
    network = jn.network(Odd, call_with=lambda train: {"in_training": train})
    assert (network.apply({}, {}, X, train=True)[0] == 2 * X).all() and (network.apply({}, {}, X)[0] == X).all()


def test_a_cache_of_linen_changes_in_evaluation_where_it_is_named():
    class Counted(linen.Module):
        @linen.compact
        def __call__(self, x):
            seen = self.variable("cache", "seen", lambda: jnp.zeros((), jnp.int32))
            if self.is_mutable_collection("cache") and not self.is_initializing():
                seen.value += len(x)
            return x + seen.value.astype(x.dtype)

    for mutable, seen in (((), 0), (("cache",), 4)):
        network = jn.linen_network(Counted(), X, mutable=mutable)
        params, state = network.init(jax.random.key(0))
        for _ in range(2):
            _, state = network.apply(params, state, X)
        assert state["cache"]["seen"] == seen


def test_weights_that_are_plain_arrays_alone_are_refused():
    """They would be state, and nothing would be learned, without a word."""

    class Bare(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs):
            self.kernel = jax.random.normal(rngs.params(), (6, 3))

        def __call__(self, x):
            return x.astype(jnp.float32) @ self.kernel

    learner = jn.supervised(jn.network(Bare), jn.losses.softmax_cross_entropy, adam(1e-2))
    with pytest.raises(InputError, match=r"no parameters to learn.*nnx\.Param"):
        learner.check(CLASSIFIED)


def test_an_input_by_keyword_alone_is_given():
    class Named(linen.Module):
        @linen.compact
        def __call__(self, *, inputs, train):
            return 2 * inputs if train else inputs

    network = jn.linen_network(Named(), X)
    assert (network.apply({}, {}, X)[0] == X).all() and (network.apply({}, {}, X, train=True)[0] == 2 * X).all()


def test_a_key_under_the_name_of_streams_is_a_key():
    class Dropped(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs):
            self.out = nnx.Linear(4, 3, rngs=rngs)

        def __call__(self, x: jax.Array, *, rngs: jax.Array, train: bool = False) -> jax.Array:
            x = self.out(x)
            return x * jax.random.bernoulli(rngs, 0.5, x.shape) if train else x

    network, key = jn.network(Dropped), jax.random.key(1)
    params, model_state = network.init(jax.random.key(0))
    whole, _ = network.apply(params, model_state, X)
    outputs, _ = network.apply(params, model_state, X, train=True, key=key)
    assert_same_bits(outputs, whole * jax.random.bernoulli(key, 0.5, whole.shape))
