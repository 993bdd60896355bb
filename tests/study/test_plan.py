"""The plan: what is resolved, what is refused, and that a folder keeps to one."""

from __future__ import annotations

from typing import Any

import pytest

from sempairs.config import save_config, validate
from sempairs.errors import UserError
from sempairs.files import read_json, write_json
from sempairs.recipes import recipe_path
from sempairs.study.plan import check_out, freeze, load_plan, make_plan
from sempairs.study.recipe import StudyRecipe, load_study
from sempairs.study.summary import plan_lines

from .conftest import toy_list, toy_study


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return f"csv:{toy_list(tmp_path_factory.mktemp('toy') / 'images')}"


def planned(source: str, **changes: Any):
    return make_plan(validate(StudyRecipe, toy_study(source, **changes)))


def test_every_cell_once_with_one_reference_a_seed(source):
    plan = planned(source, seeds=[3, 5], methods={"simclr": {}, "byol": {"method": {"name": "byol"}}})
    trained = [cell.id for cell in plan.cells if cell.kind == "train"]
    assert len(trained) == len(set(trained)) == 2 * 2 * 2
    assert sorted(cell.id for cell in plan.cells if cell.kind == "reference") == [
        "random-init_seed3",
        "random-init_seed5",
    ]
    assert plan.reference("byol", 5).id == "random-init_seed5"
    assert plan.find("byol", "semantic", 5).recipe["method"]["name"] == "byol"
    assert plan.find("byol", "semantic", 5).recipe["pairs"]["arm"] == "semantic"
    assert {cell.recipe["seed"] for cell in plan.cells} == {3, 5}
    assert plan.tasks[0].protocol.startswith("linear")


def test_methods_with_encoders_of_their_own_have_references_of_their_own(source):
    plan = planned(source, methods={"a": {}, "b": {"encoder": {"arch": "resnet18"}}})
    assert plan.reference("a", 0).id == "random-init-a_seed0"
    assert plan.reference("b", 0).recipe["encoder"]["arch"] == "resnet18"


def test_overrides_leave_the_base_as_it_was(source):
    recipe = validate(StudyRecipe, toy_study(source))
    before = recipe.model_dump_json()
    make_plan(recipe)
    assert recipe.model_dump_json() == before
    assert "arm" not in recipe.base["pairs"]


def test_an_undeclared_difference_is_refused_and_named(source):
    arms = {
        "augmented": {"pairs.arm": "augmented"},
        "semantic": {"pairs.arm": "semantic", "optimiser.lr": 0.01},
    }
    with pytest.raises(UserError, match=r"undeclared fields: optimiser\.lr \(0\.01 against 0\.002\)"):
        planned(source, arms=arms)
    declared = [
        {
            "treatment": "semantic",
            "control": "augmented",
            "may_differ": ["pairs.arm", "optimiser.lr"],
            "primary": True,
        }
    ]
    assert set(
        planned(source, arms=arms, contrasts=declared).differences["semantic − augmented"]["simclr"]
    ) == {
        "optimiser.lr",
        "pairs.arm",
    }


def contrast(**values: Any) -> dict[str, Any]:
    known = {"treatment": "semantic", "control": "augmented", "may_differ": ["pairs.arm"], "primary": True}
    return known | values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"augmented": {}, "semantic": {}}}, "differs in nothing"),
        ({"contrasts": [contrast(may_differ=["pairs.arms"])]}, "undeclared"),
        ({"contrasts": [contrast(may_differ=["pairs.arm", "pairs.amr"])]}, "did you mean 'pairs.arm'"),
        ({"contrasts": [contrast(treatment="semantics")]}, "names an arm that is not there: semantics"),
        ({"contrasts": [contrast(control="semantic")]}, "compares an arm with itself"),
        ({"contrasts": [contrast(primary=False)]}, "one primary test"),
        ({"seeds": [1, 1]}, "seeds must each be named once"),
        ({"seeds": []}, "seeds"),
        ({"methods": {"a_b": {}}}, "methods"),
        ({"tasks": ["emoji-subgroop"]}, "did you mean 'emoji-subgroup'"),
        ({"arms": {"augmented": {}, "semantic": {"pairs.amr": 1}}}, "is not a known key"),
        ({"jbos": 2}, "did you mean 'jobs'"),
    ],
)
def test_what_does_not_hold_is_one_line(source, changes, message):
    with pytest.raises(UserError) as caught:
        planned(source, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_frozen_plan_refuses_another_recipe_and_names_the_difference(source, tmp_path):
    out = tmp_path / "study"
    freeze(planned(source), out)
    written = (out / "plan.json").read_bytes()
    freeze(planned(source), out)  # the same again is no other
    freeze(planned(source, jobs=7), out)  # how many run at once changes nothing
    with pytest.raises(UserError, match=r"differs in seeds \(now \[0, 1\], planned \[0\]\)"):
        freeze(planned(source, seeds=[0, 1]), out)
    with pytest.raises(UserError, match="health_margin"):
        check_out(planned(source, health_margin=2.0), out)
    assert (out / "plan.json").read_bytes() == written


def test_defaults_that_changed_since_are_named(source, tmp_path):
    """The recipe is the same, but what it resolves to is not: as after an update of the program."""
    out = tmp_path / "study"
    freeze(planned(source), out)
    data = read_json(out / "plan.json")
    data["cells"][1]["recipe"]["clip"] = 3.0
    write_json(out / "plan.json", data)
    with pytest.raises(UserError, match=r"recipe\.clip \(now None, planned 3\.0\)"):
        check_out(planned(source), out)


def test_a_folder_with_other_things_is_left_alone(source, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"holds thesis\.tex"):
        check_out(planned(source), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_plan_comes_back_equal(source, tmp_path):
    plan = planned(source, methods={"zeta": {}, "alpha": {}})
    freeze(plan, tmp_path)
    again = load_plan(tmp_path)
    assert again == plan
    assert again.methods == ("zeta", "alpha")


def test_no_plan_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"has no plan\.json"):
        load_plan(tmp_path)


@pytest.mark.parametrize("name", ["quickstart", "debug"])
def test_the_recipes_that_come_along(name):
    path = recipe_path(name)
    recipe = load_study(path)
    plan = make_plan(recipe)
    assert set(plan.differences["semantic − augmented"]["simclr"]) == {"pairs.arm"}
    assert recipe.threads * recipe.jobs <= 2
    header = path.read_text().split("\nname:")[0]
    assert all(word in header for word in ("# Command:", "# Time:", "# Expected:"))


def test_a_recipe_comes_back_equal(tmp_path):
    recipe = load_study("quickstart")
    save_config(recipe, tmp_path / "again.yaml")
    assert load_study(tmp_path / "again.yaml") == recipe
    changed = load_study(tmp_path / "again.yaml", ("seeds=[4, 5]", "base.method.temperature=0.1"))
    assert changed.seeds == (4, 5)
    assert changed.base["method"] == {"name": "simclr", "temperature": 0.1}


JOINT = {"name": "joint", "weight": 0.5}


def test_arms_of_the_joint_objective_are_planned_and_differ_in_the_pairs_alone(source):
    plan = planned(source, methods={"simclr": {"objective": JOINT}})
    ours, theirs = (plan.find("simclr", arm, 0).recipe for arm in ("semantic", "augmented"))
    assert ours["objective"] == theirs["objective"] == {**JOINT, "heads": "one", "partners": 1}
    ((differences),) = plan.differences.values()
    assert differences == {"simclr": {"pairs.arm": ("semantic", "augmented")}}
    assert "  matched (simclr): objective joint, 3 crops of each pair in both" in plan_lines(plan)
    assert not any(line.startswith("  matched") for line in plan_lines(planned(source)))


def test_a_control_of_fewer_crops_is_refused_unless_that_is_declared(source):
    arms = {
        "augmented": {"pairs.arm": "augmented"},
        "semantic": {"pairs.arm": "semantic", "objective": JOINT},
    }
    contrast = {"treatment": "semantic", "control": "augmented", "primary": True}
    may = ["pairs.arm", "objective"]
    with pytest.raises(UserError, match=r"differs in undeclared fields: crops_per_pair \(3 against 2\)"):
        planned(source, arms=arms, contrasts=[{**contrast, "may_differ": may}])
    plan = planned(source, arms=arms, contrasts=[{**contrast, "may_differ": [*may, "crops_per_pair"]}])
    ((differences),) = plan.differences.values()
    assert differences["simclr"]["crops_per_pair"] == (3, 2)


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ({"method": {"name": "supcon"}, "objective": JOINT}, "objective must be pair for supcon"),
        ({"objective": {"name": "several"}, "pairs.mode": "fixed"}, "pairs.mode must be redrawn"),
        (
            {"method": {"name": "swav"}, "objective": JOINT, "views.local": {"count": 2, "size": 8}},
            "takes no local crops",
        ),
    ],
)
def test_an_objective_that_cannot_be_is_refused_before_anything_runs(source, method, says):
    with pytest.raises(UserError, match=says) as refused:
        planned(source, methods={"m": method})
    assert "base with m" in str(refused.value)
