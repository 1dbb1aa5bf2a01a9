"""Transformers with the weights of Hugging Face's PyTorch models against these: states, outputs, gradients, tokens."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits
from pretrained import continued, given, needs
from safetensors.numpy import load_file

import jaxnets as jn
from jaxnets import InputError
from jaxnets.models import Segmented
from jaxnets.models.transformer_block import TransformerBlock
from jaxnets.weights.hugging_face import from_config, from_gguf
from jaxnets.weights.layout import Layout, exported, imported
from jaxnets.weights.transformers import gguf_llama_layout

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
VOCABULARY, RNG = 50, np.random.default_rng(0)
TOKENS = RNG.integers(1, VOCABULARY, (3, 9))
PADDED = np.where(np.arange(9) < np.array([[9], [5], [7]]), TOKENS, 0)  # 0 is BERT's padding
SEGMENTS = np.sort(RNG.integers(0, 2, (3, 9)))
IMAGES = RNG.normal(size=(2, 16, 16, 3)).astype(np.float32)


class Case(NamedTuple):
    """A model of theirs, its config, what its blocks and ours are given, and which of its outputs ours is."""

    kind: str
    config: dict[str, Any]
    blocks: str
    given: Any
    theirs: Callable[[Any], dict[str, Any]]
    output: str = "logits"


def _bert_inputs(torch: Any) -> dict[str, Any]:
    masks = {"attention_mask": PADDED != 0, "token_type_ids": SEGMENTS}
    return {"input_ids": torch.tensor(PADDED)} | {name: torch.tensor(x) * 1 for name, x in masks.items()}


def _tokens(torch: Any) -> dict[str, Any]:
    return {"input_ids": torch.tensor(TOKENS)}


def _images(torch: Any) -> dict[str, Any]:
    return {"pixel_values": torch.tensor(IMAGES.transpose(0, 3, 1, 2))}


BERT = SIZES | {"vocab_size": VOCABULARY, "max_position_embeddings": 12}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY, "n_positions": 40}
ENDS = {"bos_token_id": 1, "eos_token_id": 2}
LLAMA = SIZES | {"vocab_size": VOCABULARY, "num_key_value_heads": 2, "max_position_embeddings": 40}
CASES = {
    "bert": Case("Bert:Model", BERT, "encoder.layer", Segmented(PADDED, SEGMENTS), _bert_inputs, "pooler_output"),
    "bert, classifier": Case(
        "Bert:ForSequenceClassification",
        BERT | {"num_labels": 3, "hidden_act": "relu"},
        "bert.encoder.layer",
        Segmented(PADDED, SEGMENTS),
        _bert_inputs,
    ),
    "gpt2": Case("GPT2:LMHeadModel", GPT2 | ENDS, "transformer.h", TOKENS, _tokens),
    "llama": Case("Llama:ForCausalLM", LLAMA, "model.layers", TOKENS, _tokens),
    "llama, tied, biased": Case(
        "Llama:ForCausalLM",
        LLAMA
        | {"tie_word_embeddings": True, "attention_bias": True}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        "model.layers",
        TOKENS,
        _tokens,
    ),
    "vit": Case(
        "ViT:ForImageClassification",
        SIZES | {"image_size": 16, "patch_size": 8, "num_labels": 5},
        "vit.layers",
        IMAGES,
        _images,
    ),
}


class Pair(NamedTuple):
    """A model of theirs, its file, and the same as a network."""

    model: Any
    weights: dict[str, np.ndarray]
    config: dict[str, Any]
    network: jn.Network
    layout: Layout
    params: Any


def saved(model: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the weights and the config of a model as it saves them."""
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        weights = load_file(Path(folder) / "model.safetensors")
        return weights, json.loads((Path(folder) / "config.json").read_text())


@cache
def pair(name: str) -> Pair:
    """Return a model with random weights, large enough for differences to show, and the same as a network."""
    torch, transformers = needs()
    family, head = CASES[name].kind.split(":")
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**CASES[name].config, attn_implementation="eager")
    model = getattr(transformers, f"{family}{head}")(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    weights, config = saved(model)
    network, layout = from_config(config)
    return Pair(model, weights, config, network, layout, given(network, layout, weights))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_hidden_states_and_outputs(name, monkeypatch):
    torch, _ = needs()
    model, _, _, network, _, params = pair(name)
    theirs, ours, call = [], [], TransformerBlock.__call__
    blocks = list(model.get_submodule(CASES[name].blocks))

    def before(module, args, kwargs):
        theirs.append(args[0] if args else kwargs["hidden_states"])

    def after(module, args, outputs):
        theirs.append(outputs if isinstance(outputs, torch.Tensor) else outputs[0])

    hooks = [blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
    hooks += [block.register_forward_hook(after) for block in blocks]

    def recorded(block, x, *args, **kwargs):
        outputs = call(block, x, *args, **kwargs)
        ours.extend([x, outputs[0]] if not ours else [outputs[0]])
        return outputs

    monkeypatch.setattr(TransformerBlock, "__call__", recorded)
    with torch.no_grad():
        wanted = getattr(model(**CASES[name].theirs(torch)), CASES[name].output).numpy()
    for hook in hooks:
        hook.remove()
    got, _ = network.apply(params, {}, CASES[name].given)
    assert len(ours) == len(theirs) == 3
    errors = [np.abs(x - y.detach().numpy()).max() for x, y in zip(ours, theirs, strict=True)]
    print(f"{name}: hidden states to {max(errors):.1e}, outputs to {np.abs(got - wanted).max():.1e}")
    assert max(errors) <= 1e-5 and got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    torch, _ = needs()
    model, _, _, network, layout, params = pair(name)
    kept = [parameter.data for parameter in model.parameters()]
    outputs = getattr(model(**CASES[name].theirs(torch)), CASES[name].output)
    weights = RNG.normal(size=outputs.shape).astype(np.float32)
    (outputs * torch.tensor(weights)).mean().backward()
    for parameter in model.parameters():
        parameter.data = parameter.grad
    wanted = given(network, layout, saved(model)[0])
    for parameter, data in zip(model.parameters(), kept, strict=True):
        parameter.data, parameter.grad = data, None

    def loss(params):
        return (network.apply(params, {}, CASES[name].given)[0] * weights).mean()

    got = jax.jit(jax.grad(loss))(params)
    errors = jax.tree.leaves(jax.tree.map(lambda x, y: np.abs(x - y).max(), got, wanted))
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    print(f"{name}: gradients up to {largest:.1e} to {max(errors):.1e}")
    assert max(errors) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_export_undoes_import(name):
    _, weights, _, _, layout, params = pair(name)
    assert_same_bits(exported(layout, (params, {})), weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "llama", "llama, tied, biased"])
def test_greedy_tokens(name):
    torch, _ = needs()
    model, _, _, network, _, params = pair(name)
    tokens = torch.tensor(TOKENS)
    with torch.no_grad():
        for _ in range(20):  # without a cache, so that ours is checked
            tokens = torch.cat([tokens, model(tokens).logits[:, -1].argmax(-1, keepdim=True)], 1)
    np.testing.assert_array_equal(continued(network, params, TOKENS, 20), tokens.numpy()[:, 9:])


@pytest.mark.slow
def test_other_heads():
    """An encoder's file gives all elements, their mean, or what a new head is put on."""
    _, weights, config, _, _, params = pair("bert")
    network, layout = from_config(config, pool=None, pooler=False)
    every, _ = network.apply(given(network, layout, weights), {}, PADDED)
    assert every.shape == (3, 9, 32)
    mean, layout = from_config(config, pool="mean", pooler=False)
    got, _ = mean.apply(given(mean, layout, weights), {}, PADDED)
    counts = (PADDED != 0)[..., None]
    np.testing.assert_allclose(got, (every * counts).sum(1) / counts.sum(1), atol=1e-5)
    headed, layout = from_config(config, out_features=4)
    like = headed.init(jax.random.key(0))
    found, _ = imported(layout, weights, like, fresh=["out/**"])
    assert_same_bits(found["out"], like[0]["out"])
    assert_same_bits({name: found[name] for name in params}, params)
    assert {"bert.pooler.dense.weight", "classifier.weight"} <= set(exported(layout, (found, {})))
    with pytest.raises(InputError, match=r"lacks classifier.weight, classifier.bias"):
        imported(layout, weights, like)


def test_segments_are_zeros_unless_given():
    network, _ = from_config({"model_type": "bert", **BERT})
    params, _ = network.init(jax.random.key(0))
    zeros, ones = (network.apply(params, {}, Segmented(PADDED, np.full((3, 9), n)))[0] for n in (0, 1))
    np.testing.assert_array_equal(network.apply(params, {}, PADDED)[0], zeros)
    assert not np.allclose(zeros, ones, atol=1e-3)
    network.check(Segmented(PADDED, SEGMENTS))
    for segments, message in (
        (SEGMENTS + 1, "range from 1 to 2, outside num_segments=2"),
        (SEGMENTS[:, 1:], "segments of"),
    ):
        with pytest.raises(InputError, match=message):
            network.check(Segmented(PADDED, segments))


METADATA = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 40,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 48,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-6,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.tokens": ["a"] * VOCABULARY,
}


class TestGGUF:
    def test_is_the_same_network(self):
        """Queries and keys have their rotary pairs side by side, as llama.cpp's converter puts them."""
        config = {"model_type": "llama", **LLAMA}
        network, layout = from_config(config)
        params, _ = network.init(jax.random.key(0))
        weights = exported(gguf_llama_layout(2, 4, 2, tied=False), (params, {}))
        q = exported(layout, (params, {}))["model.layers.0.self_attn.q_proj.weight"]
        np.testing.assert_array_equal(
            weights["blk.0.attn_q.weight"], q.reshape(4, 2, 4, 32).swapaxes(1, 2).reshape(32, 32)
        )
        found, layout = from_gguf(METADATA, weights)
        assert_same_bits(given(found, layout, weights), params)
        logits = (made.apply(params, {}, TOKENS)[0] for made in (network, found))
        np.testing.assert_array_equal(*logits)
        del weights["output.weight"]
        tied, layout = from_gguf(METADATA, weights, max_length=20)
        assert "out" not in given(tied, layout, weights)

    def test_refuses(self):
        for change, message in (
            ({"general.architecture": "mamba"}, "general.architecture='mamba' is not supported; use 'llama'"),
            ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type='yarn'"),
            ({"llama.block_count": None}, "lacks 'llama.block_count'"),
            ({"llama.expert_count": 8}, "llama.expert_count=8"),
            ({"llama.embedding_length": "wide"}, "llama.embedding_length='wide' must be a whole number"),
        ):
            with pytest.raises(InputError, match=message):
                from_gguf(METADATA | change, {})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bart"}, "model_type='bart' is not supported; there are bert, gpt2, llama, vit"),
        ({"model_type": ["bert"]}, "model_type="),
        ({"model_type": "bert"}, "lacks 'intermediate_size'"),
        ({"model_type": "bert", **BERT, "hidden_act": "quick_gelu"}, "hidden_act='quick_gelu' is not supported"),
        ({"model_type": "bert", **BERT, "position_embedding_type": "relative_key"}, "position_embedding_type="),
        ({"model_type": "bert", **BERT, "hidden_size": 10**12}, "hidden_size=10"),
        ({"model_type": "bert", **BERT, "layer_norm_eps": "x"}, "layer_norm_eps='x' must be"),
        ({"model_type": "bert", **BERT, "architectures": ["BertForQuestionAnswering"]}, "architectures="),
        (
            {"model_type": "gpt2", **GPT2, "scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx=True",
        ),
        ({"model_type": "gpt2", **GPT2, "embd_pdrop": 0.5}, "embd_pdrop=0.5"),
        ({"model_type": "llama", **LLAMA, "rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling="),
        ({"model_type": "llama", **LLAMA, "rope_parameters": {"rope_type": "llama3"}}, "rope_parameters="),
        ({"model_type": "llama", **LLAMA, "mlp_bias": True}, "mlp_bias=True"),
        ({"model_type": "llama", **LLAMA, "head_dim": 16}, "head_dim=16"),
        ({"model_type": "llama", **LLAMA, "num_key_value_heads": 3}, "num_kv_heads=3 does not divide num_heads=4"),
        ({"model_type": "vit", **SIZES, "patch_size": 9}, "patch=9 does not divide images of 224 x 224"),
        ({"model_type": "vit", **SIZES, "qkv_bias": False}, "qkv_bias=False"),
    ],
)
def test_refuses(config, message):
    with pytest.raises(InputError, match=message):
        from_config(config)
