"""Numbers as people read them: metrics with their spread, sizes and times."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def metric(name: str, value: Any) -> str:
    """Return a metric's value; accuracies in percent, and the members of a population as mean ± standard deviation."""
    values = np.ravel(np.asarray(value, np.float64))
    percent = name.endswith("accuracy")
    scale, unit, digits = (100.0, "%", 2) if percent else (1.0, "", 4)
    mean = f"{values.mean() * scale:.{digits}f}"
    if values.size == 1:
        return f"{mean}{unit}"
    return f"{mean} ± {values.std(ddof=1) * scale:.{digits}f}{unit}"


def metrics(row: Mapping[str, Any]) -> str:
    """Return the metrics of a row, those of a split together: ``train loss 0.0621 accuracy 98.20%  validation ...``."""
    splits: dict[str, list[str]] = {}
    for name, value in row.items():
        split, _, short = name.partition("/")
        if short:
            splits.setdefault(split, []).append(f"{short} {metric(name, value)}")
    return "  ".join(f"{split} {' '.join(sorted(parts, reverse=True))}" for split, parts in splits.items())


def seconds(value: float) -> str:
    """Return a time as 35 µs, 4.2 ms, 0.3 s, 12.4 s, 3 min 05 s or 2 h 10 min."""
    if value < 0.1:
        return f"{value * 1e6:.3g} µs" if value < 1e-3 else f"{value * 1e3:.3g} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(value: float, unit: str) -> str:
    """Return a quantity with a decimal prefix: 950 B, 12.3 kB, 4.5 MFLOP."""
    for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}"
