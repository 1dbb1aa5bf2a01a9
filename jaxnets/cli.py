"""The command line: its arguments, and from there to the commands, each imported when it is asked for."""

import dataclasses
import importlib
import inspect
import itertools
import os
import sys
import typing
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jaxnets.errors import InputError, nearest, short


class Command(NamedTuple):
    """A command, which is the function of its name in the file of its name in ``jaxnets/commands``.

    Attributes:
        about: one line, the first of the function's docstring.
        of: what its arguments begin with, if flags depend on it: the name of a "recipe", the folder of a "run", or
            "weights", those of others or of a run.
    """

    about: str
    of: Literal["recipe", "run", "weights"] | None = None


COMMANDS = {
    "train": Command(
        "Train a recipe, by name or from a file of one's own, and keep everything in a new folder.", "recipe"
    ),
    "finetune": Command(
        "Go on from pretrained weights, or from a finished run, with data of one's own and a new head.", "weights"
    ),
    "sweep": Command(
        "Train many trials of a recipe as few programs, rank them, and keep the best, ready to go on.", "recipe"
    ),
    "resume": Command("Go on with a run that was interrupted; the result has the same bits as an unbroken run's."),
    "verify": Command("Say whether a run's checkpoints are as they were saved, and print a digest of the newest."),
    "evaluate": Command("Evaluate a run's weights (once it has ended, those that were kept) on held-out data."),
    "predict": Command("Predict with a run's weights.", "run"),
    "encode": Command("Write the codes that an autoencoder gives to images, a row each."),
    "generate": Command("Draw from a run's weights what may follow a prompt."),
    "export": Command(
        "Write a run's weights as safetensors, in the names and shapes of PyTorch's model of the same kind."
    ),
    "plot": Command("Draw training and validation curves, as a PNG and in the terminal."),
    "summary": Command("List layers, output shapes, parameters and FLOPs, without compiling.", "recipe"),
    "embed": Command("Write embeddings of a file's sentences, or of a folder's images, by pretrained weights."),
    "search": Command("Find what is most like a query among what was embedded: exact, by the cosine."),
    "ask": Command("Answer a question from documents, with its sources, or say that it is not in them."),
    "chat": Command(
        "Chat with pretrained weights, or a run of one's own, by their chat template; replies appear as they are drawn."
    ),
    "transcribe": Command("Write down what is said in a file, in English, by the weights whisper-tiny.en."),
    "gallery": Command(
        "Enrol known people (enrol RUN FOLDER), say whose a file is (identify), or whether two are of one (compare)."
    ),
    "pretrained": Command("List pretrained weights (ls), or fetch some and say all of them (get NAME)."),
    "compile": Command(
        "Compile a recipe's training loop for TPUs or GPUs that are not here: memory, FLOPs, estimated times.", "recipe"
    ),
    "lr-find": Command("Raise the learning rate step by step until the loss explodes, and suggest one.", "recipe"),
    "ls": Command("List recipes and presets."),
    "bench": Command("Measure this library beside PyTorch, Keras and loops by hand, on this machine."),
}
USAGE = """\
usage: jaxnets COMMAND ...

Deep learning as pure functions, on JAX.

{commands}

jaxnets COMMAND --help tells more; so does jaxnets train RECIPE --help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status.

    0 is success, 1 a check that failed, 2 a wrong argument or file, 70 a fault of jaxnets itself, 130 an interruption,
    141 output that nobody reads.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    name, *args = given or ["--help"]
    if name in ("-h", "--help"):
        print(USAGE.format(commands="\n".join(f"  {name:<11}{command.about}" for name, command in COMMANDS.items())))
        return 0
    if name == "--version":
        print(f"jaxnets {version('jaxnets')}")
        return 0
    try:
        if cut := next((word for word in given if "\0" in word), None):
            raise InputError(f"{short(cut)} holds a character of number 0, which no argument may; leave it out")
        if name not in COMMANDS:
            raise InputError(f"there is no command {name!r}{nearest(name, COMMANDS)}; jaxnets --help lists them")
        status = _run(name, args)
        sys.stdout.flush()
        return status
    except (Exception, KeyboardInterrupt) as error:
        status = _status_of(error, given)
        if joining := sys.modules.get("jaxnets.commands.joining"):
            joining.leave(status)
        return status


def _status_of(error: BaseException, given: Sequence[str]) -> int:
    """Say what went wrong, and return the exit status."""
    match error:
        case InputError():
            message, status = f"error: {error}", 2
        case KeyboardInterrupt():
            return 130
        case BrokenPipeError():  # whoever read what is printed has left: ``jaxnets train digits-cnn --help | head``
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        case OSError():  # a path that cannot be: too long, not permitted, on a full disk
            message, status = f"error: {_said_of_a_path(error)}", 2
        case _ if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            message, status = f"error: the memory does not suffice; use less of what is large: {error}", 2
        case _:
            from jaxnets.commands.faults import report  # noqa: PLC0415  (needed only then)

            message, status = report(error, given), 70
    print(message, file=sys.stderr)
    return status


def _said_of_a_path(error: OSError) -> str:
    if error.filename is None:
        return str(error)
    return f"{short(str(error.filename))}: {error.strerror}; name another path, or make room for it"


def function(name: str) -> Callable[..., int]:
    """Return a command's function."""
    name = name.replace("-", "_")
    return getattr(importlib.import_module(f"jaxnets.commands.{name}"), name)


def _run(name: str, args: Sequence[str]) -> int:
    of = COMMANDS[name].of
    if of is None:
        return _parsed(function(name), f"jaxnets {name}", args, None)
    if args[:1] in (["-h"], ["--help"]):
        print(f"usage: jaxnets {name} {of.upper()} [flags]\n\n{_what(of)}")
        print(f"jaxnets {name} {of.upper()} --help lists its flags.")
        return 0
    if not args or args[0].startswith("-"):
        raise InputError(f"jaxnets {name} needs a {of} first: {_what(of)}")
    return (_run_on_run if of == "run" else _run_on_recipe)(name, args[0], args[1:])


def _what(of: Literal["recipe", "run", "weights"]) -> str:
    if of == "run":
        return "RUN is the folder of a run."
    if of == "weights":
        return "WEIGHTS is a name (jaxnets pretrained ls), or the folder of a run."
    from jaxnets import recipes  # noqa: PLC0415  (slow to import)

    presets = ", ".join(preset for presets in recipes.catalogue().values() for preset in presets)
    return f"RECIPE is one of {presets}, or the path of a .py file."


def _run_on_recipe(name: str, recipe: str, args: Sequence[str]) -> int:
    """Run a command on a recipe, with the config that its flags make, and the command's own options."""
    from jaxnets.options.conditions import check_used  # noqa: PLC0415  (slow to import)
    from jaxnets.recipes.recipe import find  # noqa: PLC0415

    command = function(name)
    found = getattr(sys.modules[command.__module__], "recipe_of", find)(recipe)
    own: Any = inspect.signature(command).parameters["options"].annotation
    config, options = _flags(f"jaxnets {name} {recipe}", args, config=found.config, options=own())
    check_used(config, found.config)
    return command(found._replace(config=config), options)


def _run_on_run(name: str, run: str, args: Sequence[str]) -> int:
    """Run a command on a run's folder, with its own options and those of the run's kind of output."""
    command = function(name)
    module: Any = sys.modules[command.__module__]
    own: Any = inspect.signature(command).parameters["options"].annotation
    words = [word for arg in args for word in (arg.split("=", 1) if arg.startswith("--recipe=") else [arg])]
    file = next((value for flag, value in itertools.pairwise(words) if flag == "--recipe"), None)
    reading = module.options_of(Path(run), file and Path(file))
    return command(Path(run), *_flags(f"jaxnets {name} {run}", args, options=own(), reading=reading))


def _flags(prog: str, args: Sequence[str], **groups: Any) -> list[Any]:
    """Return groups of options, dataclasses as they stand by default, as the flags have them."""
    fields = [(name, type(group)) for name, group in groups.items()]
    about = next(iter(groups.values())).__doc__
    both = dataclasses.make_dataclass("Flags", fields, namespace={"__doc__": about})
    flags = _parsed(both, prog, args, both(**groups))
    return [getattr(flags, name) for name in groups]


def _parsed(kind: Any, prog: str, args: Sequence[str], default: Any) -> Any:
    import tyro  # noqa: PLC0415  (slow to import)

    config = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    given = {} if default is None else {"default": default}
    return tyro.cli(kind, prog=prog, args=args, config=config, registry=_registry(), **given)


def _registry() -> Any:
    """Return how types are read: an optional one shows as what it can be given, though None is taken, too."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo  # noqa: PLC0415

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        kinds = typing.get_args(info.type)
        if len(kinds) != 2 or type(None) not in kinds or typing.get_origin(info.type) is tuple:
            return None
        (kind,) = (kind for kind in kinds if kind is not type(None))
        spec: Any = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, info.markers))
        counts = {1, spec.nargs} if isinstance(spec.nargs, int) else spec.nargs
        return PrimitiveConstructorSpec(
            nargs=tuple(sorted(counts)) if isinstance(counts, set) and len(counts) > 1 else spec.nargs,
            metavar=spec.metavar,
            instance_from_str=lambda words: None if words == ["None"] else _counted(spec, words),
            is_instance=lambda value: value is None or spec.is_instance(value),
            str_from_instance=lambda value: ["None"] if value is None else spec.str_from_instance(value),
            choices=spec.choices and (*spec.choices, "None"),
        )

    return registry


def _counted(spec: Any, words: Sequence[str]) -> Any:
    """Return the value that words stand for, which must be as many as an option takes."""
    if isinstance(spec.nargs, int) and len(words) != spec.nargs:
        raise ValueError(f"give {spec.nargs} values, {spec.metavar}, not {len(words)}: {' '.join(words)}")
    return spec.instance_from_str(words)
