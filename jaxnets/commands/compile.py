"""The command that compiles a recipe for accelerators that are not there."""

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Annotated, Any

import jax
import tyro
from jax.sharding import NamedSharding

from jaxnets.accelerators.ahead import Compiled, compile_loop, on
from jaxnets.accelerators.estimate import HOW, Estimate, estimate
from jaxnets.accelerators.topology import Slice, check_compiler, mesh, parse
from jaxnets.commands.meshes import on_mesh
from jaxnets.commands.opening import print_json
from jaxnets.errors import InputError
from jaxnets.recipes.recipe import Recipe
from jaxnets.runs.console import console
from jaxnets.runs.folder import RunConfig
from jaxnets.training.plan import Plan, check
from jaxnets.training.readable import seconds, size


@dataclass(frozen=True)
class CompileOptions:
    """What a recipe is compiled for."""

    chips: Annotated[str, tyro.conf.arg(name="for")] = "v5e"
    """the chips: v5e, v6e or v5p (TPUs), a100, h100 or h200 (NVIDIA's); several as v5e:4x4, v5p:2x2x1 or h100:8"""
    mesh: str | None = None
    """spread the run over the chips as train --mesh does: data=8,model=2; without it each has a part of the batch"""
    fully_sharded: bool = False
    """with --mesh: split parameters and optimizer state along "data", too"""
    json: bool = False
    """print JSON"""


def compile(recipe: Recipe, options: CompileOptions) -> int:
    """Compile a recipe's training loop for TPUs or GPUs that are not here: memory, FLOPs, estimated times."""
    slice_ = parse(options.chips)
    check_compiler(slice_)
    training = recipe.config.training
    if training.num_steps(1) is None:
        raise InputError(
            f"duration={training.duration!r} is a time, of which the steps are not known; give steps or epochs, such "
            "as --duration 5ep"
        )
    jax.config.update("jax_platforms", "cpu")  # of this machine nothing else is needed
    if options.fully_sharded and options.mesh is None:
        raise InputError("fully_sharded changes nothing without a mesh; give --mesh, such as --mesh data=8")
    plan, compiled = compiled_recipe(recipe, slice_, options.mesh, fully=options.fully_sharded)
    if options.json:
        print_json(figures(recipe.name, slice_, plan, compiled))
    else:
        _say(recipe.name, slice_, plan, compiled)
    return 0 if fits(slice_, compiled) else 1


def compiled_recipe(
    recipe: Recipe, slice_: Slice, sizes: str | None = None, *, fully: bool = False
) -> tuple[Plan, Compiled]:
    """Return a recipe's plan for these chips, on a mesh of them if one is asked for, and what their compiler makes."""
    splits = recipe.load(recipe.config)  # it may compute, here
    with on(slice_):
        learner = recipe.learner(splits.train.spec)
        if sizes is not None:
            config = RunConfig(recipe.name, {}, mesh=sizes, fully_sharded=fully)
            learner = on_mesh(learner, config, recipe, mesh(slice_).devices.ravel().tolist())
        options = recipe.config.training.options()
        plan = check(learner, splits.train, **options, validation=splits.validation, order=splits.order)
        return plan, compile_loop(plan, slice_)


def fits(slice_: Slice, compiled: Compiled) -> bool:
    """Return whether a run needs no more than the memory of its chips."""
    return compiled.memory.peak <= slice_.chip.memory


def figures(name: str, slice_: Slice, plan: Plan, compiled: Compiled) -> dict[str, Any]:
    """Return all figures, as JSON has them; bytes and FLOPs are of a step, bytes those of a chip."""
    of_step = estimate(slice_, compiled.flops, compiled.costs)
    memory = {**compiled.memory._asdict(), "available": slice_.chip.memory, "fits": fits(slice_, compiled)}
    assert plan.num_steps is not None
    return {
        "recipe": name,
        "for": str(slice_),
        "chips": slice_.size,
        "batch_size": plan.batch_size,
        "num_steps": plan.num_steps,
        "versions": _versions(slice_),
        "compile_seconds": compiled.seconds,
        "memory_bytes": memory,
        "flops": sum(compiled.flops.values()),
        "flops_by_dtype": compiled.flops,
        "bytes": compiled.costs.bytes,
        "copied_bytes": compiled.costs.copies,
        "collectives": {kind: vars(one) for kind, one in compiled.costs.collectives.items()},
        "estimates": {
            "step_seconds": of_step.step,
            "mfu": of_step.mfu,
            "run_seconds": of_step.step * plan.num_steps,
            **{f"{part}_seconds": value for part, value in of_step._asdict().items()},
            "how": HOW,
            "source_of_rates": slice_.chip.source,
        },
        "xla": compiled.xla,
        "inner_loops_counted": compiled.text is not None,
    }


def _versions(slice_: Slice) -> dict[str, str]:
    compiler = "libtpu" if slice_.chip.platform == "tpu" else "jax_cuda12_plugin"
    return {package: version(package) for package in ("jaxnets", "jax", compiler) if find_spec(package)}


def _say(name: str, slice_: Slice, plan: Plan, compiled: Compiled) -> None:
    """Print all figures."""
    told = figures(name, slice_, plan, compiled)
    memory, costs = compiled.memory, compiled.costs
    several = f" on each of {slice_.size} chips" if slice_.size > 1 else ""
    versions = ", ".join(f"{package} {number}" for package, number in told["versions"].items())
    spread = f"{plan.batch_size // slice_.size} examples a step{several}"
    placement = plan.learner.placement
    if placement is not None and isinstance(placement.of_rest, NamedSharding):
        sizes = ",".join(f"{axis}={size}" for axis, size in placement.of_rest.mesh.shape.items())
        spread = f"{plan.batch_size} examples a step over {sizes}"
    console.print(f"[bold]{name}[/bold] for {slice_}: {spread}")
    console.print(f"compiled in {seconds(compiled.seconds)} by {versions}")
    parts = [f"{size(getattr(memory, part), 'B')} {part}" for part in ("arguments", "temporaries", "code")]
    parts.append(f"{size(memory.outputs - memory.aliased, 'B')} outputs beside the arguments")
    parts.append(f"{size(memory.beside, 'B')} copies of the state")
    verdict = "fits" if fits(slice_, compiled) else "does not fit"
    available = size(slice_.chip.memory, "B")
    console.print(f"memory a chip: {', '.join(parts)}; {size(memory.peak, 'B')} of {available}: {verdict}")
    flops = ", ".join(f"{size(number, 'FLOP')} in {dtype}" for dtype, number in compiled.flops.items())
    copied = f" ({size(costs.copies, 'B')} of them copies between layouts)" if costs.copies else ""
    console.print(f"a step: {flops}; {size(costs.bytes, 'B')} read and written by a chip{copied}")
    if compiled.text is None:
        console.print("the compiler could not write its program down: bytes are its own count, of inner loops one turn")
    for kind, one in costs.collectives.items():
        waited = f", it waits for {size(one.waited, 'B')}" if one.waited else ""
        console.print(f"{kind}: {one.number:g} a step, {size(one.size, 'B')} a chip{waited}")
    _say_estimates(told["num_steps"], estimate(slice_, compiled.flops, costs))


def _say_estimates(num_steps: int, of_step: Estimate) -> None:
    parts = {"FLOPs": of_step.compute, "memory": of_step.memory}
    parts |= {"collectives": of_step.network} if of_step.network else {}
    parts |= {} if of_step.compiler is None else {"the compiler's cycles": of_step.compiler}
    by_part = ", ".join(f"{part} {seconds(value)}" for part, value in parts.items())
    console.print(f"[bold]estimates[/bold], not measured: {seconds(of_step.step)} a step ({by_part})")
    run = f"{seconds(of_step.step * num_steps)} for {num_steps:,} steps, without evaluations, compiling or starting"
    console.print(f"MFU {of_step.mfu:.1%}; {run}")
