"""Blocks of transformers against PyTorch's own layers, weights copied over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets.models.transformer_block import TransformerBlock

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")

D, HEADS, HIDDEN = 12, 3, 20
RNG = np.random.default_rng(0)
X, MEMORY = (RNG.normal(size=(2, length, D)).astype(np.float32) for length in (5, 7))
COUNTS = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
MEMORY_COUNTS = np.array([[1, 1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0, 0]], bool)


def copied(layer, params):
    """Give PyTorch's layer these weights, and return what of its own holds each of them."""
    parts = [("attention", layer.self_attn)]
    if hasattr(layer, "multihead_attn"):
        parts.append(("cross", layer.multihead_attn))
    pairs = {"feed_forward/up": layer.linear1, "feed_forward/down": layer.linear2}
    names = [name for name, _ in parts] + ["feed_forward"]
    pairs |= {f"{name}_norm": getattr(layer, f"norm{i + 1}") for i, name in enumerate(names)}
    for name, attention in parts:
        given = [params[name][projection] for projection in "qkv"]
        attention.in_proj_weight.data = torch.tensor(np.concatenate([p["kernel"].T for p in given]))
        attention.in_proj_bias.data = torch.tensor(np.concatenate([p["bias"] for p in given]))
        pairs[f"{name}/out"] = attention.out_proj
    for path, module in pairs.items():
        leaf = params
        for key in path.split("/"):
            leaf = leaf[key]
        weight = leaf["kernel"].T if "kernel" in leaf else leaf["scale"]
        module.weight.data, module.bias.data = torch.tensor(weight.copy()), torch.tensor(leaf["bias"].copy())
    return layer.double()


@pytest.mark.slow
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_blocks(kind, activation, norm_first):
    cross, causal = kind == "decoder", kind == "decoder"
    functions = {"gelu": lambda x: nnx.gelu(x, approximate=False), "relu": nnx.relu}
    options = {"cross": cross, "norm_first": norm_first, "activation": functions[activation]}
    module = TransformerBlock(D, HEADS, hidden=HIDDEN, **options, rngs=nnx.Rngs(0))
    graph, state, rest = nnx.split(module, nnx.Param, ...)
    # Weights that are none of the initial zeros and ones.
    params = jax.tree.map(lambda p: p + 0.1 * RNG.normal(size=p.shape).astype(np.float32), nnx.to_pure_dict(state))
    params = jax.tree.map(np.asarray, params)
    args = [MEMORY] if cross else []
    options = {"mask": COUNTS, "causal": causal} | ({"memory_mask": MEMORY_COUNTS} if cross else {})

    def run(params):
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state, rest)(X, *args, **options)[0]

    layers = {"encoder": torch.nn.TransformerEncoderLayer, "decoder": torch.nn.TransformerDecoderLayer}
    theirs = layers[kind](D, HEADS, HIDDEN, 0.0, activation, batch_first=True, norm_first=norm_first)
    theirs = copied(theirs, params)
    x = torch.tensor(X, dtype=torch.float64)
    if cross:
        mask = torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
        expected = theirs(
            x,
            torch.tensor(MEMORY, dtype=torch.float64),
            tgt_mask=mask != 0,
            tgt_key_padding_mask=torch.tensor(~COUNTS),
            memory_key_padding_mask=torch.tensor(~MEMORY_COUNTS),
        )
    else:
        expected = theirs(x, src_key_padding_mask=torch.tensor(~COUNTS))
    np.testing.assert_allclose(run(params)[COUNTS], expected.detach()[COUNTS], atol=1e-5)
    expected[COUNTS].square().sum().backward()
    grads = jax.grad(lambda p: jnp.square(run(p)[COUNTS]).sum())(params)
    for got, weight in (
        (grads["feed_forward"]["up"]["kernel"], theirs.linear1.weight),
        (grads["attention"]["out"]["kernel"], theirs.self_attn.out_proj.weight),
        (np.concatenate([grads["attention"][name]["kernel"] for name in "qkv"], 1), theirs.self_attn.in_proj_weight),
        (grads["attention_norm"]["scale"], theirs.norm1.weight),
    ):
        wanted = weight.grad.numpy().T
        np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())
