"""Frozen dataclasses to JSON and back, exactly: an unknown field is an error, not a surprise."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxnets.data.unpacking import parse_json
from jaxnets.errors import InputError, nearest

T = TypeVar("T")

_KINDS: dict[Any, tuple[type, ...]] = {float: (int, float), int: (int,), str: (str,), bool: (bool,), Path: (str,)}


def to_json(path: Path, value: Any) -> None:
    """Write a dataclass, or dicts and lists of them, as JSON; the file appears whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(json.dumps(plain(value), indent=2) + "\n")
    partial.replace(path)


def plain(value: Any) -> Any:
    """Return the value as JSON has it: dataclasses as dicts, arrays as lists, numbers that are not finite as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def from_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        InputError: if it is missing or no JSON.
    """
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error


def from_dict(cls: type[T], values: Any) -> T:
    """Return the dataclass ``cls`` (fields may be dataclasses, tuples and mappings) from plain JSON values.

    Raises:
        InputError: if a field is unknown, or its value of another kind; a missing one has its default, or is an error
            if it has none.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{cls.__name__} is {values!r}, not an object with fields")
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls))}
    for name in values:
        if name not in fields:
            raise InputError(f"{cls.__name__} has no field {name!r}{nearest(name, fields)}")
    hints = typing.get_type_hints(cls)
    try:
        return cls(**{name: _typed(f"{cls.__name__}.{name}", hints[name], value) for name, value in values.items()})
    except TypeError as error:
        raise InputError(f"{cls.__name__}: {error}") from error


def _typed(name: str, hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _one_of(name, [kind for kind in arguments if kind is not type(None)], value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value)
    if origin is typing.Literal:
        good, wanted = value in arguments, " or ".join(map(repr, arguments))
    elif origin is tuple:
        good, wanted = isinstance(value, list | tuple), "a list"
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        good, wanted = isinstance(value, Mapping), "an object"
    else:  # a hint that is none of these says nothing of what JSON holds
        kinds = _KINDS.get(hint, (object,))
        good, wanted = isinstance(value, kinds) and not (isinstance(value, bool) and int in kinds), hint
    if not good:
        raise InputError(f"{name} is {value!r}, not {getattr(wanted, '__name__', wanted)}")
    if isinstance(value, list | tuple) and arguments:
        return tuple(_typed(name, arguments[0], item) for item in value)
    if isinstance(value, Mapping) and arguments:
        return {key: _typed(name, arguments[1], item) for key, item in value.items()}
    return Path(str(value)) if hint is Path else value


def _one_of(name: str, kinds: Sequence[Any], value: Any) -> Any:
    """Return the value as the first of some kinds that it can be."""
    for kind in kinds[:-1]:
        try:
            return _typed(name, kind, value)
        except InputError:
            continue
    return _typed(name, kinds[-1], value)
