"""The figures of a benchmark as a table, as JSON, and as a picture."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from jaxnets.training import readable

Rows = Sequence[Mapping[str, Any]]


def table(rows: Rows, title: str) -> Table:
    """Return the rows that have figures as a table: ratios over 1 are in this library's favour.

    "ours" is the time of a step or file, "MFU" the part of a large matrix product's rate that its operations reach,
    "start" the time to the first result with empty caches, "cached" with full ones.
    """
    made = Table(title=title, title_justify="left", box=None, header_style="bold")
    made.add_column("case", no_wrap=True)
    made.add_column("peer", no_wrap=True)
    for name in ("peer/ours", "95% interval", "ours", "MFU", "of limit", "memory", "start", "cached", "peer's"):
        made.add_column(name, justify="right", no_wrap=True)
    before = ""
    for row in rows:
        if "ratio" not in row:
            continue
        case, before = ("" if row["case"] == before else row["case"]), row["case"]
        made.add_row(
            case,
            row["peer"],
            "void" if row["note"] else f"{row['ratio']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            readable.seconds(row["ours_seconds"]),
            *("" if row[name] is None else f"{row[name]:.0%}" for name in ("mfu", "fraction_of_limit")),
            "" if row["memory"] is None else readable.size(row["memory"], "B"),
            *(
                readable.seconds(row[name])
                for name in ("ours_first_seconds", "ours_first_seconds_cached", "peer_first_seconds")
            ),
        )
    return made


def notes(rows: Rows) -> list[str]:
    """Return why rows have no figures, or void ones; what is absent is told once."""
    told = [
        f"{row['peer']} is {row['note']}"
        if row["note"].startswith("absent")
        else f"{row['case']}, {row['peer']}: {row['note']}"
        for row in rows
        if row["note"]
    ]
    return _unique(told)


def of_processor_time(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with processor times for those by the clock, which goes on whatever else runs on the core."""
    prefix = "process_"
    return dict(row) | {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def save_json(path: Path, told: Rows, rows: Rows) -> None:
    """Write the rows, and what was told of each series: the hardware's limits, and all versions."""
    found = {"limits": {one["series"]: one["limits"] for one in told}, "environment": told[0]["environment"]}
    path.write_text(json.dumps(found | {"rows": rows}, indent=2) + "\n")


def save_plot(path: Path, rows: Rows, limits: Mapping[str, float], title: str) -> None:
    """Draw the ratios, and how near this library comes to what the hardware can do (Williams et al., 2009)."""
    from matplotlib.figure import Figure  # noqa: PLC0415  (slow to import, and only pictures need it)

    rows = [row for row in rows if row.get("ratio") and not row["note"]]
    height = max(4.0, 1 + 0.16 * len(rows))
    figure = Figure(figsize=(15, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set_title(title, loc="left")
    _draw_ratios(left, rows)
    _draw_roofline(right, {row["case"]: row for row in rows if row["flops"] and row["bytes"]}, limits)
    figure.savefig(path, dpi=120)


def _draw_ratios(axes: Any, rows: Rows) -> None:
    """Draw a bar for each peer of each case, with its interval."""
    cases, peers = _unique(row["case"] for row in rows), _unique(row["peer"] for row in rows)
    height = 0.8 / max(1, len(peers))
    for number, peer in enumerate(peers):
        own = [row for row in rows if row["peer"] == peer]
        places = [cases.index(row["case"]) + (number - (len(peers) - 1) / 2) * height for row in own]
        ratios = [row["ratio"] for row in own]
        errors = [[row["ratio"] - row["low"] for row in own], [row["high"] - row["ratio"] for row in own]]
        beyond = [ratio - 1 for ratio in ratios]  # bars begin at 1, and go to the right where ours is faster
        axes.barh(places, beyond, height, left=1, xerr=errors, label=peer, error_kw={"linewidth": 0.8})
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.set_xlabel("peer's time / ours (over 1: ours is faster)")
    if peers:
        axes.legend()


def _draw_roofline(axes: Any, cases: Mapping[str, Mapping[str, Any]], limits: Mapping[str, float]) -> None:
    """Draw each case below the roof: the rate of operations over operations a byte of weights and their optimizer."""
    points = {name: (row["flops"] / row["bytes"], row["flops"] / row["ours_seconds"]) for name, row in cases.items()}
    ridge = limits["flops"] / limits["bytes"]
    ends = [ridge / 30, ridge, ridge * 30, *(x for x, _ in points.values())]
    places = sorted({min(ends), ridge, max(ends)})
    axes.loglog(places, [min(limits["flops"], x * limits["bytes"]) for x in places], "k-", linewidth=0.8)
    for name, (x, y) in points.items():
        axes.loglog(x, y, "o", color="tab:blue")
        axes.annotate(name, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=8)
    axes.set_xlabel("operations a byte of weights, gradients and moments")
    axes.set_ylabel("operations a second")
    axes.set_title("roof: a large matrix product, and a large copy (caches are faster)", loc="left")


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
