"""The tokenizer in a GGUF file, as the ``tokenizers`` library writes one."""

from collections.abc import Mapping
from typing import Any

from jaxnets.data.subwords import library
from jaxnets.errors import InputError

_CONTROL = 3  # the type of tokens such as <|im_end|>
_DIGITS = {"smollm"}  # pre-tokenizers that take each digit by itself; the others that are read do not
_PLAIN = {"gpt-2", "default"}


def tokenizer_of(metadata: Mapping[str, Any], name: str) -> str:
    """Return the byte-level BPE of a GGUF file's metadata, as JSON of the ``tokenizers`` library.

    Raises:
        InputError: if it is of another kind, broken, or the library is not installed.
    """
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or pre not in _DIGITS | _PLAIN:
        raise InputError(
            f"{name}: a tokenizer of kind {kind!r}, {pre!r}, is not read; a gpt2 one is, of GPT-2 or SmolLM"
        )
    tokens = _texts(metadata, "tokenizer.ggml.tokens", name)
    merges = [tuple(merge.split(" ", 1)) for merge in _texts(metadata, "tokenizer.ggml.merges", name)]
    types = metadata.get("tokenizer.ggml.token_type", [])
    found = library()
    try:
        model = found.models.BPE({token: number for number, token in enumerate(tokens)}, merges)
    except Exception as error:  # the library raises no other kind
        raise InputError(f"{name}: its tokenizer is broken: {error}") from error
    tokenizer = found.Tokenizer(model)
    split = [found.pre_tokenizers.Digits(individual_digits=True)] if pre in _DIGITS else []
    tokenizer.pre_tokenizer = found.pre_tokenizers.Sequence(
        [*split, found.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = found.decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, types, strict=False) if kind == _CONTROL])
    return tokenizer.to_str()


def _texts(metadata: Mapping[str, Any], field: str, name: str) -> list[str]:
    found = metadata.get(field)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise InputError(f"{name}: has no {field}; it is a model without its tokenizer")
    return found
