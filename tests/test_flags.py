"""Every flag of every preset changes something (the learner's program, data, plan or task), or it is refused.

The data are small ones of the same kinds (``small.py``), so that the whole table is traced in minutes.
"""

import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import fails
from small import leaves, load_small_data, presets, smaller

from jaxnets import cli, recipes
from jaxnets.errors import InputError
from jaxnets.learner import inputs_of
from jaxnets.options.conditions import check_used
from jaxnets.recipes.recipe import find
from jaxnets.runs.json_files import from_dict, plain
from jaxnets.training.plan import check

# Values that suit where the rule below finds none.
OTHER = {
    "data": {"digits": "mnist", "breast-cancer": "diabetes"},
    "data_dir": Path("/nowhere"),
    "label": "home",
    "types": ("size=category",),
    "weight_column": "counts",
    "group_column": "whose",
    "time_column": "counts",
    "quantiles": (0.1, 0.9),
    "positive": {None: "yes", "bad": "good"},
    "costs": (2.0, 1.0),
    "embeddings": Path("/nowhere/glove.txt"),
    "image_size": (9, 9),
    "class_names": ("a", "b"),
    "ignore": (255,),
    "losses": ("dice",),
    "instances": "membrane",
    "zoom": 1.5,
    "overlap": 4,
    "validation": 0.3,
    "hold_out": "theo",
    "speeds": (0.8,),
    "columns": ("b",),
    "text_column": "words",
    "label_column": "kind",
    "several": ";",
    "time": "minute",
    "split": (0.5, 0.25, 0.25),
    "normal": ("1",),
    "metrics": ("accuracy", "f1"),
    "freeze": ("**/bias",),
    "rates": ("**/bias=1e-5",),
    "layer_decay": 0.5,
    "unfreeze_every": "1ep",
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
    "num_hops": 3,
    "ranges": (5.0,),
    "longest": 4,
    "dynamic_range": 30.0,
    "patch": {2: 1, 4: 2, 7: 14, 12: 6},
    "source": "de",
    "target": "fr",
    "dense": (4,),
    "momentum": 0.7,
    "margin": 0.3,
    "test_share": 0.5,
    "max_words": 80,
    "min_count": 60,
    "vocabulary": 310,
    "max_tokens": 18,
    "window": 32,
    "warmup": 3,
    "pretrained": {"minilm": "bert-base", "efficientnet-lite0": "resnet18"},
    "weights": Path("/nowhere"),
    "input_size": 64,
    "lora": 2,
    "lora_patterns": ("**/kernel",),
}


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


# Recipes whose learners predict from other inputs than those of a batch: pairs, images of one class, a support set,
# windows of a text, what stands beside the items of a list.
OTHER_INPUTS = {"translation", "anomaly", "few_shot", "language_modelling", "recommendation"}


def traced(function, *arguments):
    """Return the text of a program, and its constants."""
    found = jax.make_jaxpr(function)(*arguments)
    text = re.sub(r"0x[0-9a-f]+|/\S+\.py:\d+", "", str(found))
    return text, [np.asarray(constant).tobytes() for constant in found.consts if hasattr(constant, "dtype")]


def made(recipe):
    """Return a run's data, learner, start and task."""
    splits = recipe.load(recipe.config)
    spec = splits.train.spec
    learner = recipe.learner(spec)
    return splits, learner, recipe.start(spec), recipe.task(spec, learner)


def planned(recipe, splits, learner):
    """Return what a run's plan says, and the rows of its first batches."""
    training = recipe.config.training
    plan = check(learner, splits.train, **training.options(), validation=splits.validation, order=splits.order)
    rows = splits.order(splits.train, training.batch_size, 0).rows(0, 2).tobytes()
    return plan.num_steps, plan.limit, plan.every, plan.early_stopping, sorted(plan.better), rows


def signature(recipe):
    """Yield all that decides what a run does; what takes longest to find comes last."""
    splits, learner, start, task = made(recipe)
    yield splits.fingerprint
    yield sorted(learner.metrics)
    yield repr(start)
    yield settings(task)
    state = jax.eval_shape(learner.init, jax.random.key(0))
    yield repr(state)
    rows = recipe.config.training.batch_size
    batch = {name: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype) for name, a in splits.train.items()}
    yield traced(learner.step, state, batch, jax.random.key(0))
    if recipe.file not in OTHER_INPUTS:
        yield traced(learner.predict, state, inputs_of(batch))
    yield planned(recipe, splits, learner)


@pytest.fixture
def small_data(monkeypatch):
    load_small_data(monkeypatch)


# What only data of one's own have: a file's times and gaps, of which a named data set has none.
OF_FILES = {"fill", "irregular"}


@pytest.mark.parametrize("preset", presets())
def test_every_flag_changes_something_or_is_refused(preset, small_data):
    recipe = smaller(preset)
    before = list(signature(recipe))
    idle, refused = [], {}
    for path in leaves(recipe.config):
        value = another(recipe.config, path)
        try:
            config = replaced(recipe.config, path, value)
            check_used(config, recipe.config)
            found = zip(signature(recipe._replace(config=config)), before, strict=True)  # up to the first difference
            if all(one == other for one, other in found) and path[-1] not in OF_FILES:
                idle.append("/".join(path))
        except InputError as error:
            refused["/".join(path)] = str(error)
    assert not idle
    print("\n".join(f"{name}: {message}" for name, message in refused.items()))  # to be read with -rP
    assert len(refused) < 0.6 * len(list(leaves(recipe.config)))


ODD = {
    int: (-1, 0, 2**40),
    float: (-1.0, float("nan"), float("inf"), 1e300),
    str: ("", "x" * 5000, "\0"),
    tuple: ((), (0,), (-1,), (2**40,), ("**/nothing",)),
    Path: (Path("x" * 300), Path("/dev/null/x")),
    type(None): (-1, 0, float("nan"), "", ()),
}


def with_value(body, path, value):
    name, *rest = path
    return body | {name: with_value(body[name], rest, value) if rest else value}


@pytest.mark.slow
@pytest.mark.parametrize("preset", presets())
def test_odd_values_of_every_flag_are_taken_or_refused_by_name(preset, small_data):
    """Nothing else than an ``InputError`` comes of them, before anything is compiled."""
    recipe = smaller(preset)
    foreign, unnamed = [], []
    for path in leaves(recipe.config):
        value = at(recipe.config, path)
        kind = next(kind for kind in ODD if isinstance(value, kind))
        for odd in () if isinstance(value, bool) or choices(recipe.config, path) else ODD[kind]:
            case = f"{'/'.join(path)}={str(odd)[:20]!r}"
            try:
                # Types are the parser's, or those of a run's config: what neither takes is refused here.
                config = from_dict(type(recipe.config), with_value(plain(recipe.config), path, odd))
                check_used(config, recipe.config)
                other = recipe._replace(config=config)
                splits, learner, *_ = made(other)
                planned(other, splits, learner)
            except (InputError, OSError) as error:
                shown = str(odd[0] if isinstance(odd, tuple) and odd else odd)[:20].replace("\0", "\\x00")
                names = path[-1], path[-1].replace("_", "-"), shown, "make the network smaller", "shorter than the run"
                named = any(name in str(error) for name in names)
                unnamed += [] if named else [f"{case}: {error}"]
            except Exception as error:
                foreign.append(f"{case}: {error!r:.200}")
    assert (foreign, unnamed) == ([], [])


def test_a_flag_that_changes_nothing_is_refused_at_the_command_line(capsys):
    for flags, message in (
        (["digits-mlp", "--depth", "34"], "depth=34 changes nothing with model='mlp'; it is for model resnet"),
        (["digits-cnn", "--num-layers", "2"], "num_layers=2 changes nothing with model='cnn'; it is for model vit"),
        (["digits-cnn", "--min-delta", "0.1"], "min_delta=0.1 changes nothing with patience=None"),
        (["digits-cnn", "--optimizer", "sgd", "--momentum", "0.5"], "it is for optimizer momentum or nesterov"),
        (["digits-cnn", "--data-dir", "."], "digits comes with a dependency"),
        (["digits-cnn", "--population", "vmap"], "population='vmap' changes nothing with one seed"),
        (["digits-mlp", "--overfit-one-batch", "--keep", "3"], "--keep changes nothing with --overfit-one-batch"),
        (["digits-mlp", "--keep-best", "validation/acc"], "keep_best='validation/acc' is none of"),
        (["forecast-linear", "--dropout", "0.2"], "dropout=0.2 changes nothing: a linear forecast drops nothing"),
        (
            ["digits-cnn", "--model", "mobilenet", "--activation", "gelu"],
            "activation='gelu' changes nothing with model=",
        ),
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
