"""Programs are written for the platform that they are compiled for, not for the one at hand."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_learner

import jaxnets as jn
from jaxnets import nn
from jaxnets.errors import InputError
from jaxnets.memory import check_fits, device_memory
from jaxnets.platform import compiled_for, platform
from jaxnets.training.evaluation import usual_size
from jaxnets.transforms.population import fitting_way

ROOT = Path(jn.__file__).parent
# Who may ask JAX itself: the one place, and what says or measures where it runs.
MAY_ASK = {"platform.py", "runs/environment.py"}


def test_nobody_else_asks_jax_for_its_backend():
    asking = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if re.search(r"default_backend|xla_bridge", path.read_text()) and "bench" not in path.relative_to(ROOT).parts
    }
    assert asking == MAY_ASK


def test_the_platform_is_that_at_hand_outside_of_the_context():
    assert platform() == jax.default_backend()
    with compiled_for("tpu"):
        assert platform() == "tpu"
        with compiled_for("gpu"):
            assert platform() == "gpu"
        assert platform() == "tpu"
    assert platform() == jax.default_backend()
    with pytest.raises(InputError, match="platform='cuda' must be one of cpu, gpu, tpu"):
        compiled_for("cuda")  # pyright: ignore[reportArgumentType]


def test_whoever_chooses_by_the_platform_takes_the_one_compiled_for():
    assert (fitting_way(), usual_size(None)) == ("map", 32)
    with compiled_for("gpu"):
        assert (fitting_way(), usual_size(None)) == ("vmap", 256)


def test_memory_is_that_of_the_device_compiled_for():
    here = device_memory()
    with compiled_for("tpu", memory=1000):
        assert device_memory() == 1000
        with pytest.raises(InputError, match=r"all of it takes 0\.0 GB, and the device has 0\.0 GB; use less"):
            check_fits("all of it", 1001, "use less")
    with compiled_for("tpu"):
        assert device_memory() == here


def traced(function, *args):
    return str(jax.make_jaxpr(function)(*args))


def test_what_was_traced_for_one_platform_is_traced_anew_for_another():
    images, kernel = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 4))
    numbers = ("NHWC", "HWIO", "NHWC")
    convolve = jax.jit(lambda x, w: nn.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers))
    here = traced(convolve, images, kernel)
    with compiled_for("tpu"):
        there = traced(convolve, images, kernel)
    assert "canonical_conv" in here and "conv_general_dilated" not in here
    assert "conv_general_dilated" in there and "canonical_conv" not in there
    assert traced(convolve, images, kernel) == here


def test_a_recurrent_layer_projects_all_inputs_at_once_on_accelerators():
    rnn = jn.network(nn.Recurrent, nn.LSTM, 3, 4)
    params, model_state = rnn.init(jax.random.key(0))

    def outputs(inputs):
        return rnn.apply(params, model_state, inputs)[0][0]

    inputs = jnp.asarray(np.random.default_rng(0).standard_normal((16, 5, 3), np.float32))
    here = traced(outputs, inputs)
    with compiled_for("tpu"):
        there = traced(outputs, inputs)
        result = jax.jit(outputs)(inputs)
    assert here != there
    np.testing.assert_allclose(result, outputs(inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("named", ["cuda", "rocm", "tpu"])
def test_a_step_is_lowered_for_platforms_that_are_not_here(named):
    learner = small_learner(dropout=0.2)
    batch = {"inputs": jax.ShapeDtypeStruct((8, 4), np.float32), "labels": jax.ShapeDtypeStruct((8,), np.int32)}
    key = jax.eval_shape(lambda: jax.random.key(0))
    with compiled_for("tpu" if named == "tpu" else "gpu"):
        lowered = jax.jit(learner.step).trace(jax.eval_shape(learner.init, key), batch, key)
        assert "dot_general" in lowered.lower(lowering_platforms=(named,)).as_text()
