"""Recipes, and a GPT's growth from 1 to 256 chips, compiled for accelerators that are not here; nothing is measured.

python -m benchmarks.accelerators recipes      memory, estimated time of a step and MFU of every preset, by chip
python -m benchmarks.accelerators scaling      the GPT with 124 M parameters: weak and strong scaling over v5e chips

Each line is a row of a table of RESULTS.md, printed as soon as its program is compiled.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

import jaxnets as jn
from jaxnets import recipes
from jaxnets.accelerators.ahead import Compiled, compile_loop, on
from jaxnets.accelerators.estimate import estimate
from jaxnets.accelerators.topology import DATA, Slice, mesh, parse
from jaxnets.commands.compile import compiled_recipe, fits
from jaxnets.errors import InputError
from jaxnets.learner import following
from jaxnets.recipes.recipe import find
from jaxnets.training.plan import check
from jaxnets.training.readable import seconds, size

VOCABULARY, LENGTH = 50_257, 1024
GROWTH = ("1x1", "2x2", "4x4", "8x8", "16x16")


def table_of_recipes(names: Sequence[str], chips: Sequence[str]) -> Iterator[str]:
    """Yield the rows of the table of presets, each on a single chip of each kind."""
    yield "| recipe | " + " | ".join(f"{chip}: memory, a step, MFU" for chip in chips) + " |"
    yield "|---" * (1 + len(chips)) + "|"
    for name in names:
        cells = []
        for chip in chips:
            slice_ = parse(chip)
            try:
                _, compiled = compiled_recipe(find(name), slice_)
                cells.append(_cell(slice_, compiled))
            except InputError as error:
                cells.append("its weights are not here" if "weights" in str(error) else str(error))
        yield f"| {name} | {' | '.join(cells)} |"


def _cell(slice_: Slice, compiled: Compiled) -> str:
    of_step = estimate(slice_, compiled.flops, compiled.costs)
    once = "" if compiled.text is not None else " (inner loops counted once)"
    return f"{_memory(slice_, compiled)}, {seconds(of_step.step)}, {of_step.mfu:.1%}{once}"


def _memory(slice_: Slice, compiled: Compiled) -> str:
    return size(compiled.memory.peak, "B") + ("" if fits(slice_, compiled) else " (too much)")


def gpt() -> jn.Learner:
    """Return the learner of GPT-2's smallest size, 124 M parameters, in bfloat16."""
    network = jn.network(
        jn.models.gpt2,
        VOCABULARY,
        768,
        12,
        12,
        max_length=LENGTH,
        dtype=jnp.bfloat16,
        dropout=0.0,
        attention_dropout=0.0,
    )
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(6e-4, b2=0.95, weight_decay=0.1))
    return jn.autoregressive(jn.supervised(network, jn.losses.softmax_cross_entropy, tx))


def in_parts(learner: jn.Learner, slice_: Slice, parts: int) -> jn.Learner:
    """Return the learner that takes a batch in parts, each of them spread over all chips."""
    if parts == 1:
        return learner
    inner, rows = learner.descent, NamedSharding(mesh(slice_), PartitionSpec(DATA))
    assert inner is not None

    def gradient(state: Any, batch: Any, key: Any) -> Any:
        return inner.gradient(state, lax.with_sharding_constraint(batch, rows), key)

    descent = jn.Descent(gradient, inner.update)
    return jn.accumulated(learner._replace(step=following(descent), descent=descent), parts)


def table_of_growth(each: int, strong: int, shapes: Sequence[str]) -> Iterator[str]:
    """Yield the rows of a GPT's growth: so many sequences a chip, then so many in all, over more and more chips."""
    yield "| scaling | chips | sequences a step | memory | a step | MFU | tokens/s | all-reduced | waited for |"
    yield "|---" * 9 + "|"
    for kind in ("weak", "strong"):
        for shape in shapes:
            slice_ = parse(f"v5e:{shape}")
            batch = each * slice_.size if kind == "weak" else strong
            if batch % slice_.size == 0:
                yield f"| {kind} | {slice_.size} | {batch:,} | {_grown(slice_, batch, each)} |"


def _grown(slice_: Slice, batch: int, each: int) -> str:
    data = jn.Data(
        inputs=np.zeros((max(batch, 2), LENGTH + 1), np.int32), known={"inputs": {"classes": range(VOCABULARY)}}
    )
    parts = max(1, batch // (each * slice_.size))
    try:
        with on(slice_):
            plan = check(in_parts(gpt(), slice_, parts), data, duration=1000, batch_size=batch)
            compiled = compile_loop(plan, slice_)
    except InputError as error:
        return str(error)
    of_step = estimate(slice_, compiled.flops, compiled.costs)
    reduced = compiled.costs.collectives.get("all-reduce")
    sent = f"{size(reduced.size, 'B')} | {seconds(of_step.waited)}" if reduced else " | "
    rate = f"{batch * LENGTH / of_step.step:,.0f}"
    return f"{_memory(slice_, compiled)} | {of_step.step * 1e3:.1f} ms | {of_step.mfu:.0%} | {rate} | {sent}"


def main() -> int:
    """Print a table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("recipes", "scaling"))
    parser.add_argument("--recipes", default="", help="with commas between; all presets if absent")
    parser.add_argument("--chips", default="v5e,v6e", help="of the table of recipes")
    parser.add_argument("--each", type=int, default=8, help="sequences a chip, weak scaling")
    parser.add_argument("--strong", type=int, default=256, help="sequences in all, strong scaling")
    parser.add_argument("--topologies", default=",".join(GROWTH), help="of v5e chips")
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    names = (
        options.recipes.split(",") if options.recipes else [n for found in recipes.catalogue().values() for n in found]
    )
    rows = (
        table_of_recipes(names, options.chips.split(","))
        if options.table == "recipes"
        else table_of_growth(options.each, options.strong, options.topologies.split(","))
    )
    for row in rows:
        print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
