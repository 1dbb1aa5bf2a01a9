"""Over- and underfitting, on curves whose answer is known."""

import numpy as np
import pytest

from jaxnets.runs.diagnosis import diagnosis

LOWER = {"train/loss": "lower", "validation/loss": "lower"}
N = np.arange(20)


def rows(train, validation):
    curves = zip(train, validation, strict=True)
    return [{"step": 10 * i, "train/loss": a, "validation/loss": b} for i, (a, b) in enumerate(curves)]


@pytest.mark.parametrize(
    ("train", "validation", "found"),
    [
        (
            0.1 + (N / 20 - 0.3) ** 2,
            0.5 + N / 20,
            "divergence: the training loss was lowest, 0.1, at step 60 and is 0.5225 now; lower the learning rate",
        ),
        (1 / (1 + N), 0.5 + (N / 20 - 0.4) ** 2, "overfitting: the validation loss was lowest, 0.5, at step 80"),
        (1 - N / 40, 1.1 - N / 40, "underfitting"),
        (np.exp(-N), 0.1 + np.exp(-N), ""),  # both have settled
        (1 / (1 + N), 0.5 + 0.5 / (1 + N), ""),  # a gap alone is no rise
        (np.exp(-N), np.full(20, np.nan), ""),
    ],
)
def test_what_the_curves_show(train, validation, found):
    said = diagnosis(rows(train, validation), LOWER)
    assert said.startswith(found) if found else not said
    if found:
        assert ";" in said  # with the remedy
    several = rows(np.stack([train, train], 1), np.stack([validation, validation], 1))
    assert diagnosis(several, LOWER) == said


def test_nothing_is_said_of_a_game_or_a_short_run():
    history = rows(1 - N / 40, 1.1 - N / 40)
    assert not diagnosis(history, dict.fromkeys(LOWER))
    assert not diagnosis(history[:4], LOWER)
    assert not diagnosis([{"step": 1, "train/loss": 1.0}] * 9, LOWER)
