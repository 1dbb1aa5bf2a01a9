"""Frozen dataclasses to JSON and back, exactly: an unknown field is an error, not a surprise."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxnets.errors import InputError, nearest

T = TypeVar("T")


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
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error


def from_dict(cls: type[T], values: Any) -> T:
    """Return the dataclass ``cls`` (fields may be dataclasses, tuples and mappings) from plain JSON values.

    Raises:
        InputError: if a field is unknown; a missing one has its default, or is an error if it has none.
    """
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls))}
    for name in values:
        if name not in fields:
            raise InputError(f"{cls.__name__} has no field {name!r}{nearest(name, fields)}")
    hints = typing.get_type_hints(cls)
    try:
        return cls(**{name: _typed(hints[name], value) for name, value in values.items()})
    except TypeError as error:
        raise InputError(f"{cls.__name__}: {error}") from error


def _typed(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        return None if value is None else _typed(options[0], value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value)
    if origin is tuple:
        return tuple(_typed(arguments[0], item) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _typed(arguments[1], item) for key, item in value.items()}
    return Path(value) if hint is Path else value
