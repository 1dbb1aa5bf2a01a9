"""Compiling, with the options of XLA under which this library's programs are fastest."""

import os
from collections.abc import Callable
from typing import Any

import jax
from jax import monitoring

from jaxnets.data.cache import cache_dir
from jaxnets.errors import InputError, check_callable
from jaxnets.platform import platform

# jax 0.10 gives every convolution on CPU to a kernel of one thread. Without it (products of matrices and sums stay
# with that library) a step of a CNN of 32, 64 and 64 channels took 0.57 of the time on 2 cores and 0.94 on one, a
# ResNet's block 0.64 and 1.07.
_MANY_THREADS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


def jit(
    function: Callable[..., Any],
    *,
    donate_argnums: tuple[int, ...] = (),
    compiler_options: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Return ``jax.jit`` of a whole program, with the options of XLA under which it is fastest.

    There are some on CPU with jax before 0.12. Inside of another program, or of ``jax.grad``, JAX takes no options: use
    ``jax.jit`` there.

    Args:
        function: of arrays.
        donate_argnums: arguments whose memory the results may take.
        compiler_options: of XLA, in place of those.
        **options: others of ``jax.jit``, such as ``out_shardings``.
    """
    check_callable("function", function, "give one of arrays, such as a learner's step")
    if compiler_options is None and platform() == "cpu" and jax.__version_info__ < (0, 12):
        compiler_options = _MANY_THREADS
    return jax.jit(function, donate_argnums=donate_argnums, compiler_options=compiler_options, **options)


def compiled(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[Callable[..., Any], bool]:
    """Return a whole program for arguments like ``args``, and whether it came from the cache.

    With other arguments the program raises an error rather than compile again. ``options`` are those of ``jit``. Where
    JAX was told to compile nothing, for somebody looks for a fault step by step, it is the function.
    """
    if getattr(jax.config, "jax_disable_jit", False):
        return function, False
    hits = []

    def listen(event: str, **_: Any) -> None:
        hits.append(event == "/jax/compilation_cache/cache_hits")

    monitoring.register_event_listener(listen)
    try:
        program = jit(function, **options).lower(*args).compile()
    finally:
        monitoring.unregister_event_listener(listen)
    return program, any(hits)


def use_compile_cache() -> None:
    """Keep compiled programs in the cache folder, unless ``JAXNETS_COMPILE_CACHE=0`` or JAX was given a folder.

    Where the folder cannot be written, nothing is kept. Nothing else of JAX's configuration is touched.
    """
    if os.environ.get("JAXNETS_COMPILE_CACHE") == "0" or getattr(jax.config, "jax_compilation_cache_dir", None):
        return
    try:
        folder = cache_dir() / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, InputError):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
