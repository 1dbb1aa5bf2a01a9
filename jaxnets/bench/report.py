"""The figures of a benchmark as a table, as JSON, and as a picture."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from jaxnets import text

Rows = Sequence[Mapping[str, Any]]


def table(rows: Rows, title: str) -> Table:
    """Return the rows that have figures as a table: ratios over 1 are in this library's favour.

    "ours" is the time of a step or file, "start" that to the first result with empty caches, "cached" with full ones.
    """
    made = Table(title=title, title_justify="left", box=None, header_style="bold")
    made.add_column("case", no_wrap=True)
    made.add_column("peer", no_wrap=True)
    for name in ("peer/ours", "95% interval", "ours", "of limit", "start", "cached", "peer's"):
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
            text.seconds(row["ours_seconds"]),
            "" if row["fraction_of_limit"] is None else f"{row['fraction_of_limit']:.0%}",
            *(
                text.seconds(row[name])
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


def save_plot(path: Path, rows: Rows, title: str) -> None:
    """Draw the ratios, a bar for each peer of each case, with their intervals."""
    from matplotlib.figure import Figure  # noqa: PLC0415  (slow to import, and only pictures need it)

    rows = [row for row in rows if row.get("ratio") and not row["note"]]
    cases, peers = _unique(row["case"] for row in rows), _unique(row["peer"] for row in rows)
    figure = Figure(figsize=(9, 1 + 0.16 * len(cases) * (len(peers) + 1)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / max(1, len(peers))
    for number, peer in enumerate(peers):
        own = [row for row in rows if row["peer"] == peer]
        places = [cases.index(row["case"]) + (number - (len(peers) - 1) / 2) * height for row in own]
        ratios = [row["ratio"] for row in own]
        errors = [[row["ratio"] - row["low"] for row in own], [row["high"] - row["ratio"] for row in own]]
        axes.barh(places, ratios, height, xerr=errors, label=peer, error_kw={"linewidth": 0.8})
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.set_xlabel("peer's time / ours (over 1: ours is faster)")
    axes.set_title(title, loc="left")
    axes.legend()
    figure.savefig(path, dpi=120)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
