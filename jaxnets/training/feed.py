"""The way of the training data to the device: whole, once, or row by row as steps need it."""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets.data import Data, MakeOrder, usual
from jaxnets.hosts import alone
from jaxnets.learner import Placement, put
from jaxnets.memory import device_memory

# Row numbers, and bytes of rows, that are sent to the device in one go.
_MOST_ROWS = 1 << 20
_MOST_BYTES = 1 << 26

# A file's rows are asked for by so many threads: a disk answers them together.
_READERS = 8


class Buffer(NamedTuple):
    """What ``capacity`` steps from ``start`` train on: step ``start + i`` takes ``columns[...][rows[i]]``.

    ``rows`` is int32 [capacity, *seeds, batch_size]; None where columns are batch after batch, ``columns[...][i]``.
    """

    start: int
    columns: dict[str, jax.Array]
    rows: jax.Array | None


class _Rows(NamedTuple):
    columns: dict[str, Any]
    rows: np.ndarray | None


def layout(data: Data, examples_a_step: int, num_steps: int | None, on_device: bool | None = None) -> tuple[bool, int]:
    """Return whether all data are kept on the device, and of how many steps a buffer holds the rows.

    The arguments are those of ``Feed``; ``examples_a_step`` are those of all seeds.
    """
    if on_device is None:
        on_device = alone() and data.nbytes <= min(device_memory(), 1 << 36) // 4
    capacity = _MOST_ROWS // examples_a_step
    if not on_device:
        capacity = min(capacity, _MOST_BYTES * data.num_examples // (data.nbytes * examples_a_step))
    return on_device, max(1, capacity if num_steps is None else min(capacity, num_steps))


def shapes(
    data: Data, shape: tuple[int, ...], on_device: bool, placement: Placement | None = None
) -> tuple[dict[str, jax.ShapeDtypeStruct], jax.ShapeDtypeStruct | None]:
    """Return what a program for any buffer's columns and rows, of ``shape``, can be compiled for."""
    if placement is not None and not on_device:
        where = placement.of_rows(shape[-1], len(shape) - 2)
        columns = {name: ((*shape, *array.shape[1:]), array.dtype) for name, array in data.items()}
        return {name: jax.ShapeDtypeStruct(*kind, sharding=where) for name, kind in columns.items()}, None
    whole = placement and placement.of_rest

    def one(array: np.ndarray) -> jax.ShapeDtypeStruct:
        sizes = array.shape if on_device else (math.prod(shape), *array.shape[1:])
        return jax.ShapeDtypeStruct(sizes, array.dtype, sharding=whole)

    return {name: one(array) for name, array in data.items()}, jax.ShapeDtypeStruct(shape, np.int32, sharding=whole)


class Feed:
    """The training data as buffers of equal shape, for one compiled program.

    While the steps of one buffer are taken, threads read the next. Arrays may be larger than memory (``np.memmap``).
    Of rows that are sent to a mesh, a process reads those that its own devices take.

    Args:
        data: the training data.
        seeds: of the order of the rows; an array of them, for a population, gives each member its own.
        batch_size: examples of a step.
        num_steps: of the whole run; None if not known.
        on_device: keep all data on the device, or send the rows of each buffer. By default as fits: data that take up
            to a quarter of the device's memory are kept there, unless several processes train together.
        order: makes the order of the rows.
        placement: where arrays lie on a mesh: data that are kept whole on every device, rows that are sent in parts.
    """

    def __init__(
        self,
        data: Data,
        seeds: np.ndarray,
        batch_size: int,
        num_steps: int | None,
        on_device: bool | None = None,
        order: MakeOrder = usual,
        placement: Placement | None = None,
    ):
        self._data, self._placement = data, placement
        self._seeds = seeds
        different, self._order_of = np.unique(seeds.reshape(-1), return_inverse=True)
        self._orders = [order(data, batch_size, int(seed)) for seed in different]
        self.examples_a_step = batch_size * seeds.size
        self._on_device, self.capacity = layout(data, self.examples_a_step, num_steps, on_device)
        self._num_steps = num_steps
        self._reader, self._helpers = ThreadPoolExecutor(1), ThreadPoolExecutor(_READERS)
        self._next: tuple[int, Future[_Rows]] | None = None
        self._whole = placement and placement.of_rest
        self._columns = put(dict(data), self._whole) if self._on_device else {}

    def begin(self, start: int) -> None:
        """Begin to read the rows of the steps from ``start`` on."""
        self._next = start, self._reader.submit(self._read, start)

    def load(self, start: int) -> Buffer:
        """Return the buffer for the steps from ``start`` on, and begin to read the one after it."""
        if self._next is None or self._next[0] != start:
            self.begin(start)
        assert self._next is not None
        (columns, rows), after = self._next[1].result(), start + self.capacity
        self._next = None
        if self._num_steps is None or after < self._num_steps:
            self.begin(after)
        if rows is None:  # parts, which lie as they will
            arrays: dict[str, jax.Array] = {name: jax.make_array_from_callback(*part) for name, part in columns.items()}
            return Buffer(start, arrays, None)
        given = put(columns, self._whole) if columns else self._columns
        return Buffer(start, given, put(rows, self._whole))

    def rows(self, step: int) -> np.ndarray:
        """Return the rows of the data that a step takes, of each member [M, B]."""
        orders = self._orders
        read = self._reader.submit(lambda: np.concatenate([order.rows(step, 1) for order in orders])[self._order_of])
        return read.result()  # by the thread that asks the orders for all other rows: they are no one else's

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.capacity, *self._seeds.shape, self.examples_a_step // self._seeds.size

    def shapes(self) -> tuple[dict[str, Any], jax.ShapeDtypeStruct | None]:
        """Return what a program for any buffer's columns and rows can be compiled for."""
        columns, rows = shapes(self._data, self._shape, self._on_device, self._placement)
        return self._columns or columns, rows

    def _read(self, start: int) -> "_Rows":
        """Read rows on the host; ``load`` moves them to the device."""
        orders = [order.rows(start, self.capacity) for order in self._orders]
        rows = np.stack(orders, axis=1)[:, self._order_of].reshape(self._shape)
        if self._on_device:
            return _Rows({}, rows)
        if self._placement is not None:
            return _Rows(self._parts(rows, self._placement), None)
        columns = {name: _taken(array, rows.reshape(-1), self._helpers) for name, array in self._data.items()}
        return _Rows(columns, np.arange(rows.size, dtype=np.int32).reshape(rows.shape))

    def _parts(self, rows: np.ndarray, placement: Placement) -> dict[str, Any]:
        """Return of each column the shape, the sharding, and a function that gives a device its part of the rows."""
        columns, _ = shapes(self._data, self._shape, on_device=False, placement=placement)
        parts = {}
        for name, column in columns.items():
            where: Any = column.sharding
            indices = where.addressable_devices_indices_map(column.shape).values()
            taken = {_edges(index): self._taken_at(name, rows[index[: rows.ndim]]) for index in indices}
            parts[name] = column.shape, where, lambda index, taken=taken: taken[_edges(index)]
        return parts

    def _taken_at(self, name: str, rows: np.ndarray) -> np.ndarray:
        array = self._data[name]
        return _taken(array, rows.reshape(-1), self._helpers).reshape(*rows.shape, *array.shape[1:])


def _edges(index: tuple[slice, ...]) -> tuple[tuple[Any, Any], ...]:
    """Return what names a part of an array, for slices cannot before Python 3.12."""
    return tuple((part.start, part.stop) for part in index)


def _taken(array: np.ndarray, rows: np.ndarray, helpers: ThreadPoolExecutor) -> np.ndarray:
    """Return ``array[rows]``, read in the order that the rows are stored in: of a file, the fastest."""
    taken = np.empty((len(rows), *array.shape[1:]), array.dtype)

    def take(places: np.ndarray) -> None:
        taken[places] = array[rows[places]]

    list(helpers.map(take, np.array_split(np.argsort(rows), _READERS)))
    return taken
