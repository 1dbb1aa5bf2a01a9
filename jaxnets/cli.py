"""The command line: its arguments, and from there to the commands."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import tyro

from jaxnets import commands, recipes
from jaxnets.errors import InputError, nearest
from jaxnets.options import LrFindOptions, NoOptions, TrainOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status: 0, 1 (a check failed), 2 (a wrong argument or file)."""
    name, *args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(_usage())
        return 0
    if name == "--version":
        print(f"jaxnets {version('jaxnets')}")
        return 0
    try:
        if name not in COMMANDS:
            raise InputError(f"there is no command {name!r}{nearest(name, COMMANDS)}; jaxnets --help lists them")
        return _run(name, args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


# Each command, and the options of those that take a recipe with its flags.
COMMANDS: dict[str, tuple[Callable[..., int], type | None]] = {
    "train": (commands.train, TrainOptions),
    "resume": (commands.resume, None),
    "evaluate": (commands.evaluate, None),
    "predict": (commands.predict, None),
    "encode": (commands.encode, None),
    "generate": (commands.generate, None),
    "plot": (commands.plot, None),
    "summary": (commands.summary, NoOptions),
    "lr-find": (commands.lr_find, LrFindOptions),
    "ls": (commands.ls, None),
    "bench": (commands.bench, None),
}
USAGE = """\
usage: jaxnets COMMAND ...

Deep learning as pure functions, on JAX.

{commands}

jaxnets COMMAND --help tells more; so does jaxnets train RECIPE --help."""


def _usage() -> str:
    about = {name: (command.__doc__ or "").splitlines()[0] for name, (command, _) in COMMANDS.items()}
    return USAGE.format(commands="\n".join(f"  {name:<10}{line}" for name, line in about.items()))


def _run(name: str, args: Sequence[str]) -> int:
    command, options = COMMANDS[name]
    if options is None:
        return tyro.cli(command, prog=f"jaxnets {name}", args=args, config=(tyro.conf.OmitArgPrefixes,))
    return command(*_with_recipe(name, options, args))


def _with_recipe(command: str, options: type, args: Sequence[str]) -> tuple[Any, Any]:
    """Return the recipe named first, with the config that its flags make, and the command's own options."""
    if not args or args[0].startswith("-"):
        presets = ", ".join(name for presets in recipes.catalogue().values() for name in presets)
        if args[:1] in (["-h"], ["--help"]):
            print(f"usage: jaxnets {command} RECIPE [flags]\n\nRECIPE is one of {presets}, or the path of a .py file.")
            print(f"jaxnets {command} RECIPE --help lists its flags.")
            raise SystemExit(0)
        raise InputError(f"jaxnets {command} needs a recipe first: {presets}, or the path of a .py file")
    recipe = recipes.find(args[0])
    both = dataclasses.make_dataclass(
        "Flags",
        [("config", type(recipe.config)), ("options", options)],
        namespace={"__doc__": type(recipe.config).__doc__},
    )
    flags: Any = tyro.cli(
        both,
        prog=f"jaxnets {command} {args[0]}",
        args=args[1:],
        default=both(recipe.config, options()),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    return recipe._replace(config=flags.config), flags.options
