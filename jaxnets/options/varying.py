"""Options that the trials of a sweep differ in: read from the command line, and put into a recipe's config."""

import contextlib
import copy
import dataclasses
import io
import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tyro

from jaxnets.errors import InputError, check_whole, nearest

_SCALES = ("log", "lin")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class Grid(NamedTuple):
    """What a sweep tries of one option.

    Attributes:
        name: of the field of a recipe's config, or of one of its groups.
        values: as the command line has them; of a range that is drawn from, its two ends.
        scale: "log" or "lin" for a range that is drawn from; empty for a list.
        spaced: whether the values are of a range.
    """

    name: str
    values: tuple[str, ...]
    scale: str = ""
    spaced: bool = False


def read_grid(text: str) -> Grid:
    """Return what ``NAME=...`` asks for: ``0.1,0.2``, ``1e-4:1e-1:log8`` (eight of them) or ``1e-4:1e-1:log``.

    Raises:
        InputError: if it has another form, or a range has ends that do not suit.
    """
    name, equals, given = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name or not given:
        raise InputError(f"grid={text!r} must be NAME=VALUE,VALUE,... or NAME=LOW:HIGH:log8")
    if given.count(":") != 2:
        return Grid(name, tuple(part.strip() for part in given.split(",")))
    low, high, how = given.split(":")
    scale, number = how[:3], how[3:]
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = math.nan, math.nan
    if scale not in _SCALES or not (number.isdigit() or not number) or not ends[0] < ends[1]:
        raise InputError(f"grid={text!r} must be NAME=LOW:HIGH:log8, lin8, log or lin, the low end first")
    if scale == "log" and ends[0] <= 0:
        raise InputError(f"grid={text!r}: a logarithmic range has ends above 0")
    if not number:
        return Grid(name, (low, high), scale, spaced=True)
    check_whole(f"grid={text!r}: the number of values", int(number), 2, 10_000)
    spaced = np.geomspace(*ends, int(number)) if scale == "log" else np.linspace(*ends, int(number))
    return Grid(name, tuple(_written(value) for value in spaced), spaced=True)


def drawn(grid: Grid, random: np.random.Generator) -> str:
    """Return one value at random: of a list one of it, of a range one within."""
    if not grid.scale:
        return grid.values[random.integers(len(grid.values))]
    low, high = map(float, grid.values)
    within = random.uniform(math.log(low), math.log(high)) if grid.scale == "log" else random.uniform(low, high)
    return _written(math.exp(within) if grid.scale == "log" else within)


def value_of(config: Any, name: str, text: str, *, rounded: bool = False) -> Any:
    """Return an option's value, as its flag reads it; the parts of a list are words, ``hidden="64 64"``.

    A value of a range is ``rounded`` where the option is a whole number.

    Raises:
        InputError: if the config has no such option, or the flag would refuse the value; it says why.
    """
    before = field_of(config, name)
    if rounded and type(before) is int:
        text = str(round(float(text)))
    words = text.split() if isinstance(before, tuple) else [text]
    if not text.strip():
        raise InputError(f"{name}: a value is empty; leave the comma out")
    if isinstance(before, bool) and text.lower() not in _TRUE + _FALSE:
        raise InputError(f"{name}={text!r} must be true or false")
    flags, said = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes), io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            args = [f"--{name.replace('_', '-')}", *words]
            if isinstance(before, bool):
                args = [f"--{'' if text.lower() in _TRUE else 'no-'}{name.replace('_', '-')}"]
            found = tyro.cli(type(config), args=args, default=config, config=flags)
    except SystemExit:
        lines = [line.strip("│─- ") for line in said.getvalue().splitlines()[1:]]  # below the title of a box
        why = " ".join(itertools.takewhile(bool, itertools.dropwhile(lambda line: not line, lines)))
        raise InputError(f"{name}={text!r} is no value of --{name.replace('_', '-')}: {why}") from None
    return field_of(found, name)


def field_of(config: Any, name: str) -> Any:
    """Return the value of an option of a config, or of one of its groups.

    Raises:
        InputError: if there is none of that name; it tells the nearest.
    """
    found = _options(config)
    if name not in found:
        raise InputError(f"{name!r} is no option of this recipe{nearest(name, found)}; --help lists them")
    return found[name]


def with_fields(config: Any, values: Mapping[str, Any]) -> Any:
    """Return the config with other values of options, its own or its groups', checked."""
    return _changed(config, values, check=True)


def with_traced(config: Any, values: Mapping[str, Any]) -> Any:
    """Return the config with values that are known to a compiled program alone, and cannot be checked."""
    return _changed(config, values, check=False)


def _options(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        found |= _options(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return found


def _changed(config: Any, values: Mapping[str, Any], *, check: bool) -> Any:
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            inner = _changed(value, values, check=check)
            if inner is not value:
                changes[field.name] = inner
        elif field.name in values:
            changes[field.name] = values[field.name]
    if not changes:
        return config
    if check:
        return dataclasses.replace(config, **changes)
    changed = copy.copy(config)
    for name, value in changes.items():
        object.__setattr__(changed, name, value)
    return changed


def _written(value: float) -> str:
    return f"{value:.6g}"
