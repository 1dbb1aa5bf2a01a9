"""Modules as pure functions: the user's own, Linen's, with random streams in any place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from helpers import assert_same_bits

import jaxnets as jn
from jaxnets.errors import InputError
from jaxnets.models import CNN, MLP
from jaxnets.summary import count_flops


class Noisy(nnx.Module):
    """A user's module that keeps its random streams inside, counts its calls and has layers in a list."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(2)])
        self.dropouts = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x: jax.Array) -> jax.Array:
        self.calls[...] += 1
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            x = dropout(layer(x))
        return x


X = jnp.ones((2, 4))


def test_streams_inside_a_module_are_driven_by_the_key():
    network = jn.network(Noisy, 4)
    params, model_state = network.init(jax.random.key(0))
    assert set(model_state) == {"calls"}  # no random state: that is derived, not carried
    apply = lambda key: network.apply(params, model_state, X, train=True, key=jax.random.key(key))
    one, state = apply(1)
    assert_same_bits(one, apply(1)[0])
    assert (one != apply(2)[0]).any()
    assert state["calls"] == 1
    still, _ = network.apply(params, model_state, X)
    assert_same_bits(still, network.apply(params, model_state, X, key=jax.random.key(3))[0])


def test_streams_inside_a_module_need_a_key_in_training():
    network = jn.network(Noisy, 4)
    with pytest.raises(ValueError, match="pass a key"):
        network.apply(*network.init(jax.random.key(0)), X, train=True)


def test_streams_of_two_layers_differ():
    class TwoMasks(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs):
            self.a, self.b = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.a(x), self.b(x)

    network = jn.network(TwoMasks)
    (a, b), _ = network.apply(*network.init(jax.random.key(0)), jnp.ones(100), train=True, key=jax.random.key(1))
    assert (a != b).any()


def test_a_function_that_builds_a_module():
    network = jn.network(lambda rngs: nnx.Sequential(nnx.Linear(4, 3, rngs=rngs), nnx.relu, nnx.Dropout(0.5)))
    params, model_state = network.init(jax.random.key(0))
    outputs, _ = network.apply(params, model_state, X, train=True, key=jax.random.key(1))
    assert outputs.shape == (2, 3)


def test_init_is_a_function_of_the_key():
    network = jn.network(MLP, 4, (8,), 3)
    assert_same_bits(network.init(jax.random.key(0)), network.init(jax.random.key(0)))
    a, b = (network.init(jax.random.key(seed))[0]["out"]["kernel"] for seed in (0, 1))
    assert (a != b).any()


def test_the_initialiser_can_be_chosen():
    network = jn.network(MLP, 4, (8,), 3, kernel_init=nnx.initializers.orthogonal())
    params, _ = network.init(jax.random.key(0))
    for kernel in (params["hidden"][0]["layer"]["kernel"], params["out"]["kernel"].T):
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(len(kernel)), atol=1e-5)


@pytest.mark.parametrize("name", ["train", "training", "is_training", "deterministic", "use_running_average"])
def test_a_module_is_told_that_it_is_trained_by_whatever_keyword_it_takes(name):
    on = name in ("train", "training", "is_training")

    def call(self, x, **mode):
        return x * (2.0 if mode[name] == on else 1.0)

    scope: dict = {"call": call}
    exec(f"def __call__(self, x, {name}={not on}): return call(self, x, {name}={name})", scope)
    told = type("Told", (nnx.Module,), {"__init__": lambda self, *, rngs: None, "__call__": scope["__call__"]})
    linen_told = type("LinenTold", (linen.Module,), {"__call__": scope["__call__"]})
    for network in (jn.network(told), jn.linen_network(linen_told(), X)):
        state = network.init(jax.random.key(0))
        trained, _ = network.apply(*state, X, train=True, key=jax.random.key(0))
        assert (trained == 2 * X).all() and (network.apply(*state, X)[0] == X).all()


def test_parameters_go_by_their_names():
    """As a file has them: "10" comes before "2"."""

    class Deep(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs):
            self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(12)])

        def __call__(self, x):
            for layer in self.layers:
                x = jnp.tanh(layer(x))
            return x

    network = jn.network(Deep)
    params, model_state = network.init(jax.random.key(0))
    named = {"layers": {str(number): layer for number, layer in params["layers"].items()}}
    assert_same_bits(network.apply(named, model_state, X)[0], network.apply(params, model_state, X)[0])
    named["layers"]["twelfth"] = named["layers"].pop("11")
    with pytest.raises(
        InputError, match=r"lack layers/11/bias.* and have layers/twelfth/bias.*, which the module has not"
    ):
        network.apply(named, model_state, X)


def test_linen_streams_of_any_name_have_keys():
    class Shaken(linen.Module):
        @linen.compact
        def __call__(self, x):
            return x + jax.random.normal(self.make_rng("noise"), x.shape)

    network = jn.linen_network(Shaken(), X)
    one, other = (network.apply({}, {}, X, train=True, key=jax.random.key(i))[0] for i in range(2))
    assert (one != other).all()


def test_linen():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool):
            x = linen.BatchNorm(use_running_average=not train)(linen.Dense(8)(x))
            return linen.Dense(3)(linen.Dropout(0.5, deterministic=not train)(linen.relu(x)))

    network = jn.linen_network(Net(), jax.ShapeDtypeStruct((1, 4), jnp.float32))
    params, model_state = network.init(jax.random.key(0))
    assert set(params) == {"Dense_0", "Dense_1", "BatchNorm_0"} and set(model_state) == {"batch_stats"}
    outputs, new = network.apply(params, model_state, X, train=True, key=jax.random.key(1))
    assert outputs.shape == (2, 3)
    assert (new["batch_stats"]["BatchNorm_0"]["mean"] != 0).any()
    _, same = network.apply(params, new, X)
    assert_same_bits(same, new)
    summary = jn.summarize(network, jax.ShapeDtypeStruct((4,), jnp.float32))
    assert summary.flops == 2 * (4 * 8 + 8 * 3)


def test_standardized_takes_raw_inputs():
    network = jn.network(MLP, 2, (), 1)
    raw = np.array([[10, 0], [20, 0]], np.uint8)
    wrapped = jn.standardized(network, [15.0, 0.0], [5.0, 0.0])  # a feature that never varies is only centred
    params, model_state = wrapped.init(jax.random.key(0))
    got, _ = wrapped.apply(params, model_state, raw)
    wanted, _ = network.apply(params, model_state, jnp.array([[-1.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_numpy_arrays_are_not_written_to():
    network = jn.network(MLP, 4, (8,), 3, norm="batch")
    params, model_state = jax.tree.map(np.array, network.init(jax.random.key(0)))
    before = jax.tree.map(np.copy, model_state)
    _, new = network.apply(params, model_state, X, train=True)
    assert_same_bits(model_state, before)
    assert (new["hidden"][0]["norm"]["mean"] != 0).any()


def test_a_wrong_shape_names_both_sides():
    network = jn.network(CNN, (8, 8, 1), (4,), (), 3)
    with pytest.raises(ValueError, match=r"input_shape=\(8, 8, 1\).*\(2, 8, 8, 3\)"):
        network.apply(*network.init(jax.random.key(0)), jnp.zeros((2, 8, 8, 3)))
    network = jn.network(MLP, 64, (4,), 3)
    with pytest.raises(ValueError, match=r"in_features=64.*\(2, 7\)"):
        network.apply(*network.init(jax.random.key(0)), jnp.zeros((2, 7)))
    with pytest.raises(ValueError, match="halve images of 8 x 8 pixels to nothing"):
        jn.network(CNN, (8, 8, 1), ("pool",) * 4, (), 3)
    with pytest.raises(ValueError, match="norm='group' is not a normalisation"):
        jn.network(MLP, 4, (4,), 3, norm="group")


def test_summary_of_a_shared_layer_counts_each_call_once():
    class Twice(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs):
            self.layer = nnx.Linear(4, 4, rngs=rngs)

        def __call__(self, x):
            return self.layer(self.layer(x))

    summary = jn.summarize(jn.network(Twice), jax.ShapeDtypeStruct((4,), jnp.float32))
    assert [(row.path, row.flops) for row in summary.layers] == [("", 64), ("layer", 32), ("layer", 32)]
    assert summary.flops == 64 and summary.num_parameters == 20


def test_of_branches_the_costliest_counts():
    def either(x):
        return jax.lax.cond(x.sum() > 0, lambda x: x @ x, lambda x: x @ x @ x, x)

    assert count_flops(either, jnp.ones((4, 4))) == 2 * 2 * 4**3
