"""Answers that stand in a text: the likeliest span over all windows of a context."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnets.data.span_windows import Windows
from jaxnets.errors import InputError, check_whole

_LEAST = 1e-38  # of a probability, so that its logarithm is finite


class Span(NamedTuple):
    """An answer.

    Attributes:
        text: the characters of the context; "" for no answer.
        probability: of its first token times that of its last, in the window where it is likeliest.
        start: the character of the context that it begins with; -1 for no answer.
        stop: the one behind it, likewise.
        row: the window.
    """

    text: str
    probability: float
    start: int
    stop: int
    row: int


def best_spans(
    chances: np.ndarray, windows: Windows, contexts: Sequence[str], max_answer: int, *, or_none: bool
) -> list[Span]:
    """Return the likeliest span of each question over all windows of its context, cut out of this as it stands.

    Args:
        chances: probabilities of the first and the last token, [N, 2, T], windows by themselves.
        windows: of the questions.
        contexts: of the questions.
        max_answer: tokens of an answer, at most.
        or_none: whether a question may have no answer: where the first position, in the window in which it is least
            likely, is likelier than any span (Devlin et al., 2019).

    Raises:
        InputError: if the probabilities are not those of the windows.
    """
    check_whole("max_answer", max_answer, remedy="tokens of an answer")
    rows, length = windows.tokens.shape
    if chances.shape != (rows, 2, length):
        raise InputError(f"chances of shape {chances.shape} for windows {windows.tokens.shape}; give [N, 2, T]")
    position = np.arange(length)
    inside = (position >= windows.at[:, None]) & (position < (windows.at + windows.length)[:, None])
    logs = np.where(inside[:, None], np.log(np.maximum(chances, _LEAST)), -np.inf)
    best, begin, end = np.full(rows, -np.inf), np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    for more in range(min(max_answer, length)):
        joint = logs[:, 0, : length - more] + logs[:, 1, more:]
        at = joint.argmax(1)
        value = joint[np.arange(rows), at]
        better = value > best
        best, begin, end = (np.where(better, *pair) for pair in ((value, best), (at, begin), (at + more, end)))
    none = chances[:, 0, 0] * chances[:, 1, 0]
    found = []
    bounds = np.searchsorted(windows.question, np.arange(len(contexts) + 1))
    for context, places, low, high in zip(contexts, windows.places, bounds, bounds[1:], strict=False):
        row = low + int(best[low:high].argmax())
        empty = low + int(none[low:high].argmin())
        probability = float(np.exp(best[row]))
        if or_none and none[empty] > probability:
            found.append(Span("", float(none[empty]), -1, -1, empty))
            continue
        shift = windows.first[row] - windows.at[row]
        start, stop = int(places[begin[row] + shift, 0]), int(places[end[row] + shift, 1])
        found.append(Span(context[start:stop], probability, start, stop, row))
    return found
