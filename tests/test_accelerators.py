"""Compiling for chips that are not here: their names, what is read of a program, estimates, and the command."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import fails, small_learner
from jax.sharding import AxisType, Mesh
from small import PRESETS

import jaxnets as jn
from jaxnets import cli
from jaxnets.accelerators import ahead, topology
from jaxnets.accelerators.ahead import compile_loop, on
from jaxnets.accelerators.chips import CHIPS, card
from jaxnets.accelerators.costs import Collective, Costs, Program
from jaxnets.accelerators.estimate import estimate
from jaxnets.accelerators.topology import DATA, Slice, parse
from jaxnets.errors import InputError
from jaxnets.summary import flops_by_dtype
from jaxnets.training.plan import check

TESTS = Path(__file__).parent
HAS_LIBTPU = importlib.util.find_spec("libtpu") is not None
needs_libtpu = pytest.mark.skipif(not HAS_LIBTPU, reason='needs the TPU compiler: pip install -e ".[tpu-compiler]"')


class TestChips:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("v5e", 1), ("v5e:4x4", 16), ("v6e:16x16", 256), ("v5p:2x2x1", 4), ("h200", 1), ("h100:8", 8)],
    )
    def test_names(self, text, size):
        slice_ = parse(text)
        assert slice_.size == size and str(slice_).startswith(text)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("v5x", r"for='v5x': there is no chip 'v5x' \(did you mean 'v5p'\?\); there are v5e, v6e, v5p, a100"),
            ("", "there is no chip ''"),
            ("v5e:3x3", "there is no '3x3' of v5e.*there are v5e:1x1, v5e:2x2"),
            ("v5e:", "there is no '' of v5e"),
            ("v5p:4x4", "there is no '4x4' of v5p.*did you mean '4x4x"),
            ("h200:3", "there is no '3' of h200"),
        ],
    )
    def test_there_are_no_others(self, text, message):
        with pytest.raises(InputError, match=message):
            parse(text)

    @pytest.mark.parametrize(("name", "package"), [("v5e", "tpu-compiler"), ("h200", "jax\\[cuda12\\]==")])
    def test_an_absent_compiler_is_told_with_how_to_get_it(self, name, package, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(InputError, match=f"for={name}:1.*its compiler is not installed.*pip install.*{package}"):
            topology.mesh.__wrapped__(parse(name))

    def test_a_gpu_is_described_by_the_same_figures(self):
        for name in ("a100", "h100", "h200"):
            assert f"device_memory_size: {CHIPS[name].memory}" in card(name)
            assert f"memory_bandwidth: {CHIPS[name].bandwidth}" in card(name)

    def test_figures_are_in_their_units(self):
        for chip in CHIPS.values():
            assert 1e10 < chip.memory < 1e12 and 1e14 < chip.flops_f32 <= chip.flops_bf16 < 1e15
            assert 5e11 < chip.bandwidth < 1e13 and chip.source.startswith("https://")


# As a TPU's compiler writes it: the length of the outer loop is an argument, that of the inner one a constant.
TPU = (TESTS / "tpu_step.hlo").read_text()


class TestPrograms:
    def test_a_step_is_a_turn_of_the_loop_whose_length_is_an_argument(self):
        costs = Program(TPU).step()
        assert costs.cycles == 50 + 7 * 100  # the inner loop counts as often as it runs
        padded = 512 * 128 * 4  # ten columns take a tile of 128
        assert costs.collectives == {"all-reduce": Collective(1.0, padded, padded)}
        rows = 16 * 896  # of the data only what is taken is read; it stays on the chip, as do the inner loop's arrays
        flags = 8 * (512 + 128 * 4 + 128 * 4)
        assert rows + 3 * padded <= costs.bytes <= rows + 3 * padded + flags

    @pytest.mark.parametrize(
        ("change", "kinds"),
        [
            (("all-reduce(%weights)", "all-reduce-start(%weights)"), {"all-reduce": Collective(1.0, 262144.0, 0.0)}),
            (("all-reduce(%weights)", "negate(%weights)"), {}),
        ],
    )
    def test_what_a_chip_waits_for(self, change, kinds):
        assert Program(TPU.replace(*change)).step().collectives == kinds

    def test_costs_of_a_real_program(self):
        """The bytes of one turn are those of a matrix product: two matrices read, one written."""

        def run(n: Any, x: Any) -> Any:
            def turn(_: Any, x: Any) -> Any:
                return jax.lax.fori_loop(0, 5, lambda _, x: x @ x, x)

            return jax.lax.fori_loop(0, n, turn, x)

        text = jax.jit(run).lower(jnp.int32(3), jnp.ones((256, 256))).compile().as_text()
        assert 5 * 2 * 256**2 * 4 <= Program(text).step().bytes <= 6 * 4 * 256**2 * 4

    def test_a_program_without_such_a_loop_counts_as_a_whole(self):
        text = jax.jit(lambda x: x @ x + 1).lower(jnp.ones((128, 128))).compile().as_text()
        assert Program(text).step().bytes >= 2 * 128**2 * 4

    def test_products_are_counted_by_dtype(self):
        def function(x: Any) -> Any:
            half = x.astype(jnp.bfloat16)
            return (half @ half).astype(jnp.float32) @ x

        assert flops_by_dtype(function, jnp.ones((8, 8))) == {"bfloat16": 2 * 8**3, "float32": 2 * 8**3}


FLOPS = {"bfloat16": 197 * 10**12}  # a second of a v5e chip


class TestEstimates:
    def test_the_longest_part_counts(self):
        one = Slice("v5e", "1x1")
        assert estimate(one, FLOPS, Costs()).step == pytest.approx(1.0)
        assert estimate(one, FLOPS, Costs()).mfu == pytest.approx(1.0)
        slow = estimate(one, FLOPS, Costs(bytes=2 * 819e9))
        assert (slow.step, slow.mfu) == (pytest.approx(2.0), pytest.approx(0.5))
        assert estimate(one, FLOPS, Costs(cycles=6e9)).step == pytest.approx(4.0)

    def test_collectives_that_are_waited_for_add_to_it(self):
        four, size = Slice("v5e", "2x2"), 200e9
        beside = Costs(collectives={"all-reduce": Collective(1.0, size, 0.0)})
        assert estimate(four, FLOPS, beside).step == pytest.approx(1.5)  # twice three quarters, beside 0.25
        waited = Costs(collectives={"all-reduce": Collective(1.0, size, size)})
        assert estimate(four, FLOPS, waited).step == pytest.approx(1.75)
        gathered = Costs(collectives={"all-gather": Collective(1.0, size, size)})
        assert estimate(four, FLOPS, gathered).step == pytest.approx(1.0)

    def test_each_dtype_has_its_rate(self):
        one = Slice("h200", "1")
        assert estimate(one, {"float32": 494 * 10**12, "bfloat16": 989 * 10**12}, Costs()).compute == pytest.approx(2.0)
        assert estimate(one, {}, Costs()).compiler is None


@pytest.fixture
def chips_of_here(monkeypatch):
    """Compile for this machine's processor in place of chips, of which it has one."""

    def mesh(slice_: Slice) -> Mesh:
        return Mesh(np.array(jax.devices()[:1] * slice_.size), (DATA,), axis_types=(AxisType.Auto,))

    monkeypatch.setattr(ahead, "mesh", mesh)
    monkeypatch.setattr("jaxnets.commands.compile.check_compiler", lambda slice_: None)


class TestTheLoop:
    def test_memory_and_flops_are_those_of_the_run(self, chips_of_here, blobs):
        slice_ = Slice("v5e", "1x1")
        with on(slice_):
            plan = check(small_learner(), blobs, duration=10, batch_size=50)
            compiled = compile_loop(plan, slice_)
        forward = 2 * 50 * (4 * 16 + 16 * 3)
        assert forward * 2 <= sum(compiled.flops.values()) <= forward * 3  # no gradient by the inputs
        memory = compiled.memory
        state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(plan.state.train))
        assert memory.arguments >= state + blobs.nbytes and memory.aliased >= state and memory.peak > memory.arguments
        assert compiled.costs.bytes > state and compiled.costs.collectives == {}

    def test_chips_must_divide_the_batch(self, blobs):
        slice_ = Slice("v5e", "2x4")
        with on(slice_):
            plan = check(small_learner(), blobs, duration=10, batch_size=50)
            message = "for=v5e:2x4: 8 chips do not divide batch_size=50; use a multiple, such as --batch-size 56"
            with pytest.raises(InputError, match=message):
                compile_loop(plan, slice_)

    def test_a_state_larger_than_the_chip_is_refused_before_compiling(self):
        network = jn.network(jn.models.MLP, 4, (60_000, 60_000), 3)
        learner = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1))
        data = jn.Data(inputs=np.zeros((4, 4), np.float32), labels=np.array([0, 1, 2, 0]))
        with on(Slice("v5e", "1x1")), pytest.raises(InputError, match=r"takes 28\.\d GB, and the device has 16\.0 GB"):
            check(learner, data, duration=1, batch_size=4)

    def test_a_program_that_does_not_fit_is_told_with_both_sizes(self):
        said = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.1G of 15.75G hbm."
        error = ahead._too_large(Slice("v5e", "1x1"), RuntimeError(said))
        assert isinstance(error, InputError) and "it needs 20.1G, and a chip has 15.75G" in str(error)
        other = RuntimeError("INTERNAL: a fault")
        assert ahead._too_large(Slice("v5e", "1x1"), other) is other


class TestTheCommand:
    def test_figures_are_printed(self, chips_of_here, capsys):
        assert cli.main(["compile", "digits-mlp", "--for", "v5e", "--duration", "100"]) == 0
        printed = capsys.readouterr().out
        for part in ("digits-mlp for v5e:1x1", "memory a chip:", "of 16.0 GB: fits", "FLOP in float32", "MFU"):
            assert part in printed
        assert "estimates, not measured" in printed and "for 100 steps" in printed

    def test_the_same_as_json(self, chips_of_here, capsys):
        assert cli.main(["compile", "digits-mlp", "--for", "h200", "--batch-size", "32", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["for"], told["chips"], told["batch_size"]) == ("h200:1", 1, 32)
        assert told["memory_bytes"]["fits"] and told["estimates"]["compiler_seconds"] is None
        assert told["estimates"]["run_seconds"] == pytest.approx(told["num_steps"] * told["estimates"]["step_seconds"])

    def test_bad_input(self, chips_of_here, capsys):
        for flags, message in (
            (["--for", "v5"], "there is no chip 'v5' (did you mean"),
            (["--for", "v5e:4x5"], "there is no '4x5' of v5e (did you mean '4x"),
            (["--for", "v5e:2x4", "--batch-size", "60"], "8 chips do not divide batch_size=60"),
            (["--fully-sharded"], "give --mesh, such as --mesh data=8"),
            (["--duration", "30m"], "duration='30m' is a time, of which the steps are not known"),
        ):
            assert message in fails(capsys, "compile", "digits-mlp", *flags)

    @pytest.mark.skipif(HAS_LIBTPU, reason="the TPU compiler is here")
    def test_without_the_compiler_it_says_how_to_get_it(self, capsys):
        assert 'pip install "jaxnets[tpu-compiler]"' in fails(capsys, "compile", "digits-mlp", "--for", "v5e")


MANY_DEVICES = """
import jax, numpy as np
from jax.sharding import AxisType, Mesh
from helpers import small_learner
import jaxnets as jn
from jaxnets.accelerators import ahead
from jaxnets.accelerators.costs import Program
from jaxnets.training.plan import check

random = np.random.default_rng(0)
data = jn.Data(inputs=random.normal(size=(96, 4)).astype(np.float32), labels=random.integers(0, 3, 96))
alone = small_learner()
spread = jn.sharded(alone, jn.make_mesh("data=2,model=2"), fully=True)
states = []
for number, learner in ((1, alone), (4, alone), (4, spread)):
    plan = check(learner, data, duration=6, batch_size=16)
    mesh = Mesh(np.array(jax.devices()[:number]), ("data",), axis_types=(AxisType.Auto,))
    program = ahead.lowered(plan, mesh).compile()
    init_key, key = jn.run_keys(0)
    state = plan.learner.init(init_key)
    rows = np.arange(96, dtype=np.int32).reshape(6, 16)
    sums = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), plan.state.sums)
    state, _ = program(*jax.device_put((state, sums, dict(data), rows, np.int32(0), np.int32(6), key),
                                       program.input_shardings[0]))
    states.append(jax.device_get(state.params))
    print(sorted(Program(program.as_text()).step().collectives))
for other in states[1:]:
    print(max(jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()), states[0], other))))
"""


@pytest.mark.slow
def test_examples_split_over_chips_give_the_same_weights():
    flags = f"--xla_force_host_platform_device_count=4 {os.environ.get('XLA_FLAGS', '')}"
    variables = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    done = subprocess.run(
        [sys.executable, "-c", MANY_DEVICES], capture_output=True, text=True, env=variables, check=False
    )
    assert done.returncode == 0, done.stderr
    alone, together, spread, *differences = done.stdout.splitlines()
    assert alone == "[]" and together == "['all-reduce']" and "all-reduce" in spread
    assert len(differences) == 2 and all(float(difference) < 1e-6 for difference in differences)


def compiled_for_tpus(chips: str, *presets: str) -> dict[str, dict[str, Any]]:
    """Return what a new process says of presets, by their names: libtpu is loaded once a process."""
    path = f"{TESTS}:{TESTS.parent}:{os.environ.get('PYTHONPATH', '')}"
    variables = os.environ | {"PYTHONPATH": path, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    command = [sys.executable, str(TESTS / "compile_process.py"), chips, *presets]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {told["recipe"]: told for told in map(json.loads, done.stdout.splitlines())}


@needs_libtpu
@pytest.mark.slow
def test_flags_of_xla_that_are_not_the_compilers_are_hidden_from_it():
    code = "from jaxnets.accelerators.topology import *; print(mesh(parse('v5e')).size, os.environ['XLA_FLAGS'])"
    variables = os.environ | {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False)
    assert done.stdout.strip() == "1 --xla_cpu_multi_thread_eigen=false", done.stderr[-3000:]


def check_sane(told: dict[str, Any]) -> None:
    memory, times = told["memory_bytes"], told["estimates"]
    assert memory["arguments"] > told["state_bytes"] and memory["fits"]
    assert memory["aliased"] >= told["state_bytes"]  # the state's memory is used again
    assert told["flops"] > 0 and told["bytes"] > 0 and 0 < times["mfu"] < 1
    assert 1e-6 < times["step_seconds"] < 1.0 and times["compiler_seconds"] > 0


@needs_libtpu
@pytest.mark.slow
def test_four_recipes_compile_for_a_tpu():
    told = compiled_for_tpus("v5e", "digits-mlp", "digits-cnn", "shakespeare-lstm", "shakespeare-gpt")
    for one in told.values():
        check_sane(one)
        assert one["collectives"] == {}
    widths = [64, *told["digits-mlp"]["hidden"], 10]
    products = sum(2 * 16 * a * b for a, b in itertools.pairwise(widths))
    assert 1.5 * products <= told["digits-mlp"]["flops"] <= 6 * products  # three times but for the inputs' gradient


@needs_libtpu
@pytest.mark.slow
def test_a_recipe_compiles_for_several_chips():
    told = compiled_for_tpus("v5e:2x2", "digits-mlp")["digits-mlp"]
    check_sane(told)
    assert told["collectives"]["all-reduce"]["size"] > 0 and "all-gather" not in told["collectives"]


@needs_libtpu
@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("chips", ["v5e", "v6e", "v5p"])
def test_every_recipe_compiles_for_tpus(chips):
    for told in compiled_for_tpus(chips, *PRESETS).values():
        if "skipped" not in told:
            check_sane(told)
