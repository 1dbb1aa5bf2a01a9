"""What chats in tests: SmolLM2's chat template, a tokenizer of bytes, and a tiny Llama of random numbers with both."""

import atexit
import shutil
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tokenizers
from weight_files import gguf, text

from jaxnets.weights.hugging_face import from_config
from jaxnets.weights.layout import exported
from jaxnets.weights.transformers import gguf_llama_layout

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLAIN = "{% for message in messages %}{{ " + SMOLLM2[SMOLLM2.index("'<|im_start|>' + ") :]  # with no system's message
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ALPHABET = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
CONTEXT = 1024
_FOLDER = Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


def tokenizer():
    """Return a tokenizer of bytes alone."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE({token: i for i, token in enumerate(SPECIAL + ALPHABET)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return made


@cache
def tiny_weights(template: str = PLAIN, num_layers: int = 1) -> Path:
    """Return a GGUF file of layers of 16, with this chat template ("" for none)."""
    sizes = {
        "vocab_size": len(SPECIAL + ALPHABET),
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": num_layers,
    }
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    network, _ = from_config({"model_type": "llama", "architectures": ["LlamaForCausalLM"], **sizes, **heads})
    tensors = exported(gguf_llama_layout(num_layers, 4, 2, tied=True), network.init(jax.random.key(0)))
    facts = {
        "general.architecture": "llama",
        "llama.block_count": num_layers,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": 16,
        "llama.feed_forward_length": 24,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": SPECIAL + ALPHABET,
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * len(ALPHABET),
    }
    facts |= {"tokenizer.chat_template": template} if template else {}
    arrays = {name: np.asarray(array, np.float32) for name, array in tensors.items()}
    path = _FOLDER / f"tiny-{len(template)}-{num_layers}.gguf"
    content = {name: (0, array.shape[::-1], array.tobytes()) for name, array in arrays.items()}
    path.write_bytes(gguf(content, {name: value(fact) for name, fact in facts.items()}))
    return path


def value(fact: Any) -> bytes:
    """Return the bytes of a GGUF file's metadata, with their kind before them."""
    match fact:
        case str():
            return struct.pack("<I", 8) + text(fact)
        case int():
            return struct.pack("<II", 4, fact)
        case float():
            return struct.pack("<If", 6, fact)
    if fact and isinstance(fact[0], int):
        return struct.pack(f"<IIQ{len(fact)}i", 9, 5, len(fact), *fact)
    return struct.pack("<IIQ", 9, 8, len(fact)) + b"".join(map(text, fact))
