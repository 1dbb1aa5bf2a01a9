"""The accelerators that programs are compiled for: what their makers publish of them."""

from typing import Literal, NamedTuple

_GOOGLE = "https://cloud.google.com/tpu/docs/{}"
_NVIDIA = "https://www.nvidia.com/en-us/data-center/{}"
_GB, _GIB, _TERA = 10**9, 2**30, 10**12


class Chip(NamedTuple):
    """What a chip can do, by its maker's figures.

    Attributes:
        platform: as ``jaxnets.platform`` has it.
        memory: bytes.
        flops_bf16: FLOPs a second of bfloat16 products, without sparsity.
        flops_f32: those of float32 products as JAX computes them by default: on TPUs by bfloat16, on NVIDIA's in TF32.
        bandwidth: bytes a second, of the memory.
        link: bytes a second that a chip can send to the others, over all its links.
        topologies: how many chips there may be, as they are connected.
        source: of the figures.
        clock: cycles a second of what XLA's estimates count; None where it makes none. With it, its estimate for a
            product of bfloat16 matrices of 4096 x 4096 is that at the peak rate, but for 3% to 15%.
    """

    platform: Literal["gpu", "tpu"]
    memory: int
    flops_bf16: float
    flops_f32: float
    bandwidth: float
    link: float
    topologies: tuple[str, ...]
    source: str
    clock: float | None = None


_SQUARES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
_HOST = ("1", "2", "4", "8")
# Links have half of what is published, which counts both directions.
CHIPS = {
    "v5e": Chip(
        "tpu", 16 * _GB, 197 * _TERA, 197 * _TERA, 819 * _GB, 200 * _GB, _SQUARES, _GOOGLE.format("v5e"), clock=1.5e9
    ),
    "v6e": Chip(
        "tpu", 32 * _GB, 918 * _TERA, 918 * _TERA, 1638 * _GB, 400 * _GB, _SQUARES, _GOOGLE.format("v6e"), clock=1.75e9
    ),
    "v5p": Chip(
        "tpu", 95 * _GIB, 459 * _TERA, 459 * _TERA, 2765 * _GB, 600 * _GB, _CUBES, _GOOGLE.format("v5p"), clock=1.75e9
    ),
    "a100": Chip("gpu", 80 * _GB, 312 * _TERA, 156 * _TERA, 2039 * _GB, 300 * _GB, _HOST, _NVIDIA.format("a100")),
    "h100": Chip("gpu", 80 * _GB, 989 * _TERA, 494 * _TERA, 3350 * _GB, 450 * _GB, _HOST, _NVIDIA.format("h100")),
    "h200": Chip("gpu", 141 * _GB, 989 * _TERA, 494 * _TERA, 4800 * _GB, 450 * _GB, _HOST, _NVIDIA.format("h200")),
}
# What XLA wants to know of an NVIDIA GPU, and jax[cuda12] would ask the card.
_CARDS = {
    "a100": {"multiprocessors": 108, "shared": 167936, "l2": 41943040, "fpus": 64, "ghz": 1.41, "capability": 8},
    "h100": {"multiprocessors": 132, "shared": 233472, "l2": 52428800, "fpus": 128, "ghz": 1.98, "capability": 9},
    "h200": {"multiprocessors": 132, "shared": 233472, "l2": 52428800, "fpus": 128, "ghz": 1.98, "capability": 9},
}


def card(name: str) -> str:
    """Return an NVIDIA GPU's description, as XLA reads it: a ``GpuTargetConfig`` in protobuf's text format."""
    chip, own = CHIPS[name], _CARDS[name]
    return f"""
    gpu_device_info {{
      threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
      block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
      registers_per_core_limit: 65536 registers_per_block_limit: 65536
      shared_memory_per_block: 49152 shared_memory_per_block_optin: {own["shared"] - 1024}
      shared_memory_per_core: {own["shared"]} l2_cache_size: {own["l2"]}
      core_count: {own["multiprocessors"]} fpus_per_core: {own["fpus"]} clock_rate_ghz: {own["ghz"]}
      memory_bandwidth: {chip.bandwidth} device_memory_size: {chip.memory}
      cuda_compute_capability {{ major: {own["capability"]} minor: 0 }}
    }}
    platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 patch: 2 }}
    device_description_str: "NVIDIA {name.upper()}"
    """
