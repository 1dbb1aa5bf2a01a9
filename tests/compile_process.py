"""What a process that compiles for TPUs does: presets, named as arguments, on small data and at their own batch sizes.

It prints what ``jaxnets compile PRESET --for CHIPS --json`` prints, a line a preset: CHIPS is the first argument.
"""

import dataclasses
import json
import sys

import jax
import pytest
from small import load_small_data, smaller

from jaxnets.accelerators.topology import parse
from jaxnets.commands.compile import compiled_recipe, figures
from jaxnets.memory import num_bytes

if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    chips, *presets = sys.argv[1:]
    slice_ = parse(chips)
    with pytest.MonkeyPatch.context() as monkeypatch:
        load_small_data(monkeypatch)
        for preset in presets:
            try:
                recipe = smaller(preset)
            except pytest.skip.Exception as skipped:
                print(json.dumps({"recipe": preset, "skipped": str(skipped)}), flush=True)
                continue
            plan, compiled = compiled_recipe(recipe, slice_)
            sizes = {"state_bytes": num_bytes(plan.state.train), "hidden": getattr(recipe.config, "hidden", ())}
            told = figures(preset, slice_, plan, compiled) | sizes
            print(json.dumps(told, default=dataclasses.asdict), flush=True)
