"""The command that measures this library beside others, on the machine it runs on."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from jaxnets import plots
from jaxnets.bench import report as figures
from jaxnets.bench.cases import CASES
from jaxnets.bench.measure import PEERS
from jaxnets.errors import InputError, nearest
from jaxnets.report import console
from jaxnets.run import environment

Device = Literal["cpu", "gpu", "tpu"] | None

_ALL = ",".join(CASES)
_QUICK = "mlp-small,mlp,lstm-small,gpt-small"
_QUICK_ROUNDS = 5
_SERIES = {"one core": "processor time", "all cores": "time by the clock"}
_WIDTH = 110  # of the table


def bench(
    cases: str = _ALL,
    peers: str = ",".join(PEERS),
    rounds: int = 9,
    quick: bool = False,
    device: Device = None,
    json: Path | None = None,
    out: Path | None = None,
) -> int:
    """Measure this library beside PyTorch, Keras and loops by hand, as ratios in one run, on this machine.

    On a CPU there are two series: of processor time on one core, which other work disturbs least, and of time by the
    clock on all cores. Run nothing else meanwhile. All start from the same weights, and a case whose results differ is
    void (and the exit status 1).

    Args:
        cases: what is measured, with commas between.
        peers: what it is compared with, with commas between.
        rounds: how often each is measured; the order alternates, and the figure is the median of each round's ratio.
        quick: a few cases, a few rounds, all cores: under two minutes.
        device: what to run on; as JAX chooses if absent.
        json: a file to write all figures to.
        out: a picture to draw.
    """
    if quick:
        cases, rounds = (_QUICK if cases == _ALL else cases), min(rounds, _QUICK_ROUNDS)
    _check(cases, peers, rounds, json, out)
    # Only a CPU has cores, and not every system lets a process be held to one.
    on_one_core = not quick and device in (None, "cpu") and hasattr(os, "sched_setaffinity")
    rows, limits = [], {}
    for series in _SERIES if on_one_core else ["all cores"]:
        own = []
        for line in _measured(cases, peers, rounds, device, series):
            if "limits" in line:
                limits[series] = line["limits"]
                console.print(_told(series, line["limits"]))
            elif "starting" in line:
                console.print(f"  {line['starting']} ...")
            else:
                own.append({"series": series, **line})
        if series == "one core":
            own = [figures.of_processor_time(row) for row in own]
        console.print(figures.table(own, f"{series}: {_SERIES[series]}"), width=max(_WIDTH, console.width))
        rows += own
    if json is not None:
        figures.save_json(json, environment(), limits, rows)
    if out is not None:
        last = [row for row in rows if row["series"] == "all cores"]
        figures.save_plot(out, last, "all cores, time by the clock")
    return 1 if any(row["note"].startswith("void") for row in rows) else 0


def _check(cases: str, peers: str, rounds: int, json: Path | None, out: Path | None) -> None:
    for what, given, there in (("cases", cases, CASES), ("peers", peers, PEERS)):
        for name in given.split(","):
            if name not in there:
                raise InputError(f"{what}: there is no {name!r}{nearest(name, there)}; choose from {','.join(there)}")
    if rounds < 1:
        raise InputError(f"rounds={rounds} must be 1 or more; 9 give an interval worth having")
    if out is not None:
        plots.check_picture(out)
    if json is not None and not json.parent.is_dir():
        raise InputError(f"json={json}: there is no folder {json.parent}")


def _measured(cases: str, peers: str, rounds: int, device: Device, series: str) -> Iterator[Mapping[str, Any]]:
    """Yield what the process that measures one series says."""
    with tempfile.TemporaryDirectory() as cache:
        variables = os.environ | {"JAXNETS_CACHE": cache}
        if device is not None:
            variables["JAX_PLATFORMS"] = "cuda" if device == "gpu" else device
        arguments = [cases, peers, str(rounds), *(["one-core"] if series == "one core" else [])]
        command = [sys.executable, "-m", "jaxnets.bench.worker", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
        if process.returncode:
            raise InputError(f"the process that measures ended with status {process.returncode}; see its message above")


def _told(series: str, limits: Mapping[str, float]) -> str:
    """Return what the hardware can do, in a line."""
    return (
        f"[bold]{series}[/bold]: matrix product {limits['flops'] / 1e9:,.0f} GFLOP/s (bfloat16 "
        f"{limits['flops_bf16'] / 1e9:,.0f}), copy {limits['bytes'] / 1e9:.0f} GB/s, "
        f"an iteration of a loop {limits['latency'] * 1e9:.0f} ns"
    )
