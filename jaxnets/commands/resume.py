"""The command that goes on with a run."""

from jaxnets.commands.opening import RecipeFile, RunFolder, members, open_run, run_to_the_end
from jaxnets.runs import report
from jaxnets.runs.console import console

MOST_ROWS = 50  # of a table of predictions


def resume(run: RunFolder, /, recipe: RecipeFile = None) -> int:
    """Go on with a run that was interrupted; the result has the same bits as an unbroken run's.

    Args:
        run: the run's folder.
        recipe: the recipe's file, if the run is of one's own recipe: a folder never names code to run.
    """
    opened, found = open_run(run, recipe)
    if opened.result:
        console.print(f"{run} has ended: {opened.result['stop_reason']}")
        return 0
    splits = found.load(found.config)
    opened.check_data(splits)
    alone = found.build(found.config, opened.spec)
    learner = members(alone, opened.config)
    report.describe(found.name, alone, found.example(opened.spec), splits, opened.config)
    return run_to_the_end(opened, found, learner, splits, resume=True)
