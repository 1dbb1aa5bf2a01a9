"""What is said of a fault that is none of the user's: where it happened, on what, and where to report it."""

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any


def report(error: BaseException, command: Sequence[str]) -> str:
    """Return the traceback of an error, the versions and the hardware, the command, and where to report it."""
    own = [word for word in command if word.endswith(".py")]
    whose = f"a fault of {own[0]}, or of jaxnets" if own else "a fault of jaxnets, not yours"
    facts = [f"  {name}: {value}" for name, value in _environment().items()]
    facts.append(f"  command: jaxnets {' '.join(command)}")
    lines = ["".join(traceback.format_exception(error)), f"This is {whose}. Please report all of this to {_tracker()}:"]
    return "\n".join([*lines, *facts])


def _environment() -> dict[str, Any]:
    try:
        from jaxnets.runs.environment import environment  # noqa: PLC0415  (may be what failed)

        return {name: value for name, value in environment().items() if name != "command"}
    except Exception as error:
        return {"python": sys.version.split()[0], "environment": f"unknown: {error}"}


def _tracker() -> str:
    """Return where faults are reported: the page that the package names, if it names one."""
    try:
        urls = dict(line.split(", ", 1) for line in metadata("jaxnets").get_all("Project-URL") or [])
    except PackageNotFoundError:
        urls = {}
    return next((url for name, url in urls.items() if name.lower() == "issues"), "the project's issue tracker")
