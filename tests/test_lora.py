"""Low-rank adapters: what they start from, what they add, what trains, and their file."""

import jax
import numpy as np
import optax
import pytest
from flax import linen, nnx
from helpers import assert_same_bits, member, small_learner
from safetensors.numpy import save_file

import jaxnets as jn
from jaxnets.errors import InputError
from jaxnets.parameters import paths
from jaxnets.weights.adapters import read_adapters, save_adapters

KERNELS = ("**/layer/kernel",)
FREE = ["base/**", "!base/out/**"]  # all but the head is frozen


def mlp(**options):
    return jn.network(jn.models.MLP, 4, (16,), 3, **options)


def key(seed=0):
    return jax.random.key(seed)


def moved(params, seed=1):
    """Return params whose adapters are no longer at their beginning."""
    random = np.random.default_rng(seed)
    fresh = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), params["lora"])
    return {**params, "lora": fresh}


def test_it_begins_as_the_network_was(blobs):
    network = jn.network(jn.models.Transformer, 6, 8, 2, 2, 3, tokens=True, max_length=5, pool="mean")
    adapted = jn.lora(network, 2, alpha=8)
    params, state = adapted.init(key())
    tokens = np.arange(10, dtype=np.int32).reshape(2, 5) % 6
    assert sorted(params["lora"]) == [f"blocks/{i}/attention/{name}/kernel" for i in (0, 1) for name in ("q", "v")]
    assert_same_bits(params["base"], network.init(key())[0])
    assert_same_bits(adapted.apply(params, state, tokens)[0], network.apply(*network.init(key()), tokens)[0])
    assert_same_bits(jn.merged(params, state)[0], params["base"])


@pytest.mark.parametrize(("alpha", "factor"), [(None, 1.0), (6.0, 2.0)])
def test_it_adds_a_product_to_each_kernel(blobs, alpha, factor):
    network, inputs = mlp(), blobs["inputs"][:5]
    adapted = jn.lora(network, 3, KERNELS, alpha)
    params, state = adapted.init(key())
    assert {name: leaf.shape for name, leaf in paths(params["lora"]).items()} == {
        "hidden/0/layer/kernel/a": (4, 3),
        "hidden/0/layer/kernel/b": (3, 16),
    }
    params = moved(params)
    a, b = (np.asarray(params["lora"]["hidden/0/layer/kernel"][half], np.float64) for half in ("a", "b"))
    base = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["base"])
    kernel = base["hidden"][0]["layer"]["kernel"] + factor * a @ b
    hidden = np.maximum(inputs @ kernel + base["hidden"][0]["layer"]["bias"], 0)
    wanted = hidden @ base["out"]["kernel"] + base["out"]["bias"]
    np.testing.assert_allclose(adapted.apply(params, state, inputs)[0], wanted, rtol=1e-4, atol=1e-4)
    weights, inner = jn.merged(params, state)
    np.testing.assert_allclose(weights["hidden"][0]["layer"]["kernel"], kernel, rtol=1e-5, atol=1e-5)
    assert_same_bits(network.apply(weights, inner, inputs)[0], adapted.apply(params, state, inputs)[0])


def test_a_convolution_is_one_of_its_patch(blobs):
    network = jn.network(jn.models.CNN, (4, 4, 2), (8,), (), 3, kernel_size=3)
    adapted = jn.lora(network, 2, ["convs/**"])
    params, state = adapted.init(key())
    (adapter,) = params["lora"].values()
    assert adapter["a"].shape == (18, 2) and adapter["b"].shape == (2, 8)
    params = moved(params)
    (name, adapter), weights = next(iter(params["lora"].items())), paths(jn.merged(params, state)[0])
    for place in np.ndindex(3, 3, 2):
        row = np.ravel_multi_index(place, (3, 3, 2))
        wanted = np.asarray(paths(params["base"])[name])[place] + adapter["a"][row] @ adapter["b"]
        np.testing.assert_allclose(weights[name][place], wanted, rtol=1e-5, atol=1e-5)


def test_any_pair_of_functions_is_adapted(blobs):
    network = jn.linen_network(linen.Dense(3), blobs["inputs"][:1])
    adapted = jn.lora(network, 2, ["kernel"])
    params, state = adapted.init(key())
    assert adapted.apply(moved(params), state, blobs["inputs"][:2])[0].shape == (2, 3)


def adapted_learner(**options):
    network = jn.lora(mlp(**options), 2, KERNELS)
    tx = optax.adamw(0.05, weight_decay=0.1)
    return jn.supervised(network, jn.losses.softmax_cross_entropy, tx, {"accuracy": jn.metrics.accuracy})


def test_adapters_and_a_head_learn_on_a_base_that_keeps_its_bits(blobs):
    learner = jn.frozen(adapted_learner(norm="batch", dropout=0.2), FREE)
    weights = small_learner(norm="batch").init(key(5))
    given = jn.Initial({"base": weights.params}, {"base": weights.model_state})
    options = {"duration": 40, "batch_size": 16, "progress": False, "initial": given}
    run = jn.fit(learner, blobs, **options, validation=blobs)
    first = jax.tree.map(np.asarray, weights)
    assert_same_bits(run.state.params["base"]["hidden"], first.params["hidden"])
    assert (np.asarray(run.state.params["base"]["out"]["kernel"]) != first.params["out"]["kernel"]).any()
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(run.state.params["lora"]))
    assert_same_bits(run.state.model_state["scale"], np.float32(1))
    assert run.history[-1]["validation/accuracy"] > 0.75
    many = jn.fit(jn.population(learner, 2, "map"), blobs, **options, seed=(0, 1)).state
    assert_same_bits(member(many, 0), run.state)
    both, inner = jn.merged(many.params, many.model_state)
    alone, _ = jn.merged(run.state.params, run.state.model_state)
    np.testing.assert_allclose(
        both["hidden"][0]["layer"]["kernel"][0], alone["hidden"][0]["layer"]["kernel"], rtol=1e-6
    )
    assert member(inner, 0).keys() == weights.model_state.keys()


def test_gradients_are_those_of_the_product(blobs):
    """By the chain rule, of the gradient of the merged kernel; the frozen base stands in no one's way."""
    learner = jn.frozen(adapted_learner(), FREE)
    plain = small_learner(tx=optax.sgd(1.0))
    state, batch = learner.init(key()), {name: array[:16] for name, array in blobs.items()}
    state = state.replace(params=moved(state.params))
    assert learner.descent is not None and plain.descent is not None
    grads = learner.descent.gradient(state, batch, key()).grads
    weights, inner = jn.merged(state.params, state.model_state)
    whole = plain.descent.gradient(plain.init(key()).replace(params=weights, model_state=inner), batch, key()).grads
    change, adapter = whole["hidden"][0]["layer"]["kernel"], state.params["lora"]["hidden/0/layer/kernel"]
    wanted = {"a": change @ adapter["b"].T, "b": adapter["a"].T @ change}
    for half, value in wanted.items():
        np.testing.assert_allclose(grads["lora"]["hidden/0/layer/kernel"][half], value, rtol=1e-4, atol=1e-6)
    assert not np.asarray(grads["base"]["hidden"][0]["layer"]["kernel"]).any()


class TwoParts(nnx.Module):
    """An encoder with batch statistics and dropout, and a head."""

    def __init__(self, *, rngs):
        self.encoder = jn.models.MLP(4, (8,), 6, norm="batch", dropout=0.5, rngs=rngs)
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x, *, rngs=None):
        return self.head(self.encoder(x, rngs=rngs))


def test_modules_rest_that_are_frozen_with_their_adapters(blobs):
    """A frozen norm's statistics stand still; dropout is on in what is adapted, unless the adapters are frozen."""
    network = jn.lora(jn.network(TwoParts), 2, ["encoder/out/kernel"])
    learner = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1))
    batch = {name: array[:16] for name, array in blobs.items()}
    for patterns, rests in ((["base/encoder/**"], False), (["base/encoder/**", "lora/**"], True)):
        partly = jn.frozen(learner, patterns)
        state = partly.init(key())
        step = jax.jit(partly.step)
        new, other = (step(state, batch, key(seed))[0] for seed in (1, 2))
        assert_same_bits(new.model_state, state.model_state)
        assert (not np.asarray(new.params["lora"]["encoder/out/kernel"]["b"]).any()) is rests
        kernels = (np.asarray(state.params["base"]["head"]["kernel"]) for state in (new, other))
        assert np.array_equal(*kernels) is rests


def test_adapters_have_a_file_of_their_own(tmp_path, blobs):
    learner = jn.frozen(adapted_learner(), FREE)
    state = jn.fit(learner, blobs, duration=5, batch_size=16, progress=False).state
    path = tmp_path / "adapters.safetensors"
    save_adapters(path, state.params, state.model_state)
    assert path.stat().st_size < 1000
    found = read_adapters(path)
    given = jn.Initial({"base": state.params["base"], **found.params}, found.model_state)
    assert_same_bits(learner.init(key(9), given).params, jax.tree.map(np.asarray, state.params))
    with pytest.raises(InputError, match="these are not the params of a network with adapters"):
        save_adapters(path, state.params["base"], {})
    for arrays, message in (
        ({"x/a": np.zeros((2, 2))}, "holds x/a, not adapters"),
        ({"x/a": np.zeros((2, 2)), "x/b": np.zeros((3, 2)), "scale": np.float32(1)}, "not adapters"),
    ):
        save_file({name: np.asarray(array) for name, array in arrays.items()}, path)
        with pytest.raises(InputError, match=message):
            read_adapters(path)
    path.write_bytes(b"no such thing")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        read_adapters(path)
    with pytest.raises(InputError, match="there is no such file"):
        read_adapters(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rank": 0}, "rank=0 must be a whole number of 1 or more"),
        ({"rank": 5}, r"rank=5 exceeds the smaller side of hidden/0/layer/kernel \[4, 16\]; use 4 or less"),
        ({"alpha": 0}, "alpha=0 must be a number greater than 0"),
        ({"patterns": ["hiden/**"]}, r"'hiden/\*\*' matches no parameter \(did you mean 'hidden/\*\*'\?\)"),
        ({"patterns": ["**/bias"]}, r"'\*\*/bias' matches no kernel .*, but hidden/0/layer/bias \[16\]"),
        ({"patterns": "**/kernel"}, r"must be a list of patterns, such as \['\*\*/kernel'\]"),
        ({"patterns": ["hidden/**", "!**/kernel"]}, "leave no kernel to adapt"),
    ],
)
def test_refuses(given, message):
    with pytest.raises(InputError, match=message):
        jn.lora(mlp(), **{"rank": 2, "patterns": KERNELS, **given})
