"""How long: in steps, epochs or time, as people say it."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from jaxnets.errors import InputError

_UNITS = {"": "steps", "steps": "steps", "ep": "epochs", "epochs": "epochs", "s": "s", "m": "m", "h": "h"}
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Duration:
    """A number of steps, of epochs (passes over the training data), or of seconds."""

    amount: float
    unit: Literal["steps", "epochs", "seconds"]

    @staticmethod
    def parse(text: "str | int | Duration") -> "Duration":
        """Return what ``500`` or ``500steps``, ``5ep``, ``90s``, ``30m`` or ``1.5h`` says.

        Raises:
            InputError: if it is none of these, not more than 0, or a fraction of a step.
        """
        if isinstance(text, Duration):
            return text
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", str(text))
        if not match or match[2] not in _UNITS:
            raise InputError(f"duration {text!r} is not understood; say 500 (steps), 5ep (epochs), 90s, 30m or 1.5h")
        amount, unit = float(match[1]), _UNITS[match[2]]
        if amount <= 0 or (unit == "steps" and amount != int(amount)):
            raise InputError(f"duration {text!r} must be more than 0, and steps whole")
        if unit in _SECONDS:
            return Duration(amount * _SECONDS[unit], "seconds")
        return Duration(amount, "epochs" if unit == "epochs" else "steps")

    def steps(self, num_examples: int, batch_size: int) -> int | None:
        """Return the number of steps, None for a duration in time; a last, partial step of an epoch is taken whole."""
        match self.unit:
            case "steps":
                return int(self.amount)
            case "epochs":
                return max(1, math.ceil(self.amount * num_examples / batch_size - 1e-9))
            case "seconds":
                return None
