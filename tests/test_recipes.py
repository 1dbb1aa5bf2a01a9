"""The registry of recipes: read without running them, each imported when it is asked for."""

import importlib
import shutil

import numpy as np
import pytest
from helpers import fails

from jaxnets import cli, recipes
from jaxnets.recipes.recipe import find

NAMES = list(recipes.catalogue())


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogue_says_what_the_recipe_does(name):
    presets = importlib.import_module(f"jaxnets.recipes.{name}").PRESETS
    assert recipes.catalogue()[name] == {preset: about for preset, (_, about) in presets.items()}
    assert presets


def test_presets_have_names_of_their_own():
    names = [preset for presets in recipes.catalogue().values() for preset in presets]
    assert len(names) == len(set(names)) > 15


def test_a_broken_recipe_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    for path in recipes.FOLDER.glob("*.py"):
        shutil.copy(path, tmp_path)
    (tmp_path / "image_classification.py").write_text("def load(:")
    (tmp_path / "music.py").write_text("import nothing_of_this_name\nPRESETS = {'silent': Preset(1, 'cannot run')}")
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    assert cli.main(["ls"]) == 0
    printed = capsys.readouterr().out
    assert "forecast-gru" in printed and "silent" in printed and "digits-cnn" not in printed
    assert "image_classification: its file cannot be read" in printed
    assert find("forecast-gru").file == "forecasting"


def test_no_such_recipe(capsys):
    assert "did you mean 'digits-cnn'?" in fails(capsys, "train", "digit-cnn")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_commands_line_is_that_of_its_function(name):
    about = (cli.function(name).__doc__ or "").splitlines()[0]
    assert cli.COMMANDS[name].about == about


RECIPE = """
from dataclasses import dataclass
import jax, numpy as np
import jaxnets as jn
from jaxnets.data import Data, Splits
from jaxnets.options import OptimizerConfig, TrainingConfig, optimizer_for

@dataclass(frozen=True)
class Config:
    training: TrainingConfig = TrainingConfig(duration="2", batch_size=8)
    optimizer: OptimizerConfig = OptimizerConfig()

def load(config):
    inputs = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    labels = (inputs[:, :WIDE] > 0).astype(int) + OFFSET
    data = Data(inputs=inputs, labels=labels[:, 0] if FLAT else labels)
    return Splits(data, test=data)

def build(config, spec):
    network = jn.network(jn.models.MLP, 3, (4,), OUTPUTS)
    return jn.supervised(network, jn.losses.LOSS, optimizer_for(config, spec))
"""


@pytest.mark.parametrize(
    ("flat", "wide", "outputs", "loss", "printed"),
    [
        pytest.param(True, 1, 2, "softmax_cross_entropy", "probability", marks=pytest.mark.slow),
        (False, 1, 1, "mse", "output"),  # whole numbers as targets are no classes
        (False, 2, 2, "sigmoid_cross_entropy", "output"),  # several labels an example
    ],
)
def test_a_recipe_without_a_task_prints_classes_where_it_has_an_output_for_each(
    flat, wide, outputs, loss, printed, tmp_path, capsys
):
    text = RECIPE.replace("WIDE", str(wide)).replace("OUTPUTS", str(outputs)).replace("LOSS", loss)
    (tmp_path / "mine.py").write_text(text.replace("FLAT", str(flat)).replace("OFFSET", "0"))
    recipe = str(tmp_path / "mine.py")
    assert cli.main(["train", recipe, "--out", str(tmp_path / "run")]) == 0
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    capsys.readouterr()
    assert cli.main(["predict", str(tmp_path / "run"), str(tmp_path / "a.npy"), "--recipe", recipe]) == 0
    assert printed in capsys.readouterr().out
