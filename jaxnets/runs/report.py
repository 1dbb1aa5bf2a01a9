"""What the command line prints of a run, before it and after."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxnets.data import Splits
from jaxnets.learner import Learner
from jaxnets.metrics import Better
from jaxnets.runs.console import console
from jaxnets.runs.diagnosis import diagnosis
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
    parts = ", ".join(f"{data.num_examples:,} {part}" for part, data in splits.parts.items())
    inputs = splits.train.spec["inputs"]
    result = summarize(learner, example)
    shape = " x ".join(map(str, inputs.shape))
    seeds = f", seeds {config.seeds[0]} to {config.seeds[-1]}" if len(config.seeds) > 1 else ""
    seeds += f", each without one of {config.folds} folds" if config.folds else ""
    mesh = f", mesh {config.mesh}{', fully sharded' if config.fully_sharded else ''}" if config.mesh else ""
    console.print(f"[bold]{name}[/bold] on {jax.devices()[0].device_kind}{mesh}{seeds}")
    console.print(
        f"{parts} examples of {shape} {inputs.dtype}; "
        f"{result.num_parameters:,} parameters, {readable.size(result.flops, 'FLOP')}"
    )


def dry_run(plan: Plan) -> None:
    """Print what was found out without compiling."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(plan.state))
    length = f"{plan.num_steps:,} steps" if plan.num_steps else f"{plan.limit:g} s"
    console.print(f"{length} of {plan.batch_size} examples, metrics every {plan.every:,} steps")
    console.print(f"state {readable.size(size, 'B')}, training data {readable.size(plan.train.nbytes, 'B')}")
    console.print("all shapes, dtypes and ranges are right; nothing was compiled")


def report(run: Run, result: dict[str, Any], again: str, better: Mapping[str, Better]) -> None:
    """Print the summary of a run that has ended.

    Args:
        run: its folder.
        result: what came of it.
        again: the command to go on.
        better: which values of each metric of its curves are better.
    """
    seconds, compiling = result["seconds"], result["compile_seconds"]
    width = max([22, *(len(name) + 2 for name in (*result["metrics"], *result["baselines"]))])
    own = {name: metric["values"] for name, metric in result["metrics"].items()}
    console.print(metrics(own, members(run.config), width, result["about"]))
    for name, value in result["baselines"].items():
        about = ", ".join(["baseline", *filter(None, [result["about"].get(name)])])
        console.print(f"{_words(name):<{width}}{readable.metric(name, value)}  ({about})")
    rate = result["examples_per_second"]
    console.print(
        f"{readable.seconds(seconds)}, of which compiling {compiling / seconds:.0%}, waiting for data "
        f"{result['wait_seconds'] / seconds:.0%}; {rate:,.0f} examples/s; "
        f"peak memory {readable.size(result['peak_memory_bytes'], 'B')}"
    )
    if fit := diagnosis(run.history(), better):
        console.print(f"fit: {fit}")
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


def members(config: RunConfig) -> str:
    """Return what a run's figures are of: "1 seed", "5 seeds" or "10 folds"."""
    return f"{config.folds} folds" if config.folds else f"{len(config.seeds)} seed{'s' * (len(config.seeds) > 1)}"


def metrics(metrics: dict[str, Any], of: str, width: int = 22, about: Mapping[str, str] | None = None) -> str:
    """Return the metrics, a line each; of several seeds or folds as mean ± standard deviation.

    Args:
        metrics: values by name.
        of: what they are of, as ``members`` says it.
        width: of the names.
        about: what a name cannot say.
    """
    of = of if of == "1 seed" else f"mean ± std of {of}"
    lines = []
    for name, value in metrics.items():
        note = ", ".join([of, *filter(None, [(about or {}).get(name)])])
        lines.append(f"{_words(name):<{width}}{readable.metric(name, value)}  ({note})")
    return "\n".join(lines)


def _words(name: str) -> str:
    """Return a metric's key as words: test/mse_of_pca becomes test mse of pca."""
    return name.replace("/", " ").replace("_", " ")
