"""The registry of recipes: read without running them, each imported when it is asked for."""

import importlib
import shutil

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
