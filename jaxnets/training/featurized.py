"""A frozen network's outputs for a whole data set, computed once: a head then trains on them in seconds."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Data, padded_batches
from jaxnets.data.cache import cache_dir
from jaxnets.errors import InputError, check_kind
from jaxnets.learner import check_network, inputs_of
from jaxnets.network import Network, PyTree
from jaxnets.parameters import paths
from jaxnets.training import readable
from jaxnets.training.compiling import jit
from jaxnets.training.evaluation import usual_size

_STEP = 16  # tokens: sequences are filled up to a multiple, so that few programs serve all lengths
_SILENT = 2.0  # seconds before progress is shown


def featurized(
    network: Network,
    params: PyTree,
    model_state: PyTree,
    data: Data,
    *,
    batch_size: int | None = None,
    padding: int | None = None,
    keep: bool = False,
    progress: bool = True,
) -> Data:
    """Return the data with the network's outputs, untrained, for inputs: float32 [N, ...]; all else is as it was.

    Args:
        network: what is frozen, such as ``features(pretrained, "norm")``.
        params: its weights.
        model_state: its state.
        data: whose "inputs" it takes.
        batch_size: examples at a time; 32 on CPU, 256 elsewhere if absent.
        padding: the token that fills up sequences [N, T]: those of like length are then computed together, cut to it.
        keep: keep the outputs in the cache folder, in a file named by a digest of the network's program, its weights
            and the inputs, and take them from there where they are; they are then read as they are needed.
        progress: show progress, after two seconds, and say what was computed or taken from where, on standard error.

    Raises:
        InputError: if the inputs do not suit the network, its outputs are not one array, or the file cannot be written.
    """
    check_network("network", network)
    check_kind("data", data, Data, "give jaxnets.Data(inputs=...)")
    network.check(inputs_of(data))
    options = {"batch_size": batch_size, "keep": keep, "progress": progress}
    if padding is not None:
        options["progress"] = False  # of the parts
        say = _Teller(data.num_examples, progress)
        found = _by_length(
            data, padding, lambda part: featurized(network, params, model_state, part, **options), say.each
        )
        say(f"had in {readable.seconds(say.elapsed)}", slow=True)
        return found
    leaves, structure = jax.tree.flatten(inputs_of(data))
    arrays, size = {str(i): leaf for i, leaf in enumerate(leaves)}, min(usual_size(batch_size), data.num_examples)
    params, model_state = jax.tree.map(jnp.asarray, (params, model_state))

    def apply(params: PyTree, model_state: PyTree, batch: dict[str, jax.Array]) -> jax.Array:
        inputs = structure.unflatten([batch[name] for name in arrays])
        outputs = jax.tree.leaves(network.apply(params, model_state, inputs)[0])
        if len(outputs) != 1 or outputs[0].shape[:1] != (size,):
            shapes = ", ".join(str(leaf.shape) for leaf in outputs)
            raise InputError(f"the network's outputs are {shapes} for {size} examples, not one array [B, ...]")
        return outputs[0].astype(jnp.float32)

    first = {name: array[:1].repeat(size, 0) for name, array in arrays.items()}
    lowered = jit(apply).lower(params, model_state, first)
    shape = data.num_examples, *lowered.out_info.shape[1:]
    path = _file(lowered.as_text(), (params, model_state), arrays) if keep else None
    say = _Teller(data.num_examples, progress)
    if (outputs := _kept(path, shape)) is None:
        program = lowered.compile()
        parts = (
            np.asarray(program(params, model_state, {name: batch[name] for name in arrays}))
            for batch in padded_batches(arrays, size)
        )
        outputs = _filled(path, shape, say.each(parts))
        say(f"computed in {readable.seconds(say.elapsed)}" + (f", and kept in {path}" if path else ""), slow=not keep)
    else:
        say(f"taken from {path}")
    return _with_inputs(data, outputs)


def _with_inputs(data: Data, outputs: np.ndarray) -> Data:
    others = {name: array for name, array in data.items() if name != "inputs" and not name.startswith("inputs/")}
    known = {name: facts for name, facts in data.known.items() if name in others}
    return Data(classes=data.classes or None, known=known, inputs=outputs, **others)


def _by_length(data: Data, padding: int, compute: Callable[[Data], Data], showing: Callable[..., Any]) -> Data:
    """Return the data with what is computed of sequences, cut to the multiple of ``_STEP`` that holds each."""
    rows = data["inputs"]
    lengths = np.where(rows != padding, np.arange(1, rows.shape[1] + 1), 0).max(1)
    buckets = np.maximum(-(-lengths // _STEP) * _STEP, _STEP)
    rows = np.pad(rows, ((0, 0), (0, max(0, int(buckets.max()) - rows.shape[1]))), constant_values=padding)
    parts = {int(bucket): np.flatnonzero(buckets == bucket) for bucket in np.unique(buckets)}
    made = list(showing(compute(Data(inputs=rows[at, :bucket]))["inputs"] for bucket, at in parts.items()))
    order = np.argsort(np.concatenate(list(parts.values())))
    return _with_inputs(data, np.concatenate(made)[order])


class _Teller:
    """What a person is told meanwhile."""

    def __init__(self, number: int, shown: bool):
        from rich.console import Console  # noqa: PLC0415  (needed only to show something)

        self.number, self.start = number, time.perf_counter()
        self.console = Console(stderr=True, quiet=not shown, highlight=False, soft_wrap=True)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start

    def __call__(self, what: str, *, slow: bool = False) -> None:
        """Say what became of the features; what is ``slow`` only if it took a while."""
        if not slow or self.elapsed > _SILENT:
            self.console.print(f"features of {self.number:,} examples: {what}", markup=False)

    def each(self, parts: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the parts, and draw how many examples there were, where it takes a while."""
        from rich.progress import Progress  # noqa: PLC0415

        with Progress(console=self.console, transient=True, disable=not self.console.is_terminal) as bar:
            task = bar.add_task("features", total=self.number, visible=False)
            for part in parts:
                bar.update(task, advance=len(part), visible=self.elapsed > _SILENT)
                yield part


def _file(program: str, trees: PyTree, arrays: dict[str, np.ndarray]) -> Path:
    """Return where the outputs of a program for such weights and inputs are kept."""
    digest = hashlib.sha256(program.encode())
    for name, leaf in (*paths(trees).items(), *arrays.items()):
        array = np.asarray(leaf)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return cache_dir() / "features" / f"{digest.hexdigest()[:32]}.npy"


def _kept(path: Path | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the outputs in a file, left there until they are needed; None if there are none such."""
    if path is None or not path.is_file():
        return None
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if (found.shape, found.dtype) == (shape, np.float32) else None


def _filled(path: Path | None, shape: tuple[int, ...], parts: Iterator[np.ndarray]) -> np.ndarray:
    """Return the parts, one after another, as one array; in a file, which gets its name when it is whole."""
    if path is None:
        return _fill(np.empty(shape, np.float32), parts)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file: Any = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
        _fill(file, parts).flush()
        partial.replace(path)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error}; make room, or leave keep=True out") from error
    finally:
        partial.unlink(missing_ok=True)


def _fill(room: Any, parts: Iterator[np.ndarray]) -> Any:
    start = 0
    for part in parts:
        rows = part[: len(room) - start]  # the last batch repeats its last row
        room[start : start + len(rows)] = rows
        start += len(rows)
    return room
