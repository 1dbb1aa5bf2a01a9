"""A few trials of every family (``trials.py``, which tries more by hand): killed or stopped, and resumed exactly."""

import pytest
import trials


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize("family", trials.FAMILIES)
def test_killed_at_random_moments_a_run_comes_to_the_same_bits(family, capfd):
    if family == "translation":
        pytest.importorskip("tokenizers")
        pytest.importorskip("sacrebleu")
    assert trials.main("kill", "2", family) == 0, capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.bits
def test_asked_to_stop_at_random_moments_a_run_saves_and_comes_to_the_same_bits(capfd):
    assert trials.main("stop", "4", "mlp") == 0, capfd.readouterr().out
