"""Every recipe's loop is lowered for CUDA, ROCm and TPU on a machine that has none of them."""

import jax
import pytest
from small import load_small_data, presets, smaller

from jaxnets.accelerators.ahead import arguments
from jaxnets.platform import compiled_for
from jaxnets.training.chunk import chunk
from jaxnets.training.plan import check


@pytest.mark.parametrize("preset", presets())
def test_a_recipe_is_lowered_for_every_platform(preset, monkeypatch):
    load_small_data(monkeypatch)
    recipe = smaller(preset)
    splits = recipe.load(recipe.config)
    for platform, names in (("gpu", ("cuda", "rocm")), ("tpu", ("tpu",))):
        with compiled_for(platform, memory=10**10):
            learner = recipe.learner(splits.train.spec)
            training, held_out = recipe.config.training, splits.validation
            plan = check(learner, splits.train, **training.options(), validation=held_out, order=splits.order)
            traced = jax.jit(chunk(plan.learner), donate_argnums=(0, 1)).trace(*arguments(plan))
            for name in names:
                assert "stablehlo.while" in traced.lower(lowering_platforms=(name,)).as_text()
