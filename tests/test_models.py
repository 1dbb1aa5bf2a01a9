"""Every model through one table of properties; a new model is a new row."""

import inspect
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import adam, assert_same_bits, keys, member
from jax.test_util import check_grads

import jaxnets as jn
from jaxnets.models import (
    CNN,
    MLP,
    RNN,
    BothWays,
    Columns,
    Conformer,
    Detector,
    EfficientNet,
    Forecaster,
    FTTransformer,
    HistoryFactors,
    HistoryTransformer,
    Listener,
    MaskedDecoder,
    MemoryNetwork,
    MobileNetV2,
    RatingFactors,
    ResNet,
    SourceTarget,
    StridedDecoder,
    StridedEncoder,
    TableEnsemble,
    TableMLP,
    TableResNet,
    Tabular,
    TimeConvs,
    Transformer,
    UNet,
    Visible,
    ViT,
    Whisper,
)
from jaxnets.models import bert as make_bert
from jaxnets.models import llama as make_llama
from jaxnets.nn import ELMAN, GRU
from jaxnets.parameters import path_name
from jaxnets.runs import checkpoint

IMAGE = (8, 8, 1)


class Case(NamedTuple):
    """A model, what it is made with, the shapes of one example's inputs and outputs, and the number of its tokens.

    A member of a population ``rounds`` as its run alone but for the last bit of some weights, where XLA fuses the sums
    of a table's gradient with what comes before them.
    """

    build: Callable[..., nnx.Module]
    args: tuple
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tokens: int = 0
    rounds: bool = False


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


class FirstPatches(nnx.Module):
    """Three of an image's four patches through a vision transformer, then all of them by a decoder."""

    def __init__(self, *, dtype: Any = None, rngs: nnx.Rngs):
        self.encoder = ViT(IMAGE, 4, 8, 1, 2, None, dropout=0.2, dtype=dtype, rngs=rngs)
        self.decoder = MaskedDecoder(4, 8, 6, 1, 2, 3, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        chosen = jnp.broadcast_to(jnp.eye(4)[:3], (len(images), 3, 4))
        return self.decoder(self.encoder(Visible(images, chosen), rngs=rngs), chosen)


class Dictation(nnx.Module):
    """A Whisper that is given sound and, for each, the same four tokens."""

    def __init__(self, *, dtype: Any = None, rngs: nnx.Rngs, **options: Any):
        sizes = {"num_mels": 3, "max_source": 4, "max_length": 5, "kernel_init": LARGE}
        self.whisper = Whisper(6, 8, 1, 2, **sizes, **options, dtype=dtype, rngs=rngs)

    def __call__(self, frames: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        target = jnp.broadcast_to(jnp.arange(4)[None], (len(frames), 4))
        return self.whisper(SourceTarget(frames, target), rngs=rngs)


class Scored(nnx.Module):
    """The scores of all items after each of a history's, of which the inputs are."""

    def __init__(self, build: Callable[..., nnx.Module], *args: Any, dtype: Any = None, rngs: nnx.Rngs):
        self.model: Any = build(3, 6, *args, max_length=7, dropout=0.2, dtype=dtype, rngs=rngs)

    def __call__(self, items: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        matched = self.model(jnp.arange(len(items)) % 3, items, rngs=rngs)
        states = jnp.concatenate([matched.states, jnp.ones_like(matched.states[..., :1])], -1)
        return 16 * (states @ jnp.concatenate([matched.items, matched.bias[:, None]], -1).T)  # so that it learns soon


class Told(nnx.Module):
    """What is told of films 0 to 3, whose ratings the inputs are."""

    def __init__(self, *, dtype: Any = None, rngs: nnx.Rngs):
        tags, options = np.eye(3)[:, 1:], {"hidden": (4,), "ranges": (2.0,), "dtype": dtype, "rngs": rngs}
        self.model = RatingFactors(4, 5, tags, mean=3.0, features=3, dropout=0.2, **options)

    def __call__(self, ratings: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        numbers = jnp.broadcast_to(jnp.arange(1, 4)[None], ratings.shape)
        parts = [numbers[:, 0], numbers, numbers % 3, 2 * numbers, ratings, jnp.ones_like(numbers)]
        told = self.model(*parts, rngs=rngs)
        return told * jnp.arange(1, 4, dtype=told.dtype)[None]  # a softmax does not see what is added to all alike


TOKENS = {"embedding": 5, "padding": 0, "bidirectional": True, "dropout": 0.2}
COLUMNS = Columns(bins=(2,), sizes=(3, 4))  # a number and a category
LARGE = jax.nn.initializers.normal(0.3)  # than the default, with which a post-norm block hardly sees its attention
WORDS = {"kernel_init": LARGE, "tokens": True, "padding": 0, "max_length": 9, "pool": "mean", "dropout": 0.2}
GPT = {"tokens": True, "causal": True, "tied": True, "max_length": 7, "positions": "learned"}
LLAMA = {"hidden": 12, "num_kv_heads": 2, "max_length": 7, "kernel_init": LARGE}
HEARD = {"num_mels": 6, "masked_time": 0.1, "masked_bands": 1, "dropout": 0.2}
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
    "efficientnet": Case(
        EfficientNet,
        ((15, 16, 1), 3),
        {"stem": "cifar", "width": 0.1, "depth": 0.1, "momentum": 0.9, "dropout": 0.2},
        (15, 16, 1),
        (3,),
    ),
    "mobilenet": Case(MobileNetV2, ((33, 64, 3), 3), {"width": 0.1, "depth": 0.1}, (33, 64, 3), (3,)),
    "cnn, layer norm, no dense": Case(CNN, ((9, 7, 2), (4, "pool"), (), 3), {"norm": "layer"}, (9, 7, 2), (3,)),
    "detector": Case(
        Detector,
        ((17, 24, 1), 3),
        {"stride": 4, "widths": (4, 6, 8), "features": 8, "depth": 1},
        (17, 24, 1),
        (5, 6, 7),
    ),
    "unet": Case(UNet, (2, (3, 4, 5), 3), {"dropout": 0.2}, (8, 12, 2), (8, 12, 3)),
    "unet, squares of pixels": Case(UNet, (1, (3, 4), 3), {"patch": 2}, (7, 10, 1), (7, 10, 3)),
    "unet, layer norm, odd sides": Case(UNet, (1, (3, 4), 3), {"norm": "layer"}, (7, 9, 1), (7, 9, 3)),
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
    "memory network, mixing": Case(
        MemoryNetwork,
        (6, 8, 2, 2, 3),
        {"max_facts": 3, "max_words": 2, "mixing": True, "tied": False, "noise": 0.1, "dropout": 0.2},
        (8,),
        (3,),
        6,
    ),
    "transformer, tokens, mean": Case(Transformer, (6, 8, 2, 2, 3), {**WORDS, "norm_first": False}, (7,), (3,), 6),
    "gpt": Case(Transformer, (6, 8, 1, 2, 6), GPT, (7,), (7, 6), 6),
    "transformer over patches, gated": Case(
        Forecaster, (12, 4, transformer_over_patches), {"patch": 3}, (12, 3), (4, 3)
    ),
    "vision transformer": Case(ViT, (IMAGE, 4, 8, 1, 2, 3), {"dropout": 0.2}, IMAGE, (3,)),
    "vision transformer, class token": Case(ViT, (IMAGE, 4, 8, 1, 2, 3), {"class_token": True}, IMAGE, (3,)),
    "history transformer": Case(Scored, (HistoryTransformer, 8, 1, 2), {}, (7,), (7, 6), 6, rounds=True),
    "history factors": Case(Scored, (HistoryFactors, 32), {}, (7,), (7, 6), 6),
    "rating factors": Case(Told, (), {}, (3,), (3,), rounds=True),
    "masked autoencoder": Case(FirstPatches, (), {}, IMAGE, (4, 3)),
    "bert, classifier": Case(make_bert, (6, 8, 1, 2, 3), {"max_length": 9, "kernel_init": LARGE}, (7,), (3,), 6),
    "llama, shared keys": Case(make_llama, (6, 8, 1, 4), LLAMA, (7,), (7, 6), 6),
    "forecaster, linear": Case(Forecaster, (12, 4, dense), {}, (12, 3), (4, 3)),
    **{
        f"table, {name}": Case(Tabular, (COLUMNS, 4, partial(body, dropout=0.2), 3), kwargs, (4,), outputs)
        for name, body, kwargs, outputs in (
            ("ensemble", partial(TableEnsemble, hidden=(6,), members=2), {}, (2, 3)),
            ("mlp, linear path", partial(TableMLP, hidden=(6,)), {"linear": True}, (3,)),
            ("resnet", partial(TableResNet, hidden=(6, 5)), {}, (3,)),
            ("transformer", partial(FTTransformer, num_layers=1, num_heads=2), {}, (3,)),
        )
    },
    "whisper": Case(Dictation, (), {"dropout": 0.2}, (7, 3), (4, 6)),
    "listener, convolutions": Case(
        Listener, (3, 1000, partial(TimeConvs, widths=(5,)), (4, "pool")), HEARD, (150,), (3,)
    ),
    "listener, gru, framewise": Case(
        Listener, (3, 1000, partial(BothWays, widths=(4,)), (4, "pool")), {**HEARD, "framewise": True}, (120,), (6, 3)
    ),
    "listener, conformer, framewise": Case(
        Listener,
        (3, 1000, partial(Conformer, model_dim=8, num_layers=1, num_heads=2, dropout=0.1), (4, "pool")),
        {**HEARD, "framewise": True},
        (120,),
        (6, 3),
    ),
}
# One of each kind in every run of the suite, the others where there is more time.
SLOW = {
    "table, ensemble",
    "table, mlp, linear path",
    "table, resnet",
    "table, transformer",
    "gru, tokens, both ways, max",
    "gpt",
    "transformer over patches, gated",
    "vision transformer",
    "vision transformer, class token",
    "bert, classifier",
    "llama, shared keys",
    "transformer, tokens, mean",
    "mlp",
    "mlp, batch norm, tanh",
    "lstm, every step",
    "strided encoder",
    "strided, there and back",
    "unet",
    "unet, layer norm, odd sides",
    "forecaster, linear",
    "memory network, mixing",
    "resnet-10",
    "resnet-10, imagenet, dropout",
    "efficientnet",
    "mobilenet",
    "cnn, batch norm, dropout",
    "cnn, separable",
    "cnn",
    "cnn, layer norm, no dense",
    "mlp without hidden layers",
    "elman, last",
    "gru, two layers, mean",
    "forecaster, gru over patches, dropout",
    "whisper",
    "history transformer",
    "history factors",
    "rating factors",
    "listener, convolutions",
    "listener, gru, framewise",
    "listener, conformer, framewise",
}
# Much like another, and slow.
RELEASE = {
    "vision transformer, class token",
    "unet, squares of pixels",
    "listener, convolutions",
    "transformer, tokens, mean",
    "table, mlp, linear path",
    "table, resnet",
    "unet, layer norm, odd sides",
    "resnet-10, imagenet, dropout",
    "mobilenet",
    "cnn",
    "cnn, separable",
    "cnn, layer norm, no dense",
    "gru, two layers, mean",
    "elman, last",
    "mlp",
    "mlp, batch norm, tanh",
    "strided encoder",
    "transformer over patches, gated",
    "listener, gru, framewise",
}


class Trial:
    """A model, and what its tests share, so that it is traced and compiled once for all of them."""

    def __init__(self, case: Case):
        self.case = case

    def make(self, **kwargs: Any) -> jn.Network:
        return jn.network(self.case.build, *self.case.args, **self.case.kwargs, **kwargs)

    @cached_property
    def network(self) -> jn.Network:
        return self.make()

    @cached_property
    def learner(self) -> jn.Learner:
        return jn.supervised(self.network, jn.losses.softmax_cross_entropy, adam(1e-2))

    @cached_property
    def init(self) -> Callable[..., Any]:
        return jax.jit(self.learner.init)

    @cached_property
    def state(self) -> jn.TrainState:
        return self.init(jax.random.key(0))

    @cached_property
    def step(self) -> Callable[..., Any]:
        """A step that fails if it is traced a second time."""
        chex.clear_trace_counter()
        return jax.jit(chex.assert_max_traces(self.learner.step, n=1))

    def labels(self, size: int = 4) -> jax.Array:
        """Return classes in turn: for each example, or for each step of its outputs."""
        shape = (size, *self.case.outputs[:-1])
        return jnp.arange(np.prod(shape)).reshape(shape) % self.case.outputs[-1]

    def batch(self, size: int = 4) -> dict[str, jax.Array]:
        case, key = self.case, jax.random.key(1)
        shape = (size, *case.inputs)
        inputs = jax.random.randint(key, shape, 0, case.tokens) if case.tokens else jax.random.normal(key, shape)
        return {"inputs": inputs, "labels": self.labels(size)}


@pytest.fixture(scope="module")
def trial(request: pytest.FixtureRequest) -> Trial:
    return Trial(MODELS[request.param])


pytestmark = pytest.mark.parametrize(
    "trial",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW) + [pytest.mark.release] * (name in RELEASE))
        for name in MODELS
    ],
    indirect=True,
    scope="module",
)


def test_shapes_and_plain_dicts(trial):
    params, model_state = trial.state.params, trial.state.model_state
    apply = jax.jit(trial.network.apply, static_argnames="train")
    outputs, new_state = apply(params, model_state, trial.batch()["inputs"], train=True, key=jax.random.key(2))
    assert outputs.shape == (4, *trial.case.outputs)
    assert jax.tree.structure(model_state) == jax.tree.structure(new_state)
    chex.assert_trees_all_equal_shapes_and_dtypes(model_state, new_state)

    def only_dicts(tree):
        return isinstance(tree, jax.Array) or (type(tree) is dict and all(map(only_dicts, tree.values())))

    assert only_dicts(params) and only_dicts(model_state) and only_dicts(new_state)


def test_gradients_are_finite_and_reach_every_parameter(trial):
    state, data = trial.state, trial.batch(8)

    def loss(params):
        outputs, _ = trial.network.apply(params, state.model_state, data["inputs"], train=True, key=jax.random.key(2))
        return jn.losses.softmax_cross_entropy(outputs, data["labels"]).mean()

    for path, grad in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(state.params)):
        assert jnp.isfinite(grad).all(), path
        # A softmax does not see what is added to every key alike, unless their positions turn it; nor does a norm see
        # what is added to a channel before a convolution, or scales it before a ReLU and a depthwise one.
        blind = path_name(path).endswith(("attention/k/bias", "cross/k/bias", "project/norm/bias", "expand/norm/scale"))
        assert blind or jnp.abs(grad).max() > 1e-6, f"{path} has no gradient"


@pytest.mark.slow
def test_gradients_against_finite_differences(trial):
    case = trial.case
    with jax.enable_x64(True):
        smooth = {"activation": nnx.tanh} if "activation" in inspect.signature(case.build).parameters else {}
        network = trial.make(**smooth, dtype=jnp.float64)
        params, model_state = jax.jit(network.init)(jax.random.key(0))
        params, model_state = jax.tree.map(lambda a: a.astype(jnp.float64), (params, model_state))
        inputs = trial.batch()["inputs"]
        inputs = inputs if case.tokens else inputs.astype(jnp.float64)

        @jax.jit
        def loss(params):
            outputs, _ = network.apply(params, model_state, inputs, train=True, key=jax.random.key(2))
            return jn.losses.softmax_cross_entropy(outputs, trial.labels()).mean()

        # A small step: a deep network bends, and a pooling's maximum may change cells.
        check_grads(loss, (params,), order=1, modes=("rev",), atol=1e-5, rtol=1e-5, eps=1e-7)


@pytest.mark.release
def test_jit_equals_eager(trial):
    state, inputs = trial.state, trial.batch()["inputs"]

    def apply(inputs):
        return trial.network.apply(state.params, state.model_state, inputs, train=True, key=jax.random.key(2))

    chex.assert_trees_all_close(jax.jit(apply)(inputs), apply(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_are_kept(trial, dtype):
    """Parameters stay float32; the arithmetic is of the dtype asked for; in float32 nothing is promoted on the way."""
    network = trial.make(dtype=dtype)
    params, model_state = jax.eval_shape(network.init, jax.random.key(0))
    with jax.numpy_dtype_promotion("strict" if dtype == jnp.float32 else "standard"):  # Flax' norms mix on purpose
        inputs = trial.batch()["inputs"]
        inputs = inputs if trial.case.tokens else inputs.astype(dtype)
        apply = partial(network.apply, train=True, key=jax.random.key(2))
        outputs, new_state = jax.eval_shape(apply, params, model_state, inputs)
    assert outputs.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves((params, model_state, new_state))} <= {jnp.dtype("float32")}


def test_no_second_trace(trial):
    state = trial.state
    for i in range(3):
        state, _ = trial.step(state, trial.batch(), jax.random.key(i))
    assert state.step == 3


@pytest.mark.slow
def test_vmap_over_seeds(trial):
    """With plain gradient steps: Adam would scale up what is rounding alone."""
    one = jn.supervised(trial.network, jn.losses.softmax_cross_entropy, optax.sgd(0.1))
    states = jax.jit(jax.vmap(one.init))(keys(0, 3))
    stepped, _ = jax.jit(jax.vmap(one.step, (0, None, 0)))(states, trial.batch(), keys(1, 3))
    alone, _ = jax.jit(one.step)(jax.jit(one.init)(keys(0, 3)[1]), trial.batch(), keys(1, 3)[1])
    chex.assert_trees_all_close(member(stepped.params, 1), alone.params, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.bits
def test_map_over_seeds_has_the_bits_of_each_alone(trial):
    many = jn.population(trial.learner, 2)
    twice = jax.tree.map(lambda a: jnp.stack([a, a]), trial.batch())
    step_many = jax.jit(many.step)
    states, state = many.init(keys(0, 2)), trial.init(keys(0, 2)[1])
    for i in range(1, 11):
        states, _ = step_many(states, twice, keys(i, 2))
        state, _ = trial.step(state, trial.batch(), keys(i, 2)[1])
    if trial.case.rounds:
        chex.assert_trees_all_close(member(states, 1), state, rtol=1e-4, atol=1e-5)
    else:
        assert_same_bits(member(states, 1), state)


def test_save_and_restore(trial, tmp_path):
    state, _ = trial.step(trial.state, trial.batch(), jax.random.key(1))
    checkpoint.save(tmp_path, 1, state, {})
    restored, _ = checkpoint.restore(tmp_path, jax.eval_shape(trial.learner.init, jax.random.key(0)))
    assert_same_bits(restored, state)


def test_learns_one_batch(trial):
    state, data = trial.state, trial.batch()
    evaluate = jax.jit(trial.learner.evaluate)
    first = evaluate(state, data)["loss"].total
    for i in range(100):
        state, _ = trial.step(state, data, jax.random.key(i))
    assert evaluate(state, data)["loss"].total < 0.5 * first


def test_summary_counts_what_is_there(trial):
    case = trial.case
    summary = jn.summarize(trial.network, jax.ShapeDtypeStruct(case.inputs, trial.batch()["inputs"].dtype))
    assert summary.num_parameters == sum(np.size(leaf) for leaf in jax.tree.leaves(trial.state.params))
    assert summary.layers[0].output_shape == case.outputs
    assert summary.layers[0].num_parameters == summary.num_parameters
    assert summary.layers[0].flops == summary.flops > 0
