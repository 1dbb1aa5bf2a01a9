"""What the command line prints of a run, before it and after."""

from typing import Any

import jax

from jaxnets.data import Splits
from jaxnets.learner import Learner
from jaxnets.runs.console import console
from jaxnets.runs.folder import Run, RunConfig
from jaxnets.summary import summarize
from jaxnets.training import readable
from jaxnets.training.plan import Plan


def describe(name: str, learner: Learner, example: Any, splits: Splits, config: RunConfig) -> None:
    """Print what is trained on what.

    Args:
        name: of the recipe.
        learner: of one seed.
        example: shape and dtype of one example, as its ``predict`` takes it.
        splits: the data.
        config: the run's.
    """
    parts = ", ".join(f"{data.num_examples:,} {part}" for part, data in splits._asdict().items() if data is not None)
    inputs = splits.train.spec["inputs"]
    result = summarize(learner, example)
    shape = " x ".join(map(str, inputs.shape))
    seeds = f", seeds {config.seeds[0]} to {config.seeds[-1]}" if len(config.seeds) > 1 else ""
    console.print(f"[bold]{name}[/bold] on {jax.devices()[0].device_kind}{seeds}")
    console.print(
        f"{parts} examples of {shape} {inputs.dtype}; "
        f"{result.num_parameters:,} parameters, {readable.size(result.flops, 'FLOP')}"
    )


def dry_run(plan: Plan, splits: Splits, batch_size: int) -> None:
    """Print what was found out without compiling."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(plan.state))
    length = f"{plan.num_steps:,} steps" if plan.num_steps else f"{plan.limit:g} s"
    console.print(f"{length} of {batch_size} examples, metrics every {plan.every:,} steps")
    console.print(f"state {readable.size(size, 'B')}, training data {readable.size(splits.train.nbytes, 'B')}")
    console.print("all shapes, dtypes and ranges are right; nothing was compiled")


def report(run: Run, result: dict[str, Any], again: str) -> None:
    """Print the summary of a run that has ended."""
    seconds, compiling = result["seconds"], result["compile_seconds"]
    width = max([22, *(len(name) + 2 for name in (*result["metrics"], *result["baselines"]))])
    own = {name: metric["values"] for name, metric in result["metrics"].items()}
    console.print(metrics(own, len(result["seeds"]), width))
    for name, value in result["baselines"].items():
        console.print(f"{name.replace('/', ' '):<{width}}{readable.metric(name, value)}  (baseline)")
    rate = result["examples_per_second"]
    console.print(
        f"{readable.seconds(seconds)}, of which compiling {compiling / seconds:.0%}, waiting for data "
        f"{result['wait_seconds'] / seconds:.0%}; {rate:,.0f} examples/s; "
        f"peak memory {readable.size(result['peak_memory_bytes'], 'B')}"
    )
    console.print(f"kept in {run.path} (curves.png, metrics.jsonl, result.json)\nto resume: {again}")
    if hint := _hint(result):
        console.print(f"hint: {hint}")


def _hint(result: dict[str, Any]) -> str:
    """Return the one thing that stands out, if any."""
    if result["stop_reason"].startswith("diverged"):
        return ""
    if result["wait_seconds"] > 0.1 * result["seconds"]:
        return "the device often waited for data; larger batches, or fewer and larger arrays, may help"
    if result["compile_seconds"] > 0.5 * result["seconds"]:
        return "most of the time went into compiling; the next start takes the program from the cache"
    if len(result["seeds"]) == 1:
        return "one seed says nothing of the spread; --seeds 5 does"
    return ""


def metrics(metrics: dict[str, Any], num_seeds: int, width: int = 22) -> str:
    """Return the metrics, a line each; with several seeds as mean ± standard deviation."""
    of = f"mean ± std of {num_seeds} seeds" if num_seeds > 1 else "1 seed"
    return "\n".join(
        f"{name.replace('/', ' '):<{width}}{readable.metric(name, value)}  ({of})" for name, value in metrics.items()
    )
