"""Transformers: what is remembered equals what is computed anew, and what must not matter does not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import quick

from jaxnets import InputError, losses, network, supervised
from jaxnets.models import Continued, EncoderDecoder, Segmented, SourceTarget, Transformer, ViT
from jaxnets.models.embeddings import sinusoidal
from jaxnets.models.transformer_block import TransformerBlock
from jaxnets.models.vit import patches
from jaxnets.network import num_parameters

POSITIONS = ["rotary", "learned", "sinusoidal", None]
RNG = np.random.default_rng(0)


def gpt(max_length=8, **options):
    """A GPT over 7 tokens, with weights large enough for differences to show."""
    options = {"max_length": max_length, "tokens": True, "causal": True} | options
    made = network(Transformer, 7, 12, 2, 3, 7, kernel_init=jax.nn.initializers.normal(0.3), **options)
    params, _ = made.init(jax.random.key(0))
    return jax.jit(lambda inputs: made.apply(params, {}, inputs)[0])


def tokens(*shape):
    return RNG.integers(0, 7, shape)


class TestContinued:
    @pytest.mark.parametrize(
        "options",
        [
            {"positions": "rotary"},
            *(
                pytest.param(options, marks=pytest.mark.slow)
                for options in [
                    *({"positions": kind} for kind in POSITIONS[1:]),
                    {"norm_first": False},
                    {"gated": True},
                    {"num_kv_heads": 1, "norm": "rms", "rope_theta": 100.0},
                ]
            ),
        ],
    )
    @pytest.mark.slow
    def test_one_by_one_equals_all_at_once(self, options):
        model, given = gpt(**options), tokens(2, 8)
        whole = model(given)
        outputs, seen = model(Continued(given[:, :3]))
        np.testing.assert_allclose(outputs, whole[:, :3], atol=1e-5)
        for i in range(3, 8):
            outputs, seen = model(Continued(given[:, i : i + 1], seen))
            np.testing.assert_allclose(outputs[:, 0], whole[:, i], atol=1e-5)
        assert int(seen.caches[0].length) == 8

    @pytest.mark.slow
    @pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal"])
    def test_of_what_outgrows_it_the_older_half_is_forgotten(self, positions):
        model, given = gpt(positions=positions), tokens(2, 15)
        _, seen = model(Continued(given[:, :6]))
        begins = 0
        for i in range(6, 15):
            outputs, seen = model(Continued(given[:, i : i + 1], seen))
            if i - begins == 8:
                begins = i - 4
            np.testing.assert_allclose(outputs[:, 0], model(given[:, begins : i + 1])[:, -1], atol=1e-5)
        assert begins == 8

    @pytest.mark.slow
    def test_numbers_go_on_too(self):
        model, given = gpt(tokens=False), RNG.normal(size=(2, 11, 7)).astype(np.float32)
        _, seen = model(Continued(given[:, :8]))
        outputs, seen = model(Continued(given[:, 8:9], seen))
        np.testing.assert_allclose(outputs, model(given[:, 4:9])[:, 4:], atol=1e-5)
        outputs, _ = model(Continued(given[:, 9:], seen))
        np.testing.assert_allclose(outputs, model(given[:, 4:])[:, 5:], atol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", [jnp.bfloat16, None])
    def test_through_a_learner_in_every_precision(self, dtype):
        """``predict`` hands on a state in float32, whatever the model computes in."""
        made = network(Transformer, 7, 12, 1, 3, 7, max_length=4, tokens=True, causal=True, dtype=dtype)
        learner = supervised(made, losses.softmax_cross_entropy, optax.sgd(0.1))
        state, given = learner.init(jax.random.key(0)), tokens(2, 6)
        predict = jax.jit(learner.predict)
        _, seen = predict(state, Continued(given[:, :3]))
        for i in range(3, 6):
            outputs, seen = predict(state, Continued(given[:, i : i + 1], seen))
        whole = predict(state, given[:, 2:])
        np.testing.assert_allclose(outputs[:, 0], whole[:, -1], atol=1e-5 if dtype is None else 2e-2)

    @pytest.mark.slow
    def test_dropout_goes_on_too(self):
        made = network(Transformer, 7, 12, 1, 3, 7, max_length=4, tokens=True, causal=True, dropout=0.5)
        params, _ = made.init(jax.random.key(0))
        run = lambda inputs, seed: made.apply(params, {}, inputs, train=True, key=jax.random.key(seed))[0]
        _, seen = run(Continued(tokens(2, 4)), 0)
        outputs = [run(Continued(tokens(2, 1) * 0, seen), seed)[0] for seed in (1, 1, 2)]
        np.testing.assert_array_equal(outputs[0], outputs[1])
        assert not np.allclose(outputs[0], outputs[2])

    @pytest.mark.slow
    def test_several_at_once_go_on_too(self):
        model, given = gpt(), tokens(1, 13)
        _, seen = model(Continued(given[:, :5]))
        outputs, seen = model(Continued(given[:, 5:11], seen))  # 5 + 6 exceed 8: 2 of the old are kept
        np.testing.assert_allclose(outputs, model(given[:, 3:11])[:, 2:], atol=1e-5)
        outputs, _ = model(Continued(given[:, 11:], seen))
        np.testing.assert_allclose(outputs, model(given[:, 7:])[:, 4:], atol=1e-5)

    def test_refuses(self):
        with pytest.raises(InputError, match="9 elements exceed max_length=8"):
            gpt()(Continued(tokens(1, 9)))
        with pytest.raises(InputError, match="only a causal transformer goes on"):
            gpt(causal=False)(Continued(tokens(1, 3)))


class TestWhatDoesNotMatter:
    @pytest.mark.parametrize("positions", quick(POSITIONS))
    def test_the_future(self, positions):
        model, given = gpt(positions=positions), tokens(2, 8)
        other = given.copy()
        other[:, 5:] = (other[:, 5:] + 1) % 7
        np.testing.assert_allclose(model(given)[:, :5], model(other)[:, :5], atol=1e-6)
        assert not np.allclose(model(given)[:, 5:], model(other)[:, 5:], atol=1e-3)

    @pytest.mark.parametrize("pool", quick(["mean", "max"]))
    def test_padding(self, pool):
        model = gpt(causal=False, padding=0, pool=pool)
        given = 1 + RNG.integers(0, 6, (3, 5))
        longer = np.concatenate([given, np.zeros((3, 3), int)], 1)
        np.testing.assert_allclose(model(given), model(longer), atol=1e-5)

    def test_order_without_positions(self):
        model, given = gpt(causal=False, positions=None, pool="mean"), tokens(1, 6)
        np.testing.assert_allclose(model(given), model(given[:, ::-1]), atol=1e-5)
        placed = gpt(causal=False, pool="mean")
        assert not np.allclose(placed(given), placed(given[:, ::-1]), atol=1e-3)


class TestEncoderDecoder:
    @staticmethod
    def made():
        options = {"max_length": 8, "padding": 0, "kernel_init": jax.nn.initializers.normal(0.3)}
        made = network(EncoderDecoder, 7, 12, 2, 3, **options)
        params, _ = made.init(jax.random.key(0))
        return params, jax.jit(lambda inputs: made.apply(params, {}, inputs)[0])

    @pytest.mark.slow
    def test_remembers_what_it_read(self):
        _, model = self.made()
        source, target = tokens(2, 6), tokens(2, 5)
        source[0, 4:] = 0
        whole = model(SourceTarget(source, target))
        outputs, seen = model(Continued(SourceTarget(source, target[:, :1])))
        np.testing.assert_allclose(outputs[:, 0], whole[:, 0], atol=1e-5)
        for i in range(1, 5):
            outputs, seen = model(Continued(target[:, i : i + 1], seen))
            np.testing.assert_allclose(outputs[:, 0], whole[:, i], atol=1e-5)

    @pytest.mark.slow
    def test_reads_no_padding_and_all_the_rest(self):
        _, model = self.made()
        source, target = 1 + RNG.integers(0, 6, (1, 6)), tokens(1, 4)
        padded = np.concatenate([source, np.zeros((1, 2), int)], 1)
        np.testing.assert_allclose(*(model(SourceTarget(x, target)) for x in (source, padded)), atol=1e-5)
        other = source.copy()
        other[0, -1] = 1 + other[0, -1] % 6
        assert not np.allclose(*(model(SourceTarget(x, target)) for x in (source, other)), atol=1e-3)

    @pytest.mark.slow
    def test_forgets_what_it_wrote_and_not_what_it_read(self):
        _, model = self.made()
        source, target = tokens(2, 6), tokens(2, 9)
        _, seen = model(Continued(SourceTarget(source, target[:, :8])))
        outputs, _ = model(Continued(target[:, 8:], seen))
        np.testing.assert_allclose(outputs, model(SourceTarget(source, target[:, 4:]))[:, 4:], atol=1e-5)

    @pytest.mark.slow
    def test_learns(self):
        made = network(EncoderDecoder, 7, 12, 1, 3, max_length=8, padding=0)
        learner = supervised(made, losses.softmax_cross_entropy, optax.adam(1e-2))
        state = learner.init(jax.random.key(0))
        source = 1 + RNG.integers(0, 6, (8, 5))
        pairs = SourceTarget(source, np.roll(source, 1, 1))
        learner.check({"inputs": pairs, "labels": source})
        step, lost = jax.jit(learner.step), []
        for i in range(60):
            state, sums = step(state, {"inputs": pairs, "labels": source}, jax.random.key(i))
            lost.append(float(sums["loss"].total / sums["loss"].count))
        assert lost[-1] < 0.5 * lost[0]
        with pytest.raises(InputError, match="tokens range from 4 to 9"):
            learner.check({"inputs": SourceTarget(source, source + 3), "labels": source})

    @pytest.mark.slow
    def test_one_embedding_serves_both_and_the_output(self):
        params, _ = self.made()
        assert ["embed" in params[part] for part in ("encoder", "decoder")].count(True) == 1
        assert not any("out" in params[part] for part in ("encoder", "decoder"))


def test_vision_transformer_cuts_patches_row_by_row():
    image = np.arange(4 * 6 * 2).reshape(1, 4, 6, 2)
    got = patches(image, 2)
    assert got.shape == (1, 6, 8)
    np.testing.assert_array_equal(got[0, 4], image[0, 2:4, 2:4].reshape(-1))


def test_sinusoidal_positions():
    got = sinusoidal(jnp.arange(5), 6)
    assert got.shape == (5, 6)
    for t, i in np.ndindex(5, 3):
        angle = t / 10000 ** (2 * i / 6)
        np.testing.assert_allclose(got[t, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=1e-6)


@pytest.mark.slow
def test_nanogpts_size_has_nanogpts_parameters():
    """4 layers, 4 heads, 128 wide, 65 characters, 64 positions: 0.80 M, as nanoGPT says of its own (without places)."""
    options = {"max_length": 64, "tokens": True, "causal": True, "tied": True, "use_bias": False}
    params, _ = network(Transformer, 65, 128, 4, 4, 65, positions="learned", **options).init(jax.random.key(0))
    assert num_parameters(params) - 64 * 128 == 65 * 128 + 4 * (12 * 128**2 + 2 * 128) + 128


def test_gates():
    params, _ = network(Transformer, 3, 8, 1, 2, 3, max_length=4, gated=True, hidden=12).init(jax.random.key(0))
    assert params["blocks"][0]["feed_forward"]["gate"]["kernel"].shape == (8, 12)


def test_a_memory_and_what_attends_to_it_go_together():
    x = jnp.ones((1, 2, 8))
    for cross, memory in ((True, None), (False, x)):
        with pytest.raises(InputError, match="cross=True needs a memory"):
            TransformerBlock(8, 2, cross=cross, rngs=nnx.Rngs(0))(x, memory)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tied": True, "tokens": True}, "an output of each token"),
        ({"tied": True}, "are for tokens"),
        ({"positions": "absolute"}, "positions='absolute'"),
        ({"pool": "last"}, "pool='last'"),
        ({"tied": True, "tokens": True, "pool": "all"}, "outputs of single elements"),
        ({"max_length": 0}, "max_length=0"),
        ({"norm": "batch"}, "norm='batch' is no norm of a transformer"),
        ({"norm_epsilon": -1}, "norm_epsilon=-1 must be"),
        ({"num_kv_heads": 3}, "num_kv_heads=3 does not divide num_heads=2"),
        ({"rope_theta": 0}, "rope_theta=0 must be"),
        ({"num_segments": 2}, "num_segments=2 is for tokens"),
        ({"num_segments": 0, "tokens": True}, "num_segments=0 must be"),
        ({"class_token": True, "causal": True}, "class_token=True goes before numbers"),
        ({"pooler": True}, "pooler=True is a layer after pool='first', 'max' or 'mean', not pool=None"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(InputError, match=message):
        network(Transformer, 5, 8, 1, 2, 3, **({"max_length": 4} | options))


def test_refuses_inputs():
    made = network(Transformer, 5, 8, 1, 2, 3, max_length=4, tokens=True, padding=0, pool="mean")
    for inputs, message in (
        (np.array([[1, 5]]), "tokens range from 1 to 5, outside the vocabulary's 0..4"),
        (np.array([[1, 2], [0, 0]]), "row 1 is nothing but padding"),
        (np.ones((1, 5), int), "sequences of 5 exceed max_length=4"),
        (np.ones((1, 3)), "not tokens"),
    ):
        with pytest.raises(InputError, match=message):
            made.check(inputs)
    params, _ = made.init(jax.random.key(0))
    with pytest.raises(InputError, match="not tokens"):
        made.apply(params, {}, np.ones((1, 3)))
    with pytest.raises(InputError, match="exceed max_length=4"):
        made.apply(params, {}, np.ones((1, 5), int))
    with pytest.raises(InputError, match="made without num_segments="):
        made.apply(params, {}, Segmented(np.ones((1, 3), int), np.ones((1, 3), int)))
    numbers = network(Transformer, 5, 8, 1, 2, 3, max_length=4)
    with pytest.raises(InputError, match=r"not numbers \[B, T, 5\]"):
        numbers.apply(numbers.init(jax.random.key(0))[0], {}, np.ones((1, 3, 4)))
    with pytest.raises(InputError, match="patch=3 does not divide images of 8 x 8"):
        network(ViT, (8, 8, 1), 3, 8, 1, 2, 3)
