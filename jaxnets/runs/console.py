"""Where results are printed, and what went wrong on the way."""

from rich.console import Console

console = Console(highlight=False, soft_wrap=True)
_errors = Console(highlight=False, soft_wrap=True, stderr=True)


def warn(message: str) -> None:
    """Print a warning beside the results."""
    _errors.print(f"warning: {message}", markup=False)


def silence() -> None:
    """Print nothing from here on: another process of the same run talks."""
    console.quiet = _errors.quiet = True
