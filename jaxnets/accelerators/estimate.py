"""How long a step would take, estimated from what the compiler says and what the chips' makers publish."""

from typing import NamedTuple

from jaxnets.accelerators.costs import Costs
from jaxnets.accelerators.topology import Slice

HOW = (
    "the longest of: FLOPs at the peak rate, bytes at the memory's bandwidth, the compiler's cycles (TPU), collectives "
    "beside which the chip computes; and those it waits for"
)


class Estimate(NamedTuple):
    """Seconds of a step, none of them measured.

    Attributes:
        compute: of the matrix products and convolutions, at the peak rate of their dtypes.
        memory: of what is read and written, at the memory's bandwidth.
        network: of all collectives, at the links' bandwidth.
        waited: of those that the chip waits for.
        compiler: by the compiler's own count of cycles; None where it makes none.
    """

    compute: float
    memory: float
    network: float
    waited: float
    compiler: float | None

    @property
    def step(self) -> float:
        """A step's time (``HOW``): that of its slowest part, if all others can be done beside it."""
        return max(self.compute, self.memory, self.network - self.waited, self.compiler or 0.0) + self.waited

    @property
    def mfu(self) -> float:
        """The share of the peak rate that the model's FLOPs then have."""
        return self.compute / self.step if self.step else 0.0


def estimate(slice_: Slice, flops: dict[str, int], costs: Costs) -> Estimate:
    """Return how long a step would take.

    Args:
        slice_: the chips.
        flops: of a step over all chips, by dtype.
        costs: of a step, on each chip.
    """
    chip = slice_.chip
    rates = {dtype: chip.flops_bf16 if dtype in ("bfloat16", "float16") else chip.flops_f32 for dtype in flops}
    compute = sum(number / rates[dtype] for dtype, number in flops.items()) / slice_.size
    kinds = costs.collectives.items()
    network = sum(_sent(kind, one.size, slice_.size) for kind, one in kinds) / chip.link
    waited = sum(_sent(kind, one.waited, slice_.size) for kind, one in kinds) / chip.link
    compiler = None if chip.clock is None else costs.cycles / chip.clock
    return Estimate(compute, costs.bytes / chip.bandwidth, network, waited, compiler)


def _sent(kind: str, size: float, number: int) -> float:
    """Return the bytes that each of some chips sends for collectives of a size, at least.

    In rings, as Patarasuk and Yuan (2009) have it: an all-reduce is a reduce-scatter and an all-gather.
    """
    if kind == "collective-permute":
        return size
    return size * (2 if kind == "all-reduce" else 1) * (number - 1) / number
