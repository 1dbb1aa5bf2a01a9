"""The platform that programs are compiled for, which need not be the one at hand.

What is fastest differs: a convolution, a recurrent loop, a population are written in one way for a CPU, in another for
accelerators. Whoever chooses asks ``platform()``, and not JAX which backend is there, so that a program for an
accelerator is the same wherever it is made.
"""

from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, get_args

import jax

from jaxnets.errors import InputError

Platform = Literal["cpu", "gpu", "tpu"]


class Target(NamedTuple):
    """A device to compile for.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        memory: its bytes; None for those of the device at hand.
    """

    platform: Platform
    memory: int | None = None


# Part of what JAX knows a traced function by: one that was traced for a CPU is traced again for a TPU.
_TARGET = jax.make_user_context(None)


def compiled_for(platform: Platform, memory: int | None = None) -> AbstractContextManager[None]:
    """Return a context in which programs are traced for a platform, whatever is at hand.

    Compile in it, but compute nothing: the machine's own device would be given programs that are slow there.

    Args:
        platform: "cpu", "gpu" (NVIDIA's and AMD's) or "tpu".
        memory: bytes of such a device; None for those of the device at hand.

    Raises:
        InputError: if there is no such platform.
    """
    if platform not in get_args(Platform):
        raise InputError(f"{platform=} must be one of {', '.join(get_args(Platform))}")
    return _TARGET(Target(platform, memory))


def target() -> Target | None:
    """Return the device that ``compiled_for`` names; None outside of it."""
    return _TARGET.value


def platform() -> str:
    """Return the platform that programs are compiled for: that of ``compiled_for``, else JAX's default backend."""
    named = target()
    return jax.default_backend() if named is None else named.platform
