"""`precision: auto` in a study: one precision in all cells and in scoring, frozen with the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sempairs import precision
from sempairs.errors import UserError
from sempairs.recipes import recipe_path
from sempairs.study.plan import PLAN_FILE, freeze, load_plan, make_plan
from sempairs.study.recipe import load_study

DEBUG = recipe_path("debug")
NAMES = {True: ("bf16-mixed", "bf16"), False: ("32-true", "float32")}


def study(*changes: str) -> Any:
    return load_study(DEBUG, changes)


@pytest.mark.parametrize("bf16", [True, False])
def test_all_cells_have_one_precision_that_another_machine_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    training, scoring = NAMES[bf16]
    monkeypatch.setattr(precision, "native_bf16", lambda device: bf16)
    plan = make_plan(study(), tmp_path)
    assert {cell.recipe["speed"]["precision"] for cell in plan.cells} == {training}
    assert plan.study.evaluation.precision == plan.auto_precision == scoring
    freeze(plan, tmp_path)
    monkeypatch.setattr(precision, "native_bf16", lambda device: not bf16)
    again = make_plan(study(), tmp_path)
    freeze(again, tmp_path)
    assert again == plan == load_plan(tmp_path)
    assert make_plan(load_study(tmp_path / "recipe.yaml", ()), tmp_path / "new").study == plan.study
    assert make_plan(study(), tmp_path / "new").auto_precision != scoring
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="precision"):
        freeze(make_plan(study(f"base.speed.precision={NAMES[not bf16][0]}"), tmp_path), tmp_path)
    assert (tmp_path / PLAN_FILE).exists()


@pytest.mark.parametrize(
    "change", ["{speed: {threads: 1}}", "{speed: {precision: auto, threads: 1}}", "{speed.precision: auto}"]
)
def test_a_method_that_replaces_the_section_has_the_same(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda device: True)
    made = study()
    name = next(iter(made.methods))
    import yaml

    changed = made.model_copy(update={"methods": {name: {**made.methods[name], **yaml.safe_load(change)}}})
    assert {cell.recipe["speed"]["precision"] for cell in make_plan(changed).cells} == {"bf16-mixed"}


def test_a_precision_that_is_named_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda device: True)
    plan = make_plan(study("base.speed.precision=32-true", "evaluation.precision=float32"))
    assert {cell.recipe["speed"]["precision"] for cell in plan.cells} == {"32-true"}
    assert plan.study.evaluation.precision == "float32"
