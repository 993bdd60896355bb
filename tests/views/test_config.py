"""View recipes as configs."""

from __future__ import annotations

import pytest

from sempairs.config import load_config, save_config, validate
from sempairs.errors import UserError
from sempairs.views.config import RECIPES, LocalConfig, ViewsConfig


@pytest.mark.parametrize("recipe", RECIPES.names())
def test_saving_and_loading_gives_the_same_config(tmp_path, recipe):
    config = ViewsConfig(
        recipe=recipe, size=48, without=("jitter", "blur"), background="texture", crop_scale=(0.3, 0.9),
        local={"count": 8, "size": 20, "crop_scale": (0.05, 0.4)},
    )  # fmt: skip
    save_config(config, tmp_path / "views.yaml")
    assert load_config(ViewsConfig, tmp_path / "views.yaml") == config


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"recipe": "simclrr"},
            "recipe must be one of byol, dino, lab, moco-v2, simclr, swav, got 'simclrr'",
        ),
        ({"without": ["jiter"]}, "without.0 must be 'crop'"),
        ({"crop_scale": [0.5, 1.5]}, "crop_scale must be two shares"),
        ({"crop_scale": [0.5, 0.2]}, "crop_scale must be two shares"),
        ({"jitter_strength": 3.0}, "jitter_strength must be at most 2.5 for simclr"),
        ({"std": [1.0, 0.0, 1.0]}, "std must be above 0"),
        ({"size": 2}, "size must be greater than or equal to 4"),
        ({"local": {"count": 0}}, "local.count must be greater than or equal to 1, got 0"),
        ({"local": {"size": 3}}, "local.size must be greater than or equal to 4, got 3"),
        ({"local": {"size": 33}}, "local must have crops of at most the size of global ones, 32"),
        ({"local": {"crop_scale": [0.4, 0.05]}}, "local.crop_scale must be two shares"),
        ({"local": {"scale": [0.05, 0.4]}}, "local.scale"),
        ({"backgroud": "white"}, "did you mean 'background'?"),
    ],
)
def test_a_value_out_of_its_rule_is_one_line(values, said):
    with pytest.raises(UserError) as caught:
        validate(ViewsConfig, values)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_overrides_reach_the_recipe():
    resolved = ViewsConfig(recipe="moco-v2", jitter_strength=0.5, crop_scale=(0.5, 0.6)).resolved()
    assert resolved.jitter_strength == (0.2, 0.2, 0.2, 0.05)
    assert resolved.crop_scale == (0.5, 0.6)


@pytest.mark.parametrize(
    ("name", "given", "colours", "blurs", "local"),
    [
        # DataAugmentationDINO in the reference code, and get_transform of SwAV's MultiCropDataset.
        ("dino", (0.4, 1.0), (0.4, 0.4, 0.2, 0.1), [(1.0, 0.0), (0.1, 0.2), (0.5, 0.0)], (0.05, 0.4)),
        ("swav", (0.14, 1.0), (0.8, 0.8, 0.8, 0.2), [(0.5, 0.0)] * 3, (0.05, 0.14)),
    ],
)
def test_multi_crop_recipes_have_the_published_numbers(name, given, colours, blurs, local):
    recipe = ViewsConfig(recipe=name, local=LocalConfig()).resolved()
    assert (recipe.crop_scale, recipe.jitter_strength, recipe.local_scale) == (given, colours, local)
    assert [(side.blur, side.solarise) for side in (*recipe.sides, recipe.local)] == blurs
    assert (recipe.flip, recipe.jitter, recipe.gray, recipe.blur_sigma) == (0.5, 0.8, 0.2, (0.1, 2.0))
    of_local = recipe.of_local()
    assert of_local.crop_scale == local and of_local.sides == (recipe.local, recipe.local)
    assert of_local.jitter_strength == colours


def test_a_scale_of_local_crops_overrides_the_recipes():
    config = ViewsConfig(recipe="dino", crop_scale=(0.14, 1.0), local=LocalConfig(crop_scale=(0.05, 0.14)))
    assert config.resolved().crop_scale == (0.14, 1.0)
    assert config.resolved().of_local().crop_scale == (0.05, 0.14)
