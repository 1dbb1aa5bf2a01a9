"""PyTorch's pickles, told from their opcodes alone: nothing is imported, called or executed."""

import pickletools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxnets.errors import short
from jaxnets.weights.mapped import BFLOAT16, check_shape, is_count

_MOST_STEPS = 400_000  # of a file's pickles; a tensor takes about 35
_MOST_VALUES = 1_000_000  # that are looked at in search of tensors: a value may be there many times
_DEEPEST = 32  # dicts in each other
_LONGEST = 1000  # bytes of a tensor's name
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # what a checkpoint calls the weights beside other things

_DTYPES = {
    "bool": np.dtype(bool), "uint8": np.dtype("u1"), "int8": np.dtype("i1"), "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"), "int64": np.dtype("<i8"), "float16": np.dtype("<f2"), "bfloat16": BFLOAT16,
    "float32": np.dtype("<f4"), "float64": np.dtype("<f8"), "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"), "uint16": np.dtype("<u2"), "uint32": np.dtype("<u4"), "uint64": np.dtype("<u8"),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn), "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}  # fmt: skip
_KINDS = {
    "Bool": "bool", "Byte": "uint8", "Char": "int8", "Short": "int16", "Int": "int32", "Long": "int64",
    "Half": "float16", "BFloat16": "bfloat16", "Float": "float32", "Double": "float64",
    "ComplexFloat": "complex64", "ComplexDouble": "complex128",
}  # fmt: skip
_STORAGES = {f"torch.{kind}Storage": _DTYPES[dtype] for kind, dtype in _KINDS.items()}
_STORAGES |= dict.fromkeys(["torch.storage.UntypedStorage", "torch.UntypedStorage"], np.dtype("u1"))


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in a file: their dtype, the name of the run, and how many there are."""

    dtype: np.dtype
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of PyTorch: where its elements are in a storage, in elements; nothing of it is checked yet."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any
    dtype: Any = None


@dataclass(slots=True)
class Entries:
    """A dict as its pairs in order: keys are not hashed, for a file could choose some that collide."""

    pairs: list[Any]


@dataclass(frozen=True, slots=True)
class _Named:
    name: str


@dataclass(slots=True)
class _Machine:
    """What a pickle's steps work on: a stack, the stacks below its marks, a memo; and the storages that it names."""

    stack: list[Any] = field(default_factory=list)
    marked: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)

    def gathered(self, size: int | None = None) -> tuple[Any, ...]:
        """Return the last values, so many or all since the mark, and take them off the stack."""
        if size is None:
            found, self.stack = self.stack, self.marked.pop()
            return tuple(found)
        found = self.stack[len(self.stack) - size :]
        del self.stack[len(self.stack) - size :]
        if len(found) != size:
            raise ValueError("it takes more off its stack than is there")
        return tuple(found)


def unpickled(file: BinaryIO, steps: Iterator[int]) -> tuple[Any, dict[str, Storage]]:
    """Return what the pickle at a file's position builds, and the storages that it names.

    Args:
        file: as it was opened.
        steps: ``count()``, the same for all pickles of a file, which are limited together.

    Raises:
        ValueError, LookupError, TypeError: if it is broken, too large, or names anything but parts of tensors.
    """
    found = _Machine()
    for opcode, argument, _ in pickletools.genops(file):
        if next(steps) >= _MOST_STEPS:
            raise ValueError(f"its pickle has more than {_MOST_STEPS:,} steps")
        if opcode.name not in _STEPS:
            raise ValueError(f"its pickle has an opcode {opcode.name}, which no tensors need; nothing was executed")
        try:
            _STEPS[opcode.name](found, argument)
        except LookupError as error:
            raise ValueError(f"its pickle is broken at {opcode.name}") from error
    (root,) = found.gathered(1)
    return root, found.storages


def _push(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda found, _: found.stack.append(value)


def _mark(found: _Machine, _: Any) -> None:
    found.marked.append(found.stack)
    found.stack = []


def _into(size: int | None) -> Callable[[_Machine, Any], None]:
    def step(found: _Machine, _: Any) -> None:
        values = found.gathered(size)  # this may change what the stack is
        found.stack.append(values)

    return step


def _append(found: _Machine, values: tuple[Any, ...]) -> None:
    if not isinstance(found.stack[-1], list):
        raise ValueError("it appends to what is no list")
    found.stack[-1].extend(values)


def _set_items(found: _Machine, values: tuple[Any, ...]) -> None:
    if not isinstance(found.stack[-1], Entries):
        raise ValueError("it sets items of what is no dict")
    found.stack[-1].pairs.extend(zip(values[::2], values[1::2], strict=True))


def _remember(found: _Machine, index: int | None) -> None:
    found.memo[len(found.memo) if index is None else index] = found.stack[-1]


def _named(found: _Machine, argument: str | None) -> None:
    """Push a name, which must be one of those that tensors need."""
    name = ".".join(found.gathered(2)) if argument is None else argument.replace(" ", ".")
    if name not in _BUILDERS and name not in _STORAGES and name.removeprefix("torch.") not in _DTYPES:
        raise ValueError(
            f"it holds code: {short(name)}; nothing was executed. Save only the tensors: torch.save(model.state_dict())"
        )
    found.stack.append(_Named(name))


def _build(found: _Machine, _: Any) -> None:
    function, arguments = found.gathered(2)
    if not isinstance(function, _Named) or function.name not in _BUILDERS:
        raise ValueError("it calls what is no function")
    found.stack.append(_BUILDERS[function.name](*arguments))


def _set_state(found: _Machine, _: Any) -> None:
    """Take off the attributes of an OrderedDict, such as the versions of a state_dict's modules."""
    found.gathered(1)
    if not isinstance(found.stack[-1], Entries):
        raise ValueError("it sets attributes of what is no OrderedDict")


def _find_storage(found: _Machine, _: Any) -> None:
    kind, named, key, _device, size, *rest = found.gathered(1)[0]
    if kind != "storage" or not isinstance(named, _Named) or not isinstance(key, str) or not is_count(size):
        raise ValueError("it names a storage that is none")
    if named.name not in _STORAGES or any(part is not None for part in rest):
        raise ValueError(f"its storages of {named.name}, or parts of such, are not read; save it with a newer PyTorch")
    storage = Storage(_STORAGES[named.name], key, size)
    if found.storages.setdefault(key, storage) != storage:
        raise ValueError(f"its storage {short(key)} is of two kinds")
    found.stack.append(storage)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, bits: Any = None) -> Tensor:
    if bits is not None and (not isinstance(bits, Entries) or bits.pairs):
        raise ValueError("it holds a tensor that is conjugated or negated when it is used; resolve it before saving")
    return Tensor(storage, offset, shape, strides)


def _old_tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    return Tensor(storage, offset, shape, strides)  # not Tensor itself: a file gives no dtype


def _tensor_of(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, bits: Any = None
) -> Tensor:
    if not isinstance(dtype, _Named):
        raise ValueError("it holds a tensor without a dtype")
    return Tensor(storage, offset, shape, strides, _DTYPES[dtype.name.removeprefix("torch.")])


def _ordered(pairs: Any = None) -> Entries:
    """Return an OrderedDict; Python 2 gave its pairs in a list, which is shared and not copied."""
    if pairs is not None and not isinstance(pairs, list):
        raise ValueError("it makes an OrderedDict of what is no list")
    return Entries([] if pairs is None else pairs)


_BUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch.Size": lambda shape=(): shape,
    "torch.device": lambda *names: names,
    "torch._utils._rebuild_tensor": _old_tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of,
    "torch._utils._rebuild_parameter": lambda tensor, grad, hooks: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, grad, hooks, state: tensor,
}
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda found, argument: None),
    **dict.fromkeys(
        (
            *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINSTRING"),
            *("SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
        ),
        lambda found, argument: found.stack.append(argument),
    ),
    "NONE": _push(None),
    "NEWTRUE": _push(True),
    "NEWFALSE": _push(False),
    "MARK": _mark,
    "EMPTY_TUPLE": _push(()),
    "EMPTY_LIST": lambda found, argument: found.stack.append([]),
    "EMPTY_DICT": lambda found, argument: found.stack.append(Entries([])),
    "TUPLE": _into(None),
    "TUPLE1": _into(1),
    "TUPLE2": _into(2),
    "TUPLE3": _into(3),
    "APPEND": lambda found, argument: _append(found, found.gathered(1)),
    "APPENDS": lambda found, argument: _append(found, found.gathered()),
    "SETITEM": lambda found, argument: _set_items(found, found.gathered(2)),
    "SETITEMS": lambda found, argument: _set_items(found, found.gathered()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _remember),
    **dict.fromkeys(
        ("BINGET", "LONG_BINGET"), lambda found, argument: found.stack.append(found.memo[argument])
    ),
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _named),
    "REDUCE": _build,
    "BUILD": _set_state,
    "BINPERSID": _find_storage,
}  # fmt: skip


def tensors(root: Any) -> dict[str, Tensor]:
    """Return the tensors that dicts, lists and tuples hold, named by their keys with "." between.

    A checkpoint whose only tensors are a ``state_dict`` gives that one's names.

    Raises:
        ValueError: if there are none, or values stand in values without end.
    """
    found = list(_search(root, (), count()))
    if not found or not found[0][0]:
        raise ValueError("it holds no tensors" if not found else "it is a tensor without a name; save a dict of them")
    wrapped = len({path[0] for path, _ in found}) == 1 and found[0][0][0] in _WRAPPERS and len(found[0][0]) > 1
    named = {_dotted(path[1:] if wrapped else path): tensor for path, tensor in found}
    if len(named) != len(found):
        raise ValueError("it holds two tensors of one name")
    return named


def _search(value: Any, path: tuple[Any, ...], budget: Iterator[int]) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    if next(budget) > _MOST_VALUES or len(path) > _DEEPEST:
        raise ValueError("it holds values in values without end")
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Entries | list | tuple):
        for key, inner in value.pairs if isinstance(value, Entries) else enumerate(value):
            yield from _search(inner, (*path, key), budget)


def _dotted(path: tuple[Any, ...]) -> str:
    if not all(isinstance(key, str | int | float | None) for key in path):
        raise ValueError("it holds a dict of tensors whose keys are neither texts nor numbers")
    name = ".".join(map(str, path))
    if len(name.encode()) > _LONGEST:
        raise ValueError(f"it holds a tensor whose name has {len(name):,} letters")
    return name


def strided(name: str, tensor: Any) -> tuple[Storage, np.dtype, int, tuple[int, ...], tuple[int, ...]]:
    """Return a tensor's storage, dtype, offset, shape and strides (in elements of that dtype), checked one by one.

    Raises:
        ValueError: if they cannot be a tensor's.
    """
    shape, strides = check_shape(name, tensor.shape), check_shape(name, tensor.strides)
    if not isinstance(tensor.storage, Storage) or not is_count(tensor.offset) or len(shape) != len(strides):
        raise ValueError(f"{name!r} has no storage, offset or strides that can be a tensor's")
    return tensor.storage, tensor.dtype or tensor.storage.dtype, tensor.offset, shape, strides
