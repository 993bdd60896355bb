"""`precision: auto` in a run: settled once, written down, and kept wherever the run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sempairs import precision
from sempairs.config import load_config
from sempairs.errors import UserError
from sempairs.training import PretrainRecipe, pretrain
from sempairs.training.failure import _read

MakeRecipe = Callable[..., PretrainRecipe]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """A processor with bf16, or one without."""

    def has(bf16: bool) -> None:
        monkeypatch.setattr(precision, "native_bf16", lambda device: bf16)

    return has


def written(out: Path) -> tuple[Any, Any, Any]:
    resolved, record = (json.loads((out / f"{name}.json").read_text()) for name in ("resolved", "provenance"))
    recipe = load_config(PretrainRecipe, out / "recipe.yaml")
    return recipe.speed.precision, resolved["speed"]["precision"], record["speed"]["precision"]


def stopped(recipe: PretrainRecipe, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was ended after its first checkpoint."""
    from sempairs.runs import engine

    class Stop(Exception):  # noqa: N818
        pass

    def save(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        raise Stop

    save_checkpoint = engine.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(engine, "save_checkpoint", save)
        with pytest.raises(Stop):
            pretrain(recipe, out)


@pytest.mark.parametrize(("bf16", "taken"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_run_keeps_the_precision_it_began_with(
    make_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine: Any,
    bf16: bool,
    taken: str,
) -> None:
    recipe = make_recipe(speed__precision="auto", schedule__duration="4 steps", monitor__every="0 steps")
    machine(bf16)
    stopped(recipe, tmp_path / "run", monkeypatch)
    assert written(tmp_path / "run") == ("auto", taken, taken)
    machine(not bf16)
    summary = pretrain(recipe, tmp_path / "run", resume=True)
    assert summary.resumed_from == 3 and written(tmp_path / "run") == ("auto", taken, taken)
    machine(bf16)
    assert pretrain(recipe, tmp_path / "whole").weight_hash == summary.weight_hash
    other = "32-true" if bf16 else "bf16-mixed"
    asked = recipe.model_copy(update={"speed": recipe.speed.model_copy(update={"precision": other})})
    with pytest.raises(UserError, match=r"speed\.precision"):
        pretrain(asked, tmp_path / "run", resume=True)


def test_a_run_begun_with_a_named_precision_goes_on_with_auto(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Any
) -> None:
    """As runs of versions that had another default were."""
    machine(True)
    named = make_recipe(speed__precision="32-true", schedule__duration="4 steps", monitor__every="0 steps")
    stopped(named, tmp_path, monkeypatch)
    recipe = named.model_copy(update={"speed": named.speed.model_copy(update={"precision": "auto"})})
    pretrain(recipe, tmp_path, resume=True)
    assert written(tmp_path)[1:] == ("32-true", "32-true")


@pytest.mark.parametrize("asked", ["bf16-mixed", "auto", "32-true"])
def test_bf16_that_is_emulated_is_told_where_it_was_asked_for(
    make_recipe: MakeRecipe, tmp_path: Path, capsys: Any, machine: Any, asked: str
) -> None:
    machine(False)
    pretrain(
        make_recipe(speed__precision=asked, schedule__duration="2 steps", monitor__every="0 steps"), tmp_path
    )
    told = [line for line in capsys.readouterr().err.splitlines() if "bf16 is emulated" in line]
    assert len(told) == (asked == "bf16-mixed")


def test_a_failure_is_taken_again_in_the_precision_of_the_run(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Any
) -> None:
    from sempairs.runs.checkpoint import write_state

    machine(True)
    stopped(make_recipe(speed__precision="auto", monitor__every="0 steps"), tmp_path, monkeypatch)
    scalars = {"what": "loss", "crops": [], "steps": 1, "meanings": 1, "processes": 1}
    write_state(tmp_path / "failure", 1, {}, scalars)
    machine(False)
    assert _read(tmp_path, [])[1].speed.precision == "bf16-mixed"
    assert _read(tmp_path, ["speed.precision=32-true"])[1].speed.precision == "32-true"
