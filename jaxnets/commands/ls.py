"""The command that lists recipes."""

from jaxnets import recipes
from jaxnets.runs.console import console


def ls() -> int:
    """List recipes and presets."""
    for name, presets in recipes.catalogue().items():
        console.print(f"[bold]{name}[/bold]" if presets else f"[bold]{name}[/bold]: its file cannot be read")
        width = max(map(len, presets), default=0)
        for preset, about in presets.items():
            console.print(f"  {preset:<{width}}  {about}")
    return 0
