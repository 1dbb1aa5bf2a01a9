"""Whisper's weights: Hugging Face's names, and CTranslate2's files, which say themselves what they are made of."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnets.errors import InputError
from jaxnets.models import Whisper
from jaxnets.network import Network, network
from jaxnets.weights.layout import Layout, Rule, conv1d, dense, layer_norm, linear, same

_GELU = 3  # CTranslate2's number of it
_MOST_LAYERS = 64  # the largest has 32
_REMEDY = "give one that CTranslate2's converter made of a Whisper"
# What CTranslate2 writes of the network itself, and the one value of each that is Whisper's.
_FIXED = {
    "decoder/activation": _GELU,
    "decoder/alibi": 0,
    "decoder/pre_norm": 1,
    "decoder/scale_embeddings": 0,
    "decoder/start_from_zero_embedding": 0,
}
_HINTS = ("decoder/alignment_heads", "decoder/alignment_layer", "*/num_heads")


def whisper_layout(num_layers: int, decoder_layers: int, features: int) -> Layout:
    """Return the layout of Hugging Face's Whisper.

    Its keys have no biases. Ours have, of zeros; they change nothing, for a softmax does not see what is added to every
    key alike, and are left out of files.

    Args:
        num_layers: blocks of the encoder.
        decoder_layers: blocks of the decoder.
        features: width of the blocks.
    """
    rules = [
        *_convolutions("encoder.conv{}.{}"),
        same("encoder.embed_positions.weight", "encoder/position_embedding"),
        *layer_norm("encoder.layer_norm", "encoder/norm"),
        same("decoder.embed_tokens.weight", "decoder/embed/embedding"),
        same("decoder.embed_positions.weight", "decoder/position_embedding"),
        *layer_norm("decoder.layer_norm", "decoder/norm"),
    ]
    for side, number in (("encoder", num_layers), ("decoder", decoder_layers)):
        for i in range(number):
            theirs, ours = f"{side}.layers.{i}", f"{side}/blocks/{i}"
            rules += _attention(f"{theirs}.self_attn", f"{ours}/attention", features)
            if side == "decoder":
                rules += _attention(f"{theirs}.encoder_attn", f"{ours}/cross", features)
            rules += linear(f"{theirs}.fc1", f"{ours}/feed_forward/up")
            rules += linear(f"{theirs}.fc2", f"{ours}/feed_forward/down")
            rules += layer_norm(f"{theirs}.final_layer_norm", f"{ours}/feed_forward_norm")
    # Files may hold a copy of the tokens' embedding as the head.
    return Layout("Hugging Face's Whisper", _prefixed(rules), ("proj_out.weight",), ("model.",))


def from_ctranslate2(tensors: Mapping[str, np.ndarray], **options: Any) -> tuple[Network, Layout]:
    """Return the network that a CTranslate2 file of a Whisper describes, and the layout of its tensors.

    Args:
        tensors: of the file, by name.
        **options: handed to ``Whisper``, such as ``dropout=0.1``.

    Raises:
        InputError: if it is of another model, or of a Whisper that is made in another way.
    """
    for name, wanted in _FIXED.items():
        if name in tensors and tensors[name].tolist() != wanted:
            raise InputError(f"CTranslate2's {name} is {tensors[name].tolist()}; a Whisper has {wanted}, {_REMEDY}")
    heads = {int(_sized(tensors, f"{side}/num_heads", 0)) for side in ("encoder", "decoder")}
    if len(heads) != 1:
        raise InputError(f"CTranslate2's numbers of heads {sorted(heads)} are not one; {_REMEDY}")
    features, num_mels, _ = _sized(tensors, "encoder/conv1/weight", 3).shape
    vocabulary, _ = _sized(tensors, "decoder/embeddings/weight", 2).shape
    layers = [_num_layers(tensors, side) for side in ("encoder", "decoder")]
    made = network(
        Whisper,
        vocabulary,
        features,
        layers[0],
        heads.pop(),
        num_mels=num_mels,
        max_source=_sized(tensors, "encoder/position_encodings/encodings", 2).shape[0],
        max_length=_sized(tensors, "decoder/position_encodings/encodings", 2).shape[0],
        decoder_layers=layers[1],
        hidden=_sized(tensors, "decoder/layer_0/ffn/linear_0/weight", 2).shape[0],
        **options,
    )
    head = "decoder/projection/weight"  # another name of the embeddings, or, if not, no Whisper's
    tied = head in tensors and np.array_equal(tensors[head], tensors["decoder/embeddings/weight"])
    return made, ctranslate2_layout(*layers, ignored=(head,) if tied else ())


def ctranslate2_layout(num_layers: int, decoder_layers: int, *, ignored: tuple[str, ...] = ()) -> Layout:
    """Return the layout of a Whisper in CTranslate2's files, where projections from one input are one matrix.

    Args:
        num_layers: blocks of the encoder.
        decoder_layers: blocks of the decoder.
        ignored: names of copies.
    """
    rules = [
        *_convolutions("encoder/conv{}/{}"),
        same("decoder/embeddings/weight", "decoder/embed/embedding"),
    ]
    for side, number in (("encoder", num_layers), ("decoder", decoder_layers)):
        rules.append(same(f"{side}/position_encodings/encodings", f"{side}/position_embedding"))
        rules += _norm(f"{side}/layer_norm", f"{side}/norm")
        for i in range(number):
            theirs, ours = f"{side}/layer_{i}", f"{side}/blocks/{i}"
            rules += _norm(f"{theirs}/self_attention/layer_norm", f"{ours}/attention_norm")
            rules += _fused(f"{theirs}/self_attention", f"{ours}/attention", ("qkv", ("out",)))
            if side == "decoder":
                rules += _norm(f"{theirs}/attention/layer_norm", f"{ours}/cross_norm")
                rules += _fused(f"{theirs}/attention", f"{ours}/cross", ("q", "kv", ("out",)))
            rules += _norm(f"{theirs}/ffn/layer_norm", f"{ours}/feed_forward_norm")
            rules += _fused(f"{theirs}/ffn", f"{ours}/feed_forward", (("up",), ("down",)))
    return Layout("a Whisper in CTranslate2's files", tuple(rules), (*_FIXED, *_HINTS, *ignored))


def is_ctranslate2_whisper(tensors: Mapping[str, np.ndarray]) -> bool:
    """Return whether tensors are named as in CTranslate2's files of a Whisper."""
    return "encoder/conv1/weight" in tensors


def _convolutions(names: str) -> list[Rule]:
    return [
        rule
        for i in (1, 2)
        for rule in (
            conv1d(names.format(i, "weight"), f"encoder/conv{i}/kernel"),
            same(names.format(i, "bias"), f"encoder/conv{i}/bias"),
        )
    ]


def _attention(theirs: str, ours: str, features: int) -> list[Rule]:
    rules = layer_norm(f"{theirs}_layer_norm", f"{ours}_norm")
    for name, part in (("q_proj", "q"), ("v_proj", "v"), ("out_proj", "out")):
        rules += linear(f"{theirs}.{name}", f"{ours}/{part}")
    zeros = Rule((), (f"{ours}/k/bias",), lambda _: [np.zeros(features, np.float32)], lambda _: [])
    return [*rules, dense(f"{theirs}.k_proj.weight", f"{ours}/k/kernel"), zeros]


def _prefixed(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    return tuple(rule._replace(theirs=tuple(f"model.{name}" for name in rule.theirs)) for rule in rules)


def _norm(theirs: str, ours: str) -> list[Rule]:
    return [same(f"{theirs}/gamma", f"{ours}/scale"), same(f"{theirs}/beta", f"{ours}/bias")]


def _fused(theirs: str, ours: str, layers: Sequence[Sequence[str]]) -> list[Rule]:
    """Return the rules of layers "linear_0", "linear_1", ..., each of which holds the weights of some of ours."""
    rules = []
    for i, names in enumerate(layers):
        rules.append(_rows(f"{theirs}/linear_{i}/weight", [f"{ours}/{name}/kernel" for name in names]))
        rules.append(_rows(f"{theirs}/linear_{i}/bias", [f"{ours}/{name}/bias" for name in names]))
    return rules


def _rows(theirs: str, ours: Sequence[str]) -> Rule:
    """Return the rule of a matrix [N out, in], or biases [N out], of N of ours in a row, [in, out] or [out]."""

    def load(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return [part.T for part in np.split(arrays[0], len(ours))]

    return Rule((theirs,), tuple(ours), load, lambda arrays: [np.concatenate([array.T for array in arrays])])


def _sized(tensors: Mapping[str, np.ndarray], name: str, num_axes: int) -> np.ndarray:
    if name not in tensors or tensors[name].ndim != num_axes:
        raise InputError(f"CTranslate2's {name}, of {num_axes} axes, is not there; {_REMEDY}")
    return tensors[name]


def _num_layers(tensors: Mapping[str, np.ndarray], side: str) -> int:
    found = {name.split("/")[1] for name in tensors if re.match(rf"{side}/layer_\d+/", name)}
    if not 0 < len(found) <= _MOST_LAYERS:
        raise InputError(f"CTranslate2's {side} has {len(found)} layers; 1 to {_MOST_LAYERS} are read; {_REMEDY}")
    return len(found)
