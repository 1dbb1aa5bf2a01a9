"""A few trials (``trials.py`` tries all families, and more often, by hand): killed or stopped, and resumed exactly."""

import pytest
import trials


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize("family", ["mlp", "gan", "population"])
def test_killed_at_random_moments_a_run_comes_to_the_same_bits(family, capfd):
    assert trials.main("kill", "2", family) == 0, capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.bits
def test_asked_to_stop_at_random_moments_a_run_saves_and_comes_to_the_same_bits(capfd):
    assert trials.main("stop", "4", "mlp") == 0, capfd.readouterr().out
