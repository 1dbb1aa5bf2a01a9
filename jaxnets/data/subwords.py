"""Text as parts of words: a byte-pair encoding (Sennrich et al., 2016), learned from the training data."""

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from jaxnets.errors import InputError

PADDING, UNKNOWN, START, END = range(4)
_SPECIAL = ("<padding>", "<unknown>", "<start>", "<end>")
_OF_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def learn_subwords(sentences: Iterable[str], size: int) -> str:
    """Return a tokenizer of at most ``size`` parts of words, as JSON of the ``tokenizers`` library.

    Words are what stands between spaces: the text comes back as it was.

    Raises:
        InputError: if the library is not installed, or the text has as many characters.
    """
    found = library()
    tokenizer = found.Tokenizer(found.models.BPE(unk_token=_SPECIAL[UNKNOWN]))
    tokenizer.pre_tokenizer = found.pre_tokenizers.Metaspace()
    tokenizer.decoder = found.decoders.Metaspace()
    trainer = found.trainers.BpeTrainer(vocab_size=size, special_tokens=list(_SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(sentences, trainer)
    if tokenizer.get_vocab_size() > size:
        raise InputError(
            f"a vocabulary of {size} has no room for parts of words: the text's characters alone are "
            f"{tokenizer.get_vocab_size()}; use a larger --vocabulary"
        )
    return tokenizer.to_str()


def learn_wordpieces(texts: Iterable[str], size: int) -> str:
    """Return a tokenizer of BERT's kind (Schuster and Nakajima, 2012), as JSON of the ``tokenizers`` library.

    Words are lower-cased, and punctuation stands by itself. The parts are all characters, to begin a word and to go on
    with, and the most frequent words: the same texts have the same tokens, as the library's own trainer would not.

    Args:
        texts: as people write them.
        size: parts, at most.

    Raises:
        InputError: if the library is not installed, or the characters alone are more.
    """
    found = library()
    normalizer, pre_tokenizer = (
        found.normalizers.BertNormalizer(lowercase=True),
        found.pre_tokenizers.BertPreTokenizer(),
    )
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = sorted({letter for word in words for letter in word})
    parts = [*_OF_BERT, *letters, *(f"##{letter}" for letter in letters)]
    if len(parts) > size:
        raise InputError(
            f"a vocabulary of {size} has no room for words: the texts' characters alone make {len(parts)} parts; use a "
            "larger --vocabulary"
        )
    often = sorted(words, key=lambda word: (-words[word], word))
    parts = list(dict.fromkeys([*parts, *often]))[:size]
    model = found.models.WordPiece({part: number for number, part in enumerate(parts)}, unk_token=_OF_BERT[UNKNOWN])
    tokenizer = found.Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.decoder = found.decoders.WordPiece()
    tokenizer.add_special_tokens(list(_OF_BERT))
    return tokenizer.to_str()


def num_subwords(tokenizer: str) -> int:
    """Return how many tokens there are."""
    return _read(tokenizer).get_vocab_size()


def encode_subwords(sentences: Sequence[str], tokenizer: str, length: int, *, start: bool) -> np.ndarray:
    """Return the sentences' tokens and the end's, int32 [len(sentences), length], filled up with padding.

    Args:
        sentences: of words with spaces between them.
        tokenizer: as ``learn_subwords`` returns it.
        length: of the longest sentence, its ends included.
        start: begin with the start's token.

    Raises:
        InputError: if a sentence is empty or too long.
    """
    rows = np.full((len(sentences), length), PADDING, np.int32)
    for number, encoding in enumerate(_read(tokenizer).encode_batch(list(sentences))):
        tokens = [START] * start + encoding.ids + [END]
        if not sentences[number].strip():
            raise InputError(f"sentence {number + 1} is empty; give words")
        if len(tokens) > length:
            raise InputError(
                f"sentence {number + 1}, {sentences[number][:50]!r}, has {len(encoding.ids)} tokens; "
                f"1 to {length - 1 - start} are taken"
            )
        rows[number, : len(tokens)] = tokens
    return rows


def encode_sentences(sentences: Sequence[str], tokenizer: str, most: int = 0) -> np.ndarray:
    """Return the tokens of sentences by a tokenizer of pretrained weights, with the ends that it puts around them.

    Args:
        sentences: as people write them.
        tokenizer: JSON of the ``tokenizers`` library.
        most: tokens of a sentence, the ends included; what is beyond is cut. As the tokenizer says, if 0.

    Returns:
        int32 [len(sentences), T], T being the longest; shorter ones are filled up with the padding of BERT, 0.

    Raises:
        InputError: if there is nothing in a sentence, or the tokenizer cannot be read.
    """
    read = copy.deepcopy(_read(tokenizer))
    read.encode_special_tokens = True  # a copy loses it
    read.no_padding()
    if most:
        read.enable_truncation(most)
    if empty := [number for number, sentence in enumerate(sentences, start=1) if not sentence.strip()]:
        raise InputError(f"sentence {empty[0]} is empty; give words")
    found = [encoding.ids for encoding in read.encode_batch(list(sentences))]
    rows = np.full((len(found), max(map(len, found), default=0)), PADDING, np.int32)
    for row, ids in zip(rows, found, strict=True):
        row[: len(ids)] = ids
    return rows


def encode_with_places(texts: Sequence[str], tokenizer: str) -> list[tuple[list[int], np.ndarray]]:
    """Return the tokens of texts, without ends around them, and the characters of its text that each stands for.

    Args:
        texts: as people write them.
        tokenizer: JSON of the ``tokenizers`` library.

    Returns:
        For each text its tokens and, from and to, int32 [tokens, 2].
    """
    read = copy.deepcopy(_read(tokenizer))
    read.encode_special_tokens = True  # a copy loses it
    read.no_padding()
    read.no_truncation()
    found = read.encode_batch(list(texts), add_special_tokens=False)
    return [(encoding.ids, np.array(encoding.offsets, np.int32).reshape(-1, 2)) for encoding in found]


def unknown_characters(sentence: str, tokenizer: str) -> str:
    """Return the characters that the tokenizer does not know, each once."""
    encoding = _read(tokenizer).encode(sentence)
    spans = (
        sentence[slice(*span)] for token, span in zip(encoding.ids, encoding.offsets, strict=True) if token == UNKNOWN
    )
    return "".join(dict.fromkeys(spans))


def decode_subwords(rows: np.ndarray, tokenizer: str) -> list[str]:
    """Return the sentences of tokens [N, T], each up to its end."""
    ends = [int(np.argmax(row == END)) if END in row else len(row) for row in rows]
    kept = [[int(token) for token in row[:end] if token >= len(_SPECIAL)] for row, end in zip(rows, ends, strict=True)]
    return _read(tokenizer).decode_batch(kept)


def token_number(token: str, tokenizer: str) -> int | None:
    """Return the number of a token by its name, special ones too; None if there is none."""
    return _read(tokenizer).token_to_id(token)


def encode_tokens(text: str, tokenizer: str) -> list[int]:
    """Return the tokens of a text, without those that the tokenizer puts around it."""
    return _read(tokenizer).encode(text, add_special_tokens=False).ids


def decode_tokens(tokens: Sequence[int], tokenizer: str) -> str:
    """Return the text of tokens, without special ones."""
    return _read(tokenizer).decode(list(tokens))


@lru_cache(maxsize=4)
def _read(tokenizer: str) -> Any:
    found = library()
    try:
        read = found.Tokenizer.from_str(tokenizer)
    except Exception as error:  # the library raises no other kind
        raise InputError(f"the tokenizer cannot be read: {error}; it is JSON of the tokenizers library") from error
    read.encode_special_tokens = True  # text that spells a special token is text
    return read


def library() -> Any:
    """Return the ``tokenizers`` library.

    Raises:
        InputError: if it is not installed; it is an extra.
    """
    try:
        import tokenizers  # noqa: PLC0415  (an extra)
    except ImportError:
        raise InputError("this needs the tokenizers library: pip install 'jaxnets[translation]'") from None
    return tokenizers
