"""One case beside its peers: the same work, the same result, and then the time."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
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
_MODULES = {"torch": ("torch_peer", "torch_extras"), "keras": ("keras_peer",)}  # ours, that need these libraries


class Started(NamedTuple):
    """A way to do the work, the seconds to its first result, and the first two results: the second has seen updates."""

    way: Way
    seconds: float
    results: tuple[float, float]


def rows(name: str, peers: Sequence[str], limits: Limits, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each peer that has a way to do this case: ratios of its times to ours, or why there are none."""
    case = CASES[name]()
    ways, failed = {"ours": _started(case, "ours")}, {}
    for peer in dict.fromkeys(peers):
        if peer not in case.ways:
            continue
        library = PEERS[peer]
        if library and find_spec(library) is None:
            failed[peer] = f"absent: {library} is not installed; pip install 'jaxnets[bench]'"
            continue
        if library == "torch" and not _same_device(import_module("torch")):
            failed[peer] = f"absent: here PyTorch runs on the CPU, and JAX on {jax.default_backend()}"
            continue
        try:
            for module in _MODULES[library] if library else ():
                import_module(f"jaxnets.bench.{module}")  # outside of what is timed
            ways[peer] = _started(case, peer)
        except Exception as error:  # what a peer cannot do is a result, and no failure of the run
            failed[peer] = f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    jax.clear_caches()
    again = _started(case, "ours").seconds  # from the persistent cache
    for started in ways.values():
        started.way()  # some compile once more, for what they had compiled was cleared
    times = paired({peer: started.way for peer, started in ways.items()}, rounds)
    ours, seconds = ways["ours"], Seconds(*(value / case.num_units for value in _median(times["ours"])))
    least = limits.seconds(case.work) if case.work else None
    common = {
        "unit": case.unit,
        **_named("ours_seconds", seconds),
        **_named("fraction_of_limit", tuple(least and least / value for value in seconds)),
        "flops": case.work and case.work.flops,
        "bytes": case.work and case.work.num_bytes,
        **_named("mfu", tuple(case.work and case.work.flops / value / limits.flops for value in seconds)),
        "memory": getattr(ours.way, "memory", None),
        "ours_first_seconds": ours.seconds,
        "ours_first_seconds_cached": again,
        "ours_results": ours.results,
    }
    for peer, reason in failed.items():
        yield {"case": name, "peer": peer, "note": reason}
    for peer, started in ways.items():
        if peer == "ours":
            continue
        yield {
            "case": name,
            "peer": peer,
            **_ratios(times[peer], times["ours"]),
            **common,
            **_named("peer_seconds", Seconds(*(value / case.num_units for value in _median(times[peer])))),
            "peer_first_seconds": started.seconds,
            "peer_results": started.results,
            "note": _difference(case, started.results, ours.results),
        }


def _same_device(torch: Any) -> bool:
    """Return whether PyTorch can compute on the device that JAX uses."""
    backend = jax.default_backend()
    return backend == "cpu" or (backend == "gpu" and torch.cuda.is_available())


def _difference(case: Case, theirs: Sequence[float], ours: Sequence[float]) -> str:
    """Return what tells two ways' results apart, or an empty string."""
    most = case.tolerance * abs(ours[0])  # the second may be next to 0, where relative differences are large
    if all(abs(their - own) <= most for their, own in zip(theirs, ours, strict=True)):
        return ""
    return "void: it came to {:.5f} and {:.5f}, ours to {:.5f} and {:.5f}".format(*theirs, *ours)


def _started(case: Case, name: str) -> Started:
    made: list[Any] = []

    def start() -> None:
        way = case.ways[name]()
        made.extend((way, way()))

    seconds = measured(start).wall
    way, first = made
    return Started(way, seconds, (first, way()))


def _ratios(peer: list[Seconds], ours: list[Seconds]) -> dict[str, Any]:
    """Return the medians of the ratios, and the ends of their intervals."""
    by_clock, of_process = (
        ratio(theirs, own) for theirs, own in zip(zip(*peer, strict=True), zip(*ours, strict=True), strict=True)
    )
    found: dict[str, Any] = {}
    for name, wall, process in zip(("ratio", "low", "high"), by_clock, of_process, strict=True):
        found |= _named(name, (wall, process))
    return found


def _named(name: str, value: tuple[Any, ...]) -> dict[str, Any]:
    """Return what is by the clock under this name, and what is of processor time under one that says so."""
    wall, process = value
    return {name: wall, f"process_{name}": process}


def _median(times: list[Seconds]) -> Seconds:
    return Seconds(*(statistics.median(values) for values in zip(*times, strict=True)))
