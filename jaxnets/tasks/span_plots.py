"""Where a network looks for the first and the last token of an answer, drawn."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnets.data.span_windows import Windows
from jaxnets.data.spans import Asked
from jaxnets.inference.spans import Span
from jaxnets.metrics.spans import answer_exact_match
from jaxnets.runs import plots

_MOST = 48  # tokens that are drawn of a window, around the answer


def save_spans(
    path: Path,
    drawn: Sequence[int],
    found: Sequence[Span],
    chances: np.ndarray,
    windows: Windows,
    asked: Sequence[Asked],
) -> None:
    """Save the probabilities of the first and the last token over the tokens of some questions' contexts.

    The first bars are those of no answer. True answers are shaded.

    Args:
        path: of the picture.
        drawn: numbers of the questions.
        found: their answers.
        chances: of all windows, [N, 2, T].
        windows: of the questions.
        asked: all questions.
    """
    figure = plots.figure(figsize=(11, 2.4 * len(drawn)))
    panels = figure.subplots(len(drawn), 1, squeeze=False)[:, 0]
    for axes, number in zip(panels, drawn, strict=True):
        one, span = asked[number], found[number]
        first, count, at = (int(column[span.row]) for column in (windows.first, windows.length, windows.at))
        places = windows.places[number][first : first + count]
        middle = int(np.searchsorted(places[:, 0], max(span.start, 0)))
        low = max(0, min(middle - _MOST // 2, count - _MOST))
        shown = places[low : low + _MOST]
        columns = np.array([0, *range(at + low, at + low + len(shown))])
        position = np.arange(len(columns))
        for shift, colour, name, row in ((-0.2, "C0", "first token", 0), (0.2, "C1", "last token", 1)):
            axes.bar(position + shift, chances[span.row, row, columns], 0.4, color=colour, label=name)
        for answer in one.placed:
            true = np.flatnonzero((shown[:, 1] > answer.start) & (shown[:, 0] < answer.start + len(answer.text)))
            if len(true):
                axes.axvspan(true[0] + 0.5, true[-1] + 1.5, color="C2", alpha=0.25, linewidth=0, zorder=0)
        words = [one.context[start:stop] for start, stop in shown]
        axes.set_xticks(
            position, ["(no answer)", *words], rotation=60, ha="right", fontsize="x-small", parse_math=False
        )
        axes.set(xlim=(-0.7, len(columns) - 0.3), ylim=(0, 1.05), ylabel="probability")
        true_texts = [answer.text for answer in one.answers]
        right = answer_exact_match(span.text, true_texts) == 1
        told = f"{one.text}  {span.text or '(no answer)'} ({span.probability:.0%})"
        if not right:
            told += f"; right: {' / '.join(dict.fromkeys(true_texts)) or '(no answer)'}"
        axes.set_title(told[:140], fontsize="small", loc="left", color="black" if right else "C3", parse_math=False)
    bars, names = panels[0].get_legend_handles_labels()
    figure.legend(bars, names, loc="outside upper right", ncols=2, fontsize="x-small", title="shaded: the true answer")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for what the font lacks
        figure.savefig(path, dpi=120)
