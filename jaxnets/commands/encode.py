"""The command that writes codes."""

from pathlib import Path
from typing import Annotated

import tyro

from jaxnets.commands.opening import RecipeFile, RunFolder, file_options, open_run
from jaxnets.data import check_table, write_table
from jaxnets.errors import InputError
from jaxnets.runs.console import console
from jaxnets.training.compiling import use_compile_cache


def encode(
    run: RunFolder,
    given: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    out: Path | None = None,
    recipe: RecipeFile = None,
    invert: bool = False,
) -> int:
    """Write the codes that an autoencoder gives to images, a row each.

    Of several seeds, the first's.

    Args:
        run: the run's folder.
        given: images, npy, npz or CSV files of inputs, or recordings.
        out: the file to write, .npy, .npz or .csv; codes.npy in the run's folder if absent.
        recipe: the recipe's file, if the run is of one's own recipe.
        invert: swap dark and bright in images, for ink on paper and a model of white on black.
    """
    if out is not None:
        check_table(out)
    opened = open_run(run, recipe)
    path = out or opened.run.path / "codes.npy"
    if opened.task.encode is None:
        raise InputError(f"{run}: {opened.config.recipe} is no single autoencoder, and has no code for each example")
    examples = opened.task.read(given, file_options(opened.task, invert))
    use_compile_cache()
    codes = opened.task.encode(opened.trained(), examples)
    write_table(path, codes, [f"code_{i}" for i in range(codes.shape[-1])])
    console.print(f"codes of {len(codes):,} examples, {codes.shape[-1]} numbers each, kept in {path}")
    return 0
