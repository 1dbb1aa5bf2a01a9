"""Questions and contexts as rows of tokens, long contexts in windows that overlap, and where answers stand in these."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnets.data.spans import Asked
from jaxnets.data.subwords import PADDING, encode_with_places, token_number
from jaxnets.errors import InputError
from jaxnets.memory import check_fits

BEGIN, SEPARATOR = "[CLS]", "[SEP]"  # tokens of BERT: before the question, and behind it and the context
_AROUND = 3  # of these in a row


class Windows(NamedTuple):
    """Rows of BEGIN, question, SEPARATOR, a stretch of the context, SEPARATOR.

    Attributes:
        tokens: int32 [N, T], filled up with padding.
        question: number of each row's question, rising, [N].
        first: number of the context's token that the stretch begins with, [N].
        length: tokens of the stretch, [N].
        at: where it begins in its row, [N].
        places: for each question, the characters that each token of its context stands for, from and to, [C, 2].
    """

    tokens: np.ndarray
    question: np.ndarray
    first: np.ndarray
    length: np.ndarray
    at: np.ndarray
    places: list[np.ndarray]


class Labelled(NamedTuple):
    """Where answers stand.

    Attributes:
        labels: the positions of an answer's first and last token, int32 [N, 2]; 0 in a window that has none, and -1 in
            windows whose question's answers cannot be pointed at.
        misplaced: names of questions none of whose answers stands at its place in the context.
        cut: names of questions whose answers stand whole in no window.
        within: names of questions whose answer begins or ends within a token, which is taken whole.
    """

    labels: np.ndarray
    misplaced: list[str]
    cut: list[str]
    within: list[str]


def special_token(name: str, tokenizer: str) -> int:
    """Return the number of a token of BERT.

    Raises:
        InputError: if the tokenizer has none of this name.
    """
    number = token_number(name, tokenizer)
    if number is None:
        raise InputError(f"the tokenizer has no token {name}; use weights of a BERT")
    return number


def encode_windows(questions: Sequence[Asked], tokenizer: str, max_tokens: int, overlap: int) -> Windows:
    """Return questions with their contexts as rows of tokens, a row for each window of a context.

    Args:
        questions: with their contexts.
        tokenizer: JSON of the ``tokenizers`` library, one of BERT's kind.
        max_tokens: T, of a row.
        overlap: tokens that a context's neighbouring windows share.

    Raises:
        InputError: if a question leaves no room for its context, or a context has no words.
    """
    begin, separator = special_token(BEGIN, tokenizer), special_token(SEPARATOR, tokenizer)
    texts = list(dict.fromkeys(text for one in questions for text in (one.text, one.context)))
    known = dict(zip(texts, encode_with_places(texts, tokenizer), strict=True))
    rows: list[tuple[int, int, int, int]] = []
    for number, one in enumerate(questions):
        (asked, _), (told, _) = known[one.text], known[one.context]
        if not told:
            raise InputError(f"question {one.name}: its context {one.context[:50]!r} has no words")
        room = max_tokens - _AROUND - len(asked)
        if room < len(told) and room <= overlap:
            raise InputError(
                f"question {one.name} has {len(asked)} tokens: rows of max_tokens={max_tokens} leave room for "
                f"{max(room, 0)} of its context, and overlap={overlap} of them are shared; use a larger --max-tokens "
                "or a smaller --overlap"
            )
        first = 0
        while first + room < len(told):
            rows.append((number, first, room, len(asked) + 2))
            first += room - overlap
        rows.append((number, first, len(told) - first, len(asked) + 2))
    check_fits(f"{len(rows):,} windows", 4 * len(rows) * max_tokens, "use a smaller --max-tokens or --overlap")
    tokens = np.full((len(rows), max_tokens), PADDING, np.int32)
    for row, (number, first, count, at) in zip(tokens, rows, strict=True):
        told = known[questions[number].context][0][first : first + count]
        row[: at + count + 1] = [begin, *known[questions[number].text][0], separator, *told, separator]
    number, first, length, at = np.array(rows, np.int64).T
    return Windows(tokens, number, first, length, at, [known[one.context][1] for one in questions])


def label_windows(questions: Sequence[Asked], windows: Windows) -> Labelled:
    """Return where the answers stand in the windows of their questions."""
    labels = np.zeros((len(windows.tokens), 2), np.int32)
    misplaced, cut, within = [], [], []
    bounds = np.searchsorted(windows.question, np.arange(len(questions) + 1))
    for one, places, low, high in zip(questions, windows.places, bounds, bounds[1:], strict=False):
        if not one.answers:
            continue
        spans = [span for answer in one.placed if (span := _tokens(places, answer.start, len(answer.text)))]
        for row in range(low, high):
            first, last = windows.first[row], windows.first[row] + windows.length[row]
            inside = [span for span in spans if first <= span[0] and span[1] < last]
            if inside:
                labels[row] = np.array(inside[0][:2]) - first + windows.at[row]
        if not labels[low:high].any():
            labels[low:high] = -1
            (cut if spans else misplaced).append(one.name)
        elif not spans[0][2]:
            within.append(one.name)
    return Labelled(labels, misplaced, cut, within)


def _tokens(places: np.ndarray, start: int, length: int) -> tuple[int, int, bool] | None:
    """Return the first and the last token of a stretch of characters, and whether they are that stretch; if any are."""
    first = int(np.searchsorted(places[:, 1], start, side="right"))
    last = int(np.searchsorted(places[:, 0], start + length, side="left")) - 1
    if last < first:
        return None
    return first, last, bool(places[first, 0] >= start and places[last, 1] <= start + length)
