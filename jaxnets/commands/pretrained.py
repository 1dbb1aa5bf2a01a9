"""The command about pretrained weights."""

from typing import Annotated, Literal

import tyro

from jaxnets.commands.opening import print_json
from jaxnets.errors import InputError
from jaxnets.runs.console import console
from jaxnets.weights.cards import CARDS, card
from jaxnets.weights.pretrained import obtained, where


def pretrained(
    action: Annotated[Literal["ls", "get"], tyro.conf.Positional],
    name: Annotated[str | None, tyro.conf.Positional] = None,
    /,
    json: bool = False,
) -> int:
    """List pretrained weights (ls), or fetch some and say all of them (get NAME).

    Args:
        action: ls or get.
        name: of the weights to get.
        json: print JSON.
    """
    if action == "get":
        if name is None:
            raise InputError(f"get needs a name: jaxnets pretrained get {next(iter(CARDS))}")
        folder, found = obtained(name), card(name)
        facts = {"name": name, **found._asdict(), "folder": str(folder)}
        facts["files"] = {file: remote._asdict() for file, remote in found.files.items()}
        if json:
            print_json(facts)
            return 0
        console.print(f"{name}: {found.summary}\n{found.home}, {found.revision}; {found.licence}")
        for file, remote in found.files.items():
            console.print(f"  {folder / file}\n    SHA-256 {remote.sha256}")
        return 0
    if name is not None:
        raise InputError(f"{name!r} changes nothing with ls; use get {name}")
    if json:
        print_json({name: {"summary": found.summary, "size": found.size} for name, found in CARDS.items()})
        return 0
    width = max(map(len, CARDS))
    for each, found in CARDS.items():
        place = "here" if where(each) else "to be fetched"
        console.print(f"{each:<{width}}  {found.size / 1e6:6.1f} MB  {found.kind:<9}  {place:<13}  {found.summary}")
    return 0
