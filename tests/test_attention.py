"""Attention against PyTorch's, and its masks, positions and cache against what they stand for."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import InputError, network
from jaxnets.nn import Attention, dot_product_attention, rotary

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def expected(q, k, v, seen):
    """One query, one head at a time, in float64."""
    out = np.zeros(q.shape)
    for b, t, n in np.ndindex(q.shape[:3]):
        logits = k[b, :, n].astype(np.float64) @ q[b, t, n] / np.sqrt(q.shape[-1])
        weights = np.where(seen[b, t], np.exp(logits - logits[seen[b, t]].max()), 0)
        out[b, t, n] = weights @ v[b, :, n] / weights.sum()
    return out


class TestDotProducts:
    def test_every_mask(self):
        q, k, v = normal(2, 3, 2, 4), normal(2, 5, 2, 4), normal(2, 5, 2, 4)
        rows = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]], bool)
        each = RNG.random((2, 3, 5)) < 0.7
        each[..., 0] = True
        causal = np.arange(5) <= np.arange(3)[:, None] + 2
        np.testing.assert_allclose(
            dot_product_attention(q, k, v), expected(q, k, v, np.ones((2, 3, 5), bool)), atol=1e-6
        )
        options = [({"mask": rows}, rows[:, None] & np.ones((2, 3, 5), bool)), ({"mask": each}, each)]
        options += [({"causal": True, "offset": 2}, np.broadcast_to(causal, (2, 3, 5)))]
        options += [({"causal": True, "offset": 2, "mask": rows}, causal & rows[:, None])]
        for option, seen in options:
            np.testing.assert_allclose(dot_product_attention(q, k, v, **option), expected(q, k, v, seen), atol=1e-6)

    def test_shared_keys_are_keys_repeated(self):
        q, k, v = normal(2, 3, 6, 4), normal(2, 5, 2, 4), normal(2, 5, 2, 4)
        rows = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]], bool)
        repeated = (np.repeat(x, 3, 2) for x in (k, v))
        options = {"mask": rows, "causal": True, "offset": 2}
        got = dot_product_attention(q, k, v, **options)
        np.testing.assert_allclose(got, dot_product_attention(q, *repeated, **options), atol=1e-6)

    def test_where_nothing_counts_gradients_are_finite(self):
        q, k, v = normal(1, 2, 1, 4), normal(1, 3, 1, 4), normal(1, 3, 1, 4)
        value = lambda q: dot_product_attention(q, k, v, mask=np.zeros((1, 3))).sum()
        np.testing.assert_allclose(value(q), 2 * v.mean(1).sum(), rtol=1e-5)
        assert np.isfinite(jax.grad(value)(q)).all()

    def test_halves_have_a_softmax_in_float32(self):
        q, k, v = (normal(1, 8, 2, 16).astype(jnp.bfloat16) for _ in range(3))
        got = dot_product_attention(q, k, v)
        assert got.dtype == jnp.bfloat16
        exact = expected(*(np.asarray(x, np.float32) for x in (q, k, v)), np.ones((1, 8, 8), bool))
        np.testing.assert_allclose(np.asarray(got, np.float32), exact, atol=0.03)


class TestRotary:
    def test_products_depend_on_distance_alone(self):
        q, k = normal(1, 1, 1, 8), normal(1, 1, 1, 8)
        product = lambda t, s: float(jnp.vdot(rotary(q, t), rotary(k, s)))
        assert product(7, 3) == pytest.approx(product(104, 100), abs=1e-4)
        assert abs(product(7, 3) - product(7, 5)) > 1e-3

    def test_is_a_turn_of_each_pair(self):
        x = normal(1, 6, 1, 4)
        turned = np.asarray(rotary(x, 2))
        pairs = (x[..., :2] + 1j * x[..., 2:]) * np.exp(1j * np.arange(2, 8)[:, None, None] * np.array([1.0, 0.01]))
        np.testing.assert_allclose(turned, np.concatenate([pairs.real, pairs.imag], -1), atol=1e-5)


class TestAttention:
    def test_a_memorys_keys_and_values_can_be_kept(self):
        layer = Attention(8, 2, rngs=nnx.Rngs(0))
        x, memory = normal(2, 3, 8), normal(2, 5, 8)
        mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
        np.testing.assert_allclose(
            layer(x, memory, mask=mask)[0], layer(x, layer.of_memory(memory), mask=mask)[0], atol=1e-6
        )
        other = memory.copy()
        other[0, 3:] = 100
        np.testing.assert_allclose(layer(x, memory, mask=mask)[0], layer(x, other, mask=mask)[0], atol=1e-6)

    def test_dropout_of_weights(self):
        module = network(Attention, 8, 2, dropout=0.5)
        params, state = module.init(jax.random.key(0))
        x = normal(2, 6, 8)
        draw = lambda seed: module.apply(params, state, x, train=True, key=jax.random.key(seed))[0][0]
        assert not np.allclose(draw(0), draw(1))
        np.testing.assert_array_equal(draw(0), draw(0))
        np.testing.assert_array_equal(*(module.apply(params, state, x)[0][0] for _ in range(2)))

    def test_refuses(self):
        with pytest.raises(InputError, match="num_heads=3 does not divide features=8"):
            Attention(8, 3, rngs=nnx.Rngs(0))
        with pytest.raises(InputError, match="a head has 1 features"):
            Attention(4, 4, rotary=True, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("length", [131, pytest.param(128, marks=pytest.mark.slow)])
def test_long_causal_attention_in_parts_equals_the_whole(length, monkeypatch):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, length, 2, 4))

    def outputs_and_gradients(q, k, v):
        attend = lambda *qkv: dot_product_attention(*qkv, causal=True)
        return attend(q, k, v), jax.grad(lambda *qkv: jnp.sin(attend(*qkv)).sum(), (0, 1, 2))(q, k, v)

    def softmaxes():
        return str(jax.make_jaxpr(partial(outputs_and_gradients))(q, k, v)).count(" exp ")

    in_parts = jax.jit(partial(outputs_and_gradients))(q, k, v)
    assert softmaxes() == 2 * 4
    monkeypatch.setattr("jaxnets.nn.attention._LONG", 1000)
    assert softmaxes() == 2
    whole = jax.jit(partial(outputs_and_gradients))(q, k, v)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), in_parts, whole)
    np.testing.assert_allclose(in_parts[0][:, 0], v[:, 0], atol=1e-6)  # the first sees itself alone
