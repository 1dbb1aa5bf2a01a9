"""One case beside its peers: the same work, the same result, and then the time."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax

from jaxnets.bench.cases import CASES, Case
from jaxnets.bench.jax_peers import Way
from jaxnets.bench.limits import Limits
from jaxnets.bench.timing import Seconds, measured, paired, ratio

# Each peer, and the library that it needs, an extra: pip install 'jaxnets[bench]'.
PEERS: Mapping[str, str | None] = {
    "raw-jax": None,
    "flax-loop": None,
    "nnx-jit": None,
    "by-hand": None,
    "torch": "torch",
    "torch-compile": "torch",
    "keras": "keras",
}


class Started(NamedTuple):
    """A way to do the work, the seconds to its first result, and that result."""

    way: Way
    seconds: float
    result: float


def rows(name: str, peers: Sequence[str], limits: Limits, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each peer that has a way to do this case: ratios of its times to ours, or why there are none."""
    case = CASES[name]()
    ways, failed = {"ours": _started(case, "ours")}, {}
    for peer in peers:
        if peer not in case.ways:
            continue
        library = PEERS[peer]
        if library and find_spec(library) is None:
            failed[peer] = f"absent: {library} is not installed; pip install 'jaxnets[bench]'"
            continue
        try:
            ways[peer] = _started(case, peer)
        except Exception as error:  # what a peer cannot do is a result, and no failure of the run
            failed[peer] = f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    jax.clear_caches()
    again = _started(case, "ours").seconds  # from the persistent cache
    for started in ways.values():
        started.way()  # once more, to be warm
    times = paired({peer: started.way for peer, started in ways.items()}, rounds)
    ours, seconds = ways["ours"], _median(times["ours"]).wall / case.num_units
    common = {
        "unit": case.unit,
        "ours_seconds": seconds,
        "fraction_of_limit": case.limit(limits) / seconds if case.limit else None,
        "ours_first_seconds": ours.seconds,
        "ours_first_seconds_cached": again,
        "ours_result": ours.result,
    }
    for peer, reason in failed.items():
        yield {"case": name, "peer": peer, "note": reason}
    for peer, started in ways.items():
        if peer == "ours":
            continue
        same = abs(started.result - ours.result) <= case.tolerance * abs(ours.result)
        yield {
            "case": name,
            "peer": peer,
            **_ratios(times[peer], times["ours"]),
            **common,
            "peer_seconds": _median(times[peer]).wall / case.num_units,
            "peer_first_seconds": started.seconds,
            "peer_result": started.result,
            "note": "" if same else f"void: it came to {started.result:.5f}, ours to {ours.result:.5f}",
        }


def _started(case: Case, name: str) -> Started:
    made: list[Any] = []

    def start() -> None:
        way = case.ways[name]()
        made.extend((way, way()))

    return Started(seconds=measured(start).wall, way=made[0], result=made[1])


def _ratios(peer: list[Seconds], ours: list[Seconds]) -> dict[str, float]:
    """Return the ratios by the clock, and those of processor time under names that begin with ``process_``."""
    found = {}
    for prefix, which in (("", "wall"), ("process_", "process")):
        both = ([getattr(seconds, which) for seconds in times] for times in (peer, ours))
        found |= {f"{prefix}{name}": value for name, value in zip(("ratio", "low", "high"), ratio(*both), strict=True)}
    return found


def _median(times: list[Seconds]) -> Seconds:
    return Seconds(*(statistics.median(values) for values in zip(*times, strict=True)))
