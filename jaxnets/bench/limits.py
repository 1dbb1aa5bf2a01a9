"""What the hardware can do, measured in the same run as what is done."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.bench.timing import measured

_SIZE = {"cpu": 2048}  # rows of the matrices; 8192 elsewhere
_BYTES = 1 << 28
_CACHE = 7 << 25  # bytes that may stay in a processor's caches: only more than these come from memory


class Work(NamedTuple):
    """What a unit of work consists of.

    Attributes:
        flops: floating-point operations.
        num_bytes: read and written at least, of weights and what belongs to them.
        serial: operations that can only come one after the other.
    """

    flops: float
    num_bytes: float = 0.0
    serial: int = 1


class Limits(NamedTuple):
    """Rates that no program exceeds by much.

    Attributes:
        flops: of a large float32 matrix product, a second.
        flops_bf16: of a large bfloat16 one.
        bytes: read and written by a large copy, a second.
        latency: seconds of one iteration of a compiled loop that does next to nothing.
    """

    flops: float
    flops_bf16: float
    bytes: float
    latency: float

    def seconds(self, work: Work) -> float:
        """Return the least time that the work takes."""
        num_bytes = work.num_bytes if work.num_bytes > _CACHE else 0
        return max(work.flops / self.flops, num_bytes / self.bytes, work.serial * self.latency)


def calibrate() -> Limits:
    """Measure the limits of the device that JAX uses."""
    size = _SIZE.get(jax.default_backend(), 8192)
    product = jax.jit(jnp.matmul)
    rates = []
    for dtype in (jnp.float32, jnp.bfloat16):
        matrix = jnp.full((size, size), 0.01, dtype)
        rates.append(2 * size**3 / _best(lambda matrix=matrix: product(matrix, matrix)))
    array = jnp.zeros(_BYTES // 4)
    copy = jax.jit(lambda x: x + 1, donate_argnums=0)

    def copied() -> jax.Array:
        nonlocal array
        array = copy(array)
        return array

    rates.append(2 * _BYTES / _best(copied))
    steps = 10_000
    loop = jax.jit(lambda x: lax.fori_loop(0, steps, lambda i, x: x * 0.5 + i, x))
    flops, flops_bf16, num_bytes = rates
    return Limits(flops, flops_bf16, num_bytes, _best(lambda: loop(jnp.ones(8))) / steps)


def _best(function: Callable[[], Any], rounds: int = 7) -> float:
    """Return the least seconds of a call, after one to warm up: a limit is what is reached at best."""
    jax.block_until_ready(function())
    return min(measured(lambda: jax.block_until_ready(function())).wall for _ in range(rounds))
