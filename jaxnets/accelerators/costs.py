"""What one step of a compiled loop does, on each device.

XLA's own analysis takes a loop's body once, however often it runs, and says nothing of a program for a GPU that is not
there. Here a loop counts as often as it runs, and the loop over the steps, whose length is an argument, once: so the
figures are those of a step.
"""

import re
from dataclasses import dataclass, field

from jaxnets.accelerators.hlo import Array, Computation, Instruction, origin, read, users

_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# Other names for what is there: they read and write nothing.
_FREE = {
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id", "replica-id"),
    *("add-dependency", "opt-barrier", "iota"),
}
_LIBRARY = re.compile(r'custom_call_target="__(cublas|cudnn)')
_SLICES = {"dynamic-slice", "gather", "slice"}


@dataclass(frozen=True)
class Collective:
    """Collectives of one kind.

    Attributes:
        number: how many.
        size: bytes of their operands or of their results, whichever are more.
        waited: those of them that the device waits for, while it computes nothing.
    """

    number: float = 0.0
    size: float = 0.0
    waited: float = 0.0


@dataclass(frozen=True)
class Costs:
    """What some instructions do.

    Attributes:
        bytes: read from the device's memory and written to it, padding included; what stays on the chip is not counted.
        cycles: the compiler's estimate; 0 where it makes none.
        copies: bytes that are moved only to lie otherwise, of those above.
        collectives: by kind.
    """

    bytes: float = 0.0
    cycles: float = 0.0
    copies: float = 0.0
    collectives: dict[str, Collective] = field(default_factory=dict)

    def plus(self, other: "Costs", times: float = 1.0) -> "Costs":
        """Return these costs and, so many times, others."""
        kinds = dict(self.collectives)
        for kind, more in other.collectives.items():
            have = kinds.get(kind, Collective())
            pairs = zip(vars(have).values(), vars(more).values(), strict=True)
            kinds[kind] = Collective(*(a + times * b for a, b in pairs))
        return Costs(
            self.bytes + times * other.bytes,
            self.cycles + times * other.cycles,
            self.copies + times * other.copies,
            kinds,
        )


class Program:
    """A compiled module, and what its parts cost.

    Args:
        text: ``compiled.as_text()``.
    """

    def __init__(self, text: str):
        self.computations, self.entry = read(text)
        self._known: dict[str, Costs] = {}

    def step(self) -> Costs:
        """Return the costs of a step: of one turn of the loop whose length is not known; of all, if there is none."""
        bodies = self._open_loops(self.entry)
        return max(map(self.costs, bodies), key=lambda costs: costs.bytes) if bodies else self.costs(self.entry)

    def _open_loops(self, name: str) -> list[str]:
        """Return the bodies of the outermost loops whose length is not known."""
        found: list[str] = []
        for one in self.computations[name].values():
            if one.opcode == "while" and self.turns(one) is None:
                found.append(one.called["body"])
            elif one.opcode in ("while", "call"):
                found += self._open_loops(one.called["body" if one.opcode == "while" else "to_apply"])
        return found

    def turns(self, loop: Instruction) -> int | None:
        """Return how often a loop runs, None if the compiler does not know."""
        if said := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest):
            return int(said[1])
        condition = self.computations[loop.called["condition"]]
        root = next(one for one in condition.values() if one.root)
        if root.opcode != "compare" or "direction=LT" not in root.rest:
            return None
        limits = [condition[name].given for name in root.operands if condition[name].opcode == "constant"]
        return int(limits[0]) if limits and limits[0].isdigit() else None

    def costs(self, name: str) -> Costs:
        """Return the costs of a computation."""
        if name not in self._known:
            total = Costs()
            for one in self.computations[name].values():
                total = total.plus(*self._cost(one, self.computations[name]))
            self._known[name] = total
        return self._known[name]

    def _cost(self, one: Instruction, around: Computation) -> tuple[Costs, float]:
        """Return what an instruction costs, and how often."""
        if one.opcode in _FREE or one.opcode.endswith(("-done", "-update")):
            return Costs(), 1
        called = one.called
        if one.opcode == "while":
            return self.costs(called["body"]).plus(self.costs(called["condition"])), self.turns(one) or 1
        if one.opcode == "call":
            return self.costs(called["to_apply"]), 1
        if one.opcode == "conditional":
            return max(map(self.costs, one.branches), key=lambda costs: costs.bytes), 1
        cycles = re.search(r'"estimated_cycles":"(\d+)"', one.rest)
        moved = self._moved(one, around)
        copied = moved if one.opcode in ("copy", "transpose") else 0.0
        return Costs(moved, float(cycles[1]) if cycles else 0.0, copied, self._collectives(one, around)), 1

    def _collectives(self, one: Instruction, around: Computation, *, beside: bool = False) -> dict[str, Collective]:
        """Return the collectives of an instruction, those inside of a fusion too, beside which it computes."""
        kind = next((kind for kind in _COLLECTIVES if one.opcode in (kind, f"{kind}-start")), None)
        if kind is not None:
            given = sum(array.size for name in one.operands for array in around[name].arrays)
            result = 0 if one.opcode.endswith("-start") else sum(array.size for array in one.arrays)
            size = float(max(given, result))
            return {kind: Collective(1.0, size, size if one.opcode == kind and not beside else 0.0)}
        total = Costs()
        if (inner := self.computations.get(one.called.get("calls", ""))) is not None:
            for part in inner.values():
                total = total.plus(Costs(collectives=self._collectives(part, inner, beside=True)))
        return total.collectives

    def _moved(self, one: Instruction, around: Computation) -> float:
        """Return the bytes that an instruction reads from memory and writes there."""
        operands = [around[name].arrays for name in one.operands if name in around]
        if one.opcode.endswith("-start"):  # from one memory to another, while other things are done
            ends = one.arrays[:2]
            return float(min(end.size for end in ends) * sum(not end.on_chip for end in ends)) if ends else 0.0
        inner = self.computations.get(one.called.get("calls", ""))
        if one.opcode == "fusion" and inner is not None:
            reads = sum(_read(inner, number, arrays) for number, arrays in enumerate(operands))
            return float(reads + _written(inner, one.arrays))
        if one.opcode in _SLICES:
            return float(_bytes(one.arrays) + (sum(a.size for a in one.arrays) if _bytes(operands[0]) else 0))
        if one.opcode == "dynamic-update-slice":
            return float(2 * _bytes(operands[1]))
        results = one.arrays[:1] if _LIBRARY.search(one.rest) else one.arrays  # besides, it has room to work in
        return float(sum(map(_bytes, operands)) + _bytes(results))


def _bytes(arrays: list[Array]) -> int:
    """Return the bytes of those arrays that lie in the device's memory."""
    return sum(array.size for array in arrays if not array.on_chip)


def _read(inside: Computation, number: int, arrays: list[Array]) -> int:
    """Return the bytes that a fusion reads of an operand: of one that is only sliced, the slices."""
    whole, parts = _bytes(arrays), 0
    parameter = next((o for o in inside.values() if o.opcode == "parameter" and o.given == str(number)), None)
    if parameter is None or not whole:
        return whole
    for user in users(inside, parameter.name):
        first = inside.get(user.operands[0])
        if user.opcode in _SLICES:
            parts += sum(array.size for array in user.arrays)
        elif user.opcode != "dynamic-update-slice" or first is None or origin(inside, first) is not parameter:
            return whole
    return min(whole, parts)


def _written(inside: Computation, arrays: list[Array]) -> int:
    """Return the bytes that a fusion writes: of what it changes in place, the part that it changes."""
    root = next(one for one in inside.values() if one.root)
    results = [inside[name] for name in root.operands] if root.opcode == "tuple" else [root]
    total = 0
    for result, array in zip(results, arrays, strict=False):
        size, made = _bytes([array]), origin(inside, result)
        if made.opcode == "dynamic-update-slice":
            size = min(size, sum(part.size for part in inside[made.operands[1]].arrays))
        total += size
    return total
