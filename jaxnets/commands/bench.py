"""The command that measures this library beside others, on the machine it runs on."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from jaxnets.bench import report as figures
from jaxnets.bench.cases import CASES
from jaxnets.bench.measure import PEERS
from jaxnets.errors import InputError, nearest
from jaxnets.runs import plots
from jaxnets.runs.console import console

Device = Literal["cpu", "gpu", "tpu"] | None

_ALL, _ALL_PEERS = ",".join(CASES), ",".join(PEERS)
_QUICK = "mlp-small,cnn,lstm-small,gpt-small"
_QUICK_PEERS = "raw-jax,torch,keras"  # torch.compile alone would take 50 seconds to start
_ROUNDS, _QUICK_ROUNDS = 9, 5
_SERIES = {"one core": "processor time", "all cores": "time by the clock"}
_WIDTH = 124  # of the table


def bench(
    cases: str = _ALL,
    peers: str = _ALL_PEERS,
    rounds: int | None = None,
    quick: bool = False,
    device: Device = None,
    json: Path | None = None,
    out: Path | None = None,
) -> int:
    """Measure this library beside PyTorch, Keras and loops by hand, on this machine.

    Each figure is a ratio of times in one run. On a CPU there are two series: of processor time on one core, which
    other work disturbs least, and of time by the clock on all cores. Run nothing else meanwhile. All start from the
    same weights, and a case whose results differ is void (and the exit status 1).

    Args:
        cases: what is measured, with commas between.
        peers: what it is compared with, with commas between.
        rounds: how often each is measured (9, quick 5); order alternates, and the figure is the median of their ratios.
        quick: a few cases, peers and rounds, all cores: under two minutes.
        device: what to run on; as JAX chooses if absent.
        json: a file to write all figures to.
        out: a picture to draw.
    """
    if quick:
        cases, peers = (_QUICK if cases == _ALL else cases), (_QUICK_PEERS if peers == _ALL_PEERS else peers)
    rounds = rounds if rounds is not None else _QUICK_ROUNDS if quick else _ROUNDS
    _check(cases, peers, rounds, json, out)
    on_one_core = not quick and device in (None, "cpu") and hasattr(os, "sched_setaffinity")
    told: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    try:
        for series in _SERIES if on_one_core else ["all cores"]:
            _measure(cases, peers, rounds, device, series, told, rows)
    finally:  # what was measured is kept, whatever happened then
        if json is not None and rows:
            figures.save_json(json, told, rows)
    if not rows:
        raise InputError(f"peers={peers}: none of them has a way to do {cases}; choose from {_ALL_PEERS}")
    if out is not None:
        last = [row for row in rows if row["series"] == "all cores"]
        limits = next(one["limits"] for one in told if one["series"] == "all cores")
        figures.save_plot(out, last, limits, "all cores, time by the clock")
    return 1 if any(row["note"].startswith("void") for row in rows) else 0


def _measure(
    cases: str,
    peers: str,
    rounds: int,
    device: Device,
    series: str,
    told: list[dict[str, Any]],
    rows: list[dict[str, Any]],
) -> None:
    """Measure one series and print its table; what is told of the machine, and the rows, are added to the lists."""
    own: list[dict[str, Any]] = []
    try:
        for line in _lines(cases, peers, rounds, device, series):
            if "limits" in line:
                told.append({"series": series, **line})
                console.print(_told(series, line["limits"]))
            elif "starting" in line:
                console.print(f"  {line['starting']} ...")
            else:
                own.append({"series": series, **(figures.of_processor_time(line) if series == "one core" else line)})
    finally:
        rows += own
        if own:
            table = figures.table(own, f"{series}: {_SERIES[series]}")
            Console(width=max(_WIDTH, console.width), highlight=False).print(table)
            for note in figures.notes(own):
                console.print(note, markup=False)


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


def _lines(cases: str, peers: str, rounds: int, device: Device, series: str) -> Iterator[Mapping[str, Any]]:
    """Yield what the process that measures one series says."""
    with tempfile.TemporaryDirectory() as cache:
        variables = os.environ | {"JAXNETS_CACHE": cache, "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor"}
        for name in ("JAX_COMPILATION_CACHE_DIR", "JAXNETS_COMPILE_CACHE"):
            variables.pop(name, None)  # all begin with empty caches
        if device is not None:
            variables["JAX_PLATFORMS"] = "cuda" if device == "gpu" else device
        arguments = [cases, peers, str(rounds), *(["one-core"] if series == "one core" else [])]
        command = [sys.executable, "-m", "jaxnets.bench.worker", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    if line.startswith("{"):
                        said = json.loads(line)
                        if "error" in said:
                            raise InputError(f"device={device}: {said['error']}")
                        yield said
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            raise InputError(f"the process that measures ended with status {process.returncode}; see its message above")


def _told(series: str, limits: Mapping[str, float]) -> str:
    """Return what the hardware can do, in a line."""
    return (
        f"[bold]{series}[/bold]: matrix product {limits['flops'] / 1e9:,.0f} GFLOP/s (bfloat16 "
        f"{limits['flops_bf16'] / 1e9:,.0f}), copy {limits['bytes'] / 1e9:.0f} GB/s, "
        f"an iteration of a loop {limits['latency'] * 1e9:.0f} ns"
    )
