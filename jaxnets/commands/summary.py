"""The command that lists what a network is made of."""

from dataclasses import dataclass

from rich.table import Table

from jaxnets.recipes.recipe import Recipe
from jaxnets.runs.console import console
from jaxnets.summary import summarize


@dataclass(frozen=True)
class NoOptions:
    """Nothing but the recipe's own flags."""


def summary(recipe: Recipe, options: NoOptions) -> int:
    """List layers, output shapes, parameters and FLOPs, without compiling."""
    spec = recipe.load(recipe.config).train.spec
    learner = recipe.learner(spec)
    result = summarize(learner, recipe.task(spec, learner).example(spec))
    table = Table("layer", "type", "output shape", "parameters", "FLOPs", title=recipe.name)
    for column in table.columns[3:]:
        column.justify = "right"
    for layer in result.layers:
        shape = " x ".join(map(str, layer.output_shape))
        numbers = (f"{n:,}" if n else "" for n in (layer.num_parameters, layer.flops))
        table.add_row(layer.path or "(whole)", layer.type, shape, *numbers)
    console.print(table)
    console.print(f"{result.num_parameters:,} parameters; {result.flops:,} FLOPs forward for one example")
    return 0
