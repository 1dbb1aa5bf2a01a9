"""The range test's suggestion, on curves whose answer is known."""

import numpy as np
import pytest

from jaxnets import InputError
from jaxnets.commands.lr_find import range_test_config
from jaxnets.recipes.recipe import find
from jaxnets.training.lr_finder import suggestion

RATES = np.geomspace(1e-5, 10, 100)


def test_a_tenth_of_the_lowest_point():
    losses = 2 - np.exp(-(np.log10(RATES / 0.03) ** 2))
    assert suggestion(RATES, losses) == pytest.approx(0.003, rel=0.1)


@pytest.mark.parametrize("losses", [np.full(100, 2.0), np.linspace(2, 3, 100), np.array([])])
def test_no_suggestion_where_the_loss_never_falls(losses):
    assert suggestion(RATES[: len(losses)], losses) is None


def test_the_config_rises_over_all_its_steps():
    config = range_test_config(find("digits-cnn").config, 200)
    assert (config.optimizer.schedule, config.optimizer.warmup) == ("range-test", 0)
    assert (config.training.duration, config.training.evaluate_every) == ("200", "1")


def test_refuses():
    with pytest.raises(InputError, match="steps=10 are too few"):
        range_test_config(find("digits-cnn").config, 10)
