"""Every flag of every preset changes something (the learner's program, data, plan or task), or it is refused.

The data are small ones of the same kinds, so that the whole table is traced in minutes.
"""

import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnets import cli, recipes
from jaxnets.data import NAMED, Data, Series, Splits
from jaxnets.data.tokens import Sentences
from jaxnets.errors import InputError
from jaxnets.options.conditions import check_used
from jaxnets.recipes.recipe import find
from jaxnets.training.plan import check

PRESETS = [preset for presets in recipes.catalogue().values() for preset in presets]
FAST = {"digits-mlp", "forecast-linear", "chorales-gru"}  # in plain pytest; the others are left to CI
RANDOM = np.random.default_rng(0)


def images(side: int, channels: int = 1) -> Splits:
    def part(number: int) -> Data:
        shape = (number, side, side, channels)
        return Data(inputs=RANDOM.integers(0, 255, shape).astype(np.uint8), labels=np.arange(number) % 10)

    return Splits(part(1100), test=part(200))


WORDS = [f"w{i}" for i in range(40)]
TEXT = "".join(RANDOM.choice(list("abcdefgh \n"), 20_000))
LINES = [" ".join(RANDOM.choice(WORDS, 6)) for _ in range(400)]
FAKES = {
    "digits": images(8),
    "mnist": images(28),
    "cifar10": images(16, 3),
    "shakespeare": TEXT,
    "sst2": {part: Sentences(LINES, ["negative", "positive"] * 200) for part in ("train", "validation", "test")},
    "multi30k": {part: [LINES, LINES[::-1]] for part in ("train", "validation", "test")},
    "chorales": {
        part: [RANDOM.integers(0, 2, (12, 88)).astype(np.uint8) for _ in range(20)]
        for part in ("train", "valid", "test")
    },
    "etth1": Series(np.arange(900.0), RANDOM.normal(size=(900, 2)), ("a", "b"), "hour", (500.0, 200.0, 200.0)),
}
# A config as small as possible, so that tracing is quick; and values that suit where the rule below finds none.
SMALL = {"depth": 10, "width": 4, "transformer": {"num_layers": 1, "model_dim": 16, "num_heads": 4}, "vocabulary": 300}
OTHER = {
    "data": {"digits": "mnist"},
    "data_dir": Path("/nowhere"),
    "image_size": (9, 9),
    "validation": 0.3,
    "columns": ("b",),
    "time": "minute",
    "split": (0.5, 0.25, 0.25),
    "normal": ("1",),
    "metrics": ("accuracy", "f1"),
    "freeze": ("**/bias",),
    "rates": ("**/bias=1e-5",),
    "layer_decay": 0.5,
    "patience": 3,
    "monitor": "train/loss",
    "min_delta": 0.1,
    "clip_norm": 0.5,
    "adam_rate": 1e-5,
    "penalty": 2.0,
    "duration": "7ep",
    "evaluate_every": "3ep",
    "accumulate": 2,
    "num_heads": 2,
    "patch": {4: 2, 7: 14, 12: 6},
    "source": "de",
    "target": "fr",
    "dense": (4,),
    "momentum": 0.7,
    "max_words": 80,
    "window": 32,
    "warmup": 3,
}


def leaves(config, path=()):
    """Yield the path of every field that is a flag."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, (*path, field.name))
        else:
            yield (*path, field.name)


def at(config, path):
    for name in path:
        config = getattr(config, name)
    return config


def replaced(config, path, value):
    name, *rest = path
    return dataclasses.replace(config, **{name: replaced(getattr(config, name), rest, value) if rest else value})


def choices(config, path):
    kind = {field.name: field.type for field in dataclasses.fields(at(config, path[:-1]))}[path[-1]]
    return re.findall(r"'([\w-]+)'", str(kind)) if "Literal" in str(kind) and "tuple" not in str(kind) else []


def another(config, path):
    """Return a value of the field that it does not have."""
    name, value = path[-1], at(config, path)
    if name in OTHER:
        other = OTHER[name]
        return other.get(value, "digits") if isinstance(other, dict) else other
    if found := [choice for choice in choices(config, path) if choice not in (value, "range-test")]:
        return found[0]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 18 if name == "depth" else value // 2 if value > 3 else value + 1
    if isinstance(value, float):
        return value / 2 or 0.25
    assert isinstance(value, tuple) and value, f"{name}: tell this test another value than {value!r}"
    return tuple(item if item == "pool" else item // 2 for item in value)


def settings(task):
    """Return the plain values that a task's functions were made with."""
    cells = [cell.cell_contents for f in vars(task).values() for cell in getattr(f, "__closure__", None) or ()]
    cells += [cell.cell_contents for f in cells if callable(f) for cell in getattr(f, "__closure__", None) or ()]
    return repr([cell for cell in cells if isinstance(cell, int | float | str | tuple | dict | list)])


def signature(recipe):
    """Return all that decides what a run does."""
    splits = recipe.load(recipe.config)
    spec = splits.train.spec
    learner = recipe.learner(spec)
    training = recipe.config.training
    plan = check(learner, splits.train, **training.options(), validation=splits.validation, order=splits.order)
    rows = training.batch_size
    batch = {name: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype) for name, a in splits.train.items()}
    step = jax.make_jaxpr(learner.step)(plan.state.train, batch, jax.random.key(0))
    text = re.sub(r"0x[0-9a-f]+|/\S+\.py:\d+", "", str(step))
    constants = [np.asarray(constant).tobytes() for constant in step.consts if hasattr(constant, "dtype")]
    planned = (plan.num_steps, plan.limit, plan.every, plan.early_stopping, sorted(plan.better))
    return {
        "program": (text, constants),
        "data": splits.fingerprint,
        "plan": planned,
        "metrics": sorted(learner.metrics),
        "task": settings(recipe.task(recipe.config, spec)),
    }


@pytest.fixture
def small_data(monkeypatch):
    def loader(name, found):
        def load(data_dir=None, **options):
            if data_dir is not None:
                raise InputError(f"data_dir={data_dir}: holds no {name}")
            if name == "multi30k" and "fr" in options["languages"]:
                return {part: [sides[1], sides[0]] for part, sides in found.items()}
            if name == "etth1":
                if options["time"]:
                    raise InputError("no column 'minute'")
                columns = [found.names.index(column) for column in options["columns"] or found.names]
                return found._replace(values=found.values[:, columns], names=tuple(found.names[i] for i in columns))
            return found

        return load

    for name, found in FAKES.items():
        monkeypatch.setitem(NAMED, name, NAMED[name]._replace(load=loader(name, found)))


def smaller(config):
    """Return a config whose tracing is quick."""
    fields = {field.name for field in dataclasses.fields(config)}
    for name, value in SMALL.items():
        if name in fields:
            small = dataclasses.replace(getattr(config, name), **value) if isinstance(value, dict) else value
            config = dataclasses.replace(config, **{name: small})
    training = dataclasses.replace(config.training, duration="20ep", batch_size=16)
    return dataclasses.replace(config, training=training)


# What only data of one's own have: a file's times and gaps, of which a named data set has none.
OF_FILES = {"fill", "irregular"}


@pytest.mark.parametrize(
    "preset", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in PRESETS]
)
def test_every_flag_changes_something_or_is_refused(preset, small_data):
    if preset == "translate":
        for library in ("tokenizers", "sacrebleu"):
            pytest.importorskip(library, reason="needs tokenizers and sacrebleu: pip install -e '.[translation]'")
    recipe = find(preset)
    recipe = recipe._replace(config=smaller(recipe.config))
    before = signature(recipe)
    idle, refused = [], {}
    for path in leaves(recipe.config):
        value = another(recipe.config, path)
        try:
            config = replaced(recipe.config, path, value)
            check_used(config, recipe.config)
            if signature(recipe._replace(config=config)) == before and path[-1] not in OF_FILES:
                idle.append("/".join(path))
        except InputError as error:
            refused["/".join(path)] = str(error)
    assert not idle
    print("\n".join(f"{name}: {message}" for name, message in refused.items()))  # to be read with -rP
    assert len(refused) < 0.6 * len(list(leaves(recipe.config)))


def test_a_flag_that_changes_nothing_is_refused_at_the_command_line(capsys):
    from helpers import fails

    for flags, message in (
        (["digits-mlp", "--depth", "34"], "depth=34 changes nothing with model='mlp'; it is for model resnet"),
        (["digits-cnn", "--num-layers", "2"], "num_layers=2 changes nothing with model='cnn'; it is for model vit"),
        (["digits-cnn", "--min-delta", "0.1"], "min_delta=0.1 changes nothing with patience=None"),
        (["digits-cnn", "--optimizer", "sgd", "--momentum", "0.5"], "it is for optimizer momentum or nesterov"),
        (["digits-cnn", "--data-dir", "."], "digits comes with a dependency"),
        (["digits-cnn", "--population", "vmap"], "population='vmap' changes nothing with one seed"),
        (["forecast-linear", "--dropout", "0.2"], "dropout=0.2 changes nothing: a linear forecast drops nothing"),
        (["mnist-vit", "--norm", "batch"], "norm='batch' changes nothing with model='vit'"),
    ):
        assert message in fails(capsys, "train", *flags)


@pytest.mark.parametrize("recipe", recipes.catalogue())
def test_a_recipe_has_at_most_twenty_fields_and_twenty_five_flags_of_its_own(recipe):
    preset = next(iter(recipes.catalogue()[recipe]))
    config = find(preset).config
    own = [field.name for field in dataclasses.fields(config)]
    assert len(own) <= 20 and {"training", "optimizer"} <= set(own)
    groups = {name for name in own if dataclasses.is_dataclass(getattr(config, name))}
    assert len(set(own) - groups) <= 25


def test_optional_flags_show_what_they_take(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "mnist-cnn", "--help"])
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--data-dir PATH" in printed and "--image-size INT INT" in printed and "--patience INT" in printed
    assert "{None}" not in printed and "--population {map,vmap}" in printed
    assert cli.main(["train", "forecast-gru", "--patience", "None", "--data", "nowhere.csv"]) == 2  # None is taken
    assert "nowhere.csv" in capsys.readouterr().err
