"""The command line: its arguments, and from there to the commands, each imported when it is asked for."""

import dataclasses
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from jaxnets.errors import InputError, nearest


class Command(NamedTuple):
    """A command, which is the function of its name in the file of its name in ``jaxnets/commands``.

    Attributes:
        about: one line, the first of the function's docstring.
        takes_recipe: whether its arguments begin with a recipe's name, followed by that recipe's flags.
    """

    about: str
    takes_recipe: bool = False


COMMANDS = {
    "train": Command("Train a recipe, by name or from a file of one's own, and keep everything in a new folder.", True),
    "resume": Command("Go on with a run that was interrupted; the result has the same bits as an unbroken run's."),
    "evaluate": Command("Evaluate a run's weights (once it has ended, those that were kept) on held-out data."),
    "predict": Command("Predict with a run's weights."),
    "encode": Command("Write the codes that an autoencoder gives to images, a row each."),
    "generate": Command("Draw from a run's weights what may follow a prompt."),
    "plot": Command("Draw training and validation curves, as a PNG and in the terminal."),
    "summary": Command("List layers, output shapes, parameters and FLOPs, without compiling.", True),
    "lr-find": Command("Raise the learning rate step by step until the loss explodes, and suggest one.", True),
    "ls": Command("List recipes and presets."),
    "bench": Command("Measure this library beside PyTorch, Keras and loops by hand, on this machine."),
}
USAGE = """\
usage: jaxnets COMMAND ...

Deep learning as pure functions, on JAX.

{commands}

jaxnets COMMAND --help tells more; so does jaxnets train RECIPE --help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status: 0, 1 (a check failed), 2 (a wrong argument or file)."""
    name, *args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(USAGE.format(commands="\n".join(f"  {name:<10}{command.about}" for name, command in COMMANDS.items())))
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


def function(name: str) -> Callable[..., int]:
    """Return a command's function."""
    name = name.replace("-", "_")
    return getattr(importlib.import_module(f"jaxnets.commands.{name}"), name)


def _run(name: str, args: Sequence[str]) -> int:
    if COMMANDS[name].takes_recipe:
        return _run_with_recipe(name, args)
    import tyro  # noqa: PLC0415  (slow to import)

    return tyro.cli(function(name), prog=f"jaxnets {name}", args=args, config=(tyro.conf.OmitArgPrefixes,))


def _run_with_recipe(name: str, args: Sequence[str]) -> int:
    """Run a command on the recipe named first, with the config that its flags make, and the command's own options."""
    from jaxnets import recipes  # noqa: PLC0415  (slow to import)

    if not args or args[0].startswith("-"):
        presets = ", ".join(preset for presets in recipes.catalogue().values() for preset in presets)
        if args[:1] in (["-h"], ["--help"]):
            print(f"usage: jaxnets {name} RECIPE [flags]\n\nRECIPE is one of {presets}, or the path of a .py file.")
            print(f"jaxnets {name} RECIPE --help lists its flags.")
            return 0
        raise InputError(f"jaxnets {name} needs a recipe first: {presets}, or the path of a .py file")
    import tyro  # noqa: PLC0415  (slow to import)

    from jaxnets.recipes.recipe import find  # noqa: PLC0415

    recipe, command = find(args[0]), function(name)
    options: Any = inspect.signature(command).parameters["options"].annotation
    both = dataclasses.make_dataclass(
        "Flags",
        [("config", type(recipe.config)), ("options", options)],
        namespace={"__doc__": type(recipe.config).__doc__},
    )
    flags: Any = tyro.cli(
        both,
        prog=f"jaxnets {name} {args[0]}",
        args=args[1:],
        default=both(recipe.config, options()),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    return command(recipe._replace(config=flags.config), flags.options)
