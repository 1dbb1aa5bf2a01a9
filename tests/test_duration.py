"""Durations as people say them."""

import pytest

from jaxnets import InputError
from jaxnets.training.duration import Duration


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("500", 500, "steps"),
        (500, 500, "steps"),
        ("500steps", 500, "steps"),
        ("5ep", 5, "epochs"),
        ("0.5 epochs", 0.5, "epochs"),
        ("90s", 90, "seconds"),
        ("30m", 1800, "seconds"),
        ("1.5h", 5400, "seconds"),
    ],
)
def test_parse(text, amount, unit):
    assert Duration.parse(text) == Duration(amount, unit)
    assert Duration.parse(Duration.parse(text)) == Duration(amount, unit)


@pytest.mark.parametrize("text", ["", "ten", "5 parsecs", "-3", "0", "0ep", "1.5", "nan", "1e3", "5ep2"])
def test_refuses(text):
    with pytest.raises(InputError, match="duration"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "steps"), [("7", 7), ("1ep", 4), ("2ep", 7), ("0.01ep", 1), ("3ep", 10), ("8ep", 25), ("5s", None)]
)
def test_steps_of_100_examples_in_batches_of_32(text, steps):
    assert Duration.parse(text).steps(100, 32) == steps
