"""The command that draws from a run."""

import sys
from dataclasses import replace

from jaxnets.commands.opening import RecipeFile, RunFolder, open_run
from jaxnets.errors import InputError
from jaxnets.options import GenerateOptions
from jaxnets.training.compiling import use_compile_cache


def generate(run: RunFolder, /, recipe: RecipeFile = None, options: GenerateOptions = GenerateOptions()) -> int:
    """Draw from a run's weights what may follow a prompt.

    Of several seeds, the first's.

    Args:
        run: the run's folder.
        recipe: the recipe's file, if the run is of one's own recipe.
        options: what is drawn.
    """
    opened = open_run(run, recipe)
    if opened.task.generate is None:
        raise InputError(f"{run}: {opened.config.recipe}, as it was trained, is no model that generates")
    use_compile_cache()
    drawn = opened.task.generate(opened.trained(), replace(options, out=options.out or opened.run.path / "generated"))
    print(drawn.text)
    if drawn.files:
        print(f"kept in {', '.join(map(str, drawn.files))}", file=sys.stderr)
    return 0
