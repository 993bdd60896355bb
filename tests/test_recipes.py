"""Recipes that come along: known by name, listed, shown."""

from __future__ import annotations

import pytest

from sempairs.cli.main import run
from sempairs.config import read_yaml
from sempairs.errors import UserError
from sempairs.recipes import FOLDER, recipe_files, recipe_names, recipe_path
from sempairs.study.recipe import load_study


def test_a_name_is_the_file_of_that_name():
    assert recipe_path("quickstart") == FOLDER / "quickstart.yaml"
    assert read_yaml("quickstart") == read_yaml(FOLDER / "quickstart.yaml")


def test_a_file_of_that_very_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text("mine: 1\n")
    assert read_yaml("quickstart") == {"mine": 1}


@pytest.mark.parametrize("name", ["quickstrat", "nothing-like-it"])
def test_an_unknown_name_is_one_line_with_the_names(name):
    with pytest.raises(
        UserError, match=r"recipe is unknown.*choose from: continue-folder, .*debug, .*quickstart"
    ) as error:
        read_yaml(name)
    assert ("did you mean 'quickstart'?" in str(error.value)) == (name == "quickstrat")


@pytest.mark.parametrize("path", ["missing.yaml", "folder/quickstart"])
def test_a_path_that_is_not_there_is_called_missing(path):
    with pytest.raises(UserError, match="recipe does not exist"):
        read_yaml(path)


def test_every_recipe_says_what_it_is_for(capsys):
    assert run(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipe_names())
    verbs = {recipe.name: recipe.verb for recipe in recipe_files()}
    assert verbs["quickstart"] == "study run" and verbs["pretrain-debug"] == "pretrain"
    assert verbs["imagenet-pairs"] == "pairs build" and verbs["detect-voc"] == "detect"
    assert all(len(recipe.title) > 20 for recipe in recipe_files())


def test_show_prints_the_file(capsys):
    assert run(["recipes", "show", "quickstart"]) == 0
    assert capsys.readouterr().out == (FOLDER / "quickstart.yaml").read_text()
    assert run(["recipes", "show", "quickstar"]) == 2
    assert "did you mean 'quickstart'?" in capsys.readouterr().err


def test_seeds_count_up_from_the_first():
    assert load_study("quickstart").seeds == (40, 41, 42)
    assert load_study("quickstart", seeds=6).seeds == (40, 41, 42, 43, 44, 45)
    assert load_study("quickstart", ("seeds=[7, 9]",), seeds=3).seeds == (7, 8, 9)
    with pytest.raises(UserError, match="seeds"):
        load_study("quickstart", seeds=25)
