"""Layouts of transformers: Hugging Face's BERT, GPT-2, Llama and ViT, and Llama in GGUF files."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnets.weights.layout import Layout, Rule, dense, layer_norm, linear, parts, same


def bert_layout(num_layers: int, *, prefix: str = "", pooler: bool = True, head: bool = False) -> Layout:
    """Return the layout of Hugging Face's BERT.

    Args:
        num_layers: blocks of the network.
        prefix: "bert." as files of a model with a head have it, or none.
        pooler: whether the network has one; one in the file is left out if not.
        head: whether the network has one, "classifier".
    """
    rules = [
        same(f"{prefix}embeddings.word_embeddings.weight", "embed/embedding"),
        same(f"{prefix}embeddings.position_embeddings.weight", "position_embedding"),
        same(f"{prefix}embeddings.token_type_embeddings.weight", "segment_embedding"),
        *layer_norm(f"{prefix}embeddings.LayerNorm", "embedding_norm"),
    ]
    for i in range(num_layers):
        theirs, ours = f"{prefix}encoder.layer.{i}", f"blocks/{i}"
        for name, part in (("query", "q"), ("key", "k"), ("value", "v")):
            rules += linear(f"{theirs}.attention.self.{name}", f"{ours}/attention/{part}")
        rules += linear(f"{theirs}.attention.output.dense", f"{ours}/attention/out")
        rules += layer_norm(f"{theirs}.attention.output.LayerNorm", f"{ours}/attention_norm")
        rules += linear(f"{theirs}.intermediate.dense", f"{ours}/feed_forward/up")
        rules += linear(f"{theirs}.output.dense", f"{ours}/feed_forward/down")
        rules += layer_norm(f"{theirs}.output.LayerNorm", f"{ours}/feed_forward_norm")
    rules += linear(f"{prefix}pooler.dense", "pooler") if pooler else []
    rules += linear("classifier", "out") if head else []
    # Heads of pretraining are no part of the network, and position_ids no weights.
    ignored = ("embeddings.position_ids", "cls.**", *(() if pooler else ("pooler.**",)))
    return Layout("Hugging Face's BERT", tuple(rules), ignored, ("bert.",))


def question_answering_layout(num_layers: int) -> Layout:
    """Return the layout of Hugging Face's ``BertForQuestionAnswering``, whose head is called "qa_outputs"."""
    found = bert_layout(num_layers, prefix="bert.", pooler=False)
    return found._replace(rules=(*found.rules, *linear("qa_outputs", "out")))


def gpt2_layout(num_layers: int, *, prefix: str = "", tied: bool = True, head: bool = False) -> Layout:
    """Return the layout of Hugging Face's GPT-2, whose dense layers ("Conv1D") are [in, out], as ours are.

    Args:
        num_layers: blocks of the network.
        prefix: "transformer." as files of a model with a head have it, or none.
        tied: whether the network's outputs are made with the tokens' embedding, of which files may hold a copy.
        head: whether the network has a layer for the outputs, "lm_head".
    """
    rules = [
        same(f"{prefix}wte.weight", "embed/embedding"),
        same(f"{prefix}wpe.weight", "position_embedding"),
        *layer_norm(f"{prefix}ln_f", "norm"),
    ]
    for i in range(num_layers):
        theirs, ours = f"{prefix}h.{i}", f"blocks/{i}"
        for name, leaf, axis in (("weight", "kernel", 1), ("bias", "bias", 0)):
            projections = [f"{ours}/attention/{part}/{leaf}" for part in "qkv"]
            rules += [
                parts(f"{theirs}.attn.c_attn.{name}", projections, axis),
                same(f"{theirs}.attn.c_proj.{name}", f"{ours}/attention/out/{leaf}"),
                same(f"{theirs}.mlp.c_fc.{name}", f"{ours}/feed_forward/up/{leaf}"),
                same(f"{theirs}.mlp.c_proj.{name}", f"{ours}/feed_forward/down/{leaf}"),
            ]
        rules += layer_norm(f"{theirs}.ln_1", f"{ours}/attention_norm")
        rules += layer_norm(f"{theirs}.ln_2", f"{ours}/feed_forward_norm")
    rules += [dense("lm_head.weight", "out/kernel")] if head else []
    # Masks of what comes later, not weights.
    ignored = ("h.*.attn.bias", "h.*.attn.masked_bias", *(("lm_head.weight",) if tied else ()))
    return Layout("Hugging Face's GPT-2", tuple(rules), ignored, ("transformer.",))


def llama_layout(
    num_layers: int, *, prefix: str = "", tied: bool = False, head: bool = True, attention_bias: bool = False
) -> Layout:
    """Return the layout of Hugging Face's Llama.

    Args:
        num_layers: blocks of the network.
        prefix: "model." as files of a model with a head have it, or none.
        tied: whether the network's outputs are made with the tokens' embedding, of which files may hold a copy.
        head: whether the network has a layer for the outputs, "lm_head".
        attention_bias: whether the attention's dense layers have biases.
    """
    rules = [
        same(f"{prefix}embed_tokens.weight", "embed/embedding"),
        same(f"{prefix}norm.weight", "norm/scale"),
    ]
    for i in range(num_layers):
        theirs, ours = f"{prefix}layers.{i}", f"blocks/{i}"
        for name, part in (("q_proj", "q"), ("k_proj", "k"), ("v_proj", "v"), ("o_proj", "out")):
            rules.append(dense(f"{theirs}.self_attn.{name}.weight", f"{ours}/attention/{part}/kernel"))
            if attention_bias:
                rules.append(same(f"{theirs}.self_attn.{name}.bias", f"{ours}/attention/{part}/bias"))
        feed_forward = [(f"{theirs}.mlp.{name}_proj", f"{ours}/feed_forward/{name}") for name in ("gate", "up", "down")]
        rules += [dense(f"{name}.weight", f"{part}/kernel") for name, part in feed_forward]
        rules.append(same(f"{theirs}.input_layernorm.weight", f"{ours}/attention_norm/scale"))
        rules.append(same(f"{theirs}.post_attention_layernorm.weight", f"{ours}/feed_forward_norm/scale"))
    rules += [dense("lm_head.weight", "out/kernel")] if head else []
    # The angles of rotary positions, which older files hold, follow from the config.
    ignored = ("layers.*.self_attn.rotary_emb.inv_freq", *(("lm_head.weight",) if tied else ()))
    return Layout("Hugging Face's Llama", tuple(rules), ignored, ("model.",))


def vit_layout(
    num_layers: int, patch: int, channels: int, *, prefix: str = "", pooler: bool = False, head: bool = False
) -> Layout:
    """Return the layout of Hugging Face's ViT.

    Args:
        num_layers: blocks of the network.
        patch: height and width of a patch, whose embedding is theirs by a convolution.
        channels: of the images.
        prefix: "vit." as files of a model with a head have it, or none.
        pooler: whether the network has one; one in the file is left out if not.
        head: whether the network has one, "classifier".
    """
    rules = [
        _reshaped(f"{prefix}embeddings.cls_token", "transformer/class_embedding", 0),
        _reshaped(f"{prefix}embeddings.position_embeddings", "transformer/position_embedding", 0),
        _patches(f"{prefix}embeddings.patch_embeddings.projection.weight", "transformer/embed/kernel", patch, channels),
        same(f"{prefix}embeddings.patch_embeddings.projection.bias", "transformer/embed/bias"),
        *layer_norm(f"{prefix}layernorm", "transformer/norm"),
    ]
    for i in range(num_layers):
        theirs, ours = f"{prefix}encoder.layer.{i}", f"transformer/blocks/{i}"
        for name, part in (("query", "q"), ("key", "k"), ("value", "v")):
            rules += linear(f"{theirs}.attention.attention.{name}", f"{ours}/attention/{part}")
        rules += linear(f"{theirs}.attention.output.dense", f"{ours}/attention/out")
        rules += linear(f"{theirs}.intermediate.dense", f"{ours}/feed_forward/up")
        rules += linear(f"{theirs}.output.dense", f"{ours}/feed_forward/down")
        rules += layer_norm(f"{theirs}.layernorm_before", f"{ours}/attention_norm")
        rules += layer_norm(f"{theirs}.layernorm_after", f"{ours}/feed_forward_norm")
    rules += linear(f"{prefix}pooler.dense", "transformer/pooler") if pooler else []
    rules += linear("classifier", "transformer/out") if head else []
    return Layout("Hugging Face's ViT", tuple(rules), () if pooler else ("pooler.**",), ("vit.",))


def gguf_llama_layout(num_layers: int, num_heads: int, num_kv_heads: int, *, tied: bool) -> Layout:
    """Return the layout of Llama in GGUF files.

    Args:
        num_layers: blocks of the network.
        num_heads: of queries.
        num_kv_heads: of keys and values.
        tied: whether the network's outputs are made with the tokens' embedding.
    """
    rules = [same("token_embd.weight", "embed/embedding"), same("output_norm.weight", "norm/scale")]
    for i in range(num_layers):
        theirs, ours = f"blk.{i}", f"blocks/{i}"
        rules += [
            _interleaved(f"{theirs}.attn_q.weight", f"{ours}/attention/q/kernel", num_heads),
            _interleaved(f"{theirs}.attn_k.weight", f"{ours}/attention/k/kernel", num_kv_heads),
            dense(f"{theirs}.attn_v.weight", f"{ours}/attention/v/kernel"),
            dense(f"{theirs}.attn_output.weight", f"{ours}/attention/out/kernel"),
            same(f"{theirs}.attn_norm.weight", f"{ours}/attention_norm/scale"),
            same(f"{theirs}.ffn_norm.weight", f"{ours}/feed_forward_norm/scale"),
        ]
        feed_forward = [(f"{theirs}.ffn_{name}", f"{ours}/feed_forward/{name}") for name in ("gate", "up", "down")]
        rules += [dense(f"{name}.weight", f"{part}/kernel") for name, part in feed_forward]
    rules += [] if tied else [dense("output.weight", "out/kernel")]
    return Layout("a Llama in GGUF", tuple(rules))


def _reshaped(theirs: str, ours: str, axis: int) -> Rule:
    """Return the rule of a tensor that has an axis of 1 more than ours."""
    return Rule((theirs,), (ours,), lambda x: [np.squeeze(x[0], axis)], lambda x: [np.expand_dims(x[0], axis)])


def _patches(theirs: str, ours: str, patch: int, channels: int) -> Rule:
    """Return the rule of a convolution over patches [D, C, P, P] that is a dense layer for us, [P * P * C, D]."""

    def load(arrays: Sequence[np.ndarray]) -> list[Any]:
        return [np.transpose(arrays[0], (2, 3, 1, 0)).reshape(patch * patch * channels, -1)]

    def save(arrays: Sequence[np.ndarray]) -> list[Any]:
        return [np.transpose(arrays[0].reshape(patch, patch, channels, -1), (3, 2, 0, 1))]

    return Rule((theirs,), (ours,), load, save)


def _interleaved(theirs: str, ours: str, num_heads: int) -> Rule:
    """Return the rule of queries or keys whose rotary pairs are neighbours, not half a head apart as ours are.

    Within each head, GGUF has numbers 0, H / 2, 1, H / 2 + 1, ... of ours in a row.
    """

    def load(arrays: Sequence[np.ndarray]) -> list[Any]:
        heads = arrays[0].reshape(num_heads, -1, 2, arrays[0].shape[-1])  # [N, H / 2, 2, in]
        return [heads.swapaxes(1, 2).reshape(arrays[0].shape).T]

    def save(arrays: Sequence[np.ndarray]) -> list[Any]:
        heads = arrays[0].T.reshape(num_heads, 2, -1, arrays[0].shape[0])
        return [heads.swapaxes(1, 2).reshape(arrays[0].T.shape)]

    return Rule((theirs,), (ours,), load, save)
