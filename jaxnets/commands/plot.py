"""The command that draws curves."""

from pathlib import Path
from typing import Annotated

import tyro

from jaxnets.errors import InputError
from jaxnets.runs import plots
from jaxnets.runs.console import console
from jaxnets.runs.folder import Run

MOST_ROWS = 50  # of a table of predictions


def plot(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    out: Path | None = None,
) -> int:
    """Draw training and validation curves, as a PNG and in the terminal.

    Args:
        runs: the folders of one or several runs.
        out: the picture; curves.png in the run's folder, or here for several runs.
    """
    if not runs:
        raise InputError("no runs to plot; name their folders")
    path = out or (runs[0] / "curves.png" if len(runs) == 1 else Path("curves.png"))
    plots.check_picture(path)
    histories = {str(path): Run.open(path).history() for path in runs}
    empty = [name for name, rows in histories.items() if not rows]
    if empty:
        raise InputError(f"{', '.join(empty)}: no metrics to draw yet")
    plots.save_curves(path, histories)
    print(plots.sketch(histories))
    console.print(f"drawn in {path}")
    return 0
