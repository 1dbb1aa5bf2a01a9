"""Lines about the data, beside what a command prints."""


def tell(message: str) -> None:
    """Print a line to the standard error."""
    from rich.console import Console  # noqa: PLC0415  (rich is needed only to show something)

    Console(stderr=True, highlight=False, soft_wrap=True).print(message, markup=False)
