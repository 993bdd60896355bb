"""Crops that a recipe asks for in vain are refused in one line when the run is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sempairs.config import validate
from sempairs.encoders import build_encoder
from sempairs.errors import UserError
from sempairs.methods import METHODS
from sempairs.runs.trackers import read_metrics
from sempairs.training.crops import check_crops
from sempairs.training.recipe import PretrainRecipe
from sempairs.training.run import pretrain

TAKERS = [name for name in METHODS.names() if METHODS.get(name).takes_local]


def check(method: str, views: dict[str, Any], encoder: dict[str, Any] | None = None) -> None:
    data = {
        "data": {"source": "folder:nowhere"},
        "pairs": {"relation": "same_category", "mode": "redrawn"},
        "views": {"recipe": "lab", "size": 32, **views},
        "encoder": encoder or {"options": {"channels": [8, 8, 8, 8]}},
        "method": {"name": method},
        "optimiser": {"name": "adamw", "lr": 0.001},
        "schedule": {"duration": "2 steps"},
    }
    recipe = validate(PretrainRecipe, data)
    check_crops(recipe, build_encoder(recipe.encoder, seed=0))


@pytest.mark.parametrize("method", METHODS.names())
def test_local_crops_are_for_the_methods_that_take_them(method: str) -> None:
    check(method, {})
    local = {"local": {"count": 2, "size": 16}}
    if method in TAKERS:
        check(method, local)
    else:
        with pytest.raises(UserError) as caught:
            check(method, local)
        said = f"views.local is taken by {', '.join(TAKERS)} only, got {method!r}; set it to null"
        assert str(caught.value) == said


def test_an_encoder_of_one_size_says_how_it_takes_two() -> None:
    arch = "vit_tiny_patch16_224"
    options = {"img_size": 32, "depth": 1}
    views = {"local": {"count": 2, "size": 16}}
    with pytest.raises(UserError) as caught:
        check("dino", views, {"arch": arch, "options": options})
    assert str(caught.value) == (
        f"views.local.size must be 32 for {arch}, made for one size of image, got 16; "
        "set encoder.options.dynamic_img_size to true"
    )
    check("dino", views, {"arch": arch, "options": {**options, "dynamic_img_size": True}})
    with pytest.raises(UserError, match="takes images of 224, got 32"):
        check("simclr", {}, {"arch": arch})


def run_recipe(folder: Path, method: str, views: dict[str, Any], pairs: dict[str, Any]) -> PretrainRecipe:
    """Two steps on eight pictures in two classes, which it leaves in `folder`."""
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (i * 40, 0, 90 if name == "a" else 10)).save(folder / name / f"{i}.png")
    data = {
        "data": {"source": f"folder:{folder}", "store_size": 8},
        "pairs": {"relation": "same_category", "mode": "redrawn", **pairs},
        "views": {"recipe": "lab", "size": 8, **views},
        "encoder": {"options": {"channels": [8, 8, 8, 8]}},
        "method": {"name": method, **({"hidden": 8, "out": 4, "queue": 8} if method == "sepp_id" else {})},
        "optimiser": {"name": "adamw", "lr": 0.001},
        "schedule": {"duration": "2 steps"},
        "batch_size": 4,
        "speed": {"device": "cpu", "precision": "32-true", "threads": 1},
        "monitor": {"log_every": 1, "every": "0 steps", "tensorboard": False},
    }
    return validate(PretrainRecipe, data)


def test_a_run_refuses_them_before_its_folder_is_touched(tmp_path: Path) -> None:
    recipe = run_recipe(tmp_path / "images", "simclr", {"local": {"count": 2, "size": 4}}, {})
    with pytest.raises(UserError, match=r"^views\.local is taken by .* only, got 'simclr'"):
        pretrain(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("arm", "share"), [("semantic", 1.0), ("augmented", 0.0)])
def test_a_method_learns_which_pairs_are_of_two_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm: str, share: float
) -> None:
    monkeypatch.setenv("SEMPAIRS_QUIET", "1")
    pretrain(run_recipe(tmp_path / "images", "sepp_id", {}, {"arm": arm}), tmp_path / "run")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["semantic_fraction"] for line in lines if line["kind"] == "train"] == [share] * 2
