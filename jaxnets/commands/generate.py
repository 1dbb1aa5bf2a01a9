"""The command that draws from a run."""

import sys
from dataclasses import replace

from jaxnets.commands.opening import RecipeFile, RunFolder, each_member, members, open_run
from jaxnets.errors import InputError
from jaxnets.options.generation import GenerateOptions
from jaxnets.training.compiling import use_compile_cache

MOST_ROWS = 50  # of a table of predictions


def generate(run: RunFolder, /, recipe: RecipeFile = None, options: GenerateOptions = GenerateOptions()) -> int:
    """Draw from a run's weights what may follow a prompt.

    Of several seeds, the first's.

    Args:
        run: the run's folder.
        recipe: the recipe's file, if the run is of one's own recipe.
        options: what is drawn.
    """
    opened, found = open_run(run, recipe)
    if found.generate is None:
        raise InputError(f"{run}: {opened.config.recipe} is no model that generates")
    learner = found.build(found.config, opened.spec)
    state = next(each_member(opened.train_state(members(learner, opened.config))))
    options = replace(options, out=options.out or run / "generated")
    use_compile_cache()
    drawn = found.generate(found.config, opened.spec, learner, state, options)
    print(drawn.text)
    if drawn.files:
        print(f"kept in {', '.join(map(str, drawn.files))}", file=sys.stderr)
    return 0
