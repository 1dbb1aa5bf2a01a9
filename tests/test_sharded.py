"""Learners on a mesh of devices: what one can show, and what eight virtual ones show, in a process of their own."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import assert_same_bits, fails, small_learner
from jax.sharding import AbstractMesh

import jaxnets as jn
from jaxnets.commands.opening import each_member
from jaxnets.parameters import parameter_of
from jaxnets.transforms.meshes import axes_of, default_rules, mesh_sizes

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text().partition("## Meshes")[2].partition("## Results")[0]


def run_python(*arguments: str, devices: int, cwd: Path = ROOT) -> str:
    # Devices that share a core may wait longer for each other than the 40 s after which XLA aborts. It has no more
    # threads than devices unless NPROC says so, and a launch may hold the one that a sum over devices waits for.
    patience = "--xla_cpu_collective_call_terminate_timeout_seconds=120"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {patience} --xla_force_host_platform_device_count={devices}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env = inherited | {"XLA_FLAGS": flags, "NPROC": "64"}
    options = {"capture_output": True, "text": True, "env": env, "cwd": cwd}
    done = subprocess.run([sys.executable, *arguments], check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["not release", pytest.param("release", marks=pytest.mark.release)])
def test_on_eight_devices(kept):
    tests = str(Path(__file__).with_name("eight_devices.py"))
    options = ["-q", "-n", "0", "-m", kept, "-p", "no:cacheprovider", "--capture=sys"]  # what XLA logs is seen
    run_python("-m", "pytest", *options, tests, devices=8)


@pytest.mark.slow
def test_the_commands_and_the_example_of_the_readme_work(tmp_path):
    lines = re.findall(r"^XLA_FLAGS=\S+=(\d) jaxnets (.*)$", README, re.MULTILINE)
    for devices, arguments in lines:
        short = [] if "--duration" in arguments else ["--duration", "40", "--evaluate-every", "20"]
        run_python("-m", "jaxnets", *shlex.split(arguments), *short, devices=int(devices), cwd=tmp_path)
    assert len(lines) == 3
    (example,) = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert "'data'" in run_python("-c", example, devices=8)


def test_a_mesh_of_one_device_changes_no_bits(blobs):
    options = {"duration": 6, "progress": False, "validation": blobs}
    alone = jn.fit(small_learner(dropout=0.2), blobs, **options).state
    assert_same_bits(
        jn.fit(jn.sharded(small_learner(dropout=0.2), jn.make_mesh("data=1")), blobs, **options).state, alone
    )


def test_members_are_taken_out_by_one_program(blobs):
    learner = jn.population(small_learner(), 7, "vmap")
    state = jn.fit(learner, blobs, seed=range(7), duration=1, progress=False).state
    compiled = []

    def listen(event: str, duration: float, **_) -> None:
        compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        members = list(each_member(state))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert sum("backend_compile" in event for event in compiled) == 1
    for i, member in enumerate(members):
        assert_same_bits(member, jax.tree.map(lambda leaf, i=i: leaf[i], state))


def test_the_device_count_and_the_remedy_are_named():
    number = len(jax.devices())
    with pytest.raises(jn.InputError, match=rf"mesh data=64 is of 64 devices, and there (is|are) {number}: .*count=64"):
        jn.make_mesh("data=64")
    with pytest.raises(jn.InputError, match="mesh axis data=0 must be a whole number of 1 or more"):
        jn.make_mesh({"data": 0})
    with pytest.raises(jn.InputError, match="give a mesh, such as"):
        jn.sharded(small_learner(), "data=8")  # type: ignore[arg-type]
    assert mesh_sizes("data=4, model=2") == {"data": 4, "model": 2}
    for text in ("", "data", "data=4;model=2", "data=4,data=2", "data=-1", "data=4,"):
        with pytest.raises(jn.InputError, match="must give each axis a size, such as data=4,model=2"):
            jn.make_mesh(text)


def test_widths_are_split_in_pairs_and_heads_together():
    columns, rows = (None, "model"), ("model", None)
    shapes = {
        f"head/hidden/{i}/layer/{part}": (8, 8)[: 2 - (part == "bias")] for i in range(3) for part in ("kernel", "bias")
    }
    assert default_rules(shapes | {"head/out/kernel": (8, 3), "convs/0/layer/kernel": (3, 3, 1, 8)}, 2) == {
        "head/hidden/0/layer/kernel": columns,
        "head/hidden/0/layer/bias": ("model",),
        "head/hidden/1/layer/kernel": rows,
        "head/hidden/1/layer/bias": (),
        "head/hidden/2/layer/kernel": columns,
        "head/hidden/2/layer/bias": ("model",),
        "head/out/kernel": rows,
    }
    network = jn.network(jn.models.Transformer, 12, 8, 1, 2, 12, max_length=4, tokens=True)
    params = jax.eval_shape(network.init, jax.random.key(0))[0]
    split = {
        name: axes for name, axes in axes_of(params, 0, AbstractMesh((2,), ("model",)), None, None).items() if any(axes)
    }
    assert split == {
        "embed/embedding": rows,
        **{f"blocks/0/attention/{part}/kernel": columns for part in "qkv"},
        **{f"blocks/0/attention/{part}/bias": ("model",) for part in "qkv"},
        "blocks/0/attention/out/kernel": rows,
        "blocks/0/feed_forward/up/kernel": columns,
        "blocks/0/feed_forward/up/bias": ("model",),
        "blocks/0/feed_forward/down/kernel": rows,
    }


def test_large_parameters_are_split_along_their_longest_axis():
    mesh = AbstractMesh((4, 2), ("data", "model"))
    params = {"a": np.zeros((32, 64)), "b": np.zeros((33, 64)), "c": np.zeros((33, 35)), "d": np.zeros(64)}
    rules = {"a": (None, "model"), "b": (None, ("data", "model"))}
    assert axes_of(params, 0, mesh, rules, "data") == {
        "a": ("data", "model"),
        "b": (None, ("data", "model")),
        "c": (None, None),
        "d": (None,),
    }
    assert axes_of(params, 0, mesh, {}, "data")["b"] == (None, "data")


def test_what_is_kept_of_a_parameter_is_known_by_its_path():
    names = {"hidden/0/kernel", "0/kernel", "generator/out/kernel"}
    for path, name in {
        "0/mu/hidden/0/kernel": "hidden/0/kernel",
        "inner_states/adam/inner_state/0/nu/0/kernel": "0/kernel",
        "generator/0/mu/out/kernel": "generator/out/kernel",
        "average/params/generator/out/kernel": "generator/out/kernel",
        "0/count": None,
        "discriminator/0/mu/out/kernel": None,
    }.items():
        assert parameter_of(path, names) == name


def test_flags_that_change_nothing_are_refused(tmp_path, capsys):
    train = ["train", "digits-mlp", "--out", tmp_path / "run"]
    assert "fully_sharded changes nothing on one device" in fails(capsys, *train, "--fully-sharded")
    assert "--mesh changes nothing with --overfit" in fails(
        capsys, "train", "digits-mlp", "--overfit-one-batch", "--mesh", "data=1"
    )
    assert "must give each axis a size" in fails(capsys, *train, "--mesh", "8")
    assert "is of 64 devices" in fails(capsys, *train, "--mesh", "data=64")
    assert not (tmp_path / "run").exists()
