"""Every model through one table of properties; a new model is a new row."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import adam, assert_same_bits, keys, member
from jax.test_util import check_grads

import jaxnets as jn
from jaxnets.models import CNN, MLP, RNN, Forecaster, ResNet, StridedDecoder, StridedEncoder, Transformer, ViT
from jaxnets.nn import ELMAN, GRU
from jaxnets.runs import checkpoint

IMAGE = (8, 8, 1)


class Case(NamedTuple):
    """A model, what it is made with, the shapes of one example's inputs and outputs, and the number of its tokens."""

    build: Callable[..., nnx.Module]
    args: tuple
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tokens: int = 0


def gru_over_patches(num_patches: int, patch: int, horizon: int, **options: Any) -> nnx.Module:
    return RNN(patch, (8,), horizon, cell=GRU, pool="last", dropout=0.5, **options)


def transformer_over_patches(num_patches: int, patch: int, horizon: int, **options: Any) -> nnx.Module:
    return Transformer(patch, 8, 1, 2, horizon, max_length=num_patches, pool="all", gated=True, **options)


def dense(num_patches: int, patch: int, horizon: int, **options: Any) -> nnx.Module:
    return MLP(num_patches * patch, (), horizon, **options)


def there_and_back(shape: tuple[int, ...], code: int, out_features: int, **options: Any) -> nnx.Module:
    """Images to a code, back to images, and from these to classes."""
    rngs, kind = options.pop("rngs"), {name: options[name] for name in ("activation", "dtype") if name in options}
    parts = [
        StridedEncoder(shape, (4, 6), code, norm="batch", dropout=0.2, **kind, rngs=rngs),
        StridedDecoder(code, shape, (6, 4), **kind, rngs=rngs),
        StridedEncoder(shape, (4, 6), out_features, **kind, rngs=rngs),
    ]
    return nnx.Sequential(*parts)


TOKENS = {"embedding": 5, "padding": 0, "bidirectional": True, "dropout": 0.2}
LARGE = jax.nn.initializers.normal(0.3)  # than the default, with which a post-norm block hardly sees its attention
WORDS = {"kernel_init": LARGE, "tokens": True, "padding": 0, "max_length": 9, "pool": "mean", "dropout": 0.2}
GPT = {"tokens": True, "causal": True, "tied": True, "max_length": 7, "positions": "learned"}
MODELS = {
    "mlp": Case(MLP, (5, (8, 6), 3), {}, (5,), (3,)),
    "mlp without hidden layers": Case(MLP, (5, (), 3), {}, (5,), (3,)),
    "mlp, layer norm, dropout": Case(MLP, (64, (8,), 3), {"norm": "layer", "dropout": 0.5}, IMAGE, (3,)),
    "mlp, batch norm, tanh": Case(MLP, (5, (8,), 3), {"norm": "batch", "activation": nnx.tanh}, (5,), (3,)),
    "cnn": Case(CNN, (IMAGE, (4, "pool", 6, "pool"), (8,), 3), {}, IMAGE, (3,)),
    "cnn, batch norm, dropout": Case(
        CNN, (IMAGE, (4, 6, "pool"), (8,), 3), {"norm": "batch", "dropout": 0.5}, IMAGE, (3,)
    ),
    "cnn, separable": Case(CNN, (IMAGE, (4, 6, "pool"), (), 3), {"separable": True, "norm": "layer"}, IMAGE, (3,)),
    "resnet-10": Case(ResNet, ((6, 6, 1), 10, 3), {"width": 4, "zero_init": False}, (6, 6, 1), (3,)),
    "resnet-10, imagenet, dropout": Case(
        ResNet,
        ((33, 32, 3), 10, 3),
        {"stem": "imagenet", "width": 4, "zero_init": False, "dropout": 0.2},
        (33, 32, 3),
        (3,),
    ),
    "cnn, layer norm, no dense": Case(CNN, ((9, 7, 2), (4, "pool"), (), 3), {"norm": "layer"}, (9, 7, 2), (3,)),
    "strided encoder": Case(
        StridedEncoder, ((8, 12, 2), (4, 6), 3), {"norm": "batch", "hidden": (5,)}, (8, 12, 2), (3,)
    ),
    "strided, there and back": Case(there_and_back, (IMAGE, 5, 3), {}, IMAGE, (3,)),
    "lstm, every step": Case(RNN, (2, (4,), 3), {}, (5, 2), (5, 3)),
    "gru, tokens, both ways, max": Case(RNN, (6, (4,), 3), {"cell": GRU, "pool": "max", **TOKENS}, (7,), (3,), 6),
    "elman, last": Case(RNN, (2, (4,), 3), {"cell": ELMAN, "pool": "last"}, (5, 2), (3,)),
    "gru, two layers, mean": Case(RNN, (2, (4, 3), 3), {"cell": GRU, "pool": "mean"}, (5, 2), (3,)),
    "forecaster, gru over patches, dropout": Case(
        Forecaster, (12, 4, gru_over_patches), {"patch": 3, "linear": True}, (12, 3), (4, 3)
    ),
    "transformer, tokens, mean": Case(Transformer, (6, 8, 2, 2, 3), {**WORDS, "norm_first": False}, (7,), (3,), 6),
    "gpt": Case(Transformer, (6, 8, 1, 2, 6), GPT, (7,), (7, 6), 6),
    "transformer over patches, gated": Case(
        Forecaster, (12, 4, transformer_over_patches), {"patch": 3}, (12, 3), (4, 3)
    ),
    "vision transformer": Case(ViT, (IMAGE, 4, 8, 1, 2, 3), {"dropout": 0.2}, IMAGE, (3,)),
    "forecaster, linear": Case(Forecaster, (12, 4, dense), {}, (12, 3), (4, 3)),
}
# One of each kind in every run of the suite, the others where there is more time.
SLOW = {
    "gru, tokens, both ways, max",
    "gpt",
    "transformer over patches, gated",
    "vision transformer",
    "transformer, tokens, mean",
    "mlp",
    "mlp, batch norm, tanh",
    "lstm, every step",
    "strided encoder",
    "strided, there and back",
    "forecaster, linear",
    "resnet-10",
    "resnet-10, imagenet, dropout",
    "cnn, batch norm, dropout",
    "cnn, separable",
    "cnn",
    "cnn, layer norm, no dense",
    "mlp without hidden layers",
    "elman, last",
    "gru, two layers, mean",
    "forecaster, gru over patches, dropout",
}
pytestmark = pytest.mark.parametrize(
    "case", [pytest.param(case, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, case in MODELS.items()]
)


def labels(case: Case, size: int = 4) -> jax.Array:
    """Return classes in turn: for each example, or for each step of its outputs."""
    shape = (size, *case.outputs[:-1])
    return jnp.arange(np.prod(shape)).reshape(shape) % case.outputs[-1]


def batch(case: Case, size: int = 4) -> dict[str, jax.Array]:
    shape, key = (size, *case.inputs), jax.random.key(1)
    inputs = jax.random.randint(key, shape, 0, case.tokens) if case.tokens else jax.random.normal(key, shape)
    return {"inputs": inputs, "labels": labels(case, size)}


def make(case: Case, **kwargs: Any) -> jn.Network:
    return jn.network(case.build, *case.args, **case.kwargs, **kwargs)


def learner(case: Case) -> jn.Learner:
    return jn.supervised(make(case), jn.losses.softmax_cross_entropy, adam(1e-2))


def test_shapes_and_plain_dicts(case):
    network = make(case)
    params, model_state = network.init(jax.random.key(0))
    apply = jax.jit(network.apply, static_argnames="train")
    outputs, new_state = apply(params, model_state, batch(case)["inputs"], train=True, key=jax.random.key(2))
    assert outputs.shape == (4, *case.outputs)
    assert jax.tree.structure(model_state) == jax.tree.structure(new_state)
    chex.assert_trees_all_equal_shapes_and_dtypes(model_state, new_state)

    def only_dicts(tree):
        return isinstance(tree, jax.Array) or (type(tree) is dict and all(map(only_dicts, tree.values())))

    assert only_dicts(params) and only_dicts(model_state) and only_dicts(new_state)


def test_gradients_are_finite_and_reach_every_parameter(case):
    state = learner(case).init(jax.random.key(0))
    network, data = make(case), batch(case, 8)

    def loss(params):
        outputs, _ = network.apply(params, state.model_state, data["inputs"], train=True, key=jax.random.key(2))
        return jn.losses.softmax_cross_entropy(outputs, data["labels"]).mean()

    for path, grad in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(state.params)):
        assert jnp.isfinite(grad).all(), path
        # A softmax does not see what is added to every key alike, unless their positions turn it.
        blind = [getattr(part, "key", None) for part in path][-3:] == ["attention", "k", "bias"]
        assert blind or jnp.abs(grad).max() > 1e-6, f"{path} has no gradient"


@pytest.mark.slow
def test_gradients_against_finite_differences(case):
    with jax.enable_x64(True):
        smooth = {"activation": nnx.tanh} if "activation" in inspect.signature(case.build).parameters else {}
        network = jn.network(case.build, *case.args, **{**case.kwargs, **smooth}, dtype=jnp.float64)
        params, model_state = network.init(jax.random.key(0))
        params, model_state = jax.tree.map(lambda a: a.astype(jnp.float64), (params, model_state))
        inputs = batch(case)["inputs"]
        inputs = inputs if case.tokens else inputs.astype(jnp.float64)

        @jax.jit
        def loss(params):
            outputs, _ = network.apply(params, model_state, inputs, train=True, key=jax.random.key(2))
            return jn.losses.softmax_cross_entropy(outputs, labels(case)).mean()

        # A small step: a deep network bends, and a pooling's maximum may change cells.
        check_grads(loss, (params,), order=1, modes=("rev",), atol=1e-5, rtol=1e-5, eps=1e-7)


def test_jit_equals_eager(case):
    network = make(case)
    params, model_state = network.init(jax.random.key(0))
    apply = lambda inputs: network.apply(params, model_state, inputs, train=True, key=jax.random.key(2))
    inputs = batch(case)["inputs"]
    chex.assert_trees_all_close(jax.jit(apply)(inputs), apply(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_are_kept(case, dtype):
    """Parameters stay float32; the arithmetic is of the dtype asked for; in float32 nothing is promoted on the way."""
    network = make(case, dtype=dtype)
    params, model_state = network.init(jax.random.key(0))
    with jax.numpy_dtype_promotion("strict" if dtype == jnp.float32 else "standard"):  # Flax' norms mix on purpose
        inputs = batch(case)["inputs"]
        inputs = inputs if case.tokens else inputs.astype(dtype)
        apply = jax.jit(network.apply, static_argnames="train")
        outputs, new_state = apply(params, model_state, inputs, train=True, key=jax.random.key(2))
    assert outputs.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves((params, model_state, new_state))} <= {jnp.dtype("float32")}


def test_no_second_trace(case):
    one = learner(case)
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(one.step, n=1))
    state = one.init(jax.random.key(0))
    for i in range(3):
        state, _ = step(state, batch(case), jax.random.key(i))
    assert state.step == 3


@pytest.mark.slow
def test_vmap_over_seeds(case):
    one = learner(case)
    states = jax.jit(jax.vmap(one.init))(keys(0, 3))
    stepped, _ = jax.jit(jax.vmap(one.step, (0, None, 0)))(states, batch(case), keys(1, 3))
    alone, _ = jax.jit(one.step)(one.init(keys(0, 3)[1]), batch(case), keys(1, 3)[1])
    # A bias of keys adds the same to all logits of a query: its gradient is rounding alone, which Adam scales up.
    counted = [
        [leaf for path, leaf in jax.tree.leaves_with_path(params) if "['k']['bias']" not in jax.tree_util.keystr(path)]
        for params in (member(stepped.params, 1), alone.params)
    ]
    chex.assert_trees_all_close(*counted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.bits
def test_map_over_seeds_has_the_bits_of_each_alone(case):
    one = learner(case)
    many = jn.population(one, 2)
    twice = jax.tree.map(lambda a: jnp.stack([a, a]), batch(case))
    step, step_many = jax.jit(one.step), jax.jit(many.step)
    states, state = many.init(keys(0, 2)), one.init(keys(0, 2)[1])
    for i in range(1, 11):
        states, _ = step_many(states, twice, keys(i, 2))
        state, _ = step(state, batch(case), keys(i, 2)[1])
    assert_same_bits(member(states, 1), state)


def test_save_and_restore(case, tmp_path):
    one = learner(case)
    state, _ = jax.jit(one.step)(one.init(jax.random.key(0)), batch(case), jax.random.key(1))
    checkpoint.save(tmp_path, 1, state, {})
    restored, _ = checkpoint.restore(tmp_path, jax.eval_shape(one.init, jax.random.key(0)))
    assert_same_bits(restored, state)


def test_learns_one_batch(case):
    one = learner(case)
    state, data = one.init(jax.random.key(0)), batch(case)
    step = jax.jit(one.step)
    first = one.evaluate(state, data)["loss"].total
    for i in range(100):
        state, _ = step(state, data, jax.random.key(i))
    assert one.evaluate(state, data)["loss"].total < 0.5 * first


def test_summary_counts_what_is_there(case):
    network = make(case)
    summary = jn.summarize(network, jax.ShapeDtypeStruct(case.inputs, batch(case)["inputs"].dtype))
    params, _ = network.init(jax.random.key(0))
    assert summary.num_parameters == sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    assert summary.layers[0].output_shape == case.outputs
    assert summary.layers[0].num_parameters == summary.num_parameters
    assert summary.layers[0].flops == summary.flops > 0
