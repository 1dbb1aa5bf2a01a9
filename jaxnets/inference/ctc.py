"""What CTC's outputs say: the best path, the likeliest sequence by a search over prefixes, and when each token is said.

All is of one recording, logits [T, V] on the host; class 0 is the blank.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxnets.errors import InputError, check_whole
from jaxnets.losses import ctc_frames

_NEVER = -math.inf
_PASSED_OVER = -20.0  # log-probability of a class in one frame


class Hypothesis(NamedTuple):
    """Tokens, and the logarithm of their probability over all the paths that were followed."""

    tokens: tuple[int, ...]
    log_probability: float


class Spoken(NamedTuple):
    """A token, with its first frame and the one after its last."""

    token: int
    start: int
    end: int


def greedy(logits: np.ndarray) -> tuple[int, ...]:
    """Return the tokens of the likeliest path: repeats are one, blanks none."""
    best = _checked(logits).argmax(1)
    new = np.concatenate([[True], best[1:] != best[:-1]])
    return tuple(int(token) for token in best[new & (best != 0)])


def prefix_beam(logits: np.ndarray, num_beams: int = 8) -> list[Hypothesis]:
    """Return the likeliest sequences of tokens, the best first (Hannun et al., 2014).

    Each of the ``num_beams`` prefixes that are kept has the sum of its paths, those that end in a blank and those that
    do not. With as many beams as there are prefixes the probabilities are exact, but for classes that are less likely
    than 2e-9 in a frame, which are passed over.
    """
    check_whole("num_beams", num_beams, remedy="prefixes that are followed at once")
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, _NEVER)}  # ends in a blank, or in its last token
    for frame in log_softmax(logits):
        likely = [int(token) for token in np.flatnonzero(frame > _PASSED_OVER) if token]
        logs = frame.tolist()
        found: dict[tuple[int, ...], tuple[float, float]] = {}
        for prefix, (blank, token) in beams.items():
            both = _sum(blank, token)
            stays, says = found.get(prefix, (_NEVER, _NEVER))
            again = token + logs[prefix[-1]] if prefix else _NEVER
            found[prefix] = _sum(stays, both + logs[0]), _sum(says, again)
            for new in likely:
                stays, says = found.get((*prefix, new), (_NEVER, _NEVER))
                before = blank if prefix and prefix[-1] == new else both
                found[*prefix, new] = stays, _sum(says, before + logs[new])
        possible = (item for item in found.items() if _sum(*item[1]) > _NEVER)
        beams = dict(sorted(possible, key=lambda item: -_sum(*item[1]))[:num_beams])
    return [Hypothesis(prefix, _sum(*sums)) for prefix, sums in beams.items()]


def _sum(a: float, b: float) -> float:
    """Return the logarithm of the sum of two probabilities."""
    least, most = (a, b) if a < b else (b, a)
    return most if least == _NEVER else most + math.log1p(math.exp(least - most))


def aligned(logits: np.ndarray, tokens: Sequence[int]) -> list[Spoken]:
    """Return when each token is said: the frames that the likeliest path of these tokens gives it (Viterbi).

    Raises:
        InputError: if there are fewer frames than tokens and repeats of one.
    """
    frames = log_softmax(logits)
    if len(frames) < (needed := ctc_frames(tokens)):
        raise InputError(f"{len(tokens)} tokens need {needed} frames, and there are {len(frames)}")
    states = np.zeros(2 * len(tokens) + 1, np.int64)  # blank, token, blank, token, ..., blank
    states[1::2] = tokens
    skips = np.zeros(len(states), bool)
    skips[2:] = (states[2:] != 0) & (states[2:] != states[:-2])
    scores = np.full(len(states), _NEVER)
    scores[:2] = frames[0, states[:2]]
    moves = np.zeros((len(frames), len(states)), np.int64)
    for at, frame in enumerate(frames[1:], 1):
        came = np.full((3, len(states)), _NEVER)
        came[0] = scores
        came[1, 1:] = scores[:-1]
        came[2, 2:] = np.where(skips[2:], scores[:-2], _NEVER)
        moves[at] = came.argmax(0)
        scores = came.max(0) + frame[states]
    path = [len(states) - 1 - int(len(states) > 1 and scores[-2] > scores[-1])]
    for move in moves[:0:-1]:
        path.append(path[-1] - int(move[path[-1]]))
    where = np.array(path[::-1])
    spans = [np.flatnonzero(where == 2 * number + 1) for number in range(len(tokens))]
    return [Spoken(int(token), int(at[0]), int(at[-1]) + 1) for token, at in zip(tokens, spans, strict=True)]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of each frame's probabilities, [T, V] float64."""
    shifted = _checked(logits) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _checked(logits: np.ndarray) -> np.ndarray:
    if logits.ndim != 2 or not len(logits):
        raise InputError(f"logits of shape {logits.shape}; give those of one recording, [T, V]")
    return np.asarray(logits, np.float64)
