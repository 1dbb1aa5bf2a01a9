"""Benchmarks: that all do the same work, that a difference voids a row, and that the figures are what they say."""

import json
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from itertools import starmap
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxnets.bench import cases, files, jax_peers, measure, playing, report, timing, workloads, writing
from jaxnets.bench.limits import Limits, Work, calibrate
from jaxnets.cli import main

# Each kind of workload, small.
SMALL = {
    "mlp": partial(workloads.mlp, (6, 8, 10), 4, 5),
    "mlp-population": partial(workloads.mlp, (6, 8, 10), 4, 5, members=3),
    "cnn": partial(workloads.cnn, (4, 6), 8, 8, 4, 3),
    "lstm": partial(workloads.recurrent, "LSTM", 6, 5, 3, 3),
    "gru": partial(workloads.recurrent, "GRU", 6, 5, 3, 3),
    "gpt": partial(workloads.gpt, 16, 6, 3, 3, num_layers=2),
    "upsampling": partial(workloads.upsampling, 3, 4, 2, 3),
    "residual": partial(workloads.residual, 4, 5, 3, 3),
    "autoencoder": partial(workloads.autoencoder, (8, 6, 3, 6, 8), 4, 5),
    "encoder-decoder": partial(workloads.translator, 16, 5, 3, 3, num_layers=2),
}


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


FAST = Limits(1e12, 1e12, 1e12, 1e-9)


def test_order_alternates():
    calls = []
    times = timing.paired({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 4)
    assert "".join(calls) == "abbaabba"
    assert [len(times[name]) for name in "ab"] == [4, 4]


def test_ratio_is_of_pairs():
    ours = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 256])
    assert timing.ratio(3 * ours, ours) == (3, 3, 3)  # whatever the machine did between the rounds
    noisy = timing.ratio([1, 2, 3, 4, 5, 6, 7, 8, 9], [1] * 9)
    assert noisy.median == 5
    assert 1 < noisy.low < 5 < noisy.high < 9


def test_limit_is_the_largest():
    limits = Limits(flops=1e9, flops_bf16=1e9, bytes=1e6, latency=1e-3)
    assert limits.seconds(Work(2e9, 5e6, 10)) == 2  # bytes so few stay in caches
    assert limits.seconds(Work(1e9, 5e8, 10)) == 500
    assert limits.seconds(Work(1e9, 1e6, 7000)) == 7


@pytest.mark.slow
def test_limits_are_measured():
    limits = calibrate()
    assert min(limits) > 0
    assert limits.latency < 1e-3


def both(case, peer):
    """Return this library's way and the peer's, if what it needs is there."""
    library = measure.PEERS[peer]
    if library and find_spec(library) is None:
        pytest.skip(f"needs {library}: pip install -e '.[bench]'")
    if peer not in case.ways:
        pytest.skip(f"{peer} has no way to do it")
    return case.ways["ours"](), case.ways[peer]()


# Loops of our own layers are tried on one network; who has layers of their own, on each.
LOOPS = [("mlp", "raw-jax"), slow("mlp", "flax-loop"), slow("mlp", "nnx-jit"), slow("mlp-population", "raw-jax")]
OTHERS = [(name, peer) for name in SMALL for peer in ("torch", "keras")]


@pytest.mark.parametrize(("name", "peer"), [*LOOPS, *starmap(slow, OTHERS)])
def test_all_train_alike(name, peer):
    ours, theirs = both(cases.training(SMALL[name]()), peer)
    losses = [(ours(), theirs()) for _ in range(3)]  # they go on from where they stand
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=2e-4)
    assert losses[0][0] != losses[-1][0]


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["flax-loop", "torch"])
def test_all_play_alike(peer, monkeypatch):
    monkeypatch.setattr(playing, "BATCH_SIZE", 16)
    case = cases.gan()
    ours, theirs = both(case, peer)
    np.testing.assert_allclose(ours(), theirs(), rtol=case.tolerance)


@pytest.mark.slow
def test_pytorch_plays_with_the_same_networks():
    """The game draws its own codes in each library; so the networks are compared on the same ones."""
    pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    import torch

    from jaxnets.bench import torch_extras

    params = playing.initial_params()
    codes = np.random.default_rng(0).normal(size=(4, playing.CODE)).astype(np.float32)
    networks = playing.networks()
    states = {name: network.init(jax.random.key(0))[1] for name, network in networks.items()}
    images, _ = networks["generator"].apply(params["generator"], states["generator"], codes, train=True)
    scores, _ = networks["discriminator"].apply(params["discriminator"], states["discriminator"], images, train=True)
    made = torch_extras.Generator(params["generator"])(torch.tensor(codes))
    judged = torch_extras.Discriminator(params["discriminator"])(made)
    np.testing.assert_allclose(images, made.detach().permute(0, 2, 3, 1), atol=2e-5)
    np.testing.assert_allclose(scores[:, 0], judged.detach(), atol=1e-4)


@pytest.mark.slow
def test_all_write_the_same(monkeypatch):
    for name, value in {"BATCH_SIZE": 2, "PROMPT": 4, "LENGTH": 20, "SIZES": (32, 2, 4)}.items():
        monkeypatch.setattr(writing, name, value)
    ours, theirs = both(cases.generation(), "torch")
    assert ours() == theirs()


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["by-hand", "torch"])
@pytest.mark.parametrize("kind", files.KINDS)
def test_all_read_the_same(kind, peer, monkeypatch):
    for name in ("_NUM_IMAGES", "_NUM_CHARACTERS", "_NUM_ROWS"):
        monkeypatch.setattr(files, name, 100)
    ours, theirs = both(cases.reading(kind), peer)
    assert ours() == pytest.approx(theirs(), rel=1e-6)


@pytest.mark.parametrize("name", ["mlp", *map(slow, ["cnn", "gpt", "upsampling"])])
def test_flops_are_what_xla_counts(name):
    """Dense layers, convolutions and attention; XLA counts element-wise work, and padded borders, as well."""
    big = {
        "mlp": partial(workloads.mlp, (64, 256, 10), 64, 1),
        "cnn": partial(workloads.cnn, (32, 32), 64, 16, 8, 1),
        "gpt": partial(workloads.gpt, 128, 64, 4, 1),
        "upsampling": partial(workloads.upsampling, 32, 16, 4, 1),
    }
    workload = big[name]()
    step, tx = jax_peers._plain_step(workload)
    params = jax_peers.initial_params(workload)
    batch = workload.inputs[0], workload.labels[0]
    compiled = jax.jit(step).lower(jax_peers._start(workload, tx, params), batch).compile()
    counted = compiled.cost_analysis()["flops"]
    assert 0.7 < workload.flops / counted < 1.3


@pytest.mark.slow
def test_other_work_is_void(monkeypatch):
    workload = SMALL["mlp"]()
    params = jax_peers.initial_params(workload)
    case = cases.training(workload)
    larger = jax.tree.map(lambda leaf: 1.1 * leaf, params)

    def broken():
        raise RuntimeError("no compiler")

    ways = {"flax-loop": partial(jax_peers.single_steps, workload, larger), "torch": case.ways["raw-jax"]}
    case = case._replace(ways={**case.ways, **ways, "nnx-jit": broken, "keras": broken})
    monkeypatch.setitem(cases.CASES, "mlp", lambda: case)
    monkeypatch.setattr(measure, "find_spec", lambda library: None if library == "torch" else library)
    peers = ["raw-jax", "flax-loop", "nnx-jit", "torch", "by-hand"]
    rows = {row["peer"]: row for row in measure.rows("mlp", peers, FAST, 2)}
    assert rows["raw-jax"]["note"] == ""
    assert rows["raw-jax"]["low"] <= rows["raw-jax"]["ratio"] <= rows["raw-jax"]["high"]
    row, flops = rows["raw-jax"], workload.flops
    np.testing.assert_allclose(row["mfu"], flops / row["ours_seconds"] / FAST.flops)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert row["memory"] > 3 * weights and row["bytes"] == 7 * weights
    assert rows["flax-loop"]["note"].startswith("void: it came to")
    assert rows["nnx-jit"]["note"] == "failed: RuntimeError: no compiler"
    assert rows["torch"]["note"] == "absent: torch is not installed; pip install 'jaxnets[bench]'"
    assert "by-hand" not in rows  # there is nothing of this case that one would do by hand


@pytest.mark.parametrize(
    ("backend", "cuda", "same"),
    [("cpu", False, True), ("gpu", True, True), ("gpu", False, False), ("tpu", True, False)],
)
def test_pytorch_is_measured_on_the_device_that_jax_uses_or_not_at_all(monkeypatch, backend, cuda, same):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: cuda))
    assert measure._same_device(torch) is same


@pytest.mark.slow
def test_nothing_compiles_while_it_is_timed(monkeypatch):
    monkeypatch.setitem(cases.CASES, "mlp", lambda: cases.training(SMALL["mlp"]()))
    heard: list[str] = []
    counts: list[int] = []

    def listen(event: str, *_: object, **__: object) -> None:
        heard.extend([event] if "backend_compile" in event else [])

    def watched(ways, rounds):
        counts.append(len(heard))
        times = timing.paired(ways, rounds)
        counts.append(len(heard))
        return times

    monkeypatch.setattr(measure, "paired", watched)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        assert list(measure.rows("mlp", ["raw-jax", "flax-loop"], FAST, 2))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert counts[0] > 0
    assert counts[0] == counts[1]


@pytest.mark.slow
def test_command(tmp_path, capsys):
    files = ["--json", str(tmp_path / "a.json"), "--out", str(tmp_path / "a.png")]
    assert (
        main(["bench", "--cases", "mlp-small", "--peers", "raw-jax,flax-loop", "--quick", "--rounds", "2", *files]) == 0
    )
    printed = capsys.readouterr().out
    assert "peer/ours" in printed
    assert "GFLOP/s" in printed
    found = json.loads((tmp_path / "a.json").read_text())
    assert [row["peer"] for row in found["rows"]] == ["raw-jax", "flax-loop"]
    wanted = {"case", "peer", "ratio", "low", "high", "ours_seconds", "fraction_of_limit"}
    assert wanted <= set(found["rows"][0])
    assert found["environment"]["jax"] == jax.__version__
    assert found["limits"]["all cores"]["flops"] > 0
    assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.mark.slow
def test_picture_of_nothing_and_of_much(tmp_path):
    row = {"ratio": 2.0, "low": 1.0, "high": 3.0, "note": "", "flops": 1e9, "bytes": 1e7, "ours_seconds": 0.01}
    rows = [row | {"case": case, "peer": peer} for case in ("mlp", "cnn") for peer in ("torch", "keras")]
    rows.append({"case": "gan", "peer": "torch", "note": "absent"})
    for number, drawn in enumerate((rows, rows[-1:])):
        report.save_plot(tmp_path / f"{number}.png", drawn, FAST._asdict(), "both")
        assert (tmp_path / f"{number}.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cases", "mlp-smal"], "there is no 'mlp-smal' (did you mean 'mlp-small'?)"),
        (["--peers", "tensorflow"], "there is no 'tensorflow'"),
        (["--rounds", "0"], "rounds=0 must be 1 or more"),
        (["--json", "/nowhere/a.json"], "there is no folder /nowhere"),
        (["--out", "a.txt"], "suffix"),
    ],
)
def test_wrong_flags(flags, message, capsys):
    assert main(["bench", *flags]) == 2
    assert message in capsys.readouterr().err


def test_importing_the_command_line_loads_no_peer():
    code = "import sys, jaxnets.cli; print({'torch', 'keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
