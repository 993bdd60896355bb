"""What the encoders see: written where a study's images allow it, shown in its report, absent otherwise."""

from __future__ import annotations

import re

import pytest
import torch
from PIL import Image

from sempairs.config import validate
from sempairs.encoders import build_encoder, save_encoder
from sempairs.files import read_json
from sempairs.study.folder import Outcome, cell_folder, write_outcome
from sempairs.study.plan import make_plan
from sempairs.study.recipe import StudyRecipe
from sempairs.study.report import write_report
from sempairs.study.seal import seal_pictures
from sempairs.study.sights import write_sights
from sempairs.training.recipe import PretrainRecipe

from .conftest import toy_list, toy_study

FILES = {"index.json", *(f"{a}-{k}.webp" for a in ("augmented", "semantic") for k in ("map", "neighbours"))}
TITLE = "What the encoders see"


@pytest.fixture
def finished(tmp_path):
    """finished(collapsed=…, edit=…) -> plan and folder of a study whose two cells have encoders, untrained.

    edit: changes the list of images. collapsed: names of arms whose encoder gives every image the same.
    """

    def make(collapsed=(), edit=lambda text: text, states=("finished", "finished")):
        listed = toy_list(tmp_path / "images")
        listed.write_text(edit(listed.read_text()))
        plan = make_plan(validate(StudyRecipe, toy_study(f"csv:{listed}")))
        out = tmp_path / "study"
        for number, (arm, state) in enumerate(zip(("augmented", "semantic"), states, strict=True)):
            cell = plan.find("simclr", arm, 0)
            recipe = validate(PretrainRecipe, cell.recipe)
            encoder = build_encoder(recipe.encoder, seed=number)
            if arm in collapsed:
                with torch.no_grad():
                    for parameter in encoder.parameters():
                        parameter.zero_()
            views = recipe.views
            save_encoder(cell_folder(out, cell), encoder, recipe.encoder, views.size, views.mean, views.std)
            write_outcome(out, cell, Outcome(state, "", 1.0, hash=cell.hash))
        return plan, out

    return make


def report(study):
    write_report(study)
    return (study / "report.html").read_text()


def test_sights_of_the_test_split(finished):
    plan, out = finished()
    write_sights(plan, out)
    assert {path.name for path in (out / "sights").iterdir()} == FILES
    about = read_json(out / "sights" / "index.json")
    assert (about["method"], about["seed"], about["arms"]) == ("simclr", 0, ["augmented", "semantic"])
    assert about["images"] == 12  # four concepts by three designers
    assert 0 < about["cka"] < 1
    sheet = Image.open(out / "sights" / "semantic-neighbours.webp")
    assert sheet.height == 6 * (64 + 12)
    before = {path: path.read_bytes() for path in (out / "sights").iterdir()}
    write_sights(plan, out)
    assert {path: path.read_bytes() for path in (out / "sights").iterdir()} == before


@pytest.mark.parametrize("kind", ["no split test", "no classes", "too few", "a cell that broke"])
def test_no_sights_where_there_can_be_none(finished, kind):
    edit = {
        "no split test": lambda text: text.replace(",test,", ",train,"),
        "no classes": lambda text: re.sub(r"(png),[a-z/]+,(.*,test,)", r"\1,,\2", text),
        "too few": lambda text: "\n".join(t for t in text.split("\n") if "23-line" not in t),
    }.get(kind, lambda text: text)
    plan, out = finished(edit=edit, states=("finished", "broken" if "broke" in kind else "finished"))
    write_sights(plan, out)
    assert not (out / "sights").exists()


@pytest.mark.parametrize("collapsed", [["semantic"], ["augmented", "semantic"]])
def test_a_collapsed_arm_stops_nothing(finished, collapsed):
    plan, out = finished(collapsed=collapsed)
    write_sights(plan, out)
    assert {path.name for path in (out / "sights").iterdir()} == FILES
    assert read_json(out / "sights" / "index.json")["cka"] is None


def test_the_report_shows_them_where_they_are(finished, make_study):
    study, _ = make_study(lambda *_: 3.0)
    assert TITLE not in report(study)
    plan, out = finished()
    write_sights(plan, out)
    (out / "sights").rename(study / "sights")
    seal_pictures(study, "sights")
    page = report(study)
    assert TITLE in page
    assert page.count("data:image/webp;base64,") == 4
    assert "12 images of the test split" in page
    assert re.search(r"Linear CKA of the two encoders on these images: [01]\.\d\d ", page)


def test_the_report_says_that_one_has_collapsed(finished, make_study):
    study, _ = make_study(lambda *_: 3.0)
    plan, out = finished(collapsed=["semantic"])
    write_sights(plan, out)
    (out / "sights").rename(study / "sights")
    seal_pictures(study, "sights")
    page = report(study)
    assert "One of the encoders has collapsed" in page and "Linear CKA" not in page
