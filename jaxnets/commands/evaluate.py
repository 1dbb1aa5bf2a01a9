"""The command that evaluates a run."""

from jaxnets.commands.opening import RecipeFile, RunFolder, data_again, open_run, print_json
from jaxnets.runs import report
from jaxnets.runs.console import console
from jaxnets.runs.training import spread
from jaxnets.training.compiling import use_compile_cache
from jaxnets.training.evaluation import evaluate as evaluate_data


def evaluate(run: RunFolder, /, recipe: RecipeFile = None, data: str | None = None, json: bool = False) -> int:
    """Evaluate a run's weights (once it has ended, those that were kept) on held-out data.

    Args:
        run: the run's folder.
        recipe: the recipe's file, if the run is of one's own recipe.
        data: where the run's data are now, if they have moved; other data are refused.
        json: print JSON.
    """
    opened = open_run(run, recipe)
    _, splits = data_again(opened.run, opened.recipe, data)
    learner = opened.members
    state = opened.run.train_state(learner)
    use_compile_cache()
    metrics = {
        f"{split}/{name}": value
        for split, data in splits.parts.items()
        if split != "train"
        for name, value in evaluate_data(learner, state, data).items()
    }
    if json:
        print_json({name: spread(value) for name, value in metrics.items()})
    else:
        console.print(report.metrics(metrics, len(opened.config.seeds)))
    return 0
