"""Networks from what their files say of them: Hugging Face's ``config.json``, and GGUF's metadata."""

from collections.abc import Callable, Container, Mapping, Sized
from typing import Any

from flax import nnx

from jaxnets.errors import InputError, check_kind, check_number, check_whole, nearest, short
from jaxnets.models import ViT, Whisper, bert, gpt2, llama
from jaxnets.models.blocks import Activation, exact_gelu
from jaxnets.network import Network, network
from jaxnets.weights.layout import Layout
from jaxnets.weights.transformers import bert_layout, gguf_llama_layout, gpt2_layout, llama_layout, vit_layout
from jaxnets.weights.whisper import whisper_layout

Made = tuple[Network, Layout]
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": exact_gelu,
    "gelu_new": nnx.gelu,
    "gelu_pytorch_tanh": nnx.gelu,
    "relu": nnx.relu,
    "silu": nnx.silu,
}


def from_config(config: Mapping[str, Any], **options: Any) -> Made:
    """Return the network that a ``config.json`` describes, and the layout of its weights.

    Which outputs it has follows from the first of its "architectures": ``BertForSequenceClassification``,
    ``GPT2LMHeadModel``, ``LlamaForCausalLM`` and ``ViTForImageClassification`` have a head; ``BertModel`` and
    ``ViTModel`` give the pooler's numbers, ``GPT2Model`` and ``LlamaModel`` all elements'. Heads of BERT's pretraining
    are left out, and so is its pooler where it has none. ``WhisperForConditionalGeneration`` is read whole.

    Args:
        config: of model type "bert", "gpt2", "llama", "vit" or "whisper".
        **options: handed to ``bert``, ``gpt2``, ``llama``, ``ViT`` or ``Whisper`` in place of the config's own, such as
            ``pool="mean", pooler=False`` for embeddings of sentences, ``out_features=3`` for a new head,
            ``dropout=0.0``, or ``max_length=512`` for a shorter cache (which rotary positions allow).

    Raises:
        InputError: if a field is missing or no such number, or asks for what is not supported; it names the field.
    """
    check_kind("config", config, Mapping, "give the object that config.json holds")
    families: dict[str, Callable[..., Made]] = {"bert": _bert, "gpt2": _gpt2, "llama": _llama, "vit": _vit}
    families["whisper"] = _whisper
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in families:
        near = nearest(kind, families) if isinstance(kind, str) else ""
        raise InputError(f"model_type={short(kind)} is not supported; there are {', '.join(families)}{near}")
    return families[kind](config, options)


def from_gguf(metadata: Mapping[str, Any], tensors: Container[str], **options: Any) -> Made:
    """Return the network that a GGUF file of architecture "llama" describes, and the layout of its tensors.

    Args:
        metadata: of the file, such as {"general.architecture": "llama", "llama.block_count": 30, ...}.
        tensors: their names; the output layer's weights are the tokens' embedding if "output.weight" is not among them.
        **options: handed to ``llama`` in place of the file's own, such as ``max_length=512`` for a shorter cache.

    Raises:
        InputError: if a field is missing or no such number, or asks for what is not supported; it names the field.
    """
    config = gguf_config(metadata, tensors)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    layout = gguf_llama_layout(config["num_hidden_layers"], heads, kv_heads, tied=config["tie_word_embeddings"])
    return from_config(config, **options)[0], layout


def gguf_config(metadata: Mapping[str, Any], tensors: Container[str]) -> dict[str, Any]:
    """Return what a GGUF file of architecture "llama" describes as a ``config.json``, for ``from_config``.

    Args:
        metadata: of the file, as ``from_gguf`` takes it.
        tensors: likewise.

    Raises:
        InputError: if a field is missing or no such number, or asks for what is not supported; it names the field.
    """
    check_kind("metadata", metadata, Mapping, "give the metadata that the file holds")
    _only(metadata, "general.architecture", None, "llama")
    _only(metadata, "llama.rope.scaling.type", "none", "none")
    _only(metadata, "llama.expert_count", 0, 0)
    features, num_heads = _size(metadata, "llama.embedding_length"), _size(metadata, "llama.attention.head_count")
    _only(metadata, "llama.rope.dimension_count", features // num_heads, features // num_heads)
    words = metadata.get("tokenizer.ggml.tokens")
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": _size(metadata, "llama.vocab_size", len(words) if isinstance(words, Sized) else None),
        "hidden_size": features,
        "intermediate_size": _size(metadata, "llama.feed_forward_length"),
        "num_hidden_layers": _size(metadata, "llama.block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": _size(metadata, "llama.attention.head_count_kv", num_heads),
        "max_position_embeddings": _size(metadata, "llama.context_length"),
        "rms_norm_eps": _number(metadata, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": _number(metadata, "llama.rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in tensors,
    }


def _bert(config: Mapping[str, Any], options: Mapping[str, Any]) -> Made:
    classifier, *others = "BertForSequenceClassification", "BertModel", "BertForPreTraining", "BertForMaskedLM"
    kind = _architecture(config, classifier, *others)
    _only(config, "position_embedding_type", "absolute", "absolute")
    _only(config, "is_decoder", False, False)
    own = _encoder(config) | {
        "max_length": _size(config, "max_position_embeddings", 512),
        "num_segments": _size(config, "type_vocab_size", 2),
        "padding": _size(config, "pad_token_id", 0, least=0),
        "out_features": _num_labels(config) if kind == classifier else None,
        "pool": None if kind == "BertForMaskedLM" else "first",
        "pooler": kind != "BertForMaskedLM",
    }
    own |= options
    num_layers, head = _size(config, "num_hidden_layers"), own["out_features"] is not None
    sizes = _size(config, "hidden_size"), num_layers, _size(config, "num_attention_heads")
    prefix = "" if kind == "BertModel" and not head else "bert."
    layout = bert_layout(num_layers, prefix=prefix, pooler=own["pooler"], head=head)
    return network(bert, _size(config, "vocab_size"), *sizes, **own), layout


def _gpt2(config: Mapping[str, Any], options: Mapping[str, Any]) -> Made:
    kind = _architecture(config, "GPT2LMHeadModel", "GPT2Model")
    _only(config, "scale_attn_weights", True, True)
    _only(config, "scale_attn_by_inverse_layer_idx", False, False)
    _only(config, "add_cross_attention", False, False)
    vocabulary, features = _size(config, "vocab_size"), _size(config, "n_embd")
    dropout = _number(config, "resid_pdrop", 0.1)
    _only(config, "embd_pdrop", dropout, dropout)
    own = _outputs(config, kind == "GPT2Model", True, vocabulary) | {
        "max_length": _size(config, "n_positions", 1024),
        "hidden": _size(config, "n_inner", 4 * features),
        "activation": _activation(config, "activation_function", "gelu_new"),
        "norm_epsilon": _number(config, "layer_norm_epsilon", 1e-5),
        "dropout": dropout,
        "attention_dropout": _number(config, "attn_pdrop", 0.1),
    }
    own |= options
    num_layers, prefix = _size(config, "n_layer"), "" if kind == "GPT2Model" else "transformer."
    layout = gpt2_layout(num_layers, prefix=prefix, **_ends(own))
    return network(gpt2, vocabulary, features, num_layers, _size(config, "n_head"), **own), layout


def _llama(config: Mapping[str, Any], options: Mapping[str, Any]) -> Made:
    kind = _architecture(config, "LlamaForCausalLM", "LlamaModel")
    vocabulary, features = _size(config, "vocab_size"), _size(config, "hidden_size")
    num_layers, num_heads = _size(config, "num_hidden_layers"), _size(config, "num_attention_heads")
    _only(config, "head_dim", features // num_heads, features // num_heads)
    _only(config, "mlp_bias", False, False)
    own = _outputs(config, kind == "LlamaModel", False, vocabulary) | {
        "max_length": _size(config, "max_position_embeddings", 2048),
        "hidden": _size(config, "intermediate_size"),
        "num_kv_heads": _size(config, "num_key_value_heads", num_heads),
        "rope_theta": _rope_theta(config),
        "activation": _activation(config, "hidden_act", "silu"),
        "norm_epsilon": _number(config, "rms_norm_eps", 1e-6),
        "attention_bias": _flag(config, "attention_bias", False),
        "attention_dropout": _number(config, "attention_dropout", 0.0),
    }
    own |= options
    prefix = "" if kind == "LlamaModel" else "model."
    layout = llama_layout(num_layers, prefix=prefix, attention_bias=own["attention_bias"], **_ends(own))
    return network(llama, vocabulary, features, num_layers, num_heads, **own), layout


def _vit(config: Mapping[str, Any], options: Mapping[str, Any]) -> Made:
    kind = _architecture(config, "ViTForImageClassification", "ViTModel")
    _only(config, "qkv_bias", True, True)
    _only(config, "pooler_act", "tanh", "tanh")
    side, patch = _size(config, "image_size", 224), _size(config, "patch_size", 16)
    channels, classes = _size(config, "num_channels", 3), None if kind == "ViTModel" else _num_labels(config)
    own = _encoder(config) | {"class_token": True, "pooler": kind == "ViTModel", "out_features": classes}
    own |= options
    num_layers, head = _size(config, "num_hidden_layers"), own["out_features"] is not None
    sizes = _size(config, "hidden_size"), num_layers, _size(config, "num_attention_heads")
    prefix = "" if kind == "ViTModel" and not head else "vit."
    layout = vit_layout(num_layers, patch, channels, prefix=prefix, pooler=own["pooler"], head=head)
    return network(ViT, (side, side, channels), patch, *sizes, **own), layout


def _whisper(config: Mapping[str, Any], options: Mapping[str, Any]) -> Made:
    _architecture(config, "WhisperForConditionalGeneration")
    _only(config, "scale_embedding", False, False)
    _only(config, "tie_word_embeddings", True, True)
    _only(config, "activation_function", "gelu", "gelu")
    features, num_layers = _size(config, "d_model"), _size(config, "encoder_layers")
    num_heads, hidden = _size(config, "encoder_attention_heads"), _size(config, "encoder_ffn_dim", 4 * features)
    _only(config, "decoder_attention_heads", num_heads, num_heads)
    _only(config, "decoder_ffn_dim", hidden, hidden)
    own = {
        "hidden": hidden,
        "num_mels": _size(config, "num_mel_bins", 80),
        "max_source": _size(config, "max_source_positions", 1500),
        "max_length": _size(config, "max_target_positions", 448),
        "decoder_layers": _size(config, "decoder_layers", num_layers),
        "dropout": _number(config, "dropout", 0.0),
        "attention_dropout": _number(config, "attention_dropout", 0.0),
    }
    own |= options
    layout = whisper_layout(num_layers, own["decoder_layers"], features)
    return network(Whisper, _size(config, "vocab_size"), features, num_layers, num_heads, **own), layout


def _encoder(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that BERT and ViT name alike."""
    return {
        "hidden": _size(config, "intermediate_size"),
        "activation": _activation(config, "hidden_act", "gelu"),
        "norm_epsilon": _number(config, "layer_norm_eps", 1e-12),
        "dropout": _number(config, "hidden_dropout_prob", 0.1),
        "attention_dropout": _number(config, "attention_probs_dropout_prob", 0.1),
    }


def _outputs(config: Mapping[str, Any], bare: bool, tied: bool, vocabulary: int) -> dict[str, Any]:
    """Return the options of what follows a decoder's blocks."""
    if bare:
        return {"tied": False, "out_features": None}
    return {"tied": _flag(config, "tie_word_embeddings", tied), "out_features": vocabulary}


def _ends(options: Mapping[str, Any]) -> dict[str, bool]:
    """Return what a decoder's layout is told of the same."""
    return {"tied": options["tied"], "head": options["out_features"] is not None and not options["tied"]}


def _rope_theta(config: Mapping[str, Any]) -> float:
    """Return the base of rotary angles, where newer and where older configs have it."""
    for name in ("rope_scaling", "rope_parameters"):
        rope = config.get(name) or {}
        check_kind(name, rope, Mapping, "give an object, or null")
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
            raise InputError(f"{name}={short(dict(rope))} is not supported; only the default without scaling is")
    return _number({**config, **(config.get("rope_parameters") or {})}, "rope_theta", 10000.0)


def _architecture(config: Mapping[str, Any], *known: str) -> str:
    found = config.get("architectures") or [known[0]]
    if not isinstance(found, list) or found[0] not in known:
        raise InputError(f"architectures={short(found)} is not supported; there are {', '.join(known)}")
    return found[0]


def _num_labels(config: Mapping[str, Any]) -> int:
    labels = config.get("id2label")
    return len(labels) if isinstance(labels, Mapping) else _size(config, "num_labels", 2)


def _size(config: Mapping[str, Any], name: str, otherwise: int | None = None, least: int = 1) -> int:
    value = _field(config, name, otherwise)
    check_whole(name, value, least)
    return int(value)


def _number(config: Mapping[str, Any], name: str, otherwise: float | None = None) -> float:
    value = _field(config, name, otherwise)
    check_number(name, value, 0, float("inf"), "a number of 0 or more")
    return float(value)


def _flag(config: Mapping[str, Any], name: str, otherwise: bool) -> bool:
    _only(config, name, otherwise, True, False)
    return bool(_field(config, name, otherwise))


def _activation(config: Mapping[str, Any], name: str, otherwise: str) -> Activation:
    value = _field(config, name, otherwise)
    _only(config, name, otherwise, *_ACTIVATIONS)
    return _ACTIVATIONS[value]


def _only(config: Mapping[str, Any], name: str, otherwise: Any, *known: Any) -> None:
    """Raise an ``InputError`` unless a field, if it is there and not null, has one of the values that are known."""
    value = _field(config, name, otherwise)
    if getattr(value, "ndim", 0) or value not in known:
        raise InputError(f"{name}={short(value)} is not supported; use {' or '.join(map(repr, known))}")


def _field(config: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    value = config.get(name)
    value = otherwise if value is None else value
    if value is None:
        raise InputError(f"the config lacks {name!r}; it has {', '.join(map(str, list(config)[:8]))}, ...")
    return value
