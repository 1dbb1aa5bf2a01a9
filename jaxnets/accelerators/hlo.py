"""A compiler's own text of a program (HLO), read into computations and instructions."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|true_computation|false_computation)=%([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_RENAMED = {"bitcast", "reshape", "transpose", "copy", "convert"}


class Array(NamedTuple):
    """An array of a type.

    Attributes:
        size: its bytes, padded to whole tiles as it lies in memory.
        on_chip: whether it stays on the chip, in a faster memory.
    """

    size: int
    on_chip: bool


class Instruction(NamedTuple):
    """A line of a computation: ``%name = type opcode(given), rest``.

    Attributes:
        name: of its result.
        type: of its result: arrays with their layouts.
        opcode: what it does.
        given: its operands as they are written.
        rest: its attributes.
        root: whether its result is that of the computation.
    """

    name: str
    type: str
    opcode: str
    given: str
    rest: str
    root: bool

    @property
    def operands(self) -> list[str]:
        """The names of its operands."""
        return _NAME.findall(self.given)

    @property
    def called(self) -> dict[str, str]:
        """The computations that it calls, by what they are to it."""
        return dict(_CALLED.findall(self.rest))

    @property
    def branches(self) -> list[str]:
        """The computations one of which it calls."""
        both = [name for role, name in _CALLED.findall(self.rest) if role.endswith("_computation")]
        return both + _NAME.findall("".join(_BRANCHES.findall(self.rest)))

    @property
    def arrays(self) -> list[Array]:
        """The arrays of its result."""
        return list(_arrays(self.type))


Computation = dict[str, Instruction]


def read(text: str) -> tuple[dict[str, Computation], str]:
    """Return the computations of a module's text by their names, and the name of the one that it begins with."""
    computations: dict[str, Computation] = {}
    entry, inside = "", None
    for line in text.splitlines():
        if inside is None:
            if line.endswith("{") and (head := re.match(r"(ENTRY )?%?([\w.\-]+) \(", line)):
                inside = computations[head[2]] = {}
                entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            inside = None
        elif (found := _instruction(line)) is not None:
            inside[found.name] = found
    return computations, entry


def _instruction(line: str) -> Instruction | None:
    match = re.match(r"\s*(ROOT )?%?([\w.\-]+) = ", line)
    if match is None:
        return None
    after = line[match.end() :]
    cut = _closed(after, 0) if after.startswith("(") else after.find(" ")
    kind, after = after[:cut], after[cut:].lstrip()
    opening = after.find("(")
    closing = _closed(after, opening)
    return Instruction(
        match[2], kind, after[:opening], after[opening + 1 : closing - 1], after[closing:], bool(match[1])
    )


def _closed(text: str, opening: int) -> int:
    """Return the position after the bracket that closes the one at ``opening``."""
    depth = 0
    for position in range(opening, len(text)):
        depth += (text[position] == "(") - (text[position] == ")")
        if depth == 0:
            return position + 1
    return len(text)


def _arrays(kind: str) -> Iterator[Array]:
    """Yield the arrays of a type, such as ``f32[784,512]{1,0:T(8,128)S(1)}``: tiles of (8, 128), in memory space 1."""
    for dtype, sizes, layout in _ARRAY.findall(kind):
        digits = re.search(r"\d+", dtype)
        bits = 8 if dtype == "pred" else int(digits[0]) if digits else 0
        dims = [int(size) for size in sizes.split(",") if size]
        minor, _, tiling = layout.partition(":")
        order = [int(axis) for axis in minor.split(",") if axis]  # the fastest first
        tile = re.match(r"T\(([\d,]+)\)", tiling)
        if tile and len(order) == len(dims):
            for axis, size in zip(order, reversed([int(n) for n in tile[1].split(",")]), strict=False):
                dims[axis] = -(-dims[axis] // size) * size
        yield Array(math.prod(dims) * bits // 8, "S(" in tiling)


def origin(inside: Computation, one: Instruction) -> Instruction:
    """Return the instruction whose numbers an instruction's result is, however they lie."""
    while one.opcode in _RENAMED and one.operands and one.operands[0] in inside:
        one = inside[one.operands[0]]
    return one


def users(inside: Computation, name: str) -> Iterator[Instruction]:
    """Yield the instructions that do something with a result, whatever it is called meanwhile."""
    for one in inside.values():
        if name in one.operands:
            if one.opcode in ("bitcast", "reshape"):
                yield from users(inside, one.name)
            else:
                yield one
