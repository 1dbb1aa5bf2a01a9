"""Options that matter only beside others: a flag that would change nothing is refused."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxnets.errors import InputError

When = Mapping[str, tuple[Any, ...]]
GIVEN = ("given",)  # a condition: the other option is not None


def only(default: Any, *, parts: Mapping[str, When] | None = None, **when: tuple[Any, ...]) -> Any:
    """Return a dataclass field that is read only where others of the same dataclass have certain values.

    Args:
        default: its default, or a group of options to start from.
        parts: conditions of single options of the group, by name.
        **when: the values, by the other field's name, such as ``model=("resnet",)``; ``GIVEN`` is any but None.
    """
    return dataclasses.field(default=default, metadata={"when": when, "parts": parts or {}})


def check_used(config: Any, before: Any) -> None:
    """Check that whatever was changed is read.

    Args:
        config: a dataclass of options, whose fields may be dataclasses of options. What ``only`` cannot say, its method
            ``unread()`` may: fields that are not read as the others are, and why, by name.
        before: the same, as it was before the changes.

    Raises:
        InputError: if a field was changed that is not read as the others are; it says for what it is.
    """
    unread: Mapping[str, str] = config.unread() if hasattr(config, "unread") else {}
    for field in changed(config, before):
        if field.name in unread:
            raise InputError(f"{field.name}={getattr(config, field.name)!r} changes nothing: {unread[field.name]}")
        value, old = getattr(config, field.name), getattr(before, field.name)
        group = dataclasses.is_dataclass(value) and type(value) is type(old)
        inner = changed(value, old) if group else []
        name, given = (inner[0].name, getattr(value, inner[0].name)) if inner else (field.name, value)
        _check(config, name, given, field.metadata.get("when", {}))
        for part in inner:
            _check(config, part.name, getattr(value, part.name), field.metadata.get("parts", {}).get(part.name, {}))
        if group:
            check_used(value, old)


def changed(config: Any, before: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields that differ."""
    return [f for f in dataclasses.fields(config) if getattr(config, f.name) != getattr(before, f.name)]


def _check(config: Any, name: str, value: Any, when: When) -> None:
    for other, allowed in when.items():
        chosen = getattr(config, other)
        if (chosen is None) if allowed == GIVEN else (chosen not in allowed):
            wanted = "one" if allowed == GIVEN else " or ".join(map(str, allowed))
            remedy = f"give {other}" if chosen is None else f"it is for {other} {wanted}"
            raise InputError(f"{name}={value!r} changes nothing with {other}={chosen!r}; {remedy}")
