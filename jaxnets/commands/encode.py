"""The command that writes codes."""

from pathlib import Path
from typing import Annotated

import jax
import tyro

from jaxnets.commands.opening import RecipeFile, RunFolder, each_member, members, open_run, read
from jaxnets.data import check_table, write_table
from jaxnets.errors import InputError
from jaxnets.learners.autoencoding import Autoencoded
from jaxnets.runs.console import console
from jaxnets.training.compiling import use_compile_cache
from jaxnets.training.evaluation import predict as predict_data

MOST_ROWS = 50  # of a table of predictions


def encode(
    run: RunFolder,
    given: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    out: Path | None = None,
    recipe: RecipeFile = None,
    invert: bool = False,
) -> int:
    """Write the codes that an autoencoder gives to images, a row each.

    Of several seeds, the first's.

    Args:
        run: the run's folder.
        given: images, npy, npz or CSV files of inputs.
        out: the file to write, .npy, .npz or .csv; codes.npy in the run's folder if absent.
        recipe: the recipe's file, if the run is of one's own recipe.
        invert: swap dark and bright in images, for ink on paper and a model of white on black.
    """
    if not given:
        raise InputError("nothing to encode; give images, npy, npz or CSV files")
    path = out or run / "codes.npy"
    check_table(path)
    opened, found = open_run(run, recipe)
    spec = opened.spec
    learner = found.build(found.config, spec)
    state = next(each_member(opened.train_state(members(learner, opened.config))))
    example = jax.ShapeDtypeStruct((1, *spec["inputs"].shape), spec["inputs"].dtype)
    predicted = jax.eval_shape(learner.predict, state, example)
    if not isinstance(predicted, Autoencoded) or predicted.codes.ndim != 2:
        raise InputError(f"{run}: {opened.config.recipe} is no single autoencoder, and has no code for each example")
    names, inputs = read(given, spec, invert)
    use_compile_cache()
    codes = predict_data(learner, state, inputs).codes
    write_table(path, codes, [f"code_{i}" for i in range(codes.shape[-1])])
    console.print(f"codes of {len(names):,} examples, {codes.shape[-1]} numbers each, kept in {path}")
    return 0
