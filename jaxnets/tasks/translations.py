"""Translations: sentences of another language, found by a beam search and scored by BLEU."""

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Spec, Splits, subwords
from jaxnets.errors import InputError
from jaxnets.inference.generation import beam_search
from jaxnets.models import SourceTarget
from jaxnets.tasks.task import Examples, Finished, Row, Task, Trained, one_row_each

_TOGETHER = 50  # sentences that are translated at once
_CLITIC = {"en": r"'\w+|", "fr": r"\w+'|"}  # what a treebank splits off with its apostrophe, by language
_SIGNS = str.maketrans("\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019\u2013\u2014", '"""""\'\'--')  # to keyboards' own


def translations(
    spec: Spec,
    search: dict[str, Any],
    lengths: Sequence[int],
    languages: tuple[str, str],
    captions: bool,
    test: Callable[[], Sequence[Sequence[str]]],
) -> Task:
    """Return the task of an encoder-decoder over parts of words.

    Args:
        spec: of the training data, with the tokenizer.
        search: options of ``beam_search``.
        lengths: of the batches that are translated, rising; the last is the longest sentence that is taken.
        languages: what is read, and what is written.
        captions: the training data are lower-cased and split, as sentences then have to be.
        test: returns the sentences to translate in the end, and what they should become.
    """
    tokenizer, most = spec["inputs"].tokenizer, lengths[-1]

    def read(given: Sequence[str], options: object) -> Examples:
        if not given:
            raise InputError("nothing is given; give sentences")
        split = [split_words(text, languages[0]) if captions else " ".join(text.split()) for text in given]
        return Examples([{"sentence": text} for text in given], split)

    def predict(trained: Trained, examples: Examples) -> list[str]:
        sources = subwords.encode_subwords(examples.inputs, tokenizer, most, start=False)
        counts = (sources != subwords.PADDING).sum(1)
        order = np.argsort(counts, kind="stable")
        written = np.full((len(sources), most - 1), subwords.END, np.int32)
        for start in range(0, len(order), _TOGETHER):
            rows = order[start : start + _TOGETHER]
            length = lengths[int(np.searchsorted(lengths, counts[rows].max()))]  # few lengths: few compilations
            padded = np.resize(rows, min(_TOGETHER, len(order)))  # the last few, over again
            starts = jnp.full((len(padded), 1), subwords.START, jnp.int32)
            prompt = SourceTarget(jnp.asarray(sources[padded, :length]), starts)
            found = beam_search(trained.learner, trained.first, prompt, most - 1, end=subwords.END, **search)
            written[rows] = np.asarray(found.tokens[: len(rows), 0])
        return subwords.decode_subwords(written, tokenizer)

    def rows(examples: Examples, made: list[str]) -> Sequence[Row]:
        found = [
            {
                "translation": html.unescape(text) if captions else text,
                "unknown characters": subwords.unknown_characters(words, tokenizer),
            }
            for words, text in zip(examples.inputs, made, strict=True)
        ]
        return one_row_each(examples, found)

    def finish(trained: Trained, splits: Splits, folder: Path) -> Finished:
        """Translate the test sentences, and score them by BLEU (sacrebleu, on the tokens as they are)."""
        sources, wanted = test()
        scores = []
        for number, state in enumerate(trained.states):
            written = predict(Trained(trained.learner, [state]), Examples([], sources))
            scores.append(bleu(written, wanted))
            if number == 0:
                one, other = languages
                lines = zip(sources, written, wanted, strict=True)
                text = "".join(f"{one}  {a}\n{other}  {b}\nreal  {c}\n\n" for a, b, c in lines)
                (folder / "translations.txt").write_text(text, encoding="utf-8")
        return Finished({"test/bleu": scores})

    return Task(read=read, predict=predict, rows=rows, finish=finish, example=_example)


def _example(spec: Spec) -> SourceTarget:
    """Return shapes and dtypes of one pair: of the target, all tokens but the last are given."""
    source: Any = spec["inputs"].example
    target: Any = jax.ShapeDtypeStruct((spec["targets"].shape[0] - 1,), np.int32)
    return SourceTarget(source, target)


def split_words(sentence: str, language: str) -> str:
    """Return a sentence as Multi30k's are written: lower-cased, punctuation apart, quotation marks by their names."""
    word = rf"{_CLITIC.get(language, '')}\d+(?:[.,]\d+)+|(?:[^\W\d_]\.){{2,}}|\w+(?:-\w+)*|[^\w\s]"
    words = re.findall(word, sentence.lower().translate(_SIGNS))
    return " ".join(html.escape(word).replace("&#x27;", "&apos;") for word in words)


def bleu(translated: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the BLEU of sentences of words with spaces between them.

    Raises:
        InputError: if the sacrebleu library is not installed.
    """
    try:
        from sacrebleu import corpus_bleu  # noqa: PLC0415  (an extra)
    except ImportError:
        raise InputError("BLEU needs the sacrebleu library: pip install 'jaxnets[translation]'") from None
    return corpus_bleu(list(translated), [list(wanted)], tokenize="none", force=True).score
