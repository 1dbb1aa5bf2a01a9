"""What figures depend on: versions, hardware and memory."""

import os
import platform
import resource
import sys
from importlib.metadata import version
from typing import Any

import jax


def environment() -> dict[str, Any]:
    """Return the versions and the hardware that figures depend on."""
    packages = ("jaxnets", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "platform": platform.platform(),
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "command": sys.argv,
    }


def peak_memory() -> int:
    """Return the most bytes that the device (on CPU, this process) has had in use so far."""
    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
