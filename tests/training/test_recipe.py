from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from sempairs.cli.main import app
from sempairs.config import load_config, save_config, validate
from sempairs.errors import UserError
from sempairs.recipes import FOLDER
from sempairs.runs import processes
from sempairs.training.recipe import PretrainRecipe
from sempairs.views.config import LocalConfig

RECIPES = sorted(FOLDER.glob("pretrain*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_comes_back_equal(path: Path, tmp_path: Path) -> None:
    recipe = load_config(PretrainRecipe, path)
    save_config(recipe, tmp_path / "again.yaml")
    assert load_config(PretrainRecipe, tmp_path / "again.yaml") == recipe
    assert validate(PretrainRecipe, recipe.model_dump(mode="json")) == recipe
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("Command:", "Time:", "Expected:"):
        assert any(word in line for line in header)


def test_there_are_recipes() -> None:
    assert "pretrain-debug" in {path.stem for path in RECIPES}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"method": {"name": "msf", "queue": 8}, "batch_size": 16},
            r"^batch_size must be at most 8 for msf: its queue is to hold a batch, got 16",
        ),
        ({"batchsize": 3}, r"batchsize is not a known key; did you mean 'batch_size'"),
        ({"optimiser__lr": -1}, r"optimiser\.lr must be greater than 0"),
        ({"optimiser__name": "adam"}, r"optimiser\.name must be 'lars', 'sgd' or 'adamw'"),
        ({"schedule__duration": "10"}, r"schedule\.duration must be a length with its unit"),
        ({"checkpoint__every": "0 steps"}, "every must be longer than 0"),
        ({"seed": -1}, "seed must be greater than or equal to 0"),
        ({"clip": 0}, "clip must be greater than 0"),
        (
            {"speed__precision": "16-mixed"},
            r"speed\.precision must be 'auto', '32-true', 'bf16-mixed' or '64-true'",
        ),
        ({"method": {"name": "simcrl"}}, "did you mean 'simclr'"),
        ({"method": {"name": "simclr", "queue": 8}}, r"method\.queue is not a known key; known keys: .*temp"),
        ({"method": "simclr"}, "method must be a section of keys, got 'simclr'"),
        ({"micro_batch": 1.5}, r"micro_batch must be a valid integer, got 1\.5"),
        ({"monitor__collapse_below": 2}, r"monitor\.collapse_below must be less than or equal to 1"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(
    make_recipe: Callable[..., PretrainRecipe], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        make_recipe(**changes)
    assert "\n" not in str(raised.value)


def test_an_override_goes_into_a_section_that_is_null(tmp_path: Path) -> None:
    recipe = load_config(PretrainRecipe, RECIPES[0], ["views.local=null"])
    save_config(recipe, tmp_path / "r.yaml")
    again = load_config(PretrainRecipe, tmp_path / "r.yaml", ["views.local.count=3"])
    assert recipe.views.local is None
    assert again.views.local == LocalConfig(count=3)


def test_a_dry_run_of_several_processes_prints_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for rank in (0, 1):
        monkeypatch.setattr(processes, "launch", lambda rank=rank: processes.Launch(2, 1, rank))
        shown.append(CliRunner().invoke(app, ["pretrain", str(RECIPES[0]), "--dry-run"]))
    assert [result.exit_code for result in shown] == [0, 0]
    assert shown[0].stdout.startswith("seed: ") and shown[1].stdout == ""


def test_dry_run_prints_the_whole_recipe_and_writes_nothing(tmp_path: Path) -> None:
    command = ["pretrain", str(RECIPES[0]), "--dry-run", "--set", "method.temperature=0.35", "--out", "run"]
    done = subprocess.run(
        [sys.executable, "-m", "sempairs", *command], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    expected = load_config(PretrainRecipe, RECIPES[0], ["method.temperature=0.35"])
    assert validate(PretrainRecipe, yaml.safe_load(done.stdout)) == expected
    assert list(tmp_path.iterdir()) == []
