"""How long: in steps, epochs or time, as people say it."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from jaxnets.errors import InputError, short

_UNITS = {"": "steps", "steps": "steps", "ep": "epochs", "epochs": "epochs", "s": "s", "m": "m", "h": "h"}
_MOST = 2**31 - 1  # a run's steps are counted in 32 bits
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Duration:
    """A number of steps, of epochs (passes over the training data), or of seconds."""

    amount: float
    unit: Literal["steps", "epochs", "seconds"]

    @staticmethod
    def parse(text: "str | int | Duration", name: str = "duration") -> "Duration":
        """Return what ``500`` or ``500steps``, ``5ep``, ``90s``, ``30m`` or ``1.5h`` says.

        Args:
            text: what is said.
            name: of what has that length, for errors.

        Raises:
            InputError: if it is none of these, not more than 0, more than can be counted, or a fraction of a step.
        """
        if isinstance(text, Duration):
            return text
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", str(text))
        if not match or match[2] not in _UNITS:
            said = "500 (steps), 5ep (epochs), 90s, 30m or 1.5h"
            raise InputError(f"{name} {short(text)} is not understood; say {said}")
        amount, unit = float(match[1]), _UNITS[match[2]]
        if not 0 < amount < _MOST or (unit == "steps" and amount != int(amount)):
            raise InputError(f"{name} {short(text)} must be more than 0, less than {_MOST:,}, and steps whole")
        if unit in _SECONDS:
            return Duration(amount * _SECONDS[unit], "seconds")
        return Duration(amount, "epochs" if unit == "epochs" else "steps")

    def steps(self, num_examples: int, batch_size: int) -> int | None:
        """Return the number of steps, None for a duration in time; a last, partial step of an epoch is taken whole.

        Raises:
            InputError: if it is less than one example, or more steps than can be counted.
        """
        match self.unit:
            case "steps":
                return int(self.amount)
            case "epochs":
                num_steps = max(1, math.ceil(self.amount * num_examples / batch_size - 1e-9))
                if self.amount * num_examples < 1 - 1e-9 or num_steps >= _MOST:
                    raise InputError(
                        f"{self.amount:g} epochs of {num_examples} examples must be one example or more, and fewer "
                        f"than {_MOST:,} steps; give a number of epochs such as 5ep, or of steps"
                    )
                return num_steps
            case "seconds":
                return None
