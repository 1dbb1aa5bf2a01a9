"""The whole training loop, compiled ahead of time for chips that are not there."""

import re
import time
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.errors import JaxRuntimeError
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnets.accelerators.costs import Costs, Program
from jaxnets.accelerators.topology import DATA, Slice, mesh, without_flags
from jaxnets.errors import InputError
from jaxnets.learner import Learner
from jaxnets.memory import num_bytes
from jaxnets.platform import compiled_for
from jaxnets.summary import flops_by_dtype
from jaxnets.training import feed
from jaxnets.training.chunk import chunk, run_keys
from jaxnets.training.compiling import jit
from jaxnets.training.plan import Plan, RunState, held_by_each

# Without a card XLA cannot try its own kernels of matrix products, and for some it fails: all are cuBLAS' then.
_OPTIONS = {"gpu": {"xla_gpu_enable_triton_gemm": False}, "tpu": None, "cpu": None}


class Memory(NamedTuple):
    """Bytes on each chip, as they lie there.

    Attributes:
        arguments: the state, the data, and the rows of a buffer.
        outputs: the new state; but for ``aliased`` it has memory of its own.
        aliased: outputs that take the memory of arguments.
        temporaries: what a step needs meanwhile.
        code: the program.
        beside: what a run keeps outside of the program: copies of the state, for the guard and for early stopping.
        peak: the most at any time.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int
    beside: int
    peak: int


class Compiled(NamedTuple):
    """What the compiler made of a run's loop.

    Attributes:
        memory: of each chip.
        flops: of the matrix products and convolutions of a step, by dtype, over all chips.
        costs: of a step, on each chip.
        xla: XLA's own cost analysis of the whole program, in which a loop's body counts once; None where it makes none.
        seconds: how long it took to compile.
        text: the compiled program; None where the compiler cannot write it down. Then the costs are those of ``xla``.
    """

    memory: Memory
    flops: dict[str, int]
    costs: Costs
    xla: dict[str, float] | None
    seconds: float
    text: str | None


def on(slice_: Slice) -> AbstractContextManager[None]:
    """Return the context in which a learner is built, a plan checked and a loop compiled for these chips."""
    return compiled_for(slice_.chip.platform, slice_.chip.memory)


def compile_loop(plan: Plan, slice_: Slice) -> Compiled:
    """Return what the chips' compiler makes of a run's loop, the program that ``fit`` would run there.

    A learner that is ``sharded`` over a mesh of these chips says what lies where. Of another, each chip has the whole
    state, and the examples of a step are split evenly over all of them. Each has all of the data.

    Args:
        plan: the run, checked within ``on(slice_)``, as this is called.
        slice_: the chips.

    Raises:
        InputError: if the chips do not divide the batch, their compiler is absent, or the program does not fit.
    """
    if plan.learner.placement is None and plan.batch_size % slice_.size:
        raise InputError(
            f"for={slice_}: {slice_.size} chips do not divide batch_size={plan.batch_size}; use a multiple, such as "
            f"--batch-size {-(-plan.batch_size // slice_.size) * slice_.size}"
        )
    program = lowered(plan, mesh(slice_))
    began = time.perf_counter()
    try:
        with without_flags():
            program = program.compile()
    except JaxRuntimeError as error:
        raise _too_large(slice_, error) from error
    seconds = time.perf_counter() - began
    analysis = program.cost_analysis() or {}
    known = {name: value for name, value in analysis.items() if name in ("flops", "bytes accessed", "optimal_seconds")}
    text = _text(program)
    costs = Costs(bytes=known.get("bytes accessed", 0.0)) if text is None else Program(text).step()
    held = held_by_each(plan.state, plan.learner.placement)
    return Compiled(_memory(program.memory_analysis(), held), _flops(plan), costs, known or None, seconds, text)


def _text(program: Any) -> str | None:
    """Return a compiled program's text; None where libtpu 0.0.52 fails to write asynchronous operations down."""
    try:
        return program.as_text()
    except JaxRuntimeError:
        return None


def arguments(plan: Plan) -> tuple[Any, ...]:
    """Return shapes and dtypes of what a run's ``chunk`` takes: state, sums, columns, rows, offset, num_steps, key."""
    columns, rows = feed.shapes(plan.train, *_buffer(plan))
    number = jax.ShapeDtypeStruct((), np.int32)
    _, key = jax.eval_shape(run_keys, plan.seeds)
    return _shapes(plan.state.train), _shapes(plan.state.sums), columns, rows, number, number, key


def lowered(plan: Plan, there: Mesh) -> Any:
    """Return a run's loop as it is given to the compiler, spread over the devices of a mesh."""
    train, sums, columns, rows, *rest = arguments(plan)
    everywhere: Any = NamedSharding(there, P())
    if (placement := plan.learner.placement) is not None:
        where = placement.of_state(train)
        state, learner = (where, jax.tree.map(lambda _: where.step, sums)), plan.learner
        everywhere = split = placement.of_rest
    else:
        state = jax.tree.map(lambda _: everywhere, (train, sums))
        split = NamedSharding(there, P(*(None,) * (len(rows.shape) - 1), DATA))
        learner = _split(plan.learner, split)
    program = jit(
        chunk(learner),
        donate_argnums=(0, 1),
        in_shardings=(*state, everywhere, split, everywhere, everywhere, everywhere),
        out_shardings=state,
        compiler_options=_OPTIONS[there.devices.flat[0].platform],
    )
    return program.lower(train, sums, columns, rows, *rest)


def _buffer(plan: Plan) -> tuple[tuple[int, ...], bool]:
    """Return the shape of a buffer's rows, and whether all data are kept on the chips."""
    on_device, capacity = feed.layout(plan.train, plan.batch_size * plan.seeds.size, plan.num_steps)
    return (capacity, *plan.seeds.shape, plan.batch_size), on_device


def _split(learner: Learner, rows: NamedSharding) -> Learner:
    """Return the learner with steps whose batches lie on the chips as their row numbers do."""
    batches = NamedSharding(rows.mesh, P(*rows.spec[1:]))

    def step(state: Any, batch: Any, key: Any) -> Any:
        return learner.step(state, lax.with_sharding_constraint(batch, batches), key)

    return learner._replace(step=step)


def _flops(plan: Plan) -> dict[str, int]:
    shape = *plan.seeds.shape, plan.batch_size
    batch = {name: jax.ShapeDtypeStruct((*shape, *array.shape[1:]), array.dtype) for name, array in plan.train.items()}
    _, key = jax.eval_shape(run_keys, plan.seeds)
    return flops_by_dtype(plan.learner.step, plan.state.train, batch, key)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def _memory(analysis: Any, state: RunState) -> Memory:
    names = ("argument", "output", "alias", "temp", "generated_code")
    arguments, outputs, aliased, temporaries, code = (getattr(analysis, f"{name}_size_in_bytes") for name in names)
    beside = num_bytes(state) + num_bytes(state.best)
    peak = arguments + outputs - aliased + temporaries + code + beside
    return Memory(arguments, outputs, aliased, temporaries, code, beside, peak)


def _too_large(slice_: Slice, error: Exception) -> Exception:
    """Return an error that says how much the program needs, if that is what the compiler said."""
    if "RESOURCE_EXHAUSTED" not in str(error) and "Ran out of memory" not in str(error):
        return error
    said = re.search(r"Used ([\d.]+\w+) of ([\d.]+\w+)", str(error))
    needs = f"it needs {said[1]}, and a chip has {said[2]}" if said else str(error).splitlines()[0]
    return InputError(
        f"for={slice_}: the program does not fit: {needs}; use a smaller --batch-size or network, --accumulate, or "
        "more chips"
    )
